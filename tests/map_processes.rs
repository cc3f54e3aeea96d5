//! The shard map as people meet it: files, signals, processes, lines.
#![forbid(unsafe_code)]

#[path = "support/binary.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod binary;

use binary::{Served, run, serve, serve_one};
use freight::client::{Client, ClientConfig};
use freight::hash::slot;
use freight::limits::SLOTS;
use freight::map::{Id, MapFile, MapNode, ShardMap};
use freight::slots::SlotSet;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A folder with a path for a map in it.
fn map_path() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("cluster.toml");
    (folder, path)
}

fn serve_mapped(path: &Path) -> Served {
    serve_one(&["--map", path.to_str().expect("text")])
}

fn stats(node: &Served) -> serde_json::Value {
    let stats: serde_json::Value = serde_json::from_slice(&node.run(&["stats"]).stdout).expect("JSON");
    stats[0].clone()
}

fn incarnation(node: &Served) -> Id {
    stats(node)["incarnation"].as_str().expect("text").parse().expect("an incarnation")
}

/// A map that gives slots to nodes.
fn map(epoch: u64, nodes: &[(&Served, Id, SlotSet)]) -> ShardMap {
    let node = |(node, incarnation, slots): &(&Served, Id, SlotSet)| {
        let addresses = vec![node.endpoint().parse().expect("an endpoint")];
        (MapNode { addresses, incarnation: *incarnation }, slots.clone())
    };
    ShardMap::new(Id([1; 16]), epoch, nodes.iter().map(node).collect()).expect("a map")
}

/// A command that reaches the node, and is not what it asks.
fn assert_refused(node: &Served, command: &[&str], words: &str) {
    let done = node.run(command);
    assert_eq!((done.code, done.stdout.len()), (Some(2), 0), "{}", done.stderr);
    let last = done.stderr.lines().last().expect("a line");
    assert!(last.starts_with("freight: ") && last.contains(words), "{words:?}: {}", done.stderr);
}

/// Writes a file as an editor may: not at once.
fn write(path: &Path, text: impl ToString) {
    fs::write(path, text.to_string()).expect("writable");
}

#[test]
fn a_node_owns_what_the_map_says_from_each_sighup_on() {
    let (_folder, path) = map_path();
    let mut node = serve_mapped(&path);
    node.process.wait_for("no map yet");
    assert_refused(
        &node,
        &["put", "k", "v"],
        "waits for its first shard map, and owns no key until then: `freight cluster create`",
    );
    let told = stats(&node);
    assert_eq!((&told["map_epoch"], &told["slots"], &told["cluster"]), (&0.into(), &0.into(), &().into()));
    let own = incarnation(&node);

    write(&path, map(3, &[(&node, own, SlotSet::ALL)]));
    node.process.signal(Signal::HUP);
    node.process.wait_for("owns 16384 slots: 0-16383");
    assert_eq!(node.run(&["put", "k", "v"]).code, Some(0));
    let told = stats(&node);
    assert_eq!((&told["map_epoch"], &told["slots"]), (&3.into(), &16_384.into()));
    assert_eq!(told["cluster"], "01".repeat(16));

    // What may not take its place leaves it where it is, and is told in one line.
    let other = map(4, &[]).to_string().replace(&"01".repeat(16), &"02".repeat(16));
    for (text, why) in [
        (map(2, &[]).to_string(), "older than the one of epoch 3"),
        (map(3, &[]).to_string(), "another map of epoch 3"),
        (other, "a map of cluster 0202"),
        ("epoch = 0".to_owned(), "missing field"),
        ("epoch = 4\nleader = 1".to_owned(), "unknown key 'leader'"),
    ] {
        write(&path, text);
        node.process.signal(Signal::HUP);
        node.process.wait_for(why);
        assert_eq!(node.run(&["get", "k"]).stdout, b"v", "{why}");
    }
    fs::remove_file(&path).expect("it is there");
    node.process.signal(Signal::HUP);
    node.process.wait_for("that of epoch 3 stays: there is none");

    write(&path, map(4, &[]));
    node.process.signal(Signal::HUP);
    node.process.wait_for(&format!("does not name incarnation {own}: owns nothing"));
    assert_refused(&node, &["get", "k"], "does not own the key's slot by its map of epoch 4");

    write(&path, map(5, &[(&node, own, SlotSet::ALL)]));
    node.process.signal(Signal::HUP);
    node.process.wait_for("map of epoch 5");
    assert_eq!(node.run(&["get", "k"]).code, Some(1), "what was given up is gone, not found again out of date");
}

#[test]
fn a_node_started_again_owns_nothing_until_a_map_names_it() {
    let (_folder, path) = map_path();
    let first = serve_mapped(&path);
    write(&path, map(1, &[(&first, incarnation(&first), SlotSet::ALL)]));
    let mut second = serve_mapped(&path);
    second.process.wait_for(&format!("does not name incarnation {}: owns nothing", incarnation(&second)));
    assert_refused(&second, &["get", "k"], "does not own the key's slot by its map of epoch 1");
}

#[test]
fn a_node_does_not_start_with_a_map_that_is_none() {
    let (_folder, path) = map_path();
    write(&path, "cluster = 1");
    let flags = ["serve", "--listen", "tcp://127.0.0.1:0", "--map", path.to_str().expect("text")];
    binary::run(&flags).assert_one_line("cluster.toml: line 1: ");
}

/// Three nodes whose map `freight cluster create` made, and that have taken it.
fn cluster(path: &Path) -> Vec<Served> {
    let mut nodes: Vec<_> = (0..3).map(|_| serve_mapped(path)).collect();
    let servers: Vec<_> = nodes.iter().map(Served::endpoint).collect();
    let made = run(&["cluster", "create", "--servers", &servers.join(","), "--map", text(path)]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let said = String::from_utf8(made.stdout).expect("text");
    assert!(said.starts_with("cluster ") && said.lines().count() == 4, "{said}");
    for node in &mut nodes {
        node.process.signal(Signal::HUP);
        node.process.wait_for("map of epoch 1");
    }
    nodes
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// A command with the map.
fn mapped(path: &Path, command: &[&str]) -> binary::Done {
    run(&[command, &["--map", text(path)]].concat())
}

/// Keys of the node at a place of three.
fn keys_of(place: usize) -> impl Iterator<Item = String> {
    let owner = move |key: &String| usize::from(slot(key.as_bytes())) * 3 / SLOTS as usize == place;
    (0..).map(|number| format!("key {number}")).filter(owner)
}

#[test]
fn a_cluster_is_created_used_and_looked_at_from_a_shell() {
    let (_folder, path) = map_path();
    mapped(&path, &["cluster", "status"]).assert_one_line("there is no shard map yet");
    mapped(&path, &["get", "k"]).assert_one_line("there is no shard map yet");
    let mut nodes = cluster(&path);
    for place in 0..3 {
        let key = keys_of(place).next().expect("endless");
        assert_eq!(mapped(&path, &["put", &key, "v"]).code, Some(0));
        assert_eq!(mapped(&path, &["get", &key]).stdout, b"v");
        assert_eq!(nodes[place].run(&["get", &key]).stdout, b"v", "its owner has it");
        let other = &nodes[(place + 1) % 3];
        assert_refused(other, &["get", &key], "does not own the key's slot by its map of epoch 1");
    }
    let key = keys_of(0).next().expect("endless");
    assert_eq!(mapped(&path, &["delete", &key]).code, Some(0));
    assert_eq!(mapped(&path, &["get", &key]).code, Some(1), "absent");
    let stats: serde_json::Value = serde_json::from_slice(&mapped(&path, &["stats"]).stdout).expect("JSON");
    let slots: u64 = (0..3).map(|place| stats[place]["slots"].as_u64().expect("a number")).sum();
    assert_eq!((slots, &stats[1]["map_epoch"]), (16_384, &1.into()));
    assert_eq!(String::from_utf8(mapped(&path, &["ping"]).stdout).expect("text").lines().count(), 3);

    let status = mapped(&path, &["cluster", "status"]);
    let said = String::from_utf8(status.stdout).expect("text");
    assert_eq!(status.code, Some(0), "{said}");
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(said.lines().nth(1).expect("a node").contains("incarnation as named  slots 5462 of 5462"), "{said}");

    let again = ["cluster", "create", "--servers", nodes[0].endpoint()];
    let refused = mapped(&path, &again);
    assert!(refused.code == Some(2) && refused.stderr.contains("works for a cluster already: "), "{}", refused.stderr);

    // One node dies and comes back: it costs what it owned, and nobody takes the loss for a miss.
    let endpoint = nodes[1].endpoint().to_owned();
    nodes[1].process.child.kill().expect("it runs");
    nodes[1].process.end();
    let (kept, lost) = (keys_of(2).next().expect("endless"), keys_of(1).next().expect("endless"));
    let status = |words: &str| {
        let status = mapped(&path, &["cluster", "status"]);
        let said = String::from_utf8(status.stdout).expect("text");
        assert!(status.code == Some(1) && said.contains(words), "{words:?}: {said}");
    };
    let failed = |words: &str| {
        let done = mapped(&path, &["get", &lost]);
        assert!(done.code == Some(2) && done.stdout.is_empty() && done.stderr.contains(words), "{}", done.stderr);
        assert_eq!(mapped(&path, &["get", &kept]).stdout, b"v");
    };
    status("unreachable: ");
    failed("Connection refused");
    nodes[1] = serve(&[&endpoint], &["--map", text(&path)]);
    status("RESTARTED: ");
    failed("was restarted and lost its memory");
    // As is one that knows no map and answers everything.
    nodes[1].process.child.kill().expect("it runs");
    nodes[1].process.end();
    nodes[1] = serve(&[&endpoint], &[]);
    failed("was restarted and lost its memory");
}

#[test]
fn a_client_rides_over_a_map_that_changes_while_it_runs() {
    let (_folder, path) = map_path();
    let mut nodes = cluster(&path);
    let old = MapFile::new(&path).read().expect("readable").expect("a map");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connecting = Client::connect_mapped(Arc::new(MapFile::new(&path)), ClientConfig::default());
        let client = connecting.await.expect("a map");
        client.ping().await.expect("they answer");
        // Each node gets what the one before had: of a cluster without records.
        let turned = (0..3).map(|place| (old.nodes()[place].clone(), old.slots_of((place + 1) % 3)));
        let new = ShardMap::new(old.cluster(), 2, turned.collect()).expect("a map");
        let mut batch = client.batch(300);
        let keys: Vec<_> = (0..300).map(|number| format!("key {number}")).collect();
        fs::write(&path, new.to_string()).expect("writable");
        for node in &mut nodes {
            node.process.signal(Signal::HUP);
            node.process.wait_for("map of epoch 2");
        }
        keys.iter().for_each(|key| batch.put(key.as_bytes(), key.as_bytes()).expect("room"));
        let reply = client.execute(batch).await.expect("an answer");
        assert_eq!((reply.failures().count(), client.map_epoch()), (0, 2));
        for key in &keys {
            assert_eq!(client.get(key.as_bytes()).await.expect("an answer").as_deref(), Some(key.as_bytes()));
        }
    });
}

#[test]
fn a_benchmark_drives_what_a_map_names() {
    let (_folder, path) = map_path();
    let _nodes = cluster(&path);
    let flags =
        ["bench", "--records", "1000", "--batch", "100", "--duration", "200ms", "--warmup", "100ms", "--verify"];
    let json = path.with_extension("json");
    let done = mapped(&path, &[&flags[..], &["--json", text(&json)]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).expect("written")).expect("JSON");
    assert_eq!(report["config"]["map"], text(&path));
    assert_eq!(report["topology"]["nodes"].as_array().expect("nodes").len(), 3);
    let both = mapped(&path, &["bench", "--servers", "tcp://127.0.0.1:1"]);
    both.assert_one_line("cannot be used with");
}
