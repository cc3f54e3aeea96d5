//! `freight bench sweep` as a user meets it: points, plots, interrupts, points that fail.
#![forbid(unsafe_code)]

use crate::binary::{Running, run};
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;

/// Flags of a sweep that is over soon.
const SHORT: [&str; 9] =
    ["bench", "sweep", "--records", "1000", "--duration", "100ms", "--warmup", "100ms", "--verify"];

fn sweep_of(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("sweep.json")).expect("it was written");
    let report: Value = serde_json::from_slice(&text).expect("JSON");
    let schema = serde_json::from_str(include_str!("../../docs/report.schema.json")).expect("JSON");
    let schema = jsonschema::draft202012::new(&schema).expect("a schema");
    let errors: Vec<_> = schema.iter_errors(&report).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    report
}

#[test]
fn a_sweep_measures_every_point_and_draws_what_came_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("made");
    let lists = ["--batches", "10,200", "--workers", "1,2", "--load-batches", "200", "--loads", "50,90"];
    let done = run(&[&SHORT, &lists[..], &["--folder", place.to_str().expect("text")]].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let report = sweep_of(&place);
    let points = report["points"].as_array().expect("points");
    assert_eq!(points.len(), 2 * 2 * 2 + 2 * 2, "{report:#}");
    for (i, point) in points.iter().enumerate() {
        let name = format!("{} {} {} {}", point["transport"], point["batch"], point["workers"], point["load_percent"]);
        let measured = &point["report"];
        assert_eq!(point["error"], Value::Null, "{name}");
        for flag in ["transport", "batch", "workers"] {
            assert_eq!(measured["config"][flag], point[flag], "{name}: the report is of the point");
        }
        assert!(measured["throughput"]["operations"].as_u64() > Some(0), "{name}");
        assert_eq!(measured["wire_limit"].is_null(), i >= 8, "{name}: closed loops have one");
        assert_eq!(measured["latency_us"]["operation"].is_null(), i < 8, "{name}: open loops have one");
        assert_eq!(measured["latency_us"]["load"].is_null(), i > 0, "{name}: the records are loaded once");
    }
    // An open loop is asked for its share of the best that its transport did.
    let best = |transport: &str| {
        let of = points[..8].iter().filter(|point| point["transport"] == transport && point["batch"] == 200);
        let rate = |point: &Value| point["report"]["throughput"]["ops_per_second"].as_f64().expect("a rate");
        of.map(rate).fold(0.0, f64::max)
    };
    let asked = points[10]["report"]["config"]["rate"].as_f64().expect("a rate");
    assert_eq!((&points[10]["transport"], &points[10]["load_percent"]), (&"shm".into(), &50.into()));
    assert!((asked - 0.5 * best("shm")).abs() < 1.0, "{asked} of {}", best("shm"));
    let said = String::from_utf8(done.stdout).expect("text");
    assert!(said.contains("Closed loop") && said.contains(", batch 200, at 90 % of its peak"), "{said}");
    for name in ["throughput", "latency", "transports"] {
        let svg = std::fs::read_to_string(place.join(format!("{name}.svg"))).expect("a picture");
        assert!(svg.contains("tcp") && svg.contains("shm"), "{name}");
        assert!(std::fs::read(place.join(format!("{name}.png"))).expect("a picture").starts_with(b"\x89PNG"), "{name}");
        assert!(said.contains(&format!("{name}.svg")), "{said}");
    }
    let again = tempfile::tempdir().expect("a folder");
    let json = place.join("sweep.json");
    let words = ["plot", json.to_str().expect("text"), "--folder", again.path().to_str().expect("text")];
    assert_eq!(run(&words).code, Some(0));
    let [one, other] = [&place, again.path()].map(|at| std::fs::read(at.join("latency.svg")).expect("a picture"));
    assert_eq!(one, other, "the charts are in the report");
}

#[test]
fn of_several_rounds_the_median_is_told_and_the_range() {
    let folder = tempfile::tempdir().expect("a folder");
    let lists = ["--batches", "100", "--workers", "1", "--loads", "50", "--transports", "tcp", "--wire-limit=false"];
    let more = ["--rounds", "3", "--folder", folder.path().to_str().expect("text")];
    let done = run(&[&SHORT, &lists[..], &more].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let report = sweep_of(folder.path());
    let [closed, open] = &report["points"].as_array().expect("points")[..] else { panic!("{report:#}") };
    for (point, figure) in [(closed, "/report/throughput/ops_per_second"), (open, "/report/latency_us/operation/p99")] {
        let rounds: Vec<_> = point["rounds"].as_array().expect("rounds").iter().map(Value::as_f64).collect();
        assert!(rounds.len() == 3 && rounds.is_sorted(), "{rounds:?}");
        assert_eq!(point.pointer(figure).expect("a figure").as_f64(), rounds[1], "{rounds:?}");
    }
    let asked = open["report"]["config"]["rate"].as_f64().expect("a rate");
    assert!((asked - closed["rounds"][1].as_f64().expect("a rate") / 2.0).abs() < 1.0, "half of the median: {asked}");
    let said = String::from_utf8(done.stdout).expect("text");
    let ends_of = |title: &str| {
        let (_, table) = said.split_once(title).expect("a column for the rounds");
        table.lines().find(|line| line.contains("batch 100")).expect("a row").split_whitespace().last().expect("a unit")
    };
    assert_eq!(ends_of("throughput of all rounds"), "op/s", "{said}");
    assert!(["us", "ms"].contains(&ends_of("p99 of all rounds")), "{said}");
    assert_eq!(done.stderr.matches("at 50 % of its peak: ").count(), 3, "{}", done.stderr);
}

#[test]
fn a_point_that_fails_is_told_and_the_others_are_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    // Of a thousand operations fifty are puts, of 26 MB together: more than a frame holds.
    let flags =
        ["--batches", "1000,1", "--load-batches", "1000,1", "--loads", "50", "--workers", "1", "--transports", "tcp"];
    let large = ["--value-size", "512KiB", "--records", "50", "--wire-limit=false"];
    let kept: Vec<&str> = SHORT.iter().copied().filter(|word| !["--records", "1000"].contains(word)).collect();
    let done = run(&[&kept[..], &flags, &large, &["--folder", folder.path().to_str().expect("text")]].concat());
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let report = sweep_of(folder.path());
    let failed: Vec<_> = (0..4).map(|i| report["points"][i]["report"].is_null()).collect();
    assert_eq!(failed, [true, false, true, false], "{}", done.stderr);
    assert!(done.stderr.contains("batch 1,000: failed: no operation"), "{}", done.stderr);
    assert!(done.stderr.contains("failed: its peak is not known"), "{}", done.stderr);
    assert!(String::from_utf8_lossy(&done.stdout).contains("failed: no operation"));
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("text");
    // Far more points than are over when the interrupt comes.
    let batches = (10..110).map(|batch| batch.to_string()).collect::<Vec<_>>().join(",");
    let flags = ["--batches", &batches, "--workers", "1", "--folder", place, "--wire-limit=false"];
    let mut sweep = Running::start(&[&SHORT[..], &flags].concat());
    let mut lines = sweep.stderr.by_ref().map_while(Result::ok);
    let socket = lines.find_map(|line| Some(line.split_once("shm://")?.1.split(' ').next()?.to_owned()));
    sweep.wait_for("-- shm, 1 worker, batch 10: ");
    sweep.signal(Signal::INT);
    let (code, said) = sweep.end();
    assert_eq!(code, Some(130), "{said:?}");
    let report = sweep_of(folder.path());
    let points = report["points"].as_array().expect("points");
    assert!(points.len() >= 2 && points.iter().all(|point| !point["report"].is_null()), "{report:#}");
    assert_eq!(report["interrupted"], true);
    let words = format!("freight: interrupted, {} of 210 runs measured", points.len());
    assert_eq!(said.last(), Some(&words));
    assert!(std::fs::exists(folder.path().join("throughput.png")).expect("a folder"));
    assert!(!std::fs::exists(socket.expect("it says where it listens")).expect("a path"), "the socket is gone");
}

#[test]
fn what_is_wrong_with_a_sweep_is_said_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    for (line, words) in [
        ("bench sweep --batches 1,x", "'x'"),
        ("bench sweep --batches 0", "0 is not in 1..=65536"),
        ("bench sweep --batches 5,5", "--batches names 5 twice"),
        ("bench sweep --transports tcp,ib", "unknown transport 'ib'"),
        ("bench sweep --transports sim", "transport sim cannot be used here"),
        ("bench sweep --load-batches 7", "--load-batches names 7, which is not among --batches"),
        ("bench sweep --loads 50 --closed", "cannot be used with"),
        ("bench sweep --loads 0", "--loads"),
        ("bench sweep --rounds 0", "--rounds"),
        ("bench sweep --workload ycsb-d", "without inserts"),
        ("bench sweep --duration 1ms", "100ms"),
        ("bench sweep --servers tcp://a:1", "--servers"),
        ("bench sweep --shards 3", "power of two"),
        ("bench --rate 5 sweep", "cannot be used with"),
        ("bench swep", "swep"),
    ] {
        run(&line.split(' ').collect::<Vec<_>>()).assert_one_line(words);
    }
    run(&["bench", "sweep", "--folder", file.to_str().expect("text")]).assert_one_line("File exists");
}
