//! A cluster whose map is in etcd as people meet it: nodes take each map as it comes, and go on without etcd.
#![forbid(unsafe_code)]

use super::binary::{Done, Served, run, serve_one};
use super::etcd::Etcd;
use super::{at, map};
use freight::client::{Client, ClientConfig, ClientError};
use freight::map::{MapStore, MapStoreError, ShardMap};
use rustix::process::Signal;
use std::sync::Arc;
use std::time::Duration;

/// A command with the map.
fn mapped(place: &str, command: &[&str]) -> Done {
    run(&[command, &["--map", place]].concat())
}

/// Three nodes that took the map which `freight cluster create` made.
fn cluster(place: &str) -> Vec<Served> {
    let mut nodes: Vec<_> = (0..3).map(|_| serve_one(&["--map", place])).collect();
    nodes.iter_mut().for_each(|node| node.process.wait_for("owns nothing until a map names it"));
    let servers: Vec<_> = nodes.iter().map(Served::endpoint).collect();
    let made = mapped(place, &["cluster", "create", "--servers", &servers.join(",")]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    all_take(&mut nodes, 1);
    nodes
}

/// Without a signal.
fn all_take(nodes: &mut [Served], epoch: u64) {
    nodes.iter_mut().for_each(|node| node.process.wait_for(&format!("map of epoch {epoch}, ")));
}

/// The same nodes, each with what the one before had.
fn turned(old: &ShardMap) -> ShardMap {
    let nodes = (0..3).map(|place| (old.nodes()[place].clone(), old.slots_of((place + 1) % 3)));
    ShardMap::new(old.cluster(), old.epoch() + 1, nodes.collect()).expect("a map")
}

fn status(place: &str) -> (Option<i32>, String) {
    let done = mapped(place, &["cluster", "status"]);
    (done.code, String::from_utf8(done.stdout).expect("text"))
}

#[test]
fn a_cluster_is_created_used_and_looked_at_through_etcd() {
    let etcd = Etcd::start();
    let place = etcd.place();
    mapped(&place, &["get", "k"]).assert_one_line("there is no shard map yet");
    mapped(&place, &["cluster", "status"]).assert_one_line("there is no shard map yet");
    let mut nodes = cluster(&place);
    assert_eq!(mapped(&place, &["put", "k", "v"]).code, Some(0));
    assert_eq!(mapped(&place, &["get", "k"]).stdout, b"v");
    let bench = ["bench", "--records", "100", "--batch", "10", "--duration", "100ms", "--warmup", "100ms"];
    let done = mapped(&place, &bench);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let (code, said) = status(&place);
    assert_eq!((code, said.lines().count()), (Some(0), 4), "{said}");

    // What may not take the map's place is told, and the next that may is taken.
    let old: ShardMap = String::from_utf8(etcd.get()).expect("text").parse().expect("a map");
    etcd.put(map(9).to_string().as_bytes());
    for node in &mut nodes {
        node.process.wait_for("the map is not taken, that of epoch 1 stays: a map of cluster 0101");
    }
    etcd.put(b"half of a");
    nodes.iter_mut().for_each(|node| node.process.wait_for("the map is not taken, that of epoch 1 stays: etcd://"));
    let next = turned(&old);
    etcd.put(next.to_string().as_bytes());
    all_take(&mut nodes, 2);

    // Nodes that are not as the map says, with the reason.
    etcd.put(old.to_string().as_bytes());
    let (code, said) = status(&place);
    assert_eq!((code, said.matches("AHEAD of this map").count()), (Some(1), 3), "{said}");
    let other = ShardMap::new(old.cluster(), 2, vec![(old.nodes()[0].clone(), freight::slots::SlotSet::ALL)]);
    etcd.put(other.expect("a map").to_string().as_bytes());
    let (code, said) = status(&place);
    assert_eq!((code, said.matches("ANOTHER MAP of this epoch").count()), (Some(1), 1), "{said}");
}

#[test]
fn an_outage_stops_changes_and_not_operations() {
    let mut etcd = Etcd::start();
    let place = etcd.place();
    let mut nodes = cluster(&place);
    super::run(async {
        let (current, old) = (client(&place, 5).await, client(&place, 5).await);
        let keys: Vec<_> = (0..300).map(|number| format!("key {number}").into_bytes()).collect();
        let first = at(&place).load().await.expect("no fault").expect("a map");
        let second = turned(&first);
        at(&place).replace(1, &second).await.expect("the epoch is right");
        all_take(&mut nodes, 2);
        put_all(&current, &keys).await;
        assert_eq!((current.map_epoch(), old.map_epoch()), (2, 1));

        etcd.signal(Signal::STOP);
        mapped(&place, &["get", "k", "--deadline", "200ms"]).assert_one_line("the shard map was not read within 200ms");
        mapped(&place, &["cluster", "status", "--deadline", "200ms"]).assert_one_line("the shard map was not read");
        put_all(&current, &keys).await;
        let error = old.put(&keys[0], b"v").await.expect_err("its map is old");
        assert!(matches!(error, ClientError::Map(MapStoreError::NoAnswer { .. })), "{error}");
        assert!(!error.may_have_taken_effect() && error.to_string().contains("no answer within"), "{error}");

        etcd.signal(Signal::CONT);
        etcd.kill();
        let said = "the map is not taken, that of epoch 2 stays: etcd://";
        nodes.iter_mut().for_each(|node| node.process.wait_for(said));
        put_all(&current, &keys).await;
        for key in &keys {
            assert_eq!(current.get(key).await.expect("an answer").as_deref(), Some(&key[..]));
        }
        mapped(&place, &["get", "k"]).assert_one_line("Connection refused");
        let error = old.put(&keys[0], b"v").await.expect_err("its map is old");
        assert!(matches!(error, ClientError::Map(MapStoreError::NoAnswer { .. })), "{error}");

        // A node that is started meanwhile waits for the map.
        let mut late = serve_one(&["--map", &place]);
        late.process.wait_for("Connection refused");
        late.process.wait_for("owns nothing until a map names it");
        etcd.restart();
        late.process.wait_for("map of epoch 2, ");
        put_all(&old, &keys).await;
        assert_eq!(old.map_epoch(), 2);
        at(&place).replace(2, &turned(&second)).await.expect("the epoch is right");
        all_take(&mut nodes, 3);
        late.process.wait_for("map of epoch 3, ");
        put_all(&current, &keys).await;
        assert_eq!(current.map_epoch(), 3);
    });
}

async fn client(place: &str, deadline_s: u64) -> Client {
    let config = ClientConfig { deadline: Duration::from_secs(deadline_s), ..ClientConfig::default() };
    Client::connect_mapped(Arc::new(at(place)), config).await.expect("a map")
}

/// Puts each key to itself.
async fn put_all(client: &Client, keys: &[Vec<u8>]) {
    let mut batch = client.batch(keys.len() as u32);
    keys.iter().for_each(|key| batch.put(key, key).expect("room"));
    let reply = client.execute(batch).await.expect("an answer");
    assert_eq!(reply.failures().map(|failure| failure.error.to_string()).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn what_is_no_place_is_refused_in_one_line() {
    for (place, words) in [
        ("https://127.0.0.1:2379/freight", "TLS to etcd is not built"),
        ("etcd://127.0.0.1:2379", "a prefix is needed"),
        ("http://127.0.0.1:2379/freight", "a path, or etcd://host:2379/prefix, is needed"),
    ] {
        for command in
            [&["serve", "--listen", "tcp://127.0.0.1:0"][..], &["get", "k"], &["bench"], &["cluster", "status"]]
        {
            mapped(place, command).assert_one_line(words);
        }
    }
}
