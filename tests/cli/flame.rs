//! `freight flame`: where a running node spends its time, for those who may know, and nothing left behind.
#![forbid(unsafe_code)]

use crate::binary::{Done, Running, Served, run, serve, serve_one, serve_over_rdma};
use crate::profiles;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn allowed(listen: &[&str]) -> Served {
    serve(listen, &["--allow-profile"])
}

fn scratch(name: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = folder.path().join(name).to_str().expect("text").to_owned();
    (folder, file)
}

/// It failed, and its last line says why; the one before says where it connected to.
#[track_caller]
fn assert_fails(done: &Done, words: &str) {
    assert_eq!((done.code, done.stdout.len()), (Some(2), 0), "{}", done.stderr);
    let last = done.stderr.lines().last();
    assert!(last.is_some_and(|line| line.starts_with("freight: ") && line.ends_with(words)), "{}", done.stderr);
}

/// A benchmark that keeps nodes busy until it is dropped or over.
fn load(servers: &str) -> Running {
    let flags = "--records 10000 --batch 1000 --workers 1 --wire-limit=false --warmup 100ms --duration 300s";
    let bench: Vec<_> = ["bench", "--servers", servers].into_iter().chain(flags.split(' ')).collect();
    Running::start(&bench)
}

/// Takes a profile, however often others are in the way.
fn flame(servers: &str, seconds: &str, file: &str) -> Done {
    loop {
        let done = run(&["flame", file, "--servers", servers, "--seconds", seconds]);
        if !done.stderr.contains("another profile of this node is under way") {
            return done;
        }
    }
}

#[test]
fn a_busy_node_is_drawn_and_goes_on() {
    let (folder, svg) = scratch("out.svg");
    let socket = format!("shm://{}/node.sock", folder.path().display());
    let node = allowed(&["tcp://127.0.0.1:0", &socket]);
    for endpoint in &node.endpoints {
        let mut bench = load(endpoint);
        let done = flame(endpoint, "2", &svg);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(String::from_utf8_lossy(&done.stdout), format!("{svg} is of {endpoint}\n"));
        let text = fs::read_to_string(&svg).expect("written");
        assert!(text.contains(endpoint), "the title says of whom it is");
        let (names, _) = profiles::of_flamegraph(&text);
        assert!(names.iter().any(|name| name.contains("freight::shard::")), "{endpoint}: {names:?}");
        // Interrupted by a hundred signals a second, it answered all the same.
        let samples = svg.replace(".svg", ".pb.gz");
        assert_eq!(flame(endpoint, "1", &samples).code, Some(0));
        let (names, _) = profiles::of_samples(&fs::read(&samples).expect("written"));
        assert!(names.iter().any(|name| profiles::is_ours(name)), "{endpoint}: {names:?}");
        bench.signal(Signal::INT);
        let (_, said) = bench.end();
        assert!(!said.iter().any(|line| line.contains("rror")), "{said:?}");
        assert_eq!(run(&["ping", "--servers", endpoint]).code, Some(0));
    }
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_busy_node_is_drawn_over_rdma() {
    let (_folder, svg) = scratch("out.svg");
    // Node, load and whoever asks share one emulated core: a connection may take long to come about.
    let node = serve_over_rdma(&["--allow-profile", "--handshake-timeout", "60s"]);
    let mut bench = load(node.endpoint());
    bench.wait_for("measuring");
    let done = node.run(&["flame", &svg, "--seconds", "1", "--deadline", "60s"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let (names, _) = profiles::of_flamegraph(&fs::read_to_string(&svg).expect("written"));
    assert!(names.iter().any(|name| name.contains("freight::shard::")), "{names:?}");
    assert!(names.iter().any(|name| name.contains("freight::transport::rdma::")), "{names:?}");
    bench.signal(Signal::INT);
    let (_, said) = bench.end();
    assert!(!said.iter().any(|line| line.contains("rror")), "{said:?}");
    assert_eq!(node.run(&["ping", "--deadline", "60s"]).code, Some(0));
}

#[test]
fn a_node_without_leave_says_which_flag_gives_it() {
    let (_folder, file) = scratch("out.svg");
    let node = serve_one(&[]);
    assert_fails(&node.run(&["flame", &file]), "this node was started without --allow-profile");
    assert!(!Path::new(&file).exists());
    for (flags, words) in [
        (["flame", "out.png", "--seconds", "1"], ".svg"),
        (["flame", "out.svg", "--seconds", "0"], "1..=60"),
        (["flame", "out.svg", "--seconds", "61"], "1..=60"),
    ] {
        node.run(&flags).assert_one_line(words);
    }
}

#[test]
fn one_profile_at_a_time_and_whoever_goes_away_makes_room() {
    let (_folder, file) = scratch("out.pb.gz");
    let mut node = allowed(&["tcp://127.0.0.1:0"]);
    for signal in [Signal::INT, Signal::KILL] {
        let endpoint = node.endpoint().to_owned();
        let mut first = Running::start(&["flame", &file, "--servers", &endpoint, "--seconds", "60"]);
        node.process.wait_for("a profile of 60s was asked for");
        let second = node.run(&["flame", &file, "--seconds", "1"]);
        assert_fails(&second, "another profile of this node is under way: ask again when it is over");
        first.signal(signal);
        let (code, said) = first.end();
        if signal == Signal::INT {
            assert_eq!(code, Some(130));
            assert!(said.last().is_some_and(|line| line == "freight: interrupted: no profile was taken"), "{said:?}");
        }
        assert!(!Path::new(&file).exists());
        let third = flame(&endpoint, "1", &file);
        assert_eq!(third.code, Some(0), "{}", third.stderr);
        node.process.wait_for("a profile of 1s was asked for");
        fs::remove_file(&file).expect("it is there");
    }
    let _last = Running::start(&["flame", &file, "--servers", node.endpoint(), "--seconds", "60"]);
    node.process.wait_for("a profile of 60s was asked for");
    node.process.signal(Signal::TERM);
    let (code, said) = node.process.end();
    assert_eq!(code, Some(0), "{said:?}");
}

#[test]
fn several_nodes_have_a_file_each_and_one_that_may_not_keeps_nobody_else_from_it() {
    let (folder, file) = scratch("out.pb.gz");
    let nodes = [allowed(&["tcp://127.0.0.1:0"]), allowed(&["tcp://127.0.0.1:0"]), serve_one(&[])];
    let servers: Vec<_> = nodes.iter().map(Served::endpoint).collect();
    let done = run(&["flame", &file, "--servers", &servers.join(","), "--seconds", "1"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("{}: this node was started without", servers[2])), "{}", done.stderr);
    let mut written: Vec<_> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
        .collect();
    written.sort();
    let mut expected = [servers[0], servers[1]]
        .map(|endpoint| format!("out-{}.pb.gz", endpoint.trim_start_matches("tcp://").replace(':', "_")));
    expected.sort();
    assert_eq!(written, expected);
}

#[test]
fn a_node_that_profiles_its_whole_life_is_busy() {
    let (folder, file) = scratch("out.svg");
    let life = folder.path().join("life.svg");
    let node = serve_one(&["--allow-profile", "--profile", life.to_str().expect("text")]);
    let done = node.run(&["flame", &file, "--seconds", "1"]);
    assert_fails(&done, "another profile of this node is under way: ask again when it is over");
}

#[test]
fn a_profile_that_takes_longer_than_a_connection_may_be_idle_is_drawn() {
    let (_folder, svg) = scratch("out.svg");
    let node = serve(&["tcp://127.0.0.1:0"], &["--allow-profile", "--idle-timeout", "1s"]);
    let _bench = load(&node.endpoints[0]);
    let done = flame(&node.endpoints[0], "4", &svg);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}
