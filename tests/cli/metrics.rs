//! `freight serve --metrics`: what Prometheus reads agrees with what clients did, and nobody on that port is in
//! anybody's way.
#![forbid(unsafe_code)]

use crate::binary::{Served, run, run_with_input, serve};
use crate::certificates::Authority;
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

/// A node, and where it tells metrics.
struct Watched {
    served: Served,
    address: String,
}

fn watched(listen: &[&str], flags: &[&str]) -> Watched {
    let mut served = serve(listen, &[&["--metrics", "127.0.0.1:0"], flags].concat());
    let line = served.process.stdout.next().expect("a line").expect("text");
    let address = line.strip_prefix("metrics at http://").and_then(|line| line.strip_suffix("/metrics"));
    let address = address.unwrap_or_else(|| panic!("an unexpected line: {line}")).to_owned();
    Watched { served, address }
}

impl Watched {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).expect("it listens")
    }

    /// What it says to these bytes, until it closes.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // Some are answered before they are read to the end.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        // A reset ends it as well as a close.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    }

    fn get(&self, path: &str) -> (String, String) {
        let answer = self.say(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
        (head.to_owned(), body.to_owned())
    }

    /// The page as Prometheus reads it.
    fn page(&self) -> Page {
        let (head, text) = self.get("/metrics");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        // Debian's, for which scripts/verify installs the module; another one may come first in the path.
        let mut command = Command::new("/usr/bin/python3");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/metrics.py");
        let parser = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut parser = parser.spawn().expect("python3 is installed: scripts/verify does so");
        parser.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
        let output = parser.wait_with_output().expect("it ends");
        assert!(output.status.success(), "Prometheus's parser does not take this:\n{text}");
        Page(serde_json::from_slice(&output.stdout).expect("JSON"))
    }
}

struct Page(Value);

impl Page {
    /// Families and their types.
    fn families(&self) -> Vec<(String, String)> {
        let families = self.0.as_object().expect("an object").iter();
        let with_suffix =
            |name: &str, kind: &str| if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let family = |(name, family): (&String, &Value)| {
            let kind = family["type"].as_str().expect("a type");
            (with_suffix(name, kind), kind.to_owned())
        };
        families.map(family).collect()
    }

    /// The value of a sample with these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let all = self.0.as_object().expect("an object").values();
        let mut samples = all.flat_map(|family| family["samples"].as_array().expect("a list"));
        let wanted: Value = labels.iter().map(|(label, value)| ((*label).to_owned(), Value::from(*value))).collect();
        samples.find(|sample| sample[0] == name && sample[1] == wanted).and_then(|sample| sample[2].as_f64())
    }

    fn operations(&self, kind: &str, result: &str) -> Option<f64> {
        self.value("freight_operations_total", &[("kind", kind), ("result", result)])
    }

    /// Operations of every kind and result.
    fn all_operations(&self) -> f64 {
        let samples = self.0["freight_operations"]["samples"].as_array().expect("a list").iter();
        samples.map(|sample| sample[2].as_f64().expect("a number")).sum()
    }
}

#[test]
fn the_page_says_what_a_client_did() {
    let node = watched(&["tcp://127.0.0.1:0"], &["--memory", "1GiB", "--shards", "4"]);
    let before = node.page();
    assert_eq!((before.operations("get", "value"), before.operations("get", "not_found")), (Some(0.0), None));
    assert_eq!(before.all_operations(), 0.0);
    for key in ["a", "b", "c"] {
        assert_eq!(node.served.run(&["put", key, "value"]).code, Some(0));
    }
    for (key, code) in [("a", 0), ("b", 0), ("a", 0), ("x", 1), ("y", 1)] {
        assert_eq!(node.served.run(&["get", key]).code, Some(code));
    }
    assert_eq!(node.served.run(&["delete", "c"]).code, Some(0));
    // What it says of the store may be of a moment ago.
    let page = (0..1_000).map(|_| node.page()).find(|page| page.value("freight_records", &[]) == Some(2.0));
    let page = page.expect("two records are left");
    for (kind, result, count) in
        [("put", "done", 3.0), ("get", "value", 3.0), ("get", "not_found", 2.0), ("delete", "done", 1.0)]
    {
        assert_eq!(page.operations(kind, result), Some(count), "{kind} {result}");
    }
    assert_eq!(page.all_operations(), 9.0);
    for (name, value) in [
        ("freight_batch_seconds_count", 9.0),
        ("freight_frames_total", 9.0),
        ("freight_connections_accepted_total", 9.0),
        ("freight_records", 2.0),
        ("freight_shards", 4.0),
        ("freight_memory_max_bytes", f64::from(1 << 30)),
        ("freight_slots", 16_384.0),
        ("freight_ready", 1.0),
        ("freight_slow_batches_total", 0.0),
    ] {
        assert_eq!(page.value(name, &[]), Some(value), "{name}");
    }
    assert_eq!(page.value("freight_batch_seconds_bucket", &[("le", "+Inf")]), Some(9.0));
    let records = page.value("freight_memory_bytes", &[("class", "records")]).expect("it is told");
    assert!(records > 0.0 && page.value("process_resident_memory_bytes", &[]) > Some(records), "{records}");
}

#[test]
fn batches_are_counted_operation_by_operation() {
    let node = watched(&["tcp://127.0.0.1:0"], &[]);
    let flags = "--duration 100ms --warmup 100ms --records 1000 --batch 100 --workers 1 --workload ycsb-a --json -";
    let flags: Vec<_> = ["bench"].into_iter().chain(flags.split(' ')).collect();
    assert_eq!(node.served.run(&flags).code, Some(0));
    let page = node.page();
    let stats: Value = serde_json::from_slice(&node.served.run(&["stats"]).stdout).expect("JSON");
    assert_eq!(Some(page.all_operations()), stats[0]["operations"].as_f64());
    let (gets, puts) = (page.operations("get", "value"), page.operations("put", "done"));
    assert!(gets > Some(0.0) && puts > Some(1_000.0), "{gets:?} {puts:?}");
    assert_eq!(gets.zip(puts).map(|(gets, puts)| gets + puts), Some(page.all_operations()));
}

#[test]
fn commands_of_redis_clients_are_counted_too() {
    let node = watched(&["tcp://127.0.0.1:0", "resp://127.0.0.1:0"], &[]);
    let mut client = TcpStream::connect(node.served.endpoints[1].trim_start_matches("resp://")).expect("it listens");
    client.write_all(b"SET k 7\r\nINCR k\r\nGET k\r\nGET none\r\nDEL k\r\nQUIT\r\n").expect("it reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("text");
    assert_eq!(answer, "+OK\r\n:8\r\n$1\r\n8\r\n$-1\r\n:1\r\n+OK\r\n");
    let page = node.page();
    for (kind, result) in
        [("put", "done"), ("add", "counter"), ("get", "value"), ("get", "not_found"), ("delete", "done")]
    {
        assert_eq!(page.operations(kind, result), Some(1.0), "{kind} {result}");
    }
    let stats: Value = serde_json::from_slice(&node.served.run(&["stats"]).stdout).expect("JSON");
    assert_eq!(Some(page.all_operations()), stats[0]["operations"].as_f64());
}

#[test]
fn operations_whose_replies_have_no_room_yet_are_counted_once() {
    let node = watched(&["tcp://127.0.0.1:0", "resp://127.0.0.1:0"], &[]);
    let mut client = TcpStream::connect(node.served.endpoints[1].trim_start_matches("resp://")).expect("it listens");
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n{}\r\n", "v".repeat(1 << 20));
    let pipeline = "GET k\r\nINCR n\r\nAPPEND k x\r\n".repeat(40);
    client.write_all(format!("{set}{pipeline}QUIT\r\n").as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("replies");
    assert!(answer.len() > 40 << 20 && answer.ends_with(b"+OK\r\n"), "{} bytes", answer.len());
    let page = node.page();
    for (kind, result, count) in
        [("put", "done", 1.0), ("get", "value", 40.0), ("add", "counter", 40.0), ("edit", "edited", 40.0)]
    {
        assert_eq!(page.operations(kind, result), Some(count), "{kind} {result}");
    }
    let stats: Value = serde_json::from_slice(&node.served.run(&["stats"]).stdout).expect("JSON");
    assert_eq!((page.all_operations(), stats[0]["operations"].as_f64()), (121.0, Some(121.0)));
}

#[test]
fn who_is_refused_is_counted_by_the_reason() {
    let node = watched(&["tcp://127.0.0.1:0"], &["--connections-max", "1"]);
    let mut peer = node.served.raw();
    peer.write_all(&[b'x'; 64]).expect("it reads");
    let _answer = peer.read_to_end(&mut Vec::new());
    let ended = |reason| node.page().value("freight_connections_ended_total", &[("reason", reason)]);
    assert_eq!((ended("malformed"), ended("connections"), ended("lost")), (Some(1.0), Some(0.0), Some(0.0)));
    let connections = |count: f64| while node.page().value("freight_connections", &[]) != Some(count) {};
    connections(0.0);
    let _first = node.served.raw();
    connections(1.0);
    let mut second = node.served.raw();
    let _answer = second.read_to_end(&mut Vec::new());
    assert_eq!(ended("connections"), Some(1.0));
}

#[test]
fn health_and_readiness_are_answered_and_nothing_else_is() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let map = folder.path().join("cluster.toml");
    let map = map.to_str().expect("text");
    let mut node = watched(&["tcp://127.0.0.1:0"], &["--map", map]);
    let status = |path: &str| node.get(path).0.lines().next().map(str::to_owned).expect("a status");
    assert_eq!(
        (status("/healthz"), status("/readyz")),
        ("HTTP/1.1 200 OK".into(), "HTTP/1.1 503 Service Unavailable".into())
    );
    assert_eq!(node.get("/readyz").1, "not ready: it has no shard map yet\n");
    assert_eq!(node.page().value("freight_ready", &[]), Some(0.0));
    assert_eq!(status("/"), "HTTP/1.1 404 Not Found");
    for question in
        ["POST /metrics HTTP/1.1\r\nHost: node\r\nContent-Length: 1\r\n\r\nx", "HEAD /metrics HTTP/1.1\r\n\r\n"]
    {
        assert!(node.say(question.as_bytes()).starts_with("HTTP/1.1 405 "), "{question}");
    }
    assert_eq!(run(&["cluster", "create", "--map", map, "--servers", node.served.endpoint()]).code, Some(0));
    node.served.process.signal(Signal::HUP);
    node.served.process.wait_for("owns 16384 slots");
    assert_eq!(node.get("/readyz").1, "ready\n");
    assert_eq!(node.page().value("freight_map_epoch", &[]), Some(1.0));
}

#[test]
fn whoever_misuses_the_port_is_let_go_of_and_clients_notice_nothing() {
    let node = watched(&["tcp://127.0.0.1:0"], &[]);
    for nonsense in ["nonsense\r\n\r\n", "GET /metrics HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n"] {
        let answer = node.say(nonsense.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 ") || answer.is_empty(), "{nonsense:?}: {answer}");
    }
    let long = format!("GET /metrics HTTP/1.1\r\nHost: {}", "x".repeat(1 << 20));
    let answer = node.say(long.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
    // Half a question each, and pages that nobody takes; more of them than are served at a time.
    let idle = (0..40).map(|number| {
        let mut stream = node.connect();
        let half = if number % 2 == 0 { &b"GET /met"[..] } else { b"GET /metrics HTTP/1.1\r\n\r\n" };
        stream.write_all(half).expect("the system takes it");
        stream
    });
    let idle: Vec<_> = idle.collect();
    assert_eq!(node.served.run(&["put", "k", "v"]).code, Some(0));
    assert_eq!(node.served.run(&["get", "k"]).stdout, b"v");
    // Those before it are let go of after a while, and it has its turn.
    assert_eq!(node.page().operations("put", "done"), Some(1.0));
    drop(idle);
}

#[test]
fn a_client_that_closes_its_side_first_gets_its_page() {
    let node = watched(&["tcp://127.0.0.1:0"], &[]);
    let mut stream = node.connect();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("it reads");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
}

#[test]
fn a_slow_batch_is_logged_with_whose_it_was_and_what_it_cost() {
    let mut node = watched(&["tcp://127.0.0.1:0"], &["--slow-batch", "1ns"]);
    let value = vec![b'v'; 100_000];
    let put = ["put", "k", "-", "--servers", node.served.endpoint()];
    assert_eq!(run_with_input(&put, &value).code, Some(0));
    node.served.process.wait_for(" in the store, 1 operations, 1000");
    assert_eq!(node.served.run(&["get", "k"]).stdout, value);
    node.served.process.wait_for(" out, from tcp://127.0.0.1:");
    assert_eq!(node.page().value("freight_slow_batches_total", &[]), Some(2.0));
}

#[test]
fn slow_commands_are_logged_by_their_names_and_without_their_keys() {
    let mut node = watched(&["tcp://127.0.0.1:0", "resp://127.0.0.1:0"], &["--slow-batch", "1ns"]);
    let mut client = TcpStream::connect(node.served.endpoints[1].trim_start_matches("resp://")).expect("it listens");
    let own = client.local_addr().expect("an address");
    client.write_all(b"SET secret word\r\n").expect("it reads");
    client.read_exact(&mut [0; 5]).expect("+OK");
    node.served.process.wait_for(&format!(" in the store, 1 operations (set 1), from resp://{own}"));
    let pipeline = "*2\r\n$3\r\nGET\r\n$6\r\nsecret\r\n".repeat(3)
        + "*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nb\r\nSCAN 0\r\nQUIT\r\n";
    client.write_all(pipeline.as_bytes()).expect("it reads");
    client.read_to_end(&mut Vec::new()).expect("it closes");
    node.served.process.signal(Signal::TERM);
    let (_, said) = node.served.process.end();
    let slow: Vec<_> = said.iter().filter(|line| line.contains("slow batch: ")).collect();
    assert!(
        slow.iter().any(|line| line.contains("get ")) && slow.iter().any(|line| line.contains("mget 2")),
        "{slow:?}"
    );
    assert!(slow.iter().any(|line| line.contains(&format!("a part of a scan, from resp://{own}"))), "{slow:?}");
    assert!(!slow.iter().any(|line| line.contains("secret") || line.contains("word")), "{slow:?}");
}

#[test]
fn every_metric_stands_in_the_manual_and_nothing_else_does() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let map = folder.path().join("cluster.toml");
    let authority = Authority::with_node();
    let [certificate, key] = ["node.pem", "node.key"].map(|name| authority.file(name));
    let files = ["--tls-certificate", &certificate, "--tls-key", &key];
    let flags = [&["--map", map.to_str().expect("text"), "--memory", "1GiB"][..], &files].concat();
    let node = watched(&["tcp://127.0.0.1:0"], &flags);
    let manual =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATING.md")).expect("it is there");
    let rows = manual.lines().filter(|line| line.starts_with("| `freight_") || line.starts_with("| `process_"));
    let told = rows.map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        (cells[1].trim_matches('`').split('{').next().expect("a name").to_owned(), cells[2].to_owned())
    });
    let (mut told, mut families): (Vec<_>, _) = (told.collect(), node.page().families());
    told.sort();
    families.sort();
    assert_eq!(told, families, "docs/OPERATING.md and the page");
}

#[test]
fn an_address_for_metrics_that_is_none_or_taken_is_said_in_one_line() {
    run(&["serve", "--metrics", "9411"]).assert_one_line("--metrics");
    run(&["serve", "--slow-batch", "soon"]).assert_one_line("--slow-batch");
    let node = watched(&["tcp://127.0.0.1:0"], &[]);
    let taken = ["serve", "--listen", "tcp://127.0.0.1:0", "--metrics", &node.address];
    let done = run(&taken);
    assert!(done.code == Some(2) && done.stderr.contains("for metrics: Address already in use"), "{}", done.stderr);
}
