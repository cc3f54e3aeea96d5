//! The binary as a user meets it: flags, lines, exit codes, signals.
//!
//! Nothing here sleeps: a test waits for a line of output, or for the end of a process.
#![forbid(unsafe_code)]

mod benchmarks;
#[path = "../support/binary.rs"]
mod binary;
#[path = "../support/certificates.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod certificates;
mod configuration;
mod eviction;
mod flame;
#[path = "../support/frames.rs"]
mod frames;
mod hot_keys;
mod manual;
mod metrics;
#[path = "../support/profiles.rs"]
mod profiles;
mod sweeps;
mod users;

use binary::{Running, Served, freight, run, run_with_input, serve, serve_one};
use frames::read_frame;
use freight::client::{Client, ClientConfig};
use freight::wire::{
    Capabilities, FrameKind, Header, Hello, Origin, Refusal, RefusalCode, ReplyView, RequestBuilder, hello, refusal,
};
use freight::{limits, op};
use rustix::process::Signal;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

/// The index besides our own, where it is compiled in.
const SECOND_INDEX: &str = if cfg!(feature = "leapfrog") { "leapfrog" } else { "buckets" };

#[test]
fn a_key_is_put_found_and_deleted_at_a_shell() {
    let node = serve_one(&[]);
    assert_eq!(node.run(&["get", "k"]).code, Some(1), "absent");
    assert_eq!(node.run(&["put", "k", "one"]).code, Some(0));
    let found = node.run(&["get", "k"]);
    assert_eq!((found.code, &found.stdout[..]), (Some(0), &b"one"[..]));
    assert_eq!(node.run(&["delete", "k"]).code, Some(0));
    let absent = node.run(&["delete", "k"]);
    assert_eq!((absent.code, absent.stdout.len()), (Some(1), 0));
}

#[test]
fn every_command_says_on_standard_error_which_transport_it_uses() {
    let node = serve_one(&[]);
    for command in [&["put", "k", "v"][..], &["get", "k"], &["delete", "k"], &["stats"], &["ping"]] {
        let said = node.run(command).stderr;
        let words = format!("INFO connected to {} (transport tcp)\n", node.endpoint());
        assert_eq!(said.trim_start(), words, "{command:?}");
        let quiet = freight(&[command, &["--servers", node.endpoint()]].concat()).env("RUST_LOG", "warn").output();
        assert_eq!(quiet.expect("it ends").stderr.len(), 0, "{command:?}");
    }
}

#[test]
fn a_value_is_any_bytes_and_a_dash_reads_them_from_standard_input() {
    let node = serve_one(&[]);
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let key = OsStr::from_bytes(b"\xff\x80 \n-");
    let args = |command: &str, rest: &[&str]| -> Vec<OsString> {
        let flags = ["--servers", node.endpoint()];
        let words = [key].into_iter().chain(rest.iter().chain(&flags).map(OsStr::new));
        [OsStr::new(command)].into_iter().chain(words).map(OsStr::to_owned).collect()
    };
    assert_eq!(run_with_input(&args("put", &["-"]), &every_byte).code, Some(0));
    assert_eq!(run(&args("get", &[])).stdout, every_byte);
    assert_eq!(run_with_input(&args("put", &["-"]), b"").code, Some(0));
    let empty = run(&args("get", &[]));
    assert_eq!((empty.code, empty.stdout.len()), (Some(0), 0), "an empty value is a value");
    let long = vec![0; limits::VALUE_BYTES_MAX as usize + 1];
    run_with_input(&args("put", &["-"]), &long).assert_one_line("8388608");
}

#[test]
fn stats_are_json_and_ping_names_the_transport() {
    for index in ["buckets", SECOND_INDEX] {
        let node = serve_one(&["--index", index, "--memory", "1GiB"]);
        assert_eq!(node.run(&["put", "k", "v"]).code, Some(0));
        assert_eq!(node.run(&["get", "k"]).stdout, b"v");
        let stats: serde_json::Value = serde_json::from_slice(&node.run(&["stats"]).stdout).expect("JSON");
        assert_eq!((&stats[0]["store"]["records"], &stats[0]["memory_bytes_max"]), (&1.into(), &(1_u64 << 30).into()));
        let pong = String::from_utf8(node.run(&["ping"]).stdout).expect("text");
        assert_eq!(pong, format!("{} answers (transport tcp)\n", node.endpoint()));
    }
}

#[test]
fn a_node_listens_at_several_endpoints_by_name_and_in_both_address_families() {
    let mut listen = vec!["tcp://127.0.0.1:0", "tcp://localhost:0"];
    match TcpListener::bind("[::1]:0") {
        Ok(_) => listen.push("tcp://[::1]:0"),
        Err(error) => println!("[::1] not run: {error}"),
    }
    let node = serve(&listen, &[]);
    assert_eq!(node.run(&["put", "k", "v"]).code, Some(0));
    for endpoint in &node.endpoints {
        assert_eq!(run(&["get", "k", "--servers", endpoint]).stdout, b"v", "{endpoint}");
    }
    let port = node.endpoint().rsplit(':').next().expect("a port");
    assert_eq!(run(&["get", "k", "--servers", &format!("tcp://localhost:{port}")]).stdout, b"v");
}

#[test]
fn keys_are_dealt_to_several_nodes() {
    let nodes = [serve_one(&[]), serve_one(&[])];
    let servers = format!("{},{}", nodes[0].endpoint(), nodes[1].endpoint());
    for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"] {
        assert_eq!(run(&["put", key, key, "--servers", &servers]).code, Some(0));
        assert_eq!(run(&["get", key, "--servers", &servers]).stdout, key.as_bytes());
    }
    let stats: serde_json::Value =
        serde_json::from_slice(&run(&["stats", "--servers", &servers]).stdout).expect("JSON");
    let records = [0, 1].map(|node| stats[node]["store"]["records"].as_u64().expect("a number"));
    assert!(records[0] + records[1] == 12 && records.iter().all(|records| *records > 0), "{records:?}");
}

#[test]
fn a_node_serves_a_shell_over_shared_memory_and_its_socket_is_its_own() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let endpoint = format!("shm://{}/node.sock", folder.path().display());
    let mut node = serve(&[&endpoint, "tcp://127.0.0.1:0"], &[]);
    assert_eq!(node.run(&["put", "k", "v"]).code, Some(0));
    for endpoint in &node.endpoints {
        assert_eq!(run(&["get", "k", "--servers", endpoint]).stdout, b"v", "{endpoint}");
    }
    run(&["serve", "--listen", &endpoint]).assert_one_line("in use");
    let pong = String::from_utf8(node.run(&["ping"]).stdout).expect("text");
    assert_eq!(pong, format!("{endpoint} answers (transport shm)\n"));
    node.process.child.kill().expect("it runs");
    node.process.end();
    run(&["get", "k", "--servers", &endpoint]).assert_one_line("Connection refused");
    // What a killed node left behind is in nobody's way.
    let mut node = serve(&[&endpoint], &[]);
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.end().0, Some(0));
    run(&["get", "k", "--servers", &endpoint]).assert_one_line("No such file");
}

#[test]
fn what_is_wrong_with_a_command_line_is_said_in_one_line() {
    for (line, words) in [
        ("get k --servers ib://a:1", "unknown transport 'ib'"),
        // Which of library, kernel, device and address is missing depends on the machine.
        ("get k --servers rdma://a:1", "cannot connect to rdma://a:1"),
        ("get k --servers localhost:1", "'localhost:1' is no endpoint"),
        ("get k --servers resp://a:1", "resp is for Redis clients: tcp, tls, shm or rdma is needed here"),
        ("get k --servers tcp://a:99999", "is no address of transport tcp"),
        ("get k --deadline soon", "--deadline"),
        ("get", "<KEY>"),
        ("put k", "<VALUE>"),
        ("fetch k", "fetch"),
        ("get k --frob", "--frob"),
        ("get k --serverz tcp://a:1", "a similar argument exists: '--servers'"),
        ("bench --wire-limit false", "--wire-limit=false"),
        ("serve --connections-max 0", "--connections-max"),
        ("serve --frames-in-flight-max 0", "--frames-in-flight-max"),
        ("bench --duration 5", "write for example 10s or 500ms"),
        ("bench --rate 0", "1 or more"),
        ("bench --value-size 9MiB", "9437184 is not in 0..=8388608"),
        ("serve --listen quic://127.0.0.1:0", "unknown transport 'quic'"),
        ("serve --listen sim://a/b", "no simulated network"),
        ("serve --listen tcp://0.0.0.0:0", "--insecure allows it"),
        ("serve --index btree", "there is no index 'btree'"),
        ("serve --memory 1MiB", "at least"),
        ("serve --memory much", "'much' is no size"),
        ("serve --memory 64MiB --evict lru", "there is no eviction 'lru': none, s3-fifo or random"),
        ("serve --evict s3-fifo", "without --memory"),
        ("bench --evict random", "without --memory"),
        ("serve --shards 3", "3 is no power of two"),
        ("serve --threads 0", "--threads"),
        ("serve --cores 1000", "--cores names 1000"),
        ("serve --cores 3-1", "'3-1' is no processor"),
        ("serve --placement near", "paired, split, free"),
        ("serve --frame-limit 1", "not within 10 to 1024 MiB"),
        ("serve --profile flames.png", ".svg"),
        ("serve --metrics localhost:9411", "'localhost:9411' is no address with a port, like 127.0.0.1:9411"),
        ("serve --users nowhere.toml", "`freight user add NAME --users nowhere.toml` makes it"),
        ("plot /dev/null", "/dev/null: no report with charts: "),
        ("serve --profile /nowhere/flames.svg", "/nowhere/flames.svg"),
        ("bench --transport quic", "unknown transport 'quic'"),
        ("get k --servers shm://node.sock", "an absolute path"),
        ("serve --listen shm:///dev/null", "no socket"),
        ("serve --listen shm:///nowhere/node.sock", "/nowhere/node.sock: No such file"),
        ("get k --servers shm:///nowhere/node.sock", "/nowhere/node.sock: No such file"),
        ("get k --servers shm:///dev/null", "no socket"),
        ("bench --transport sim", "try tcp"),
        ("bench --transport tcp --servers tcp://a:1", "--servers"),
        ("bench --index buckets --servers tcp://a:1", "--servers"),
        ("bench --servers tcp://a:1 --memory 1GiB", "'--servers <ENDPOINTS>' cannot be used with '--memory <SIZE>';"),
        ("bench --insecure", "--insecure"),
        ("bench --workload ycsb-z", "ycsb-a"),
        ("bench --batch 0", "--batch"),
        ("bench --batch 65537", "65536"),
        ("bench --theta 1", "less than 1"),
        ("bench --duration 1ms", "100ms"),
        ("bench --cores 1000", "--cores names 1000"),
        ("bench --workers 600 --depth 200", "65535"),
        ("bench --one-way", "--frame-bytes"),
        ("bench --wire-limit --one-way", "--frame-bytes"),
        ("bench --wire-limit --frame-bytes 65536", "--one-way"),
        ("bench --frame-bytes 65536 --one-way", "--wire-limit"),
        ("bench --wire-limit=false --frame-bytes 65536 --one-way", "needs --wire-limit"),
        ("bench --wire-limit --frame-bytes 67 --one-way", "68..="),
        ("bench --wire-limit --frame-bytes 65536 --one-way --batch 10", "--batch"),
        ("bench --wire-limit --frame-bytes 65536 --one-way --rate 10", "--rate"),
        ("bench --wire-limit --frame-bytes 65536 --one-way --depth 65", "--frames-in-flight-max, 64"),
        ("bench --wire-limit --frame-bytes 99999999 --one-way --threads 1", "--frame-limit, which is 16777216"),
        ("bench --transports tcp,quic", "unknown transport 'quic'"),
        ("bench --transports tcp,shm,tcp", "names tcp twice"),
        ("bench --transports tcp,sim", "transport sim cannot be used here"),
        ("bench --transports tcp,rdma --rdma-device none", "transport rdma cannot be used here"),
        ("bench --transports tcp,shm --servers tcp://a:1", "--servers"),
        ("bench --transports tcp,shm --transport tcp", "--transport"),
        ("bench --transports tcp,shm --profile flames.svg", "--profile"),
        ("bench --transports tcp,shm --workload ycsb-d", "without inserts"),
        ("bench --json /nowhere/report.json", "/nowhere/report.json"),
        ("bench --profile flames.png", ".svg"),
        ("bench --memory 1MiB", "at least"),
    ] {
        println!("freight {line}");
        run(&line.split(' ').collect::<Vec<_>>()).assert_one_line(words);
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = run(&["--version"]);
    let expected = format!("freight {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout), (Some(0), expected.into_bytes()));
    assert_eq!(run(&["bench", "--help"]).code, Some(0));
    let help = String::from_utf8(run(&["--help"]).stdout).expect("text");
    let cluster = help.lines().find(|line| line.trim_start().starts_with("cluster ")).expect("a line of its own");
    assert!(
        ["create", "status", "add", "remove", "move", "rebalance"].iter().all(|step| cluster.contains(step)),
        "{help}"
    );
    let nothing = run::<&str>(&[]);
    assert!(nothing.code == Some(2) && nothing.stderr.contains("Usage"), "{}", nothing.stderr);
}

#[test]
fn flags_stand_under_the_heading_they_belong_to() {
    for (command, flags) in [
        ("serve", [("--insecure", "Options:"), ("--profile", "Options:"), ("--shards", "Node:"), ("--mtu", "RDMA:")]),
        ("bench", [("--profile", "Options:"), ("--index", "Node:"), ("--memory", "Node:"), ("--cq-mod", "RDMA:")]),
    ] {
        let help = String::from_utf8(run(&[command, "--help"]).stdout).expect("text");
        for (flag, expected) in flags {
            let before: Vec<_> = help.lines().take_while(|line| !line.trim_start().starts_with(flag)).collect();
            assert!(before.len() < help.lines().count(), "{command} {flag}");
            let heading = before.iter().rfind(|line| line.ends_with(':') && !line.starts_with(' '));
            assert_eq!(heading, Some(&expected), "{command} {flag}");
        }
    }
    // Who asks for a summary is not shown what only RDMA has.
    let summary = String::from_utf8(run(&["get", "-h"]).stdout).expect("text");
    assert!(summary.contains("--servers") && !summary.contains("--cq-mod"), "{summary}");
}

#[test]
fn a_node_that_is_not_there_is_said_in_one_line() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    for command in [&["get", "k"][..], &["put", "k", "v"], &["delete", "k"], &["stats"], &["ping"]] {
        let servers = format!("tcp://{free}");
        let done = run(&[command, &["--servers", &servers]].concat());
        done.assert_one_line("refused");
        done.assert_one_line("`freight serve` starts one");
    }
    run(&["ping", "--servers", "tcp://nobody.invalid:1"]).assert_one_line("tcp://nobody.invalid:1");
    let node = serve_one(&[]);
    run(&["serve", "--listen", node.endpoint()]).assert_one_line("in use");
}

/// A peer that reads a hello, answers with `bytes`, and waits for the other side to close.
fn peer(bytes: Vec<u8>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("an address"));
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        assert_eq!(kind(&read_frame(&mut stream).expect("a hello")), FrameKind::Hello);
        stream.write_all(&bytes).expect("it reads");
        // A reset ends it as well as a close.
        let _ = stream.read(&mut [0; 16]);
    });
    (endpoint, answering)
}

fn kind(frame: &[u8]) -> FrameKind {
    Header::split(frame).expect("a frame").1
}

#[test]
fn a_peer_of_another_kind_is_said_in_one_line() {
    let mut newer = refusal(RefusalCode::Version, "this node speaks version 2");
    newer[4] = 2;
    for (answer, words) in [
        (newer, "protocol version 2, this side speaks 1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "does not speak this protocol"),
        (refusal(RefusalCode::Connections, "too many\nconnections"), "refuses: too many connections"),
        (Vec::new(), "ping"),
    ] {
        let silent = answer.is_empty();
        let (endpoint, answering) = peer(answer);
        let done = run(&["ping", "--servers", &endpoint, "--deadline", if silent { "100ms" } else { "60s" }]);
        done.assert_one_line(if silent { &endpoint } else { words });
        answering.join().expect("a hello came");
    }
}

#[test]
fn a_node_refuses_a_client_of_another_version_and_serves_on() {
    let node = serve_one(&[]);
    let mut stream = node.raw();
    let mut newer = hello(&Hello::new(limits::FRAME_BYTES_DEFAULT, Capabilities(0)));
    newer[4] = 2;
    stream.write_all(&newer).expect("it reads");
    let answer = read_frame(&mut stream).expect("a refusal");
    let refused = Refusal::parse(&answer).expect("a refusal");
    assert_eq!(refused.code, RefusalCode::Version);
    assert!(refused.text.contains("protocol version 2, this side speaks 1"), "{}", refused.text);
    assert_eq!(node.run(&["ping"]).code, Some(0));
}

/// A node under a limit of open files, set as `ulimit` is told to.
fn serve_limited(ulimit: &str, connections_max: &str) -> Served {
    let script = format!("ulimit {ulimit} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_freight"), "serve", "--threads", "1"]);
    command.args(["--listen", "tcp://127.0.0.1:0", "--connections-max", connections_max]);
    command.env_remove("RUST_LOG").stdout(Stdio::piped()).stderr(Stdio::piped());
    Served::of(Running::of(command.spawn().expect("a shell")), 1)
}

/// Connects, says hello, and tells what kind of frame comes back.
fn greet(node: &Served) -> (TcpStream, FrameKind) {
    let mut stream = node.raw();
    stream.write_all(&hello(&Hello::new(limits::FRAME_BYTES_DEFAULT, Capabilities(0)))).expect("it reads");
    let kind = kind(&read_frame(&mut stream).expect("an answer"));
    (stream, kind)
}

/// What a node says to a batch of so many gets, where it says no.
fn denial(endpoint: &str, config: ClientConfig, ops: u32) -> Option<String> {
    let endpoint = endpoint.parse().expect("an endpoint");
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
        let client = Client::connect(&[endpoint], config).await.expect("connected");
        let mut batch = client.batch(ops);
        for _ in 0..ops {
            batch.push(&op::Op { key: b"k", action: op::Action::Get, version_wanted: false }).expect("room");
        }
        let reply = client.execute(batch).await.expect("outcomes");
        reply.failures().next().map(|failure| failure.error.to_string())
    })
}

#[test]
fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let node = serve_limited("-Sn 64", "200");
    let served: Vec<_> = (0..200).map(|_| greet(&node)).filter(|(_, kind)| *kind == FrameKind::HelloReply).collect();
    assert_eq!(served.len(), 200);
}

#[test]
fn a_node_serves_no_more_connections_than_it_may_open_files_and_says_so() {
    let mut node = serve_limited("-n 256", "100000");
    node.process.wait_for("100000 connections need more than the 256 open files allowed (ulimit -n): 124 are served");
    let kinds: Vec<_> = (0..134).map(|_| greet(&node)).collect();
    assert!(kinds[..124].iter().all(|(_, kind)| *kind == FrameKind::HelloReply));
    assert!(kinds[124..].iter().all(|(_, kind)| *kind == FrameKind::Refusal), "refused, not left waiting");
}

#[test]
fn a_node_that_may_open_no_file_for_a_connection_does_not_start() {
    let script = "ulimit -n 64 && exec \"$0\" serve --threads 1 --listen tcp://127.0.0.1:0";
    let done = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_freight")]).output().expect("a shell");
    let words =
        "freight: 64 open files are allowed (ulimit -n), and a node takes 132 besides those of its connections\n";
    assert_eq!((done.status.code(), &String::from_utf8_lossy(&done.stderr)[..]), (Some(2), words));
}

#[test]
fn insecure_lets_a_node_listen_beyond_this_machine() {
    let node = serve(&["tcp://0.0.0.0:0"], &["--insecure"]);
    let port = node.endpoint().rsplit(':').next().expect("a port");
    assert_eq!(run(&["ping", "--servers", &format!("tcp://127.0.0.1:{port}")]).code, Some(0));
}

#[test]
fn a_reader_that_has_gone_is_an_error_and_no_panic() {
    let node = serve_one(&[]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = freight(&["stats", "--servers", node.endpoint()]).stdout(writer).spawn().expect("the binary starts");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.ends_with("\nfreight: standard output: Broken pipe (os error 32)\n"), "{stderr}");
}

/// Three frames are in flight, the reply of the first too large for the kernel's buffers, so that the node is told
/// to stop in the middle of sending it.
fn drains_on(signal: Signal, says: &str) {
    let mut node = serve_one(&[]);
    let value = vec![7; limits::VALUE_BYTES_MAX as usize];
    let put = run_with_input(&["put", "k", "-", "--servers", node.endpoint()], &value);
    assert_eq!(put.code, Some(0), "{}", put.stderr);
    let (mut stream, _) = greet(&node);
    for request in 1..=3 {
        let mut builder = RequestBuilder::new(Vec::new(), 1, limits::FRAME_BYTES_DEFAULT).expect("room");
        builder.push_get(b"k").expect("room");
        let (bytes, length) = builder.finish(Origin { request, ..Origin::default() });
        stream.write_all(&bytes[..length as usize]).expect("it reads");
    }
    node.process.signal(signal);
    node.process.wait_for(says);
    for request in 1..=3 {
        let answer = read_frame(&mut stream).expect("a reply");
        let reply = ReplyView::parse(&answer).expect("a reply");
        assert_eq!(reply.header().request.get(), request);
        assert_eq!(reply.outcome(0), op::Outcome::Value { value: &value, version: None });
    }
    let last = read_frame(&mut stream).expect("a farewell");
    assert_eq!(Refusal::parse(&last).expect("a refusal").code, RefusalCode::Draining);
    assert!(read_frame(&mut stream).is_none());
    drop(stream);
    let (code, said) = node.process.end();
    assert_eq!(code, Some(0));
    assert!(said.last().is_some_and(|line| line.ends_with("drained")), "{said:?}");
}

#[test]
fn sigterm_lets_a_node_answer_what_has_arrived() {
    drains_on(Signal::TERM, "SIGTERM: draining");
}

#[test]
fn an_interrupt_lets_a_node_answer_what_has_arrived() {
    drains_on(Signal::INT, "interrupted: draining");
}
