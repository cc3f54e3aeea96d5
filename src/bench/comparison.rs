//! The report of `--transports`: one report a transport, side by side.
//!
//! One node listens at an endpoint of each transport; its records are loaded once, over the first. The runs follow
//! each other, each with its own connections, warm-up and wire limit, so a transport never shares the machine with
//! another.
#![forbid(unsafe_code)]

use super::report::{REPORT_VERSION, Report, WireLimit};
use super::text::{NOTHING_MOVES, beware_of_others, grouped, heading, load, microseconds, nanoseconds, rate, what_ran};
use super::via::Via;
use crate::transport::Scheme;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// Reports of one node over several transports.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The version of this format.
    pub report_version: u32,
    /// A report a transport, in the order in which they ran.
    pub reports: Vec<Report>,
}

impl Comparison {
    /// Lays reports side by side.
    #[must_use]
    pub fn new(reports: Vec<Report>) -> Self {
        Self { report_version: REPORT_VERSION, reports }
    }

    /// Operations that failed, over all transports.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.reports.iter().map(|report| report.errors.total).sum()
    }
}

/// What a row of the table shows of one report.
type Cell = fn(&Report) -> String;

/// The table, from top to bottom.
const ROWS: [(&str, Cell); 17] = [
    ("Throughput", |report| rate(report.throughput.ops_per_second)),
    ("  spread over slices", |report| percent(report.throughput.spread)),
    ("Latency of a batch, p50", |report| microseconds(report.latency_us.batch.p50)),
    ("  p99", |report| microseconds(report.latency_us.batch.p99)),
    ("  p99.9", |report| microseconds(report.latency_us.batch.p999)),
    ("  max", |report| microseconds(report.latency_us.batch.max)),
    ("Wire limit", |report| of_limit(report, |limit| rate(limit.ops_per_second))),
    ("  right before the run", |report| of_limit(report, |limit| rate(limit.ops_per_second_before))),
    ("  right after it", |report| of_limit(report, |limit| rate(limit.ops_per_second_after))),
    ("  share the store reaches", |report| of_limit(report, |limit| percent(limit.share))),
    ("CPU an operation, client", |report| nanoseconds(report.cpu_ns_per_op.client)),
    ("  node", |report| report.cpu_ns_per_op.server.map_or_else(none, nanoseconds)),
    ("Bytes an operation, sent", |report| format!("{:.1}", report.wire.bytes_per_op_sent)),
    ("  received", |report| format!("{:.1}", report.wire.bytes_per_op_received)),
    ("Ends on one core", |report| {
        if report.config.via().is_redis() {
            return none();
        }
        format!("{} of {}", report.topology.connections_on_one_core, report.topology.connections)
    }),
    ("Reads found", |report| report.reads.hit_rate.map_or_else(none, percent)),
    ("Errors", |report| if report.errors.total == 0 { "none".to_owned() } else { grouped(report.errors.total) }),
];

fn of_limit(report: &Report, show: fn(&WireLimit) -> String) -> String {
    report.wire_limit.as_ref().map_or_else(none, show)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn none() -> String {
    "-".to_owned()
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(first) = self.reports.first() else { return Ok(()) };
        heading(f, &first.program, &first.machine)?;
        writeln!(f, "  What ran    {}", what_ran(&first.config))?;
        writeln!(f, "              {}", load(&first.config))?;
        writeln!(f, "  Between     clients and one node in this process, {};", first.placement)?;
        writeln!(f, "              one transport after the other, on records loaded once\n")?;
        row(f, "", |report| report.transport.clone(), &self.reports)?;
        for (name, cell) in ROWS {
            row(f, name, cell, &self.reports)?;
        }
        if self
            .reports
            .iter()
            .any(|report| report.wire_limit.is_some() && report.config.via() == Via::Frames(Scheme::Shm))
        {
            writeln!(f, "\n  The wire limit: {NOTHING_MOVES}")?;
        }
        writeln!(f, "\n  --json has the whole report of each; --transport NAME prints one, and why it is not more.\n")?;
        let busiest = self.reports.iter().map(|report| report.cpu_busy_others).fold(0.0, f64::max);
        beware_of_others(f, busiest)
    }
}

fn row(f: &mut Formatter<'_>, name: &str, cell: Cell, reports: &[Report]) -> fmt::Result {
    write!(f, "  {name:<26}")?;
    for report in reports {
        write!(f, "{:>16}", cell(report))?;
    }
    writeln!(f)
}
