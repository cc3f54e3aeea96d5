//! The report in words, for somebody who sees it for the first time.
//!
//! First what ran, then the numbers, then why they are not larger. Every figure here stands in the JSON report too.
#![forbid(unsafe_code)]

use super::config::{BenchConfig, Connections};
use super::machine::Machine;
use super::report::{CpuPerOp, Latency, Program, Report, Throughput, Topology, WireLimit};
use super::via::Via;
use super::workload::{Kind, Popularity, Workload};
use crate::cores::Placement;
use crate::transport::{RedisEndpoint, Scheme};
use std::fmt::{self, Display, Formatter, Write};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        heading(f, &self.program, &self.machine)?;
        writeln!(f, "  What ran    {}", what_ran(&self.config))?;
        writeln!(f, "              {}", load(&self.config))?;
        writeln!(f, "  Seed        {}", self.seed)?;
        between(f, self.placement, &self.topology)?;
        writeln!(f, "  Throughput  {}", throughput(&self.throughput))?;
        writeln!(f, "  Reads       {}", reads(self))?;
        writeln!(f, "  Errors      {}", errors(self))?;
        writeln!(f, "  Batches     {}", latency(&self.latency_us.batch))?;
        if let Some(operation) = &self.latency_us.operation {
            writeln!(f, "  Operations  {}", latency(operation))?;
        }
        if let Some(load) = &self.latency_us.load {
            let of_batches = growth(load, self.latency_us.load_batches);
            writeln!(f, "  Growth      {of_batches}, while the records were loaded")?;
        }
        let cpu = cpu(self.cpu_ns_per_op);
        writeln!(f, "  CPU         {cpu} an operation")?;
        let wire = &self.wire;
        let (sent, received) = (wire.bytes_per_op_sent, wire.bytes_per_op_received);
        writeln!(f, "  Wire        {sent:.1} bytes sent and {received:.1} received an operation")?;
        writeln!(f, "  Memory      {}\n", memory(self))?;
        beware_of_others(f, self.cpu_busy_others)?;
        why_not_more(f, self)
    }
}

/// Who measured, and on what.
pub(super) fn heading(f: &mut Formatter<'_>, program: &Program, machine: &Machine) -> fmt::Result {
    let (version, commit) = (program.version, program.commit);
    writeln!(f, "freight {version} ({commit}), {} cores of {}\n", machine.cores, machine.processor)
}

pub(super) fn beware_of_others(f: &mut Formatter<'_>, cpu_busy_others: f64) -> fmt::Result {
    if cpu_busy_others <= 0.05 {
        return Ok(());
    }
    let others = 100.0 * cpu_busy_others;
    writeln!(f, "BEWARE: other processes used {others:.0} % of this machine's cores while the clock ran.\n")
}

/// CPU time of both sides: `80.0 ns of the client's and 100 ns of the node's`.
pub(super) fn cpu(cpu: CpuPerOp) -> String {
    let server = cpu.server.map_or_else(|| "an unknown time".to_owned(), nanoseconds);
    format!("{} of the client's and {server} of the node's", nanoseconds(cpu.client))
}

/// What ran, in one line; also what the run announces before it begins.
#[must_use]
pub fn what_ran(config: &BenchConfig) -> String {
    let workload = Workload::of(config.workload);
    let writes = match workload.writes {
        Kind::Read => "reads",
        Kind::Update => "puts",
        Kind::Insert => "inserts",
        Kind::ReadModifyWrite => "read-modify-writes",
    };
    let mix = match workload.reads_percent {
        100 => "reads".to_owned(),
        reads => format!("{reads} % reads and {} % {writes}", 100 - reads),
    };
    let order = match workload.popularity {
        Popularity::Ranked => "",
        Popularity::Scattered => ", scrambled",
        Popularity::Latest => ", newest first",
    };
    let (records, bytes) = (grouped(config.records), config.value_size.unwrap_or(workload.value_size_default));
    format!("{mix} of {records} records, {bytes}-byte values, Zipf {}{order}", config.theta)
}

pub(super) fn load(config: &BenchConfig) -> String {
    let workers = counted(u64::from(config.workers.unwrap_or(1)), "worker");
    let depth = counted(u64::from(config.depth.unwrap_or(1)), if config.batch == 1 { "operation" } else { "batch" });
    let of = if config.batch == 1 { String::new() } else { format!(" of {} operations", grouped(config.batch.into())) };
    let through = match (config.connections, config.is_coalesced()) {
        (Connections::Own, _) => "",
        (Connections::Shared, false) => ", all through one client",
        (Connections::Shared, true) => ", all through one client that merges them",
    };
    let pace = match config.rate {
        None => String::new(),
        Some(rate) => format!(", {} operations begun a second", grouped(rate)),
    };
    format!("{workers}, {depth}{of} in flight each{through}{pace}, for {}", humantime::format_duration(config.duration))
}

pub(super) fn between(f: &mut Formatter<'_>, placement: Placement, topology: &Topology) -> fmt::Result {
    let place = match (placement, topology.node_in_process) {
        (Placement::Paired | Placement::Split, true) => format!("{placement}: {}", on_one_core(topology)),
        (Placement::Paired | Placement::Split, false) => {
            format!("{placement}: each client thread on a core of its own, the node's where the node put them")
        }
        (Placement::Free, _) => format!("{placement}: the kernel chose the cores"),
    };
    let threads = counted(topology.client_threads.into(), "client thread");
    let node = if topology.node_in_process { " and a node in this process" } else { "" };
    let connections = counted(topology.connections.into(), "connection");
    writeln!(f, "  Between     {threads}{node}; {place}")?;
    writeln!(f, "              {connections} to {}\n", topology.nodes.join(", "))
}

/// Where the ends of connections run, as the node in this process told: not every transport can place them.
fn on_one_core(topology: &Topology) -> String {
    if topology.nodes.iter().all(|node| node.starts_with(RedisEndpoint::SCHEME)) {
        return "where the other end of a connection runs nobody tells over RESP".to_owned();
    }
    match (topology.connections_on_one_core, topology.connections) {
        (0, _) => "the ends of a connection on different cores".to_owned(),
        (all, connections) if all == connections => "both ends of a connection on one core".to_owned(),
        (some, connections) => format!("both ends on one core of {some} connections of {connections}"),
    }
}

fn throughput(throughput: &Throughput) -> String {
    let Throughput { ops_per_second, spread, slice_seconds, slices, .. } = throughput;
    format!("{}, {}", rate(*ops_per_second), spread_over(*spread, *slice_seconds, slices.len()))
}

pub(super) fn spread_over(spread: f64, slice_seconds: f64, slices: usize) -> String {
    let slices = match slice_seconds {
        1.0 => counted(slices as u64, "second"),
        seconds => format!("{slices} slices of {:.0} ms", seconds * 1000.0),
    };
    format!("spread {:.1} % over {slices}", 100.0 * spread)
}

fn reads(report: &Report) -> String {
    let reads = &report.reads;
    let Some(hit_rate) = reads.hit_rate else { return "none".to_owned() };
    let checked = if reads.verified { "every byte checked" } else { "lengths checked (--verify checks every byte)" };
    let (hits, misses) = (grouped(reads.hits), grouped(reads.misses));
    format!("{:.2} % found: {hits} hits, {misses} misses; {checked}", 100.0 * hit_rate)
}

fn errors(report: &Report) -> String {
    let errors = &report.errors;
    if errors.total == 0 {
        return "none".to_owned();
    }
    let mut text = grouped(errors.total);
    for (kind, count) in &errors.by_kind {
        // Writing to a string can't fail.
        let _ = write!(text, ", {} {kind}", grouped(*count));
    }
    if let Some(mismatch) = &errors.first_mismatch {
        let _ = write!(text, "; {mismatch}");
    }
    text
}

fn memory(report: &Report) -> String {
    let memory = &report.memory;
    let mut text = String::new();
    for node in &memory.nodes {
        let _ = write!(text, "{} records in {}, ", grouped(node.records), bytes(node.used_bytes));
    }
    let (pool, resident) = (bytes(memory.pool_bytes), bytes(memory.process_resident_bytes));
    format!("{text}{pool} of drawn operations, {resident} resident in this process")
}

fn why_not_more(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f, "Why not more?\n")?;
    match report.config.rate {
        Some(rate) if report.throughput.ops_per_second > 0.95 * rate as f64 => {
            return writeln!(f, "  Because no more was asked: --rate {rate} was reached. Look at the latencies.");
        }
        Some(rate) => {
            writeln!(f, "  --rate {rate} was not reached: operations queued, and their latencies show it.\n")?
        }
        None => {}
    }
    match &report.wire_limit {
        Some(limit) => wire_limit(f, report, limit)?,
        None if report.config.via().is_redis() => {
            writeln!(f, "  Not known: the wire limit is measured with frames, and there are none over RESP.\n")?
        }
        None => writeln!(f, "  Not known: --wire-limit measures what the transport carries without a store.\n")?,
    }
    bound(f, report)
}

fn wire_limit(f: &mut Formatter<'_>, report: &Report, limit: &WireLimit) -> fmt::Result {
    let [mean, before, after] =
        [limit.ops_per_second, limit.ops_per_second_before, limit.ops_per_second_after].map(rate);
    writeln!(f, "  The wire limit is {mean}: frames of the same sizes over the same")?;
    writeln!(f, "  connections, carried there and back, with no store behind them. It is the mean of")?;
    writeln!(f, "  {before} right before the run and {after} right after it.")?;
    if before_and_after_differ(limit) {
        writeln!(f, "  These lie far apart: the machine changed meanwhile, and the share is as uncertain.")?;
    }
    if report.config.via() == Via::Frames(Scheme::Shm) {
        writeln!(f, "  {NOTHING_MOVES}")?;
    }
    writeln!(f, "  The store reaches {:.0} % of it. Where the time of an operation goes:\n", 100.0 * limit.share)?;
    let (all, carrying) = (report.cpu_ns_per_op, limit.cpu_ns_per_op);
    let rest = CpuPerOp {
        client: (all.client - carrying.client).max(0.0),
        server: all.server.zip(carrying.server).map(|(all, carrying)| (all - carrying).max(0.0)),
    };
    writeln!(f, "    CPU an operation   client      node")?;
    cpu_line(f, "carrying bytes", carrying, "the kernel and the transport")?;
    cpu_line(f, "the rest", rest, "client: building and checking batches; node: finding and copying records")?;
    cpu_line(f, "together", all, "")?;
    writeln!(f)
}

/// What the wire limit of shared memory does not hold.
pub(super) const NOTHING_MOVES: &str = "Over shm it is the cost of handing frames over where they lie: nobody\n  \
     writes or reads what is in them, as a store and its clients do. No store comes near it.";

/// More than spreads of quiet machines explain.
fn before_and_after_differ(limit: &WireLimit) -> bool {
    (limit.ops_per_second_before - limit.ops_per_second_after).abs() > 0.2 * limit.ops_per_second
}

fn cpu_line(f: &mut Formatter<'_>, name: &str, cpu: CpuPerOp, why: &str) -> fmt::Result {
    let server = cpu.server.map_or_else(|| "-".to_owned(), nanoseconds);
    let line = format!("    {name:<17}{:>8}  {server:>8}   {why}", nanoseconds(cpu.client));
    writeln!(f, "{}", line.trim_end())
}

/// What the run waited for, as far as CPU time tells.
fn bound(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let busy = 100.0 * report.cpu_busy;
    let cores = counted(report.topology.client_threads.into(), "core");
    let threads = counted(report.topology.client_threads.into(), "client thread");
    match (report.cpu_busy > 0.9, report.topology.node_in_process) {
        (true, true) => {
            writeln!(f, "  The {cores} that client and node share were {busy:.0} % busy, so CPU is the bound:")?;
            writeln!(f, "  more cores, or a machine each for client and node, carry more.")
        }
        (true, false) => {
            writeln!(f, "  The {threads} were {busy:.0} % busy, so the client is the bound:")?;
            writeln!(f, "  another machine of clients would ask for more.")
        }
        (false, _) => {
            writeln!(
                f,
                "  The cores were {busy:.0} % busy. The rest of the time they waited for each other or the network:"
            )?;
            writeln!(f, "  more in flight (--workers, --depth, --batch) may fill it.")
        }
    }
}

/// Fewer than so many have no 99th percentile of their own.
const PERCENTILES_FROM: u64 = 100;

/// How long batches took; of a handful, the longest.
fn growth(of_batches: &Latency, batches: u64) -> String {
    match batches {
        0..PERCENTILES_FROM => format!("max {} of {}", microseconds(of_batches.max), counted(batches, "batch")),
        PERCENTILES_FROM.. => format!("{} a batch", latency(of_batches)),
    }
}

pub(super) fn latency(latency: &Latency) -> String {
    let [p50, p99, p999, max] = [latency.p50, latency.p99, latency.p999, latency.max].map(microseconds);
    format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
}

/// Operations a second with three digits or so: `24.31 M op/s`.
#[must_use]
pub fn rate(ops_per_second: f64) -> String {
    match ops_per_second {
        rate if rate >= 1e6 => format!("{:.2} M op/s", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.1} k op/s", rate / 1e3),
        rate => format!("{rate:.0} op/s"),
    }
}

pub(super) fn nanoseconds(ns: f64) -> String {
    if ns < 100.0 { format!("{ns:.1} ns") } else { format!("{} ns", grouped(ns.round() as u64)) }
}

pub(super) fn microseconds(microseconds: f64) -> String {
    match microseconds {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.1} us"),
    }
}

/// Bytes a second, in powers of 1000 as networks count: `1.25 GB/s`.
#[must_use]
pub fn bytes_a_second(bytes_per_second: f64) -> String {
    match bytes_per_second {
        rate if rate >= 1e9 => format!("{:.2} GB/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.1} MB/s", rate / 1e6),
        rate => format!("{:.1} kB/s", rate / 1e3),
    }
}

/// Bytes with their unit, in powers of 1024: `1.4 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if bytes < 1024 { format!("{bytes} bytes") } else { format!("{amount:.1} {}", units[unit]) }
}

/// Digits in groups of three: `1,000,000`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 worker`, `2 workers`.
#[must_use]
pub fn counted(count: u64, one: &str) -> String {
    let plural = if one.ends_with("ch") { "es" } else { "s" };
    if count == 1 { format!("1 {one}") } else { format!("{} {one}{plural}", grouped(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_like_words() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(rate(24_312_000.0), "24.31 M op/s");
        assert_eq!(rate(91_234.0), "91.2 k op/s");
        assert_eq!(bytes(1000), "1000 bytes");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(microseconds(1620.0), "1.62 ms");
        assert_eq!(counted(2, "batch"), "2 batches");
    }
}
