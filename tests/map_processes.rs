//! The shard map as people meet it: files, signals, processes, lines.
#![forbid(unsafe_code)]

#[path = "support/binary.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod binary;

use binary::{Served, serve_one};
use freight::map::{Id, MapNode, ShardMap};
use freight::slots::SlotSet;
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
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
    assert_refused(&node, &["put", "k", "v"], "does not own the key's slot by its map of epoch 0");
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
    assert_eq!(node.run(&["get", "k"]).stdout, b"v", "slots move alone: what was left behind is there");
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
