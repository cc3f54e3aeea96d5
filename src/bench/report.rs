//! The report: every number of a run, as JSON for machines and as the source of the text for people.
//!
//! Its shape is `docs/report.schema.json`, and a test holds the two together. A path that the schema names is always
//! there; what was not measured is null. `docs/BENCHMARK.md` explains each number.
#![forbid(unsafe_code)]

use super::config::BenchConfig;
use super::machine::Machine;
use super::measure::{Measure, quantile};
use crate::cores::Placement;
use crate::metrics::NodeStats;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The version of the JSON format.
pub(super) const REPORT_VERSION: u32 = 1;

/// What a run left behind: the raw material of a report.
#[derive(Debug)]
pub struct Evidence {
    /// Every flag, defaults filled in.
    pub config: BenchConfig,
    /// The machine of the client.
    pub machine: Machine,
    /// Who talked to whom.
    pub topology: Topology,
    /// The load phase, where there was one; its batches show what growth costs at worst.
    pub load: Option<Measure>,
    /// The measured run.
    pub run: Phase,
    /// The wire limit before and after the run, where it was asked for.
    pub carried: Option<[Carried; 2]>,
    /// Memory after the run.
    pub memory: Memory,
}

/// One phase of the run, all lanes added up.
#[derive(Debug)]
pub struct Phase {
    /// Counts and latencies.
    pub measure: Measure,
    /// How long it took until the last reply.
    pub elapsed: Duration,
    /// Share of the time of all the machine's cores that was used, by whomever.
    pub machine_busy: f64,
    /// CPU of the client's threads, in nanoseconds.
    pub client_cpu_ns: u64,
    /// CPU of the nodes' threads, in nanoseconds, where the nodes tell.
    pub server_cpu_ns: Option<u64>,
    /// What each node did.
    pub nodes: Vec<NodeWork>,
}

/// A phase that carried frames without a store behind them; it counts a frame as one operation.
#[derive(Debug)]
pub struct Carried {
    /// The phase.
    pub phase: Phase,
    /// Operations that a frame of this size stands for.
    pub ops_per_frame: f64,
    /// Bytes of a frame to the node.
    pub request_bytes: u32,
    /// Bytes of a frame to the client.
    pub reply_bytes: u32,
}

/// Everything a run measured. Paths are stable within a report version.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this format.
    pub report_version: u32,
    /// The program that made the report.
    pub program: Program,
    /// The transport's name, as in an endpoint's scheme.
    pub transport: String,
    /// The seed of keys, mix and values.
    pub seed: u64,
    /// Which cores the ends of a connection ran on.
    pub placement: Placement,
    /// Who talked to whom.
    pub topology: Topology,
    /// Every flag, defaults filled in.
    pub config: BenchConfig,
    /// The machine of the client.
    pub machine: Machine,
    /// Operations a second.
    pub throughput: Throughput,
    /// How long batches, and in an open loop operations, took.
    pub latency_us: Latencies,
    /// What gets found.
    pub reads: Reads,
    /// What failed.
    pub errors: Errors,
    /// Bytes of frames an operation.
    pub wire: Wire,
    /// What the transport carries without a store.
    pub wire_limit: Option<WireLimit>,
    /// CPU time an operation, in nanoseconds.
    pub cpu_ns_per_op: CpuPerOp,
    /// Share of the time of the cores that the client's threads ran on that was used, by a node in this process too.
    pub cpu_busy: f64,
    /// Share of the time of all the machine's cores that neither client nor nodes used during the run, or that its host
    /// took.
    pub cpu_busy_others: f64,
    /// What each node did during the run, for whomever.
    pub nodes: Vec<NodeWork>,
    /// Memory after the run.
    pub memory: Memory,
}

/// The program that made a report.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// Its version.
    pub version: &'static str,
    /// The commit it was built from, `-dirty` where files had changed; "unknown" outside a repository.
    pub commit: &'static str,
}

/// Who talked to whom.
#[derive(Debug, Clone, Serialize)]
pub struct Topology {
    /// The nodes' endpoints.
    pub nodes: Vec<String>,
    /// Whether the node ran in the client's process.
    pub node_in_process: bool,
    /// Whether all nodes ran on the client's machine.
    pub nodes_on_this_machine: bool,
    /// Threads of the client.
    pub client_threads: u32,
    /// The core of each client thread; empty where the kernel chose.
    pub client_cores: Vec<usize>,
    /// The core of each thread of the node in this process; empty where there is none or the kernel chose.
    pub node_cores: Vec<usize>,
    /// Connections of workers to all nodes together.
    pub connections: u32,
    /// Those whose two ends run on one core, as the nodes tell; 0 where the nodes are on other machines, and
    /// over RESP, where they do not tell.
    pub connections_on_one_core: u32,
}

/// Operations a second.
#[derive(Debug, Clone, Serialize)]
pub struct Throughput {
    /// The median slice.
    pub ops_per_second: f64,
    /// How far slices lie apart: (p90 - p10) / median.
    pub spread: f64,
    /// When the first slice began, as Unix time by this machine's clock.
    pub began_unix_seconds: f64,
    /// Length of a slice.
    pub slice_seconds: f64,
    /// Operations a second of each slice.
    pub slices: Vec<f64>,
    /// Operations in all.
    pub operations: u64,
    /// Batches in all.
    pub batches: u64,
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latencies {
    /// Of batches.
    pub batch: Latency,
    /// Of operations; open loop only.
    pub operation: Option<Latency>,
    /// Of batches of the load phase, during which the index grew; null where nothing was loaded.
    pub load: Option<Latency>,
    /// Batches of the load phase; 0 where nothing was loaded.
    pub load_batches: u64,
}

/// One distribution of latencies, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// 99.9 % took no longer.
    pub p999: f64,
    /// None took longer.
    pub max: f64,
}

/// What gets found.
#[derive(Debug, Clone, Serialize)]
pub struct Reads {
    /// A value.
    pub hits: u64,
    /// None.
    pub misses: u64,
    /// Hits among both; null without reads.
    pub hit_rate: Option<f64>,
    /// Whether every byte of every value was checked, or only its length.
    pub verified: bool,
}

/// What failed.
#[derive(Debug, Clone, Serialize)]
pub struct Errors {
    /// Operations in all.
    pub total: u64,
    /// Operations by the kind of failure.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// The first wrong value in words.
    pub first_mismatch: Option<String>,
}

/// Bytes of frames an operation.
#[derive(Debug, Clone, Serialize)]
pub struct Wire {
    /// To the nodes.
    pub bytes_per_op_sent: f64,
    /// To the client.
    pub bytes_per_op_received: f64,
}

/// What the transport carries without a store, in operations that frames of that size stand for.
#[derive(Debug, Clone, Serialize)]
pub struct WireLimit {
    /// The middle of the two runs.
    pub ops_per_second: f64,
    /// The store's rate as a share of it.
    pub share: f64,
    /// Right before the run.
    pub ops_per_second_before: f64,
    /// Right after it.
    pub ops_per_second_after: f64,
    /// Bytes of a frame to the node.
    pub request_bytes: u32,
    /// Bytes of a frame to the client.
    pub reply_bytes: u32,
    /// Operations that a frame stands for.
    pub ops_per_frame: f64,
    /// CPU time an operation for carrying alone, in nanoseconds.
    pub cpu_ns_per_op: CpuPerOp,
}

/// CPU time an operation, in nanoseconds, by the clocks of the threads.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CpuPerOp {
    /// Of the client's threads.
    pub client: f64,
    /// Of the nodes' threads; null where a node doesn't tell.
    pub server: Option<f64>,
}

/// What a node did in a phase, for all its clients, as it counts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NodeWork {
    /// Operations executed.
    pub operations: u64,
    /// Frames answered.
    pub frames: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Bytes of the answers.
    pub bytes_sent: u64,
    /// CPU time of its threads, in nanoseconds.
    pub cpu_ns: u64,
}

impl NodeWork {
    /// Since it started.
    pub(super) fn of(stats: &NodeStats) -> Self {
        Self {
            operations: stats.operations,
            frames: stats.frames,
            bytes_received: stats.bytes_received,
            bytes_sent: stats.bytes_sent,
            cpu_ns: stats.cpu_ns,
        }
    }

    /// Since `before`; a node that was restarted meanwhile counts from nothing.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            operations: self.operations.saturating_sub(before.operations),
            frames: self.frames.saturating_sub(before.frames),
            bytes_received: self.bytes_received.saturating_sub(before.bytes_received),
            bytes_sent: self.bytes_sent.saturating_sub(before.bytes_sent),
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
        }
    }
}

/// Memory after the run, in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// Operations drawn before the clock.
    pub pool_bytes: u64,
    /// What is resident of the client's process, the node in it included.
    pub process_resident_bytes: u64,
    /// Each node's account.
    pub nodes: Vec<NodeMemory>,
}

/// One node's account.
#[derive(Debug, Clone, Serialize)]
pub struct NodeMemory {
    /// Records it holds.
    pub records: u64,
    /// Keys and values of them, in bytes.
    pub payload_bytes: u64,
    /// Memory it counts as used, buffers of connections included, in bytes.
    pub used_bytes: u64,
    /// Its cap, in bytes; null without one.
    pub cap_bytes: Option<u64>,
}

impl Report {
    /// Works the numbers out.
    #[must_use]
    pub fn new(evidence: Evidence) -> Self {
        let Evidence { config, machine, topology, load, run, carried, memory } = evidence;
        let measure = &run.measure;
        let throughput = throughput(measure);
        let cpu_ns_per_op = run.cpu_per(measure.ops as f64);
        let (cpu_busy, cpu_busy_others) = run.busy(&topology, &machine);
        Self {
            report_version: REPORT_VERSION,
            program: Program::this(),
            transport: config.via().to_string(),
            seed: config.seed,
            placement: config.placement,
            latency_us: Latencies {
                batch: Latency::of(&measure.batch_ns.histogram()),
                operation: measure.operation_ns.as_ref().map(Latency::of),
                load_batches: load.as_ref().map_or(0, |load| load.batches),
                load: load.filter(|load| load.batches > 0).map(|load| Latency::of(&load.batch_ns.histogram())),
            },
            reads: Reads {
                hits: measure.hits,
                misses: measure.misses,
                hit_rate: (measure.hits + measure.misses > 0)
                    .then(|| measure.hits as f64 / (measure.hits + measure.misses) as f64),
                verified: config.verify,
            },
            errors: Errors {
                total: measure.errors_total,
                by_kind: measure.errors.clone(),
                first_mismatch: measure.first_mismatch.as_ref().map(ToString::to_string),
            },
            wire: Wire {
                bytes_per_op_sent: per(measure.bytes_sent as f64, measure.ops as f64),
                bytes_per_op_received: per(measure.bytes_received as f64, measure.ops as f64),
            },
            wire_limit: carried.map(|carried| WireLimit::new(&carried, throughput.ops_per_second)),
            cpu_busy,
            cpu_busy_others,
            nodes: run.nodes.clone(),
            throughput,
            cpu_ns_per_op,
            topology,
            config,
            machine,
            memory,
        }
    }
}

pub(super) fn throughput(measure: &Measure) -> Throughput {
    let slices = measure.rates();
    let median = quantile(&slices, 0.5);
    Throughput {
        ops_per_second: median,
        spread: per(quantile(&slices, 0.9) - quantile(&slices, 0.1), median),
        began_unix_seconds: measure.began_unix_seconds(),
        slice_seconds: measure.slice().as_secs_f64(),
        slices,
        operations: measure.ops,
        batches: measure.batches,
    }
}

impl Program {
    /// This one.
    pub(super) fn this() -> Self {
        let (version, commit) = (env!("CARGO_PKG_VERSION"), option_env!("FREIGHT_COMMIT").unwrap_or("unknown"));
        Self { version, commit }
    }
}

impl Latency {
    pub(super) fn of(histogram_ns: &Histogram<u64>) -> Self {
        let at = |quantile| histogram_ns.value_at_quantile(quantile) as f64 / 1000.0;
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: histogram_ns.max() as f64 / 1000.0 }
    }
}

impl Phase {
    /// Shares of core time: used by client and node of the client's cores, and by others of the machine's.
    pub(super) fn busy(&self, topology: &Topology, machine: &Machine) -> (f64, f64) {
        let of = |cores: u32, with_nodes: bool| {
            let cpu_ns = self.client_cpu_ns + self.server_cpu_ns.filter(|_| with_nodes).unwrap_or(0);
            per(cpu_ns as f64, self.elapsed.as_nanos() as f64 * f64::from(cores))
        };
        let own = of(machine.cores_in_all, topology.nodes_on_this_machine);
        (of(topology.client_threads, topology.node_in_process), (self.machine_busy - own).max(0.0))
    }

    pub(super) fn cpu_per(&self, ops: f64) -> CpuPerOp {
        CpuPerOp {
            client: per(self.client_cpu_ns as f64, ops),
            server: self.server_cpu_ns.map(|ns| per(ns as f64, ops)),
        }
    }
}

impl WireLimit {
    fn new(carried: &[Carried; 2], store_ops_per_second: f64) -> Self {
        let [before, after] = carried.each_ref().map(Carried::ops_per_second);
        let [first, second] = carried.each_ref().map(|one| one.phase.cpu_per(one.ops()));
        let ops_per_second = f64::midpoint(before, after);
        Self {
            ops_per_second,
            share: per(store_ops_per_second, ops_per_second),
            ops_per_second_before: before,
            ops_per_second_after: after,
            request_bytes: carried[0].request_bytes,
            reply_bytes: carried[0].reply_bytes,
            ops_per_frame: carried[0].ops_per_frame,
            cpu_ns_per_op: CpuPerOp {
                client: f64::midpoint(first.client, second.client),
                server: first.server.zip(second.server).map(|(first, second)| f64::midpoint(first, second)),
            },
        }
    }
}

impl Carried {
    fn ops_per_second(&self) -> f64 {
        quantile(&self.phase.measure.rates(), 0.5) * self.ops_per_frame
    }

    fn ops(&self) -> f64 {
        self.phase.measure.ops as f64 * self.ops_per_frame
    }
}

/// A quotient that is 0 where nothing was counted, so that the report never holds a NaN.
fn per(total: f64, count: f64) -> f64 {
    if count > 0.0 { total / count } else { 0.0 }
}
