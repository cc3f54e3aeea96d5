//! The configuration file, the environment and SIGHUP, on the real binary.
#![forbid(unsafe_code)]

use crate::binary::{Running, Served, freight, run};
use freight::client::ClientConfig;
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with a configuration in it.
fn with_file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("node.toml");
    fs::write(&path, text).expect("it is ours");
    (folder, path)
}

fn serve(path: &Path) -> Served {
    Served::of(Running::start(&["serve", "--config", path.to_str().expect("text")]), 1)
}

const NODE: &str = "listen = \"tcp://127.0.0.1:0\"\nthreads = 1\nmemory = \"1GiB\"\n";

#[test]
fn a_node_runs_as_its_file_says_where_no_flag_and_no_variable_says_otherwise() {
    let (_folder, path) = with_file(&format!("{NODE}shards = 2"));
    let memory = |served: &Served| {
        let stats: serde_json::Value = serde_json::from_slice(&served.run(&["stats"]).stdout).expect("JSON");
        let shards = stats[0]["store"]["shard_records"].as_array().expect("a list").len();
        (stats[0]["memory_bytes_max"].as_u64().expect("a number"), shards)
    };
    assert_eq!(memory(&serve(&path)), (1 << 30, 2));
    let path = path.to_str().expect("text");
    let by_variable = || {
        let mut command = freight(&["serve"]);
        command.envs([("FREIGHT_CONFIG", path), ("FREIGHT_MEMORY", "2GiB")]);
        command
    };
    let served = |mut command: std::process::Command| Served::of(Running::of(command.spawn().expect("it starts")), 1);
    assert_eq!(memory(&served(by_variable())), (2 << 30, 2));
    let mut by_flag = by_variable();
    by_flag.args(["--memory", "3GiB"]);
    assert_eq!(memory(&served(by_flag)), (3 << 30, 2));
}

#[test]
fn what_would_be_used_is_printed_with_who_said_it_and_is_a_configuration() {
    let (folder, path) = with_file(NODE);
    let check = |path: &Path, flags: &[&str]| {
        let done = run(&[&["serve", "--check-config", "--config", path.to_str().expect("text")], flags].concat());
        assert_eq!((done.code, &done.stderr[..]), (Some(0), ""));
        String::from_utf8(done.stdout).expect("text")
    };
    let said = check(&path, &["--shards", "8", "--insecure"]);
    let line = |key: &str| {
        let line = said.lines().find(|line| line.starts_with(&format!("{key} = "))).expect("a line of its own");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("shards"), "shards = 8 # command line");
    assert_eq!(line("insecure"), "insecure = true # command line");
    assert_eq!(line("memory"), format!("memory = \"1GiB\" # {}:3", path.display()));
    assert_eq!(line("connections-max"), "connections-max = 10000 # default");
    let printed = folder.path().join("printed.toml");
    fs::write(&printed, &said).expect("it is ours");
    let values = |said: &str| said.lines().map(|line| line.split(" # ").next().map(str::to_owned)).collect::<Vec<_>>();
    let again = check(&printed, &[]);
    assert_eq!(values(&again), values(&said));
    check(Path::new("docs/freight.toml"), &[]);
}

#[test]
fn what_is_wrong_with_a_configuration_is_said_in_one_line() {
    for (text, words) in [
        ("memroy = 1", "node.toml:1: unknown key 'memroy'; the nearest known one is 'memory'"),
        ("shards = 3", "node.toml:1: shards is 3: 3 is no power of two"),
        ("cores = \"1000\"", "--cores names 1000"),
        ("memory = \"1MiB\"", "at least"),
        ("profile = \"flames.png\"", ".svg"),
    ] {
        let (_folder, path) = with_file(text);
        let config = ["serve", "--config", path.to_str().expect("text")];
        run(&config).assert_one_line(words);
        run(&[&config[..], &["--check-config"]].concat()).assert_one_line(words);
    }
    run(&["serve", "--config", "/nowhere/node.toml"]).assert_one_line("/nowhere/node.toml: No such file");
    run(&["serve", "--config", "/"]).assert_one_line("Is a directory");
}

#[test]
fn sighup_takes_the_log_level_over_and_says_what_waits_for_a_restart() {
    let (_folder, path) = with_file(NODE);
    let mut node = serve(&path);
    let hangup = |node: &mut Served, text: &str, words: &str| {
        fs::write(&path, text).expect("it is ours");
        node.process.signal(Signal::HUP);
        node.process.wait_for(words);
    };
    hangup(&mut node, NODE, "node.toml is read again: nothing changed");
    let louder = NODE.replace("1GiB", "2GiB") + "log-level = \"debug\"";
    let words = r#"log-level "info" -> "debug"; needs a restart: memory "1GiB" -> "2GiB""#;
    hangup(&mut node, &louder, words);
    assert_eq!(node.run(&["put", "k", "v"]).code, Some(0));
    node.process.wait_for("connected");
    // The list of slow batches begins while it runs, too.
    hangup(&mut node, &format!("{louder}\nslow-batch = \"1ns\""), r#"slow-batch none -> "1ns""#);
    assert_eq!(node.run(&["put", "k", "v"]).code, Some(0));
    node.process.wait_for("slow batch: ");
    hangup(&mut node, &louder, r#"slow-batch "1ns" -> none"#);
    // What waits is told until it is done.
    hangup(&mut node, &louder, r#"nothing changed; needs a restart: memory "1GiB" -> "2GiB""#);
    hangup(&mut node, "log-level = \"loud\"", "everything stays as it was: ");
    hangup(&mut node, "memory = \"1MiB\"", "everything stays as it was: memory cap of");
    assert_eq!(node.run(&["get", "k"]).stdout, b"v");
    node.process.wait_for("connected");
    hangup(&mut node, NODE, r#"log-level "debug" -> "info""#);
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.end().0, Some(0));
}

#[test]
fn sighup_takes_every_limit_over() {
    let (_folder, path) = with_file(NODE);
    let mut node = serve(&path);
    // One that has said hello and stays.
    let _first = crate::greet(&node);
    let mut closed = |limits: &str, said: &str, told: &str| {
        fs::write(&path, format!("{NODE}{limits}")).expect("it is ours");
        node.process.signal(Signal::HUP);
        node.process.wait_for(said);
        let mut answer = Vec::new();
        node.raw().read_to_end(&mut answer).expect("it ends");
        assert!(String::from_utf8_lossy(&answer).contains(told), "{limits}: {answer:?}");
    };
    closed("handshake-timeout = \"100ms\"", r#"handshake-timeout "5s" -> "100ms""#, "no hello within 100ms");
    let limits = "handshake-timeout = \"1h\"\nconnections-max = 1";
    let said = r#"connections-max 10000 -> 1, handshake-timeout "100ms" -> "1h""#;
    closed(limits, said, "this node serves 1 connections");
    let limits = "handshake-timeout = \"1h\"\nconnections-per-client = 1";
    closed(limits, "connections-max 1 -> 10000, connections-per-client none -> 1", "127.0.0.1 has 1 connections here");
    let limits = "bytes-in-flight = \"1MiB\"\nops-per-second = 7\nidle-timeout = \"1m\"\nconnections-per-user = 3";
    fs::write(&path, format!("{NODE}{limits}")).expect("it is ours");
    node.process.signal(Signal::HUP);
    node.process.wait_for(r#"bytes-in-flight none -> "1MiB", ops-per-second none -> 7"#);
    let denied = crate::denial(node.endpoint(), ClientConfig::default(), 71).expect("too many");
    assert!(
        denied.ends_with("not allowed: 71 operations at once, and 127.0.0.1 may have 7 a second, 70 at once"),
        "{denied}"
    );
    for wrong in ["handshake-timeout = \"0s\"", "idle-timeout = \"0s\"", "ops-per-second = 0"] {
        fs::write(&path, format!("{NODE}{wrong}")).expect("it is ours");
        node.process.signal(Signal::HUP);
        node.process.wait_for("everything stays as it was: ");
    }
}

#[test]
fn a_variable_that_is_misspelt_is_told() {
    let mut command = freight(&["serve", "--listen", "tcp://127.0.0.1:0", "--threads", "1"]);
    command.env("FREIGHT_MEMROY", "1GiB");
    let mut node = Served::of(Running::of(command.spawn().expect("it starts")), 1);
    node.process.wait_for("FREIGHT_MEMROY in the environment is not understood: FREIGHT_MEMORY would be");
}

#[test]
fn where_rust_log_says_what_is_logged_a_new_level_waits() {
    let (_folder, path) = with_file(NODE);
    let mut command = freight(&["serve", "--config", path.to_str().expect("text")]);
    let mut node = Served::of(Running::of(command.env("RUST_LOG", "info").spawn().expect("it starts")), 1);
    fs::write(&path, format!("{NODE}log-level = \"debug\"")).expect("it is ours");
    node.process.signal(Signal::HUP);
    let words = r#"needs a restart: log-level "info" -> "debug" (RUST_LOG says what is logged)"#;
    node.process.wait_for(words);
}
