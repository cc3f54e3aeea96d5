//! A benchmark of nodes that misbehave: what a report must not hide, and why there is none.
#![forbid(unsafe_code)]

#[path = "support/mod.rs"]
mod support;

use clap::Parser;
use freight::bench::config::BenchConfig;
use freight::bench::report::Report;
use freight::bench::{BenchError, Target};
use freight::client::ClientError;
use freight::metrics::NodeStats;
use freight::op::{Action, Op, Outcome};
use freight::transport::FrameReceiver;
use freight::wire::{FrameKind, Header, HelloReply, RequestView, stats_reply};
use support::scripted::{Peer, ScriptedNode};

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    bench: BenchConfig,
}

fn config(flags: &str) -> BenchConfig {
    let short = "bench --records 100 --threads 1 --duration 200ms --warmup 100ms";
    let batch = if flags.contains("--batch") { "" } else { "--batch 100" };
    Command::try_parse_from(format!("{short} {batch} {flags}").split_whitespace()).expect("the flags are right").bench
}

fn value_or_done(op: &Op<'_>) -> Outcome<'static> {
    match op.action {
        Action::Get => Outcome::Value { value: &[7; 128], version: None },
        _ => Outcome::Done { version: None },
    }
}

fn lost_or_done(op: &Op<'_>) -> Outcome<'static> {
    match op.action {
        Action::Get => Outcome::NotFound,
        _ => Outcome::Done { version: None },
    }
}

/// Runs a benchmark against a node that answers operations with `outcome`, and raw frames by going away.
fn run(flags: &str, outcome: fn(&Op<'_>) -> Outcome<'static>) -> Result<Report, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut node = ScriptedNode::start().await;
        node.hello.permissions = HelloReply::WIRE_LIMIT.into();
        let target = Target { endpoints: vec![node.endpoint().into()], node_cores: None };
        let serving = async {
            loop {
                tokio::spawn(serve(node.accept().await, outcome));
            }
        };
        tokio::select! {
            report = freight::bench::run(config(flags), target) => report,
            () = serving => unreachable!("it serves until the benchmark is over"),
        }
    })
}

async fn serve(mut peer: Peer, outcome: fn(&Op<'_>) -> Outcome<'static>) {
    while let Ok(Some(frame)) = peer.receiver.receive().await {
        let (header, kind, _) = Header::split(&frame).expect("a client sends frames");
        match kind {
            FrameKind::Stats => peer.send(&stats_reply(header.request.get(), &statistics())).await,
            FrameKind::Request => {
                let view = RequestView::parse(&frame).expect("a request");
                let outcomes: Vec<_> = view.ops().map(|op| outcome(&op)).collect();
                peer.answer(&frame, &outcomes).await;
            }
            _ => return,
        }
    }
}

fn statistics() -> String {
    let stats = NodeStats { slots: 16_384, ..NodeStats::default() };
    serde_json::to_string(&stats).expect("JSON")
}

#[test]
fn outcomes_of_another_operation_are_errors_and_no_throughput() {
    for verify in ["", "--verify"] {
        let report =
            run(&format!("--wire-limit=false {verify}"), |_| Outcome::Done { version: None }).expect("a report");
        let wrong = report.errors.by_kind["WrongOutcome"];
        assert_eq!((report.errors.total, report.reads.hits + report.reads.misses), (wrong, 0));
        assert!(wrong > 10 * report.throughput.operations, "19 of 20 operations are gets: {wrong}");
    }
}

#[test]
fn a_record_that_is_gone_is_an_error_where_values_are_verified() {
    for shape in ["", "--batch 1 --connections shared"] {
        let report = run(&format!("--wire-limit=false --verify {shape}"), lost_or_done).expect("a report");
        let missing = report.errors.by_kind["MissingRecord"];
        assert!(missing > 0 && missing == report.reads.misses && missing == report.errors.total, "{:?}", report.errors);
        let report = run(&format!("--wire-limit=false {shape}"), lost_or_done).expect("a report");
        assert!(report.reads.misses > 0 && report.errors.total == 0, "{:?}", report.errors);
    }
}

#[test]
fn a_node_that_goes_away_over_a_raw_frame_has_no_wire_limit() {
    let error = run("--wire-limit", value_or_done).expect_err("no wire limit");
    assert!(matches!(error, BenchError::WireLimit { kind: "Lost" }), "{error}");
}

#[test]
fn pools_larger_than_the_memory_there_is_are_not_drawn() {
    let error = run("--wire-limit=false --batch 65536 --workers 65535", value_or_done).expect_err("too large");
    assert!(
        matches!(error, BenchError::PoolTooLarge { needed_bytes, available_bytes } if needed_bytes > available_bytes)
    );
}

#[test]
fn a_profile_of_an_unknown_format_ends_the_run_before_it_begins() {
    let error = run("--wire-limit=false --profile flames.png", value_or_done).expect_err("no such format");
    assert!(matches!(error, BenchError::Profile(_)), "{error}");
}

#[test]
fn a_node_that_is_not_there_ends_the_run_before_anything_is_drawn() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let target = Target { endpoints: vec!["sim://nowhere/a".parse().expect("an endpoint")], node_cores: None };
    let error = runtime.block_on(freight::bench::run(config(""), target)).expect_err("no node");
    assert!(matches!(error, BenchError::Client(ClientError::Connect(_))), "{error}");
}
