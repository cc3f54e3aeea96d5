//! Nodes that reach each other over TLS: the map, moves of slots, and what Redis clients ask of another node.
#![forbid(unsafe_code)]

use crate::binary::{Served, run};
use crate::certificates::Authority;
use crate::{address, node};
use rustix::process::Signal;
use std::process::Command;

/// Two nodes of a map, which show certificates to each other and to whoever connects.
fn two(authority: &Authority, map: &str) -> [Served; 2] {
    let ca = authority.file("ca.pem");
    [(); 2].map(|()| node(authority, &["tls", "resps"], &["--map", map, "--tls-client-ca", &ca, "--tls-ca", &ca]))
}

#[test]
fn a_cluster_works_over_tls_alone() {
    let authority = Authority::with_node();
    let [ca, map, certificate, key] = ["ca.pem", "map.toml", "node.pem", "node.key"].map(|name| authority.file(name));
    let mut nodes = two(&authority, &map);
    let files = ["--tls-ca", &ca, "--tls-certificate", &certificate, "--tls-key", &key];
    let endpoints = nodes.each_ref().map(|node| node.endpoints[0].clone());
    let command = |words: &[&str]| {
        let done = run(&[words, &files].concat());
        assert_eq!(done.code, Some(0), "{words:?}: {}", done.stderr);
        String::from_utf8(done.stdout).expect("text")
    };
    command(&["cluster", "create", "--servers", &endpoints.join(","), "--map", &map]);
    for node in &mut nodes {
        node.process.signal(Signal::HUP);
        node.process.wait_for("the certificates are read again");
    }
    let keys: Vec<_> = (0..20).map(|number| format!("key:{number}")).collect();
    for key in &keys {
        command(&["put", key, key, "--map", &map]);
    }
    // Either node answers a Redis client for every key: half of them it asks the other for.
    let ask_redis = |node: &Served, key: &str| {
        let (host, port) = address(&node.endpoints[1]).rsplit_once(':').expect("an address");
        let mut command = Command::new("redis-cli");
        command.args(["-h", host, "-p", port, "--tls", "--cacert", &ca]);
        command.args(["--cert", &authority.file("node.pem"), "--key", &authority.file("node.key"), "GET", key]);
        let done = command.output().expect("redis-cli is installed: scripts/verify does so");
        String::from_utf8(done.stdout).expect("text")
    };
    for key in &keys {
        nodes.iter().for_each(|node| assert_eq!(ask_redis(node, key), format!("{key}\n")));
    }
    // And what moves, moves over TLS.
    let moved = command(&["cluster", "move", "0-8191", &endpoints[1], "--map", &map]);
    assert!(moved.contains("8192 slots: 0-8191") && moved.contains("moved, "), "{moved}");
    for key in &keys {
        assert_eq!(command(&["get", key, "--map", &map]).trim_end(), key);
    }
}
