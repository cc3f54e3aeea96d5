//! The sweep in words: a line a point, and tables of all of them.
#![forbid(unsafe_code)]

use super::Point;
use crate::bench::report::Report;
use crate::bench::text::{counted, grouped, microseconds, nanoseconds, rate};
use std::fmt::{self, Display, Formatter, Write as _};

/// Less of the rate asked for was not reached.
const REACHED: f64 = 0.95;

impl Display for Point {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let workers =
            self.workers.map_or_else(String::new, |workers| format!(", {}", counted(workers.into(), "worker")));
        write!(f, "{}{workers}, batch {}", self.transport, grouped(self.batch.into()))?;
        match self.load_percent {
            Some(percent) => write!(f, ", at {percent} % of its peak"),
            None => Ok(()),
        }
    }
}

impl Point {
    /// What became of it, in a line.
    pub(super) fn outcome(&self) -> String {
        let Some(report) = &self.report else {
            return format!("failed: {}", self.error.as_deref().unwrap_or("no report"));
        };
        let mut text = rate(report.throughput.ops_per_second);
        // Writing to a string can't fail.
        if let Some(limit) = &report.wire_limit {
            let _ = write!(text, ", {:.0} % of the wire limit", 100.0 * limit.share);
        }
        if let Some(operation) = &report.latency_us.operation {
            let [p50, p99, p999] = [operation.p50, operation.p99, operation.p999].map(microseconds);
            let _ = write!(text, ", an operation's p50 {p50}, p99 {p99}, p99.9 {p999}");
        }
        if report.errors.total > 0 {
            let _ = write!(text, ", {} operations FAILED", grouped(report.errors.total));
        }
        text
    }
}

/// All points as tables for people: the closed loop's, then the open loop's.
#[must_use]
pub fn tables(points: &[Point]) -> String {
    let mut text = String::new();
    let (open, closed): (Vec<&Point>, Vec<_>) = points.iter().partition(|point| point.load_percent.is_some());
    table(&mut text, "Closed loop", &CLOSED, ("throughput of all rounds", rate), &closed);
    let open_loop = "Open loop: latency of an operation, from its turn to its reply";
    table(&mut text, open_loop, &OPEN, ("p99 of all rounds", microseconds), &open);
    text
}

/// What a column shows of a report.
type Cell = fn(&Report) -> String;

const CLOSED: [(&str, Cell); 7] = [
    ("throughput", |report| rate(report.throughput.ops_per_second)),
    ("wire limit", |report| report.wire_limit.as_ref().map_or_else(none, |limit| rate(limit.ops_per_second))),
    ("share", |report| report.wire_limit.as_ref().map_or_else(none, |limit| format!("{:.0} %", 100.0 * limit.share))),
    ("batch p50", |report| microseconds(report.latency_us.batch.p50)),
    ("p99", |report| microseconds(report.latency_us.batch.p99)),
    ("client CPU", |report| nanoseconds(report.cpu_ns_per_op.client)),
    ("node CPU", |report| report.cpu_ns_per_op.server.map_or_else(none, nanoseconds)),
];

const OPEN: [(&str, Cell); 5] = [
    ("asked", |report| report.config.rate.map_or_else(none, |asked| rate(asked as f64))),
    ("done", |report| {
        let (done, asked) = (report.throughput.ops_per_second, report.config.rate.unwrap_or(0) as f64);
        format!("{}{}", if done < REACHED * asked { "only " } else { "" }, rate(done))
    }),
    ("p50", |report| operation(report, |latency| latency.p50)),
    ("p99", |report| operation(report, |latency| latency.p99)),
    ("p99.9", |report| operation(report, |latency| latency.p999)),
];

fn operation(report: &Report, pick: fn(&crate::bench::report::Latency) -> f64) -> String {
    report.latency_us.operation.as_ref().map_or_else(none, |latency| microseconds(pick(latency)))
}

fn none() -> String {
    "-".to_owned()
}

/// With a last column of the range where there were several rounds. Writing to a string can't fail.
fn table(
    text: &mut String,
    title: &str,
    columns: &[(&str, Cell)],
    (range, figure): (&str, fn(f64) -> String),
    points: &[&Point],
) {
    if points.is_empty() {
        return;
    }
    let _ = write!(text, "{title}\n\n  {:<50}", "");
    for (name, _) in columns {
        let _ = write!(text, "{name:>18}");
    }
    if points.iter().any(|point| !point.rounds.is_empty()) {
        let _ = write!(text, "{range:>32}");
    }
    text.push('\n');
    for point in points {
        let _ = write!(text, "  {:<50}", point.to_string());
        match &point.report {
            Some(report) => columns.iter().for_each(|(_, cell)| _ = write!(text, "{:>18}", cell(report))),
            None => text.push_str(&point.outcome()),
        }
        if let [least, .., most] = point.rounds[..] {
            let _ = write!(text, "{:>32}", format!("{} - {}", figure(least), figure(most)));
        }
        text.push('\n');
    }
    text.push('\n');
}
