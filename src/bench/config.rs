//! The benchmark's flags: one struct, parsed by clap, printed whole in the report.
#![forbid(unsafe_code)]

use super::part::Part;
use super::sizes;
use super::via::Via;
use super::workload::{Kind, Workload, WorkloadName};
use crate::auth::Credentials;
use crate::cores::{self, CoreList, Placement};
use crate::limits::{FRAME_BYTES_MAX, FRAME_OPS_MAX, VALUE_BYTES_MAX};
use crate::transport::Door;
use crate::transport::rdma::RdmaOptions;
use crate::transport::tls::TlsOptions;
use crate::wire::WIRE_LIMIT_BYTES_MIN;
use clap::{Args as _, Command, FromArgMatches as _, value_parser};
use serde::{Serialize, Serializer};
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

/// Most records: a pool names the distance between two in 31 bits.
const RECORDS_MAX: u64 = 1_000_000_000;

/// Most operations a batch, as clap counts.
pub(super) const BATCH_MAX: i64 = FRAME_OPS_MAX as i64;

/// Flags that mean something only where there are records and operations.
const OF_A_STORE: [&str; 8] = ["workload", "records", "value_size", "theta", "batch", "rate", "verify", "seed"];

/// Frames in flight a worker that keep any transport of one host busy.
const ONE_WAY_DEPTH: u32 = 16;

/// What to run, against what, for how long.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct BenchConfig {
    /// Nodes to drive, like tcp://a:7411,tcp://b:7411, or any servers that speak the protocol of Redis, like
    /// resp://a:6379; without it a node is started in this process
    #[arg(long, value_name = "ENDPOINTS", value_delimiter = ',')]
    #[serde(serialize_with = "as_texts")]
    pub servers: Vec<Door>,
    /// The shard map that names the nodes to drive, a file or etcd://host:2379/prefix, instead of --servers
    #[arg(long, value_name = "PLACE", conflicts_with = "servers")]
    pub map: Option<PathBuf>,
    /// Transport of the node in this process: tcp, tls, shm, rdma, or resp and resps, its door for Redis clients
    #[arg(long, default_value = "tcp", value_name = "NAME", conflicts_with_all = ["servers", "map"])]
    #[serde(serialize_with = "as_text")]
    pub transport: Via,
    /// Run on each of these transports in turn, like tcp,shm,resp, on one node in this process that is loaded once, and
    /// print them side by side
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    #[arg(conflicts_with_all = ["servers", "map", "transport", "profile", "frame_bytes"])]
    #[serde(serialize_with = "as_texts")]
    pub transports: Vec<Via>,
    /// Which cores the two ends of a connection run on
    #[arg(long, value_enum, default_value_t)]
    pub placement: Placement,
    /// Client threads, one a core, and as many of the node in this process [default: all cores]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
    pub threads: Option<u32>,
    /// Cores to run on, like 0-3,8 [default: the process's affinity mask]
    #[arg(long, value_name = "LIST")]
    #[serde(serialize_with = "as_numbers")]
    pub cores: Option<CoreList>,

    /// The mix of operations and which records they touch
    #[arg(long, value_enum, ignore_case = true, default_value_t)]
    pub workload: WorkloadName,
    /// Records loaded before the run
    #[arg(long, default_value_t = 1_000_000, value_name = "COUNT")]
    #[arg(value_parser = value_parser!(u64).range(1..=RECORDS_MAX))]
    pub records: u64,
    /// Bytes of a value [default: 128, YCSB: 1000]
    #[arg(long, value_name = "SIZE", value_parser = parse_value_size)]
    pub value_size: Option<u32>,
    /// Skew of the Zipf distribution, 0 (uniform) to below 1
    #[arg(long, default_value_t = 0.99, value_parser = parse_theta)]
    pub theta: f64,

    /// Operations a batch
    #[arg(long, default_value_t = 10_000, value_name = "OPS", value_parser = value_parser!(u32).range(1..=BATCH_MAX))]
    pub batch: u32,
    /// Workers that issue batches [default: one a client thread]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=65_535))]
    pub workers: Option<u32>,
    /// Batches in flight a worker, or with --one-way frames [default: 1, --one-way: 16]
    #[arg(long, value_name = "BATCHES", value_parser = value_parser!(u32).range(1..=1024))]
    pub depth: Option<u32>,
    /// A connection to each node for every worker, or one client that all share
    #[arg(long, value_enum, default_value_t)]
    pub connections: Connections,

    /// Length of the measured run, like 10s or 500ms
    #[arg(long, default_value = "10s", value_parser = parse_run_length)]
    #[serde(serialize_with = "as_duration")]
    pub duration: Duration,
    /// Length of the warm-up before it
    #[arg(long, default_value = "2s", value_parser = parse_run_length)]
    #[serde(serialize_with = "as_duration")]
    pub warmup: Duration,
    /// Open loop: operations a second that begin on schedule whether or not earlier ones are done
    #[arg(long, value_name = "OPS_PER_SECOND", value_parser = parse_rate)]
    pub rate: Option<u64>,

    /// One of several clients that drive the same nodes, like 2/4: the first alone loads the records, each has
    /// operations and values of its own, says `ready`, and reads the Unix time, in seconds, at which all of them begin
    #[arg(long, value_name = "CLIENT/CLIENTS", requires = "servers", conflicts_with_all = ["one_way", "transports"])]
    #[serde(serialize_with = "as_optional_text")]
    pub part: Option<Part>,
    /// Changes take effect at most once: what was in flight on a lost connection is sent again, and the node remembers
    /// what became of it. A client does so unless told otherwise, the benchmark where it is told to
    #[arg(long)]
    pub at_most_once: bool,
    /// Check every byte of every value read
    #[arg(long)]
    pub verify: bool,
    /// Seed of keys, mix and values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Measure, before and after the run, what the transport carries without a store [default: without --servers, and
    /// never over resp]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub wire_limit: Option<bool>,
    /// With --wire-limit --one-way: bytes of each frame, its header of 64 bytes included; to the transport all of them
    /// are payload, like a message of ib_send_bw
    #[arg(long, value_name = "SIZE", requires_all = ["wire_limit", "one_way"], conflicts_with_all = OF_A_STORE)]
    #[arg(value_parser = parse_frame_bytes)]
    pub frame_bytes: Option<u32>,
    /// With --wire-limit --frame-bytes: nothing is loaded and nothing run; frames of that size travel to the nodes for
    /// --duration, --depth of them in flight a worker, and for each an acknowledgement of 64 bytes comes back, a header
    /// and nothing else
    #[arg(long, requires_all = ["wire_limit", "frame_bytes"])]
    pub one_way: bool,
    /// Write the report as JSON; - is standard output
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a flamegraph (.svg) or a pprof profile (.pb.gz) of the measured run
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,

    /// For RDMA, both ends.
    // Last: its heading would be that of everything behind it.
    #[command(flatten)]
    #[serde(flatten)]
    pub rdma: RdmaOptions,

    /// Who drives the nodes, where they ask for it
    #[arg(skip)]
    #[serde(skip)]
    pub credentials: Option<Credentials>,
    /// Certificates, where the nodes are reached over TLS
    #[arg(skip)]
    #[serde(skip)]
    pub tls: TlsOptions,
    /// Flags of the node in this process, as the command line has them
    #[arg(skip)]
    #[serde(flatten)]
    pub node: serde_json::Map<String, serde_json::Value>,
}

/// How workers reach the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Connections {
    /// Each worker its own connection to each node; nothing is merged between workers.
    #[default]
    Own,
    /// All workers through one client, which merges single operations.
    Shared,
}

impl Default for BenchConfig {
    /// What the command line has where it says nothing.
    fn default() -> Self {
        let silent = Self::augment_args(Command::new("bench")).get_matches_from(["bench"]);
        Self::from_arg_matches(&silent).expect("no flag is required")
    }
}

impl BenchConfig {
    /// Fills in every default that depends on other flags, so that the report shows what was run.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        let client_threads = self.seats().len() as u32;
        self.value_size.get_or_insert_with(|| Workload::of(self.workload).value_size_default);
        self.workers.get_or_insert(client_threads);
        self.threads.get_or_insert(client_threads);
        self.cores.get_or_insert_with(|| CoreList(cores::available()));
        self.wire_limit.get_or_insert(self.servers.is_empty() && !self.transport.is_redis());
        self.depth.get_or_insert(if self.one_way { ONE_WAY_DEPTH } else { 1 });
        self
    }

    /// What a node in this process is reached by.
    #[must_use]
    pub fn vias(&self) -> Vec<Via> {
        if self.transports.is_empty() { vec![self.transport] } else { self.transports.clone() }
    }

    /// The cores to run on: a thread of the client on each, and one of a node in this process.
    #[must_use]
    pub fn seats(&self) -> Vec<usize> {
        let mut seats = self.cores.as_ref().map_or_else(cores::available, |cores| cores.0.clone());
        seats.truncate(self.threads.map_or(usize::MAX, |threads| threads as usize));
        seats
    }

    /// Checks what one flag alone can't say.
    ///
    /// # Errors
    /// The first flag that contradicts another.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(threads) = self.threads.filter(|threads| *threads as usize > self.seats().len()) {
            return Err(ConfigError::TooManyThreads { threads, cores: self.seats().len() });
        }
        if self.placement == Placement::Split && self.servers.is_empty() && self.seats().len() == 1 {
            return Err(ConfigError::NothingToSplit);
        }
        if self.one_way && self.wire_limit == Some(false) {
            return Err(ConfigError::NothingToCarry);
        }
        if let Some(via) = self.transports.iter().enumerate().find_map(|(i, via)| {
            let before = &self.transports[..i];
            before.contains(via).then_some(*via)
        }) {
            return Err(ConfigError::TransportTwice { via });
        }
        self.check_resp()?;
        let workload = Workload::of(self.workload);
        if self.transports.len() > 1 && workload.writes == Kind::Insert {
            return Err(ConfigError::InsertsOnce);
        }
        let lanes = self.lanes() * u64::from(self.part.unwrap_or_default().of);
        if lanes > u64::from(u16::MAX) {
            return Err(ConfigError::TooManyInFlight { lanes });
        }
        let ops_per_operation = workload.ops_per_operation_max();
        if self.batch * ops_per_operation > FRAME_OPS_MAX {
            return Err(ConfigError::BatchTooLarge { batch: self.batch, batch_max: FRAME_OPS_MAX / ops_per_operation });
        }
        Ok(())
    }

    /// What commands of Redis cannot do, and what is not said over two protocols at once.
    fn check_resp(&self) -> Result<(), ConfigError> {
        if self.servers.iter().any(|door| Via::of(door).is_redis() != self.via().is_redis()) {
            return Err(ConfigError::TwoProtocols);
        }
        let is_among = self.transports.iter().any(|via| via.is_redis());
        match () {
            () if !self.via().is_redis() && !is_among => Ok(()),
            () if self.connections == Connections::Shared => Err(ConfigError::NothingMerged),
            () if self.at_most_once => Err(ConfigError::NotOnce),
            () if self.one_way || self.wire_limit == Some(true) && !is_among => Err(ConfigError::NoFrames),
            () => Ok(()),
        }
    }

    /// What is spoken: through the first door, or to the node in this process.
    #[must_use]
    pub fn via(&self) -> Via {
        self.servers.first().map_or(self.transport, Via::of)
    }

    /// Lanes of the run, of resolved flags: each has a batch, or a frame, in flight.
    #[must_use]
    pub fn lanes(&self) -> u64 {
        u64::from(self.workers.unwrap_or(1)) * u64::from(self.depth.unwrap_or(1))
    }

    /// Frames that the lanes of a connection have in flight at most, of resolved flags, to one node.
    #[must_use]
    pub fn frames_in_flight_a_connection(&self) -> u64 {
        match self.connections {
            Connections::Shared => self.lanes(),
            Connections::Own => self.depth.unwrap_or(1).into(),
        }
    }

    /// Whether operations go one by one through the client's single calls, which it merges.
    #[must_use]
    pub fn is_coalesced(&self) -> bool {
        self.batch == 1 && self.connections == Connections::Shared
    }
}

/// Flags that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Each thread has a core of its own.
    #[error("--threads {threads} is more than the {cores} cores there are to run on")]
    TooManyThreads {
        /// Threads asked for.
        threads: u32,
        /// Cores there are.
        cores: usize,
    },
    /// One-way frames are all that would be measured.
    #[error("--one-way measures the wire limit and nothing else: it needs --wire-limit, not --wire-limit=false")]
    NothingToCarry,
    /// A transport is named more than once.
    #[error("--transports names {via} twice")]
    TransportTwice {
        /// The transport.
        via: Via,
    },
    /// Keys are dealt to servers of one kind.
    #[error("--servers names resp:// beside another transport: name servers of one kind")]
    TwoProtocols,
    /// Raw frames are not spoken over RESP.
    #[error("the wire limit is measured with frames, and there are none over resp: leave --wire-limit out")]
    NoFrames,
    /// Nothing merges commands of several workers.
    #[error("--connections shared is not for resp: nothing merges the commands of several workers")]
    NothingMerged,
    /// Redis knows no sessions.
    #[error("--at-most-once is not for resp: a server cannot tell a command that is sent again from another one")]
    NotOnce,
    /// What one transport inserts, the next would find there.
    #[error("--transports needs a workload without inserts: the records are loaded once, for all of them")]
    InsertsOnce,
    /// Two sides need two cores.
    #[error("--placement split needs two cores, there is one")]
    NothingToSplit,
    /// The stamp in a value has 16 bits for who wrote it.
    #[error("--workers times --depth, of all clients of --part, is {lanes} batches in flight; the most is 65535")]
    TooManyInFlight {
        /// Batches in flight asked for.
        lanes: u64,
    },
    /// A read-modify-write takes two places in a frame.
    #[error(
        "--batch {batch} is too large for this workload: its operations take up to two places, the most is {batch_max}"
    )]
    BatchTooLarge {
        /// Operations asked for.
        batch: u32,
        /// The most.
        batch_max: u32,
    },
}

fn parse_theta(text: &str) -> Result<f64, String> {
    let theta: f64 = text.parse().map_err(|error: std::num::ParseFloatError| error.to_string())?;
    if (0.0..1.0).contains(&theta) { Ok(theta) } else { Err("must be 0 or more and less than 1".into()) }
}

fn parse_value_size(text: &str) -> Result<u32, String> {
    sizes::parse_within(text, 0..=VALUE_BYTES_MAX)
}

/// Header and the length of its answer at least.
fn parse_frame_bytes(text: &str) -> Result<u32, String> {
    sizes::parse_within(text, WIRE_LIMIT_BYTES_MIN..=FRAME_BYTES_MAX)
}

fn parse_rate(text: &str) -> Result<u64, String> {
    let rate = text.parse().ok().filter(|rate| *rate > 0);
    rate.ok_or_else(|| format!("'{text}' is no number of operations a second, 1 or more"))
}

pub(super) fn parse_run_length(text: &str) -> Result<Duration, String> {
    let no_length = |_| format!("'{text}' is no length of time: write for example 10s or 500ms");
    let length = humantime::parse_duration(text).map_err(no_length)?;
    if length < Duration::from_millis(100) {
        return Err("a run shorter than 100ms measures nothing".into());
    }
    Ok(length)
}

fn as_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

fn as_text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn as_optional_text<S: Serializer>(value: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

fn as_numbers<S: Serializer>(cores: &Option<CoreList>, serializer: S) -> Result<S::Ok, S::Error> {
    cores.as_ref().map(|cores| &cores.0).serialize(serializer)
}

fn as_texts<S: Serializer>(values: &[impl Display], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        bench: BenchConfig,
    }

    pub(in crate::bench) fn parse(flags: &[&str]) -> Result<BenchConfig, String> {
        let all = std::iter::once("bench").chain(flags.iter().copied());
        Command::try_parse_from(all).map(|command| command.bench).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_the_freight_workload_in_batches_of_ten_thousand() {
        let config = parse(&[]).unwrap().resolved();
        assert_eq!(config.workload, WorkloadName::Freight);
        assert_eq!((config.records, config.value_size, config.batch), (1_000_000, Some(128), 10_000));
        assert_eq!((config.placement, config.connections), (Placement::Paired, Connections::Own));
        config.check().unwrap();
    }

    #[test]
    fn the_wire_limit_is_measured_unless_the_nodes_are_others_or_told_otherwise() {
        let wire_limit = |flags: &[&str]| parse(flags).unwrap().resolved().wire_limit;
        assert_eq!(wire_limit(&[]), Some(true));
        assert_eq!(wire_limit(&["--wire-limit=false"]), Some(false));
        assert_eq!(wire_limit(&["--servers", "tcp://a:1"]), Some(false));
        assert_eq!(wire_limit(&["--servers", "tcp://a:1,tcp://b:1", "--wire-limit"]), Some(true));
    }

    #[test]
    fn frames_one_way_fill_the_pipe_and_a_run_has_one_batch_in_flight() {
        assert_eq!(parse(&[]).unwrap().resolved().depth, Some(1));
        let one_way = ["--wire-limit", "--frame-bytes", "68", "--one-way"];
        let config =
            parse(&[&one_way[..], &["--connections", "shared", "--workers", "2"]].concat()).unwrap().resolved();
        assert_eq!((config.depth, config.frames_in_flight_a_connection()), (Some(16), 32));
        assert_eq!(
            parse(&[&one_way[..], &["--workers", "2"]].concat()).unwrap().resolved().frames_in_flight_a_connection(),
            16
        );
    }

    #[test]
    fn ycsb_values_are_a_thousand_bytes_unless_told_otherwise() {
        assert_eq!(parse(&["--workload", "ycsb-a"]).unwrap().resolved().value_size, Some(1000));
        assert_eq!(parse(&["--workload", "ycsb-a", "--value-size", "5"]).unwrap().resolved().value_size, Some(5));
    }

    #[test]
    fn a_workload_goes_by_our_name_or_by_ycsb_s_letter_in_any_case() {
        for name in ["ycsb-a", "YCSB-A", "a", "A"] {
            assert_eq!(parse(&["--workload", name]).unwrap().workload, WorkloadName::YcsbA, "{name}");
        }
    }

    #[test]
    fn bad_values_are_refused_in_words() {
        assert!(parse(&["--theta", "1"]).unwrap_err().contains("less than 1"));
        assert!(parse(&["--duration", "1ms"]).unwrap_err().contains("100ms"));
        assert!(parse(&["--batch", "65537"]).is_err());
        assert!(parse(&["--batch", "0"]).is_err());
        assert!(parse(&["--value-size", "8388609"]).is_err());
    }

    #[test]
    fn threads_sit_on_the_first_cores() {
        let seats = |flags: &[&str]| parse(flags).unwrap().seats();
        assert_eq!(seats(&["--cores", "4,6-7"]), [4, 6, 7]);
        assert_eq!(seats(&["--cores", "4,6-7", "--threads", "2"]), [4, 6]);
        assert_eq!(parse(&["--cores", "4,6-7"]).unwrap().resolved().workers, Some(3));
        let crowded = parse(&["--cores", "1", "--threads", "2"]).unwrap();
        assert_eq!(crowded.check(), Err(ConfigError::TooManyThreads { threads: 2, cores: 1 }));
        let split = parse(&["--cores", "1", "--placement", "split"]).unwrap();
        assert_eq!(split.check(), Err(ConfigError::NothingToSplit));
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        let many = parse(&["--workers", "600", "--depth", "200"]).unwrap();
        assert_eq!(many.check(), Err(ConfigError::TooManyInFlight { lanes: 120_000 }));
        let parts = parse(&["--servers", "tcp://a:1", "--part", "1/600", "--workers", "200"]).unwrap();
        assert_eq!(parts.check(), Err(ConfigError::TooManyInFlight { lanes: 120_000 }));
        assert!(parse(&["--part", "1/2"]).unwrap_err().contains("--servers"));
        let large = parse(&["--workload", "ycsb-f", "--batch", "40000"]).unwrap();
        assert_eq!(large.check(), Err(ConfigError::BatchTooLarge { batch: 40_000, batch_max: 32_768 }));
    }

    #[test]
    fn every_flag_stands_in_the_serialised_config() {
        let config = serde_json::to_value(parse(&[]).unwrap().resolved()).unwrap();
        let command = <Command as clap::CommandFactory>::command();
        for flag in command.get_arguments().filter(|flag| flag.get_id() != "help") {
            assert!(config.get(flag.get_id().as_str()).is_some(), "{} is missing", flag.get_id());
        }
        assert_eq!(config["duration"], "10s");
        assert_eq!(config["placement"], "paired");
    }
}
