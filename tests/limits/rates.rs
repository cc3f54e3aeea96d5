//! Operations a second: whoever asks for more waits, nobody else does, and what could be had in time is not refused.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::scripted::Peer;
use crate::{as_user, node, redis, users};
use freight::client::{Client, ClientConfig, ClientError};
use freight::op::{Action, Op, Outcome};
use freight::server::{Limits, NodeConfig};
use freight::transport::sim::NetworkConfig;
use freight::wire::ReplyView;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

const BATCH: u32 = 50;

/// Executes batches until a time, on so many connections: how many operations were done.
async fn work(connect: impl AsyncFn() -> Client, connections: usize, until: Instant) -> u64 {
    let one = async || {
        let (client, mut done) = (connect().await, 0);
        while Instant::now() < until {
            let mut batch = client.batch(BATCH);
            for _ in 0..BATCH {
                batch.push(&Op { key: b"k", action: Action::Get, version_wanted: false }).expect("room");
            }
            let reply = client.execute(batch).await.expect("outcomes");
            assert!(reply.outcomes().all(|outcome| outcome == Outcome::NotFound), "none is refused");
            done += u64::from(BATCH);
        }
        done
    };
    let mut working: Vec<_> = (0..connections).map(|_| (Box::pin(one()), None)).collect();
    poll_fn(|context| {
        for (one, done) in working.iter_mut().filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(count) = one.as_mut().poll(context) {
                *done = Some(count);
            }
        }
        working.iter().map(|(_, done)| *done).sum::<Option<u64>>().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

const RATE: u32 = 1_000;
const SECONDS: u64 = 5;

/// What a rate lets through at most: a burst, and a batch a connection that was begun in time.
fn most(connections: usize) -> u64 {
    u64::from(RATE) * (SECONDS + 1) + connections as u64 * u64::from(BATCH)
}

/// A node that is a millisecond away: without that no simulated time would pass where nobody waits.
fn plan(change: impl Fn(&mut NodeConfig) + 'static) -> Plan {
    let delay = Duration::from_millis(1)..=Duration::from_millis(1);
    let network = NetworkConfig { delay, ..NetworkConfig::calm(1) };
    Plan { network, ..Plan::new(Wire::Sim) }.node(change)
}

fn with_users(config: &mut NodeConfig) {
    config.users = Some(users(&[("slow", Some(RATE)), ("fast", None)]));
}

#[test]
fn a_user_gets_as_much_as_its_rate_allows_and_another_all_that_it_asks_for() {
    let alone = std::cell::Cell::new(0);
    let run = |name: &'static str, connections: usize, until: Instant, cluster: &Cluster| {
        let endpoints = cluster.endpoints();
        work(async move || Client::connect(&endpoints, as_user(name)).await.expect("a user"), connections, until)
    };
    plan(with_users).run(async |cluster: &mut Cluster| {
        alone.set(run("fast", 2, Instant::now() + Duration::from_secs(SECONDS), cluster).await);
    });
    plan(with_users).run(async |cluster: &mut Cluster| {
        let until = Instant::now() + Duration::from_secs(SECONDS);
        let (slow, fast) = tokio::join!(run("slow", 3, until, cluster), run("fast", 2, until, cluster));
        let least = u64::from(RATE) * SECONDS;
        assert!((least..=most(3)).contains(&slow), "{slow} operations, {least} to {} are right", most(3));
        // In simulated time nobody takes the processor from anybody: what is less would be waiting.
        assert!(fast > 20 * slow && fast * 100 >= alone.get() * 99, "{fast}, alone {}", alone.get());
    });
}

#[test]
fn on_threads_and_over_the_door_a_user_gets_no_more_than_its_rate_either() {
    let node = node(|config| config.users = Some(users(&[("slow", Some(200)), ("fast", None)])));
    let began = std::time::Instant::now();
    let mut slow: Vec<_> = (0..2).map(|_| redis(&node)).collect();
    for door in &mut slow {
        assert_eq!(door.says("AUTH slow slow"), "+OK\r\n");
        door.send(&b"INCR n\r\n".repeat(400));
    }
    // By frames as well: it is the same user.
    Wire::Tcp.runtime().block_on(async {
        let client = Client::connect(node.endpoints(), as_user("slow")).await.expect("a user");
        for _ in 0..200 {
            client.add(b"n", 1).await.expect("paced");
        }
    });
    let mut fast = redis(&node);
    assert_eq!(fast.says("AUTH fast fast"), "+OK\r\n");
    for _ in 0..1_000 {
        assert_eq!(fast.says("SET other value"), "+OK\r\n");
    }
    let replies = slow.iter_mut().flat_map(|door| (0..400).map(|_| door.reply()).collect::<Vec<_>>());
    assert!(replies.map(|reply| assert!(reply.starts_with(b":"))).count() == 800);
    assert_eq!(fast.says("GET n"), "$4\r\n1000\r\n", "all was executed, and once");
    // A thousand at two hundred a second, but for the burst and what each is in the midst of.
    let least = Duration::from_secs(2);
    assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    node.drain();
}

#[test]
fn without_users_a_rate_is_each_client_s() {
    plan(|config| config.ops_per_second = Some(RATE)).run(async |cluster: &mut Cluster| {
        let endpoints = cluster.endpoints();
        let until = Instant::now() + Duration::from_secs(SECONDS);
        let connect = async || Client::connect(&endpoints, ClientConfig::default()).await.expect("connected");
        let done = work(connect, 4, until).await;
        assert!((u64::from(RATE) * SECONDS..=most(4)).contains(&done), "{done} operations");
        // Connecting anew does not help.
        let until = Instant::now() + Duration::from_secs(SECONDS);
        let mut done = 0;
        while Instant::now() < until {
            done += work(connect, 1, Instant::now() + Duration::from_millis(1)).await;
        }
        assert!(done <= most(1), "{done} operations");
    });
}

#[test]
fn a_batch_that_nobody_would_wait_for_is_denied_and_the_connection_goes_on() {
    plan(with_users).run(async |cluster: &mut Cluster| {
        let slow = cluster.client_with(as_user("slow")).await;
        let mut batch = slow.batch(10 * RATE + 1);
        for _ in 0..=10 * RATE {
            batch.push(&Op { key: b"k", action: Action::Put { value: b"v" }, version_wanted: false }).expect("room");
        }
        let reply = slow.execute(batch).await.expect("outcomes");
        assert!(reply.outcomes().all(|outcome| outcome == Outcome::NotSent));
        let failures: Vec<_> = reply.failures().map(|failure| failure.error.clone()).collect();
        let [ClientError::Denied { text, .. }] = &failures[..] else { panic!("{failures:?}") };
        let words = "not allowed: 10001 operations at once, and user 'slow' may have 1000 a second, 10000 at once";
        assert_eq!(text, words);
        assert_eq!(slow.get(b"k").await.expect("it goes on"), None);
        assert_eq!(cluster.stats(0).refusals, 0);
    });
}

#[test]
fn whoever_would_wait_for_longer_than_its_deadline_is_denied_and_nobody_waits_for_long() {
    plan(|config| config.ops_per_second = Some(RATE)).run(async |cluster: &mut Cluster| {
        let endpoints = cluster.endpoints();
        let (began, mut peers) = (Instant::now(), Vec::new());
        let puts = vec![crate::raw::op(b"k", Action::Put { value: b"v" }); RATE as usize];
        for number in 0..60 {
            let mut peer = Peer::connect(&endpoints[0]).await;
            peer.send(&crate::raw::request(number, &puts)).await;
            peers.push(peer);
        }
        let (mut done, mut denied) = (0, 0);
        for peer in &mut peers {
            let frame = peer.next().await;
            match ReplyView::parse(&frame) {
                Ok(_) => done += 1,
                Err(_) => denied += 1,
            }
        }
        // A second's worth each: what was saved up, one on credit, and those that wait for twenty seconds.
        assert_eq!((done, denied), (22, 38));
        assert!(began.elapsed() < Duration::from_secs(21), "{:?} of simulated time", began.elapsed());
        peers[0].send(&crate::raw::request(60, &puts[..1])).await;
        assert!(ReplyView::parse(&peers[0].next().await).is_ok(), "the connection goes on");
    });
}

#[test]
fn a_node_that_drains_answers_who_waits_for_its_turn() {
    let node = node(|config| config.ops_per_second = Some(1));
    let (mut client, mut door) = (crate::raw::Raw::connect(&node), redis(&node));
    assert_eq!(door.says("PING"), "+PONG\r\n");
    let get = crate::raw::op(b"k", Action::Get);
    for number in 0..2 {
        // The second would wait for nine seconds.
        client.send(&crate::raw::request(number, &vec![get; 9]));
    }
    client.frame().expect("a reply");
    door.send(b"GET k\r\n");
    node.drain();
    assert!(client.frame().is_some(), "what has arrived is answered");
    assert_eq!(door.rest(), b"$-1\r\n");
}

#[test]
fn a_rate_that_changes_holds_for_who_is_connected() {
    let (endpoint, users) = ("tcp://127.0.0.1:0".parse().expect("an endpoint"), users(&[("ada", None)]));
    let mut config = NodeConfig::new(vec![endpoint], crate::support::cluster::identity(1, 1));
    (config.threads, config.cores, config.users) = (1, Vec::new(), Some(users.clone()));
    let limits = config.limits();
    let node = freight::server::Node::start(config).expect("a node");
    Wire::Tcp.runtime().block_on(async {
        let client = Client::connect(node.endpoints(), as_user("ada")).await.expect("a user");
        let denied = async || {
            let mut batch = client.batch(11);
            for _ in 0..11 {
                batch.push(&Op { key: b"k", action: Action::Get, version_wanted: false }).expect("room");
            }
            client.execute(batch).await.expect("outcomes").failures().count() == 1
        };
        assert!(!denied().await);
        node.set_limits(Limits { ops_per_second: Some(1), ..limits });
        assert!(denied().await);
        // What is said of a user goes before what is said of all.
        node.set_users(crate::users(&[("ada", Some(0))]));
        assert!(!denied().await);
        node.set_users(crate::users(&[("ada", Some(1))]));
        node.set_limits(limits);
        assert!(denied().await);
        node.set_users(users);
        assert!(!denied().await);
    });
    node.drain();
}

#[test]
fn whoever_is_removed_while_it_waits_for_its_turn_is_refused() {
    let both = users(&[("ada", Some(1)), ("other", None)]);
    let node = node(|config| config.users = Some(both));
    Wire::Tcp.runtime().block_on(async {
        let client = Client::connect(node.endpoints(), as_user("ada")).await.expect("a user");
        let mut batch = client.batch(4);
        for _ in 0..4 {
            batch.push(&Op { key: b"k", action: Action::Get, version_wanted: false }).expect("room");
        }
        client.execute(batch).await.expect("on credit");
        let remove = async {
            // By then it waits, or is not there yet: either way it is too late.
            tokio::time::sleep(Duration::from_millis(300)).await;
            node.set_users(users(&[("other", None)]));
        };
        let (late, ()) = tokio::join!(client.put(b"late", b"v"), remove);
        late.expect_err("it is nobody any more");
        let other = Client::connect(node.endpoints(), as_user("other")).await.expect("a user");
        assert_eq!(other.get(b"late").await.expect("an answer"), None);
    });
    node.drain();
}

#[test]
fn a_line_of_more_than_ten_seconds_worth_is_refused_and_nobody_pays_for_it() {
    let node = node(|config| config.ops_per_second = Some(10));
    let (mut door, mut other) = (redis(&node), redis(&node));
    door.send(format!("EXISTS{}\r\n", " a".repeat(1_000)).as_bytes());
    assert_eq!(door.reply(), b"-ERR too many arguments: at most 100 are looked up at once\r\n");
    assert_eq!(other.says("GET a"), "$-1\r\n");
    door.send(b"EXISTS a a a\r\n");
    assert_eq!(door.reply(), b":0\r\n");
    node.drain();
}

#[test]
fn strangers_keep_no_user_of_their_address_out() {
    let node = node(|config| {
        (config.users, config.ops_per_second) = (Some(users(&[("ada", None)])), Some(1));
    });
    let mut strangers: Vec<_> = (0..5).map(|_| redis(&node)).collect();
    for stranger in &mut strangers {
        stranger.send(&b"PING\r\n".repeat(1_000));
        assert!(stranger.reply().starts_with(b"-NOAUTH"));
    }
    let mut user = redis(&node);
    assert_eq!(user.says("AUTH ada ada"), "+OK\r\n");
    node.drain();
}
