//! The JSON report and `docs/report.schema.json` say the same.
#![forbid(unsafe_code)]

use clap::Parser;
use freight::bench::config::BenchConfig;
use freight::bench::machine::Machine;
use freight::bench::measure::{Measure, Window};
use freight::bench::one_way::{OneWay, OneWayReport};
use freight::bench::report::{Carried, Evidence, Memory, NodeMemory, NodeWork, Phase, Report, Topology};
use freight::bench::{BenchError, Target};
use freight::server::{Identity, Node, NodeConfig};
use freight::transport::{Door, Endpoint};
use serde_json::Value;
use std::time::{Duration, Instant};

const SCHEMA: &str = include_str!("../docs/report.schema.json");

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    bench: BenchConfig,
}

fn config(flags: &[&str]) -> BenchConfig {
    let all = std::iter::once("bench").chain(flags.iter().copied());
    let mut config = Command::try_parse_from(all).expect("the flags are right").bench.resolved();
    // The command line has the flags of a node besides; here none is started from them.
    for flag in ["shards", "index", "memory", "evict", "frame_limit", "connections_max", "frames_in_flight_max"] {
        config.node.insert(flag.into(), Value::Null);
    }
    config
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

/// The schema of one kind of report: `run`, `one_way` or `comparison`.
fn schema_of(kind: &str) -> Value {
    let mut schema = schema();
    let parts = schema.as_object_mut().expect("a schema is an object");
    parts.remove("anyOf").expect("the whole schema takes each kind");
    parts.insert("$ref".into(), format!("#/$defs/{kind}").into());
    schema
}

/// Of its kind, of that kind's schema alone: the whole one would not say what is wrong.
fn assert_valid(report: &Value, kind: &str) {
    let validator = jsonschema::draft202012::new(&schema_of(kind)).expect("the schema is a schema");
    let errors: Vec<String> =
        validator.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(jsonschema::draft202012::is_valid(&schema(), report));
}

/// Valid, and with every property that the schema of its kind names.
fn assert_full(report: &Value, kind: &str) {
    assert_valid(report, kind);
    assert_every_property_is_there(&schema_of(kind), &schema(), report, "");
}

/// Every property that the schema names, as paths, with references followed.
fn assert_every_property_is_there(schema: &Value, root: &Value, instance: &Value, path: &str) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).expect("references lead somewhere");
        assert_every_property_is_there(target, root, instance, path);
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array).filter(|_| !instance.is_null()) {
        assert_every_property_is_there(&choices[0], root, instance, path);
    }
    if let Some(items) = schema.get("items") {
        for (i, item) in instance.as_array().expect("the schema was checked first").iter().enumerate() {
            assert_every_property_is_there(items, root, item, &format!("{path}[{i}]"));
        }
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = format!("{path}.{name}");
        let value = instance.get(name).unwrap_or_else(|| panic!("{path} is not produced"));
        assert_every_property_is_there(property, root, value, &path);
    }
}

/// A closed or open loop of 50 batches of 1,000 operations over five seconds.
fn phase(open_loop: bool) -> Phase {
    let start = Instant::now();
    let mut measure = Measure::new(Window::new(start, Duration::from_secs(5)), open_loop);
    for i in 0..50 {
        let answered = start + Duration::from_millis(100 * i + 3);
        measure.batch(1000, start + Duration::from_millis(100 * i), answered);
        measure.operations(1000, start + Duration::from_millis(100 * i), 100.0, answered);
    }
    measure.hits = 47_000;
    measure.misses = 500;
    measure.bytes_sent = 1_000_000;
    measure.bytes_received = 6_000_000;
    let elapsed = Duration::from_secs(5);
    let work = NodeWork { operations: 50_000, frames: 50, bytes_received: 1, bytes_sent: 2, cpu_ns: 5_000_000_000 };
    let nodes = vec![work];
    Phase {
        measure,
        elapsed,
        machine_busy: 0.95,
        client_cpu_ns: 4_000_000_000,
        server_cpu_ns: Some(5_000_000_000),
        nodes,
    }
}

fn carried() -> Carried {
    Carried { phase: phase(false), ops_per_frame: 3.0, request_bytes: 20_000, reply_bytes: 120_000 }
}

fn topology() -> Topology {
    Topology {
        nodes: vec!["tcp://127.0.0.1:7411".into()],
        node_in_process: true,
        nodes_on_this_machine: true,
        client_threads: 2,
        client_cores: vec![0, 1],
        node_cores: vec![0, 1],
        connections: 4,
        connections_on_one_core: 4,
    }
}

fn evidence(flags: &[&str]) -> Evidence {
    let config = config(flags);
    let open_loop = config.rate.is_some();
    Evidence {
        carried: config.wire_limit.expect("the flags are resolved").then(|| [carried(), carried()]),
        config,
        machine: Machine { cores: 2, cores_in_all: 2, ..Machine::here() },
        topology: topology(),
        load: Some(phase(false).measure),
        run: phase(open_loop),
        memory: Memory {
            pool_bytes: 1,
            process_resident_bytes: 2,
            nodes: vec![NodeMemory { records: 3, payload_bytes: 4, used_bytes: 5, cap_bytes: None }],
        },
    }
}

#[test]
fn a_full_report_has_every_property_of_the_schema_and_no_other() {
    let report = serde_json::to_value(Report::new(evidence(&["--rate", "10000", "--verify"]))).unwrap();
    assert_full(&report, "run");
}

#[test]
fn a_report_without_wire_limit_or_open_loop_is_valid() {
    let mut evidence = evidence(&["--wire-limit=false"]);
    evidence.run.server_cpu_ns = None;
    evidence.run.measure.failed("OutOfMemory", 3);
    let report = serde_json::to_value(Report::new(evidence)).unwrap();
    assert_valid(&report, "run");
    assert_eq!(report["errors"]["total"], 3);
    assert!(report["wire_limit"].is_null() && report["latency_us"]["operation"].is_null());
}

#[test]
fn an_unknown_property_is_refused() {
    let mut report = serde_json::to_value(Report::new(evidence(&[]))).unwrap();
    report["surprise"] = Value::from(1);
    assert!(!jsonschema::draft202012::new(&schema()).unwrap().is_valid(&report));
}

#[test]
fn numbers_are_what_their_names_say() {
    let report = Report::new(evidence(&[]));
    assert_eq!(report.throughput.ops_per_second, 10_000.0);
    assert_eq!(report.throughput.spread, 0.0);
    assert_eq!(report.wire.bytes_per_op_sent, 20.0);
    assert_eq!(report.cpu_ns_per_op.client, 80_000.0);
    assert!((report.cpu_busy - 0.9).abs() < 1e-9);
    assert!((report.cpu_busy_others - 0.05).abs() < 1e-9);
    let limit = report.wire_limit.as_ref().unwrap();
    assert_eq!(limit.ops_per_second, 30_000.0);
    assert!((limit.share - 1.0 / 3.0).abs() < 1e-9);
    assert!((report.latency_us.batch.p50 - 3000.0).abs() < 5.0);
}

#[test]
fn the_text_says_what_ran_how_fast_and_why_not_faster() {
    let text = Report::new(evidence(&["--verify"])).to_string();
    for words in [
        "95 % reads and 5 % puts of 1,000,000 records, 128-byte values, Zipf 0.99",
        "10.0 k op/s, spread 0.0 % over 5 seconds",
        "98.95 % found: 47,000 hits, 500 misses; every byte checked",
        "Seed        1\n",
        "CPU         80,000 ns of the client's and 100,000 ns of the node's an operation\n",
        "max 3.00 ms of 50 batches, while the records were loaded",
        "paired: both ends of a connection on one core",
        "It is the mean of\n  30.0 k op/s right before the run and 30.0 k op/s right after it.",
        "The store reaches 33 % of it",
        "Why not more?",
    ] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
}

#[test]
fn the_text_says_where_the_ends_of_connections_were_and_not_where_they_were_wanted() {
    for (flag, in_process, on_one_core, words) in [
        ("paired", true, 4, "paired: both ends of a connection on one core\n"),
        ("paired", true, 1, "paired: both ends on one core of 1 connections of 4\n"),
        ("paired", true, 0, "paired: the ends of a connection on different cores\n"),
        ("split", true, 0, "split: the ends of a connection on different cores\n"),
        ("split", true, 4, "split: both ends of a connection on one core\n"),
        ("split", false, 0, "split: each client thread on a core of its own, the node's where the node put them\n"),
        ("free", false, 0, "free: the kernel chose the cores\n"),
    ] {
        let mut evidence = evidence(&["--placement", flag]);
        evidence.topology.node_in_process = in_process;
        evidence.topology.connections_on_one_core = on_one_core;
        let text = Report::new(evidence).to_string();
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
}

#[test]
fn a_node_next_door_is_no_stranger() {
    // Nine of ten core seconds were used: four by the client, five by the node.
    for (in_process, here, busy, others) in
        [(true, true, 0.9, 0.05), (false, true, 0.4, 0.05), (false, false, 0.4, 0.55)]
    {
        let mut evidence = evidence(&[]);
        evidence.topology.node_in_process = in_process;
        evidence.topology.nodes_on_this_machine = here;
        let report = Report::new(evidence);
        assert!((report.cpu_busy - busy).abs() < 1e-9, "{}", report.cpu_busy);
        assert!((report.cpu_busy_others - others).abs() < 1e-9, "{}", report.cpu_busy_others);
    }
}

#[test]
fn the_text_says_that_a_wire_limit_of_shared_memory_moves_nothing() {
    for (transport, said) in [("tcp", false), ("shm", true)] {
        let text = Report::new(evidence(&["--transport", transport])).to_string();
        assert_eq!(text.contains("handing frames over where they lie"), said, "{text}");
    }
}

#[test]
fn growth_has_percentiles_where_there_were_batches_enough() {
    let mut evidence = evidence(&[]);
    evidence.load.as_mut().expect("it was loaded").batches = 100;
    let text = Report::new(evidence).to_string();
    assert!(text.contains("Growth      p50 3.00 ms, p99"), "{text}");
}

#[test]
fn a_wire_limit_that_moved_during_the_run_is_told_of() {
    let mut evidence = evidence(&[]);
    let after = &mut evidence.carried.as_mut().expect("it was measured")[1].phase.measure;
    after.slice_ops.iter_mut().for_each(|ops| *ops *= 2);
    let text = Report::new(evidence).to_string();
    for words in ["The wire limit is 45.0 k op/s", "30.0 k op/s right before the run and 60.0 k op/s", "lie far apart"]
    {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
}

#[test]
fn one_way_numbers_are_what_their_names_say() {
    let config = config(&["--wire-limit", "--frame-bytes", "20000", "--one-way", "--workers", "2", "--depth", "5"]);
    let carried = Carried { request_bytes: 20_000, reply_bytes: 64, ops_per_frame: 1.0, ..carried() };
    let report = OneWayReport::new(config, Machine::here(), topology(), &carried);
    assert_eq!(report.one_way.frames_per_second, 10_000.0);
    assert_eq!(report.one_way.payload_bytes_per_second, 200e6);
    assert_eq!(report.one_way.frames_in_flight, 10);
    assert_eq!(report.cpu_ns_per_frame.client, 80_000.0);
    let text = report.to_string();
    for words in ["frames of 20,000 bytes one way", "a header of 64 bytes", "200.0 MB/s", "10,000 a second"] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
    assert_full(&serde_json::to_value(report).unwrap(), "one_way");
}

fn node(cores: Vec<usize>) -> Node {
    node_at(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], cores)
}

fn node_at(listen: Vec<Endpoint>, cores: Vec<usize>) -> Node {
    let config = NodeConfig::new(listen, Identity::random().expect("randomness"));
    Node::start(NodeConfig { cores, ..config }).expect("a node on loopback starts")
}

fn doors(node: &Node) -> Vec<Door> {
    node.endpoints().iter().cloned().map(Door::Frames).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_real_run_makes_a_valid_report_without_errors_or_misses() {
    for flags in [
        &["--workload", "freight", "--batch", "1000"][..],
        &["--workload", "ycsb-d", "--batch", "100", "--value-size", "20", "--depth", "2"],
        &["--workload", "ycsb-f", "--batch", "1", "--connections", "shared", "--workers", "3", "--value-size", "0"],
        &["--workload", "ycsb-a", "--batch", "100", "--rate", "50000", "--connections", "shared"],
    ] {
        let short = ["--records", "5000", "--duration", "1s", "--warmup", "100ms", "--verify"];
        let config = config(&[flags, &short].concat());
        let node = node(config.seats());
        let target = Target { endpoints: doors(&node), node_cores: Some(config.seats()) };
        let report = runtime().block_on(freight::bench::run(config, target)).unwrap();
        drop(node);
        println!("{report}");
        let report = serde_json::to_value(report).unwrap();
        assert_full(&report, "run");
        assert_eq!(report["errors"]["total"], 0, "{report:#}");
        assert_eq!(report["reads"]["misses"], 0, "{report:#}");
        for path in ["/throughput/ops_per_second", "/reads/hits", "/wire/bytes_per_op_sent", "/wire_limit/share"] {
            assert!(report.pointer(path).unwrap().as_f64().unwrap() > 0.0, "{path} of {flags:?}: {report:#}");
        }
    }
}

/// Endpoints of the transports that every machine has, sockets in a folder.
fn endpoints(folder: &tempfile::TempDir) -> Vec<Endpoint> {
    let shm = format!("shm://{}/node.sock", folder.path().display());
    ["tcp://127.0.0.1:0", &shm].map(|endpoint| endpoint.parse().expect("an endpoint")).to_vec()
}

#[test]
fn frames_one_way_are_counted_on_every_transport() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let node = node_at(endpoints(&folder), Vec::new());
    for endpoint in node.endpoints() {
        // Smaller than anything kept in place, and larger.
        for bytes in ["68", "65536", "1048576"] {
            let short = ["--duration", "300ms", "--warmup", "100ms", "--threads", "1", "--depth", "4"];
            let config = config(&[&["--wire-limit", "--one-way", "--frame-bytes", bytes], &short[..]].concat());
            let before = node.stats();
            let target = Target { endpoints: vec![endpoint.clone().into()], node_cores: None };
            let report = runtime().block_on(freight::bench::run_one_way(config, target)).unwrap();
            let carried = node.stats().bytes_received - before.bytes_received;
            let OneWay { frames, frame_bytes, acknowledgement_bytes, frames_in_flight, .. } = report.one_way;
            assert_eq!((frame_bytes.to_string(), acknowledgement_bytes, frames_in_flight), (bytes.to_owned(), 64, 4));
            assert!(frames > 0 && carried > frames * u64::from(frame_bytes), "{endpoint}: {frames} frames, {carried}");
            assert_full(&serde_json::to_value(report).unwrap(), "one_way");
        }
    }
    assert_eq!(node.stats().store.records, 0, "no store is asked");
}

#[test]
fn a_frame_that_the_node_does_not_take_is_said_with_its_limit() {
    let node = node(Vec::new());
    let config = config(&["--wire-limit", "--one-way", "--frame-bytes", "20000000", "--threads", "1"]);
    let target = Target { endpoints: doors(&node), node_cores: None };
    let error = runtime().block_on(freight::bench::run_one_way(config, target)).unwrap_err().to_string();
    assert!(error.contains("--frame-bytes 20000000") && error.contains("16777216"), "{error}");
}

#[test]
fn transports_are_compared_on_records_that_are_loaded_once() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let node = node_at(endpoints(&folder), Vec::new());
    let short = ["--records", "2000", "--batch", "100", "--duration", "300ms", "--warmup", "100ms", "--threads", "1"];
    let config = config(&[&["--transports", "tcp,shm", "--verify"], &short[..]].concat());
    let at = |endpoint: &Endpoint| Target { endpoints: vec![endpoint.clone().into()], node_cores: Some(Vec::new()) };
    let targets = node.endpoints().iter().map(at).collect();
    let comparison = runtime().block_on(freight::bench::compare(config, targets)).unwrap();
    let [tcp, shm] = &comparison.reports[..] else { panic!("two reports") };
    assert_eq!((&*tcp.transport, &*shm.transport), ("tcp", "shm"));
    for report in [tcp, shm] {
        assert_eq!((report.errors.total, report.reads.misses), (0, 0), "{:?}", report.errors);
        assert!(report.throughput.ops_per_second > 0.0 && report.wire_limit.is_some());
        assert_eq!(report.memory.nodes[0].records, 2000);
    }
    assert!(tcp.latency_us.load.is_some() && shm.latency_us.load.is_none(), "loaded once");
    let text = comparison.to_string();
    for words in [
        "tcp             shm\n",
        "Throughput",
        "Ends on one core",
        "handing frames over",
        "share the store reaches",
        "CPU an operation, client",
    ] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
    assert_valid(&serde_json::to_value(comparison).unwrap(), "comparison");
}

#[test]
fn a_transport_that_cannot_be_reached_ends_a_comparison_before_anything_is_loaded() {
    let node = node(Vec::new());
    let gone: Endpoint = "shm:///nowhere/node.sock".parse().unwrap();
    let config = config(&["--transports", "tcp,shm", "--records", "2000", "--threads", "1"]);
    let targets = [&node.endpoints()[0], &gone]
        .map(|endpoint| Target { endpoints: vec![endpoint.clone().into()], node_cores: None });
    let error = runtime().block_on(freight::bench::compare(config, targets.to_vec())).unwrap_err().to_string();
    assert!(error.contains("shm:///nowhere/node.sock"), "{error}");
    assert_eq!(node.stats().store.records, 0);
}

#[test]
fn two_nodes_are_driven_and_have_a_wire_limit() {
    let nodes = [node(Vec::new()), node(Vec::new())];
    let endpoints = nodes.iter().map(|node| node.endpoints()[0].clone().into()).collect();
    let flags = ["--records", "5000", "--batch", "1000", "--duration", "300ms", "--warmup", "100ms", "--verify"];
    let config = config(&[&flags[..], &["--wire-limit", "--threads", "1"]].concat());
    let report = runtime().block_on(freight::bench::run(config, Target { endpoints, node_cores: None })).unwrap();
    assert_eq!((report.errors.total, report.reads.misses), (0, 0));
    assert_eq!(report.memory.nodes.iter().map(|node| node.records).sum::<u64>(), 5000);
    assert!(report.memory.nodes.iter().all(|node| node.records > 2000), "keys are dealt to both");
    assert_eq!(report.topology.connections, 2);
    // A batch is a frame to each node.
    let limit = report.wire_limit.unwrap();
    assert!((450.0..550.0).contains(&limit.ops_per_frame), "{} operations a frame", limit.ops_per_frame);
}

#[test]
fn a_batch_that_touches_one_node_of_two_counts_as_one_frame() {
    let nodes = [node(Vec::new()), node(Vec::new())];
    let endpoints = nodes.iter().map(|node| node.endpoints()[0].clone().into()).collect();
    let flags = ["--records", "1000", "--batch", "1", "--duration", "300ms", "--warmup", "100ms"];
    let config = config(&[&flags[..], &["--wire-limit", "--threads", "1", "--value-size", "1000"]].concat());
    let report = runtime().block_on(freight::bench::run(config, Target { endpoints, node_cores: None })).unwrap();
    let limit = report.wire_limit.unwrap();
    assert_eq!(limit.ops_per_frame, 1.0);
    assert!((900..1200).contains(&limit.reply_bytes), "a reply of {} bytes", limit.reply_bytes);
}

#[test]
fn a_batch_whose_values_fill_several_replies_counts_as_several_frames() {
    let node = node(Vec::new());
    let flags = ["--records", "1000", "--batch", "10000", "--duration", "300ms", "--warmup", "100ms", "--verify"];
    let config = config(&[&flags[..], &["--wire-limit", "--threads", "1", "--value-size", "4096"]].concat());
    let target = Target { endpoints: doors(&node), node_cores: None };
    let report = runtime().block_on(freight::bench::run(config, target)).unwrap();
    assert_eq!((report.errors.total, report.reads.misses), (0, 0));
    let limit = report.wire_limit.unwrap();
    // About 39 MB come back in frames of at most 16 MiB.
    assert!((3000.0..4000.0).contains(&limit.ops_per_frame), "{} operations a frame", limit.ops_per_frame);
    assert!(limit.reply_bytes < freight::limits::FRAME_BYTES_DEFAULT, "a reply of {} bytes", limit.reply_bytes);
}

#[test]
fn a_node_that_forbids_the_wire_limit_is_told_of_before_anything_is_loaded() {
    let listen = vec!["tcp://0.0.0.0:0".parse().unwrap()];
    let config_of_node = NodeConfig::new(listen, Identity::random().unwrap());
    let node = Node::start(NodeConfig { insecure: true, ..config_of_node }).unwrap();
    let (_, port) = node.endpoints()[0].host_port().unwrap();
    let endpoint: Endpoint = format!("tcp://127.0.0.1:{port}").parse().unwrap();
    let target = Target { endpoints: vec![endpoint.clone().into()], node_cores: None };
    let error = runtime().block_on(freight::bench::run(config(&["--wire-limit"]), target)).unwrap_err();
    assert!(matches!(&error, BenchError::WireLimitForbidden { endpoint: node } if *node == endpoint), "{error}");
    assert_eq!(node.stats().store.records, 0);
}

#[test]
fn values_that_another_writer_left_are_mismatches() {
    let node = node(Vec::new());
    let run = |seed| {
        let flags = ["--records", "100", "--batch", "100", "--duration", "300ms", "--warmup", "100ms", "--verify"];
        let config = config(&[&flags[..], &["--wire-limit=false", "--threads", "1", "--seed", seed]].concat());
        freight::bench::run(config, Target { endpoints: doors(&node), node_cores: None })
    };
    let (one, other) = runtime().block_on(async { tokio::join!(run("1"), run("2")) });
    let (one, other) = (one.unwrap(), other.unwrap());
    let wrong = [&one, &other].map(|report| report.errors.by_kind.get("WrongValue").copied().unwrap_or(0));
    assert!(wrong.iter().sum::<u64>() > 0, "{:?} {:?}", one.errors, other.errors);
    let mismatch = one.errors.first_mismatch.or(other.errors.first_mismatch);
    assert!(mismatch.unwrap().contains("no writer of this run"));
}

#[test]
fn a_batch_that_no_frame_holds_ends_the_run_in_one_line() {
    let node = node(Vec::new());
    let flags = ["--records", "100", "--batch", "100", "--duration", "300ms", "--warmup", "100ms"];
    let config = config(&[&flags[..], &["--workload", "ycsb-a", "--value-size", "2000000"]].concat());
    let target = Target { endpoints: doors(&node), node_cores: None };
    let error = runtime().block_on(freight::bench::run(config, target)).unwrap_err();
    assert_eq!(error.to_string(), "no operation of the warm-up was answered: FrameFull");
}

#[test]
fn a_node_that_is_full_stops_the_load() {
    let listen = vec!["tcp://127.0.0.1:0".parse().unwrap()];
    let config_of_node = NodeConfig::new(listen, Identity::random().unwrap());
    let node = Node::start(NodeConfig { memory_bytes_max: Some(64 << 20), ..config_of_node }).unwrap();
    let config = config(&["--records", "100000", "--value-size", "1000", "--batch", "100"]);
    let target = Target { endpoints: doors(&node), node_cores: None };
    let error = runtime().block_on(freight::bench::run(config, target)).unwrap_err().to_string();
    assert!(error.contains("loading stopped after") && error.ends_with("OutOfMemory"), "{error}");
}
