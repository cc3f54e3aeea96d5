//! Nodes that reach each other over TLS: the map, moves of slots, and what Redis clients ask of another node.
#![forbid(unsafe_code)]

use crate::binary::{Served, run};
use crate::certificates::Authority;
use crate::{address, node};
use rustix::process::Signal;
use std::process::Command;

/// Two nodes of a map that is made here, with these flags.
fn two(authority: &Authority, map: &str, flags: &[&str]) -> [Served; 2] {
    let mut nodes = [(); 2].map(|()| node(authority, &["tls", "resps"], &[&["--map", map], flags].concat()));
    let endpoints = nodes.each_ref().map(|node| node.endpoints[0].clone());
    client(authority, &["cluster", "create", "--servers", &endpoints.join(","), "--map", map]);
    for node in &mut nodes {
        node.process.signal(Signal::HUP);
        node.process.wait_for("the certificates are read again");
    }
    nodes
}

/// What a command says that shows a certificate.
fn client(authority: &Authority, words: &[&str]) -> String {
    let [ca, certificate, key] = ["ca.pem", "node.pem", "node.key"].map(|name| authority.file(name));
    let files = ["--tls-ca", &ca, "--tls-certificate", &certificate, "--tls-key", &key];
    let done = run(&[words, &files].concat());
    assert_eq!(done.code, Some(0), "{words:?}: {}", done.stderr);
    String::from_utf8(done.stdout).expect("text")
}

/// What a Redis client is told.
fn ask_redis(authority: &Authority, node: &Served, key: &str) -> String {
    let (host, port) = address(&node.endpoints[1]).rsplit_once(':').expect("an address");
    let [ca, certificate, own_key] = ["ca.pem", "node.pem", "node.key"].map(|name| authority.file(name));
    let mut command = Command::new("redis-cli");
    command.args(["-h", host, "-p", port, "--tls", "--cacert", &ca]);
    command.args(["--cert", &certificate, "--key", &own_key, "GET", key]);
    let done = command.output().expect("redis-cli is installed: scripts/verify does so");
    String::from_utf8(done.stdout).expect("text")
}

#[test]
fn a_cluster_works_over_tls_alone() {
    let authority = Authority::with_node();
    let [ca, map] = ["ca.pem", "map.toml"].map(|name| authority.file(name));
    // They show certificates to each other and to whoever connects.
    let nodes = two(&authority, &map, &["--tls-client-ca", &ca, "--tls-ca", &ca]);
    let keys: Vec<_> = (0..20).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        client(&authority, &["put", key, key, "--map", &map]);
    }
    // Either node answers a Redis client for every key: half of them it asks the other for.
    for key in &keys {
        nodes.iter().for_each(|node| assert_eq!(ask_redis(&authority, node, key), format!("{key}\n")));
    }
    // And what moves, moves over TLS.
    let moved = client(&authority, &["cluster", "move", "0-8191", &nodes[1].endpoints[0], "--map", &map]);
    assert!(moved.contains("8192 slots: 0-8191") && moved.contains("moved, "), "{moved}");
    for key in &keys {
        assert_eq!(client(&authority, &["get", key, "--map", &map]).trim_end(), key);
    }
}

#[test]
fn a_node_that_trusts_no_other_says_so_when_it_would_ask_one() {
    let authority = Authority::with_node();
    let map = authority.file("map.toml");
    let mut nodes = two(&authority, &map, &[]);
    let mut answers = (0..20).map(|number| ask_redis(&authority, &nodes[0], &format!("key:{number}")));
    assert!(answers.any(|answer| answer.contains("CLUSTERDOWN")), "half of the keys are the other node's");
    nodes[0].process.wait_for("--tls-ca");
}
