//! The report of `--one-way`: the wire limit alone, of frames of one size.
//!
//! ```text
//!   client  == frame of --frame-bytes, header included ==>  node       --depth of them in flight a worker
//!           <------- acknowledgement: a header -----------            one a frame
//! ```
//!
//! That is the shape of perftest's `ib_send_bw`, so the two can be laid side by side. An acknowledgement is an answer
//! of the node, by which a frame is known to have been received whole; the transport's own come on top.
#![forbid(unsafe_code)]

use super::config::BenchConfig;
use super::machine::Machine;
use super::report::{Carried, CpuPerOp, Latency, Program, REPORT_VERSION, Topology, throughput};
use super::text::{between, beware_of_others, bytes_a_second, counted, cpu, grouped, heading, latency, spread_over};
use crate::cores::Placement;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// Everything that one-way frames showed. Paths are stable within a report version.
#[derive(Debug, Clone, Serialize)]
pub struct OneWayReport {
    /// The version of this format.
    pub report_version: u32,
    /// The program that made the report.
    pub program: Program,
    /// The transport's name, as in an endpoint's scheme.
    pub transport: String,
    /// Which cores the ends of a connection ran on.
    pub placement: Placement,
    /// Who talked to whom.
    pub topology: Topology,
    /// Every flag, defaults filled in.
    pub config: BenchConfig,
    /// The machine of the client.
    pub machine: Machine,
    /// What was carried.
    pub one_way: OneWay,
    /// From handing a frame to the client until its acknowledgement was in hand.
    pub latency_us: Latency,
    /// CPU time a frame, in nanoseconds.
    pub cpu_ns_per_frame: CpuPerOp,
    /// Share of the time of the cores that the client's threads ran on that was used, by a node in this process too.
    pub cpu_busy: f64,
    /// Share of the time of all the machine's cores that other processes used, or that its host took.
    pub cpu_busy_others: f64,
}

/// What was carried.
#[derive(Debug, Clone, Serialize)]
pub struct OneWay {
    /// Frames a second times the bytes of a frame.
    pub payload_bytes_per_second: f64,
    /// The median slice.
    pub frames_per_second: f64,
    /// How far slices lie apart: (p90 - p10) / median.
    pub spread: f64,
    /// Length of a slice.
    pub slice_seconds: f64,
    /// Frames a second of each slice.
    pub slices: Vec<f64>,
    /// Frames in all.
    pub frames: u64,
    /// Bytes of a frame, its header included.
    pub frame_bytes: u32,
    /// Bytes of what comes back for each.
    pub acknowledgement_bytes: u32,
    /// Frames in flight on all connections together.
    pub frames_in_flight: u64,
}

impl OneWayReport {
    /// Works the numbers out, of resolved flags.
    #[must_use]
    pub fn new(config: BenchConfig, machine: Machine, topology: Topology, carried: &Carried) -> Self {
        let Carried { phase, request_bytes, reply_bytes, .. } = carried;
        let frames = throughput(&phase.measure);
        let (cpu_busy, cpu_busy_others) = phase.busy(&topology, &machine);
        let frames_in_flight = config.lanes();
        Self {
            report_version: REPORT_VERSION,
            program: Program::this(),
            transport: config.via().to_string(),
            placement: config.placement,
            topology,
            config,
            machine,
            one_way: OneWay {
                payload_bytes_per_second: frames.ops_per_second * f64::from(*request_bytes),
                frames_per_second: frames.ops_per_second,
                spread: frames.spread,
                slice_seconds: frames.slice_seconds,
                slices: frames.slices,
                frames: frames.operations,
                frame_bytes: *request_bytes,
                acknowledgement_bytes: *reply_bytes,
                frames_in_flight,
            },
            latency_us: Latency::of(&phase.measure.batch_ns.histogram()),
            cpu_ns_per_frame: phase.cpu_per(phase.measure.ops as f64),
            cpu_busy,
            cpu_busy_others,
        }
    }
}

impl Display for OneWayReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let OneWay { frame_bytes, acknowledgement_bytes, .. } = self.one_way;
        heading(f, &self.program, &self.machine)?;
        let bytes = grouped(frame_bytes.into());
        writeln!(f, "  What ran    frames of {bytes} bytes one way, to the node, and no store behind them;")?;
        writeln!(f, "              back comes a header of {acknowledgement_bytes} bytes for each")?;
        let workers = counted(u64::from(self.config.workers.unwrap_or(1)), "worker");
        let depth = counted(u64::from(self.config.depth.unwrap_or(1)), "frame");
        let duration = humantime::format_duration(self.config.duration);
        writeln!(f, "              {workers}, {depth} in flight each, for {duration}")?;
        between(f, self.placement, &self.topology)?;
        let OneWay { payload_bytes_per_second, frames_per_second, spread, slice_seconds, slices, .. } = &self.one_way;
        let spread = spread_over(*spread, *slice_seconds, slices.len());
        writeln!(f, "  Payload     {}, {spread}", bytes_a_second(*payload_bytes_per_second))?;
        writeln!(f, "  Frames      {} a second", grouped(frames_per_second.round() as u64))?;
        writeln!(f, "  Latency     {}, until acknowledged", latency(&self.latency_us))?;
        writeln!(f, "  CPU         {} a frame", cpu(self.cpu_ns_per_frame))?;
        let whose = if self.topology.node_in_process { " with both sides' work" } else { "" };
        writeln!(f, "              {:.0} % of the client's cores busy{whose}\n", 100.0 * self.cpu_busy)?;
        beware_of_others(f, self.cpu_busy_others)
    }
}
