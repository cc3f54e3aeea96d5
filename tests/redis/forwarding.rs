//! A node of a cluster answers for every key: what is another node's is asked there.
#![forbid(unsafe_code)]

use crate::raw::{Raw, command};
use crate::server::RedisServer;
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::for_each_seed;
use crate::words::{Words, random_command};
use freight::hash::slot;
use freight::limits::SLOTS;
use freight::map::{Id, MapMemory, MapNode, MapStore, ShardMap};
use freight::mover::{Mover, MoverConfig};
use freight::slots::SlotSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::channel;

const NODES: usize = 3;

/// Of a node with little memory for connections.
const MEMORY_BYTES: u64 = 64 << 20;

fn owner(slot: u16) -> Option<usize> {
    Some(usize::from(slot) * NODES / SLOTS as usize)
}

/// Three nodes with a door each, which own a third of the slots each.
fn with_cluster(test: impl AsyncFnOnce(&mut Cluster, Arc<dyn MapStore>)) {
    let plan = Plan { nodes: NODES, ..Plan::new(Wire::Tcp) }.node(|config| {
        config.mapped = true;
        config.threads = 1;
        config.redis = vec!["resp://127.0.0.1:0".parse().expect("an endpoint")];
    });
    plan.run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, owner);
        let store = given(cluster, &map).await;
        test(cluster, store).await;
    });
}

/// Every node works with a map, and follows its keeper.
async fn given(cluster: &Cluster, map: &ShardMap) -> Arc<dyn MapStore> {
    let store = Arc::new(MapMemory::default());
    store.replace(0, map).await.expect("nothing was there");
    for node in 0..NODES {
        cluster.take_map(node, map);
        cluster.follow(node, Arc::<MapMemory>::clone(&store));
    }
    store
}

fn clients(cluster: &Cluster) -> Vec<Raw> {
    (0..NODES).map(|node| Raw::tcp(&cluster.redis_address(node))).collect()
}

/// Keys of a node, so many.
fn keys_of(node: usize, count: usize) -> Vec<String> {
    let keys = (0..).map(|number| format!("key:{number}"));
    keys.filter(|key| owner(slot(key.as_bytes())) == Some(node)).take(count).collect()
}

/// Sends commands together, and gives their replies as text.
fn pipeline(client: &mut Raw, lines: &[String]) -> Vec<String> {
    let words = |line: &String| command(&line.split(' ').collect::<Vec<_>>());
    client.send(&lines.iter().flat_map(words).collect::<Vec<_>>());
    lines.iter().map(|_| String::from_utf8_lossy(&client.reply()).into_owned()).collect()
}

#[test]
fn every_node_answers_for_every_key_as_redis_does() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let (server, mut clients) = (RedisServer::start(), clients(cluster));
        let mut theirs = server.client();
        for_each_seed(6, |seed| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            for client in clients.iter_mut().chain([&mut theirs]) {
                assert_eq!(client.says("FLUSHALL"), "+OK\r\n");
            }
            for _ in 0..60 {
                let flushes = |words: &Words| words[0].to_ascii_uppercase().starts_with(b"FLUSH");
                let commands = std::iter::from_fn(|| Some(random_command(&mut random)));
                let sent: Vec<Words> = commands.filter(|words| !flushes(words)).take(40).collect();
                let bytes: Vec<u8> = sent.iter().flat_map(|words| command(words)).collect();
                let ours = &mut clients[random.random_range(0..NODES)];
                let cut = random.random_range(0..=bytes.len());
                for client in [&mut *ours, &mut theirs] {
                    client.send(&bytes[..cut]);
                    client.send(&bytes[cut..]);
                }
                for words in &sent {
                    let (ours, theirs) = (ours.reply(), theirs.reply());
                    let shown: Vec<_> = words.iter().map(|word| word.escape_ascii().to_string()).collect();
                    assert!(ours == theirs, "to {shown:?}: {} {}", ours.escape_ascii(), theirs.escape_ascii());
                }
            }
        });
        assert!((0..NODES).all(|node| cluster.stats(node).frames > 0));
    });
}

#[test]
fn records_are_where_the_map_says_and_more_than_a_batch_is_told_in_order() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let mut clients = clients(cluster);
        let sets: Vec<_> = (0..5_000).map(|number| format!("SET key:{number} {number}")).collect();
        assert!(pipeline(&mut clients[0], &sets).iter().all(|reply| reply == "+OK\r\n"));
        for (node, client) in clients.iter_mut().enumerate() {
            let held =
                (0..5_000).filter(|number| owner(slot(format!("key:{number}").as_bytes())) == Some(node)).count();
            assert_eq!(cluster.stats(node).store.records, held as u64, "node {node}");
            assert_eq!(client.says("DBSIZE"), format!(":{held}\r\n"), "of this node alone");
        }
        let gets: Vec<_> = (0..5_000).map(|number| format!("GET key:{number}")).collect();
        let told = pipeline(&mut clients[1], &gets);
        for (number, reply) in told.iter().enumerate() {
            let value = number.to_string();
            assert_eq!(*reply, format!("${}\r\n{value}\r\n", value.len()));
        }
        let keys: Vec<_> = (0..5_000).map(|number| format!("key:{number}")).collect();
        let many = pipeline(&mut clients[2], &[format!("MGET {}", keys.join(" ")), format!("DEL {}", keys.join(" "))]);
        assert_eq!(many[0], format!("*5000\r\n{}", told.concat()));
        assert_eq!(many[1], ":5000\r\n");
    });
}

#[test]
fn commands_on_one_key_keep_their_order_wherever_it_is() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let mut client = Raw::tcp(&cluster.redis_address(0));
        let keys: Vec<String> = (0..NODES).flat_map(|node| keys_of(node, 2)).collect();
        let lines: Vec<String> = (0..4_000).map(|i| format!("INCR {}", keys[i % keys.len()])).collect();
        let expected: Vec<String> = (0..4_000).map(|i| format!(":{}\r\n", i / keys.len() + 1)).collect();
        assert_eq!(pipeline(&mut client, &lines), expected);
    });
}

#[test]
fn a_value_that_finds_no_room_among_others_is_that_before_the_change_behind_it() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let mut client = Raw::tcp(&cluster.redis_address(0));
        let keys = keys_of(1, 16);
        let value = "v".repeat(1 << 20);
        let sets: Vec<_> = keys.iter().map(|key| format!("SET {key} {value}")).collect();
        pipeline(&mut client, &sets);
        let mut lines: Vec<_> = keys[..15].iter().map(|key| format!("GET {key}")).collect();
        let last = &keys[15];
        lines.extend([
            format!("GETSET {last} A"),
            format!("SET {last} B"),
            format!("GET {last}"),
            format!("DEL {last}"),
        ]);
        let told = pipeline(&mut client, &lines);
        assert!(told[15].len() > value.len(), "the value before: {:.20}", told[15]);
        assert_eq!(told[16..], ["+OK\r\n", "$1\r\nB\r\n", ":1\r\n"].map(str::to_owned));
        assert_eq!(client.says(&format!("GET {last}")), "$-1\r\n");
    });
}

#[test]
fn a_pipeline_takes_as_many_frames_as_one_of_its_keys_has_changes_behind_wanted_values() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let mut client = Raw::tcp(&cluster.redis_address(0));
        let keys = keys_of(1, 50);
        let lines = |verbs: &[&str]| -> Vec<String> {
            keys.iter().flat_map(|key| verbs.iter().map(move |verb| verb.replace('k', key))).collect()
        };
        // It asks for the first time.
        assert_eq!(client.says(&format!("SET {} 0", keys[0])), "+OK\r\n");
        for (verbs, expected, frames) in [
            (&["SET k 1", "GET k"][..], &["+OK\r\n", "$1\r\n1\r\n"][..], 1),
            (&["GET k", "SET k 2"], &["$1\r\n1\r\n", "+OK\r\n"], 2),
            (&["GET k", "STRLEN k", "INCR k", "GET k"], &["$1\r\n2\r\n", ":1\r\n", ":3\r\n", "$1\r\n3\r\n"], 2),
            (&["GETSET k 10", "STRLEN k"], &["$1\r\n3\r\n", ":2\r\n"], 2),
            (
                &["GETSET k 1", "SET k 12", "GETDEL k", "STRLEN k"],
                &["$2\r\n10\r\n", "+OK\r\n", "$2\r\n12\r\n", ":0\r\n"],
                3,
            ),
        ] {
            let before = cluster.stats(1).frames;
            let told = pipeline(&mut client, &lines(verbs));
            let told: Vec<_> = told.iter().map(String::as_str).collect();
            assert_eq!(told, expected.repeat(keys.len()), "{verbs:?}");
            assert_eq!(cluster.stats(1).frames - before, frames, "{verbs:?}");
        }
    });
}

#[test]
fn what_is_behind_a_value_that_finds_no_room_waits_for_it() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let mut client = Raw::tcp(&cluster.redis_address(0));
        let keys = keys_of(1, 16);
        let value = "v".repeat(1 << 20);
        let mut lines: Vec<_> = keys.iter().map(|key| format!("SET {key} {value}")).collect();
        lines.push(format!("EXPIRE {} 1000", keys[15]));
        pipeline(&mut client, &lines);
        let mut lines: Vec<_> = keys[..15].iter().map(|key| format!("GET {key}")).collect();
        lines.extend([format!("GETSET {} A", keys[15]), format!("TTL {}", keys[15]), format!("STRLEN {}", keys[15])]);
        let told = pipeline(&mut client, &lines);
        assert!(told[15].len() > value.len(), "the value before: {:.20}", told[15]);
        assert_eq!(told[16..], [":-1\r\n", ":1\r\n"].map(str::to_owned), "what GETSET left");
    });
}

#[test]
fn answers_that_the_node_has_no_memory_for_are_refused_and_the_next_are_not() {
    let plan = Plan { nodes: NODES, ..Plan::new(Wire::Tcp) }.node(|config| {
        (config.mapped, config.threads, config.shards) = (true, 1, Some(2));
        config.redis = vec!["resp://127.0.0.1:0".parse().expect("an endpoint")];
        config.memory_bytes_max = Some(MEMORY_BYTES);
    });
    plan.run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, owner);
        given(cluster, &map).await;
        let (mut writer, mut reader) = (Raw::tcp(&cluster.redis_address(1)), Raw::tcp(&cluster.redis_address(0)));
        let (keys, small) = (keys_of(1, 3), keys_of(1, 4).remove(3));
        let value = "v".repeat(7 << 20);
        for key in &keys {
            assert_eq!(writer.ask(&["SET", key, &value]), b"+OK\r\n");
        }
        // Who reads nothing makes the node keep what it was told: two values of the first answer, and a reply.
        let before = cluster.stats(0).memory_bytes_used;
        let mut greedy = Raw::tcp(&cluster.redis_address(0));
        greedy.send(&command(&["GET", &keys[0]]).repeat(30));
        while cluster.stats(0).memory_bytes_used < before + (22 << 20) {}
        let whole = format!("${}\r\n{value}\r\n", value.len());
        let mut refused = 0;
        for number in 0..10 {
            let reply = String::from_utf8_lossy(&reader.ask(&["GET", &keys[number % 3]])).into_owned();
            assert!(reply == whole || reply.starts_with("-OOM "), "{reply:.200}");
            refused += usize::from(reply != whole);
            let stats = cluster.stats(0);
            assert!(stats.memory_bytes_used <= MEMORY_BYTES, "{stats:?}");
            assert_eq!(reader.says(&format!("SET {small} {number}")), "+OK\r\n");
            assert_eq!(reader.says(&format!("GET {small}")), format!("$1\r\n{number}\r\n"));
        }
        assert!(refused > 0, "what is kept is within the cap");
        drop(greedy);
        while reader.ask(&["GET", &keys[0]]) != whole.as_bytes() {}
    });
}

#[test]
fn values_of_more_bytes_than_a_frame_has_come_back_whole() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let mut client = Raw::tcp(&cluster.redis_address(0));
        let value = "v".repeat(6 << 20);
        let keys = [keys_of(1, 4), keys_of(0, 1), keys_of(2, 4)].concat();
        for key in &keys {
            assert_eq!(client.ask(&["SET", key, &value]), b"+OK\r\n");
        }
        let gets: Vec<_> = keys.iter().map(|key| format!("GET {key}")).collect();
        let whole = format!("${}\r\n{value}\r\n", value.len());
        assert!(pipeline(&mut client, &gets).iter().all(|reply| *reply == whole));
        let takes: Vec<_> = keys.iter().map(|key| format!("GETDEL {key}")).collect();
        assert!(pipeline(&mut client, &takes).iter().all(|reply| *reply == whole), "each is taken once");
        assert!(pipeline(&mut client, &gets).iter().all(|reply| reply == "$-1\r\n"));
    });
}

#[test]
fn counters_miss_no_increment_while_their_slots_move() {
    with_cluster(async |cluster: &mut Cluster, store: Arc<dyn MapStore>| {
        let address = cluster.redis_address(0);
        let (moved, is_moved) = channel();
        let counting = std::thread::spawn(move || {
            let mut client = Raw::tcp(&address);
            let keys: Vec<String> = (0..NODES).flat_map(|node| keys_of(node, 10)).collect();
            let lines: Vec<String> = keys.iter().map(|key| format!("INCR {key}")).collect();
            let mut rounds = 0;
            // Once more behind the last move.
            let mut is_last = false;
            loop {
                rounds += 1;
                let expected = format!(":{rounds}\r\n");
                for (line, reply) in lines.iter().zip(pipeline(&mut client, &lines)) {
                    assert_eq!(reply, expected, "to {line}");
                }
                if is_last {
                    return rounds;
                }
                is_last = is_moved.try_recv().is_ok();
            }
        });
        let mut mover = Mover::new(Arc::clone(&store), MoverConfig::default());
        for to in [1, 2, 0, 1] {
            let map = mover.newest().await.expect("a map");
            let to = map.nodes()[to].incarnation;
            mover.move_slots(&SlotSet::ALL, to, &[], &mut |_| ()).await.expect("they move");
        }
        moved.send(()).expect("it counts");
        let rounds = tokio::task::spawn_blocking(|| counting.join()).await.expect("a thread").expect("no panic");
        println!("{rounds} rounds");
    });
}

#[test]
fn a_dead_node_s_keys_fail_alone() {
    with_cluster(async |cluster: &mut Cluster, _| {
        let mut client = Raw::tcp(&cluster.redis_address(0));
        let keys: Vec<String> = (0..NODES).map(|node| keys_of(node, 1).remove(0)).collect();
        let lines: Vec<String> = keys.iter().map(|key| format!("SET {key} 1")).collect();
        assert_eq!(pipeline(&mut client, &lines), ["+OK\r\n", "+OK\r\n", "+OK\r\n"]);
        cluster.stop(1).await;
        let told = pipeline(&mut client, &lines);
        assert_eq!([&told[0][..], &told[2]], ["+OK\r\n", "+OK\r\n"]);
        assert!(told[1].starts_with("-CLUSTERDOWN ") && told[1].ends_with("\r\n"), "{}", told[1]);
        let several = pipeline(&mut client, &[format!("MGET {}", keys.join(" ")), format!("DEL {}", keys.join(" "))]);
        assert!(several[0].starts_with("*3\r\n$1\r\n1\r\n-CLUSTERDOWN ") && several[0].ends_with("$1\r\n1\r\n"));
        assert!(several[1].starts_with("-CLUSTERDOWN "), "{}", several[1]);
    });
}

#[test]
fn who_waits_for_a_silent_node_keeps_nobody_else_waiting() {
    with_cluster(async |cluster: &mut Cluster, _| {
        // It takes connections, and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = format!("tcp://{}", silent.local_addr().expect("an address"));
        let silent_node = MapNode { addresses: vec![address.parse().expect("an endpoint")], incarnation: Id([9; 16]) };
        cluster.restart(0).await;
        let slots = |owned: fn(u16) -> bool| -> SlotSet { (0..SLOTS as u16).filter(|slot| owned(*slot)).collect() };
        let named = vec![
            (cluster.named(0), slots(|slot| owner(slot) == Some(0))),
            (silent_node, slots(|slot| owner(slot) != Some(0))),
        ];
        let map = ShardMap::new(Id([7; 16]), 1, named).expect("a map");
        let store = Arc::new(MapMemory::default());
        store.replace(0, &map).await.expect("nothing was there");
        cluster.take_map(0, &map);
        cluster.follow(0, store);

        let address = cluster.redis_address(0);
        let (mut waiting, mut other) = (Raw::tcp(&address), Raw::tcp(&address));
        let (theirs, own) = (keys_of(1, 1).remove(0), keys_of(0, 1).remove(0));
        let (told, order) = channel();
        waiting.send(&command(&["SET", &theirs, "1"]));
        let waits = std::thread::spawn({
            let told = told.clone();
            move || {
                let reply = waiting.reply();
                told.send("who waited").expect("somebody listens");
                reply
            }
        });
        for _ in 0..100 {
            assert_eq!(other.says(&format!("INCR {own}")).as_bytes()[0], b':');
        }
        told.send("the other").expect("somebody listens");
        let reply = String::from_utf8_lossy(&waits.join().expect("no panic")).into_owned();
        assert!(reply.starts_with("-CLUSTERDOWN "), "{reply}");
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["the other", "who waited"]);
    });
}
