//! `freight bench` as a user meets it: reports, profiles, interrupts.
#![forbid(unsafe_code)]

use crate::SECOND_INDEX;
use crate::binary::{Running, run, serve_one};
use crate::profiles;
use rustix::process::Signal;

/// Flags of a benchmark that is over soon.
const SHORT: [&str; 12] = [
    "bench",
    "--records",
    "1000",
    "--workers",
    "1",
    "--batch",
    "100",
    "--duration",
    "200ms",
    "--warmup",
    "100ms",
    "--verify",
];

#[test]
fn a_benchmark_prints_its_report_as_json() {
    let schema = serde_json::from_str(include_str!("../../docs/report.schema.json")).expect("JSON");
    let schema = jsonschema::draft202012::new(&schema).expect("a schema");
    let node = serve_one(&[]);
    for target in [&["--wire-limit=false"][..], &["--servers", node.endpoint()], &["--index", SECOND_INDEX]] {
        let done = run(&[&SHORT, target, &["--json", "-"]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON and nothing else");
        assert_eq!((&report["transport"], &report["errors"]["total"]), (&"tcp".into(), &0.into()), "{report:#}");
        assert!(report["reads"]["hits"].as_u64() > Some(0), "{report:#}");
        let errors: Vec<_> = schema.iter_errors(&report).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{target:?}: {errors:#?}");
        let index = if target[0] == "--index" { SECOND_INDEX } else { "buckets" };
        let expected = if target[0] == "--servers" { serde_json::Value::Null } else { index.into() };
        assert_eq!(report["config"]["index"], expected, "{target:?}");
        assert!(done.stderr.contains("(transport tcp)") && done.stderr.contains("Why not more?"), "{}", done.stderr);
    }
}

#[test]
fn a_benchmark_over_shared_memory_starts_its_own_node_and_leaves_nothing_behind() {
    let done = run(&[&SHORT, &["--transport", "shm", "--json", "-"][..]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&report["transport"], &report["errors"]["total"]), (&"shm".into(), &0.into()), "{report:#}");
    let socket = done.stderr.split("shm://").nth(1).and_then(|rest| rest.split(' ').next()).expect("an endpoint");
    assert!(!std::path::Path::new(socket).parent().expect("a folder").exists(), "{socket}");
}

#[test]
fn a_benchmark_over_resp_drives_a_door_of_its_own_alone_and_beside_frames() {
    let schema = serde_json::from_str(include_str!("../../docs/report.schema.json")).expect("JSON");
    let schema = jsonschema::draft202012::new(&schema).expect("a schema");
    for (flags, resp) in [(["--transport", "resp"], ""), (["--transports", "tcp,resp"], "/reports/1")] {
        let done = run(&[&SHORT, &flags[..], &["--json", "-"]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON");
        let errors: Vec<_> = schema.iter_errors(&report).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{flags:?}: {errors:#?}");
        let resp = report.pointer(resp).expect("a report");
        assert_eq!((&resp["transport"], &resp["errors"]["total"]), (&"resp".into(), &0.into()), "{resp:#}");
        assert!(resp["reads"]["hits"].as_u64() > Some(0) && resp["wire_limit"].is_null(), "{resp:#}");
        assert!(done.stderr.contains("at resp://127.0.0.1:"), "{}", done.stderr);
    }
    let refused = run(&[&SHORT, &["--transport", "resp", "--wire-limit"][..]].concat());
    refused.assert_one_line("the wire limit is measured with frames, and there are none over resp");
}

#[test]
fn transports_side_by_side_and_frames_one_way_are_json_too() {
    let frames = ["bench", "--wire-limit", "--frame-bytes", "65536", "--one-way", "--duration", "200ms"];
    for (flags, path, words) in [
        (&[&SHORT[..], &["--transports", "shm,tcp"]].concat()[..], "/reports/1/throughput/ops_per_second", "shm"),
        (&[&frames[..], &["--warmup", "100ms"]].concat(), "/one_way/payload_bytes_per_second", "one way, to the node"),
    ] {
        let done = run(&[flags, &["--json", "-"]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("JSON and nothing else");
        assert!(report.pointer(path).and_then(serde_json::Value::as_f64) > Some(0.0), "{path}: {report:#}");
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
}

#[test]
fn a_benchmark_writes_its_report_to_a_file_and_tells_people() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.json");
    let done = run(&[&SHORT, &["--wire-limit=false", "--json", path.to_str().expect("text")][..]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(String::from_utf8_lossy(&done.stdout).contains("Why not more?"));
    serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).expect("a file")).expect("JSON");
}

#[test]
fn a_benchmark_that_fails_leaves_no_empty_report_and_keeps_an_older_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let [report, older] = ["report.json", "older.json"].map(|name| folder.path().join(name));
    std::fs::write(&older, "{}").expect("written");
    for path in [&report, &older] {
        let nobody = ["bench", "--servers", "tcp://127.0.0.1:1", "--json", path.to_str().expect("text")];
        assert_eq!(run(&nobody).code, Some(2));
    }
    assert!(!report.exists(), "it is empty");
    assert_eq!(std::fs::read_to_string(older).expect("it is there"), "{}");
}

#[test]
fn a_node_without_samples_writes_no_empty_profile() {
    let folder = tempfile::tempdir().expect("a folder");
    let flames = folder.path().join("node.svg");
    let mut node = serve_one(&["--profile", flames.to_str().expect("text")]);
    node.process.signal(Signal::TERM);
    let (code, said) = node.process.end();
    let is_told = said.iter().any(|line| line.contains("node.svg is not written: no samples: nothing ran meanwhile"));
    assert_eq!((code, flames.exists()), (Some(0), !is_told), "{said:?}");
    assert!(is_told || std::fs::metadata(flames).expect("it is there").len() > 0, "{said:?}");
}

#[test]
fn bench_and_serve_write_their_profiles() {
    let folder = tempfile::tempdir().expect("a folder");
    let [flames, samples] = ["node.svg", "bench.pb.gz"].map(|name| folder.path().join(name));
    let mut node = serve_one(&["--profile", flames.to_str().expect("text")]);
    // Long enough for a sampler that looks a hundred times a second of processor time, which other tests want too.
    let longer = ["bench", "--records", "10000", "--batch", "1000", "--duration", "6s", "--warmup", "100ms"];
    let flags = ["--servers", node.endpoint(), "--profile", samples.to_str().expect("text")];
    let done = run(&[&longer[..], &flags].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.end().0, Some(0));
    let (named, leaves) = profiles::of_flamegraph(&std::fs::read_to_string(flames).expect("a flamegraph"));
    assert!(named.iter().any(|name| name.starts_with("execute_bin<")), "{named:?}");
    assert!(leaves.iter().any(|name| profiles::is_ours(name)), "{leaves:?}");
    let (named, leaves) = profiles::of_samples(&std::fs::read(samples).expect("a profile"));
    assert!(named.iter().any(|name| profiles::is_ours(name)), "{named:?}");
    assert!(!leaves.is_empty() && leaves.iter().all(|name| !name.is_empty()), "{leaves:?}");
}

#[test]
fn an_interrupted_benchmark_ends_in_every_phase_with_one_line_and_130() {
    let long = ["bench", "--workers", "1", "--duration", "1h", "--warmup", "1h"];
    let soon = ["--records", "1000", "--batch", "100"];
    for (phase, flags) in [
        ("drawing ", &["--batch", "65536"][..]),
        ("loading ", &["--records", "20000000", "--batch", "100", "--threads", "1"]),
        ("warming up", &soon),
        ("carrying frames", &[&soon[..], &["--warmup", "100ms"]].concat()),
        ("measuring for", &[&soon[..], &["--warmup", "100ms", "--wire-limit=false"]].concat()),
    ] {
        let kept = long.iter().take(if flags.contains(&"--warmup") { 5 } else { 7 });
        let mut bench = Running::start(&kept.chain(flags).copied().collect::<Vec<_>>());
        bench.wait_for(phase);
        bench.signal(Signal::INT);
        let (code, said) = bench.end();
        assert_eq!((code, said), (Some(130), vec!["freight: interrupted, no report".to_owned()]), "{phase}");
        assert!(bench.stdout.next().is_none(), "{phase}: no report");
    }
}

#[test]
fn one_way_frames_are_as_many_as_the_node_takes_and_as_large_as_memory_allows() {
    let node = serve_one(&["--frames-in-flight-max", "8"]);
    let frames = ["bench", "--servers", node.endpoint(), "--wire-limit", "--one-way", "--frame-bytes"];
    for (flags, words) in [
        (
            ["64KiB", "--depth", "9", "--workers", "1"],
            "9 frames in flight on a connection are more than the node takes",
        ),
        (["16MiB", "--depth", "1000", "--workers", "60"], "the frames in flight take 1006632960000 bytes"),
    ] {
        let done = run(&[&frames[..], &flags].concat());
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.lines().last().is_some_and(|line| line.contains(words)), "{}", done.stderr);
    }
}
