//! The sweep's flags: lists of what differs from point to point, and the benchmark's own for all the rest.
#![forbid(unsafe_code)]

use super::{Load, Step};
use crate::bench::config::{BATCH_MAX, BenchConfig, ConfigError, parse_run_length};
use crate::bench::workload::{Kind, Workload};
use crate::transport::Scheme;
use crate::transport::rdma::RdmaOptions;
use clap::{ArgMatches, Args, Command, FromArgMatches, value_parser};
use std::fmt::Display;
use std::time::Duration;

/// Batches that latency is measured with unless told otherwise, those of them that throughput is.
const LOAD_BATCHES: [u32; 2] = [100, 10_000];

/// What to measure, and how long each.
#[derive(Debug, Clone, clap::Args)]
pub struct SweepConfig {
    /// Operations a batch
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,10,100,1000,10000")]
    #[arg(value_parser = value_parser!(u32).range(1..=BATCH_MAX))]
    pub batches: Vec<u32>,
    /// Workers that issue batches [default: 1, and one a client thread]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=65_535))]
    pub workers: Vec<u32>,
    /// Transports of the node in this process, which is loaded once
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "tcp,shm")]
    pub transports: Vec<Scheme>,
    /// Open loop: loads in per cent of the closed loop's best rate with that batch over that transport
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "50,70,80,90,95")]
    #[arg(value_parser = value_parser!(u32).range(1..=200), conflicts_with = "closed")]
    pub loads: Vec<u32>,
    /// Open loop: operations a batch [default: 100 and 10000 where they are among --batches, or else the largest]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "closed")]
    pub load_batches: Vec<u32>,
    /// Measure no latency under load
    #[arg(long)]
    pub closed: bool,
    /// Measure each point so many times, in turn with others, and tell the median round and the range
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Length of each measured run, like 10s or 500ms
    #[arg(long, default_value = "2s", value_parser = parse_run_length)]
    pub duration: Duration,
    /// Length of the warm-up before each
    #[arg(long, default_value = "500ms", value_parser = parse_run_length)]
    pub warmup: Duration,
    #[command(flatten)]
    every: EveryPoint,
}

impl SweepConfig {
    /// Fills in every default that depends on other flags.
    #[must_use]
    pub fn resolved(mut self) -> Self {
        let every = BenchConfig { duration: self.duration, warmup: self.warmup, ..self.every.0 };
        let client_threads = every.seats().len() as u32;
        if self.workers.is_empty() {
            self.workers = if client_threads > 1 { vec![1, client_threads] } else { vec![1] };
        }
        if self.closed {
            self.loads.clear();
        } else if self.load_batches.is_empty() {
            self.load_batches = LOAD_BATCHES.into_iter().filter(|batch| self.batches.contains(batch)).collect();
            if self.load_batches.is_empty() {
                self.load_batches.extend(self.batches.iter().max());
            }
        }
        // Workers are the point's: a default of one a thread would be in the way of "not known".
        self.every = EveryPoint(BenchConfig { workers: None, ..every });
        self
    }

    /// The flags that every point has.
    #[must_use]
    pub fn every(&self) -> &BenchConfig {
        &self.every.0
    }

    /// The flags that every point has.
    pub fn every_mut(&mut self) -> &mut BenchConfig {
        &mut self.every.0
    }

    /// The points in the order in which they are measured, each once a round: closed loops first, which say what the
    /// peak is.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let mut closed = Vec::new();
        for workers in self.workers.iter().copied() {
            for batch in self.batches.iter().copied() {
                let load = Load::Closed { workers };
                closed.extend(self.transports.iter().map(|transport| Step { transport: *transport, batch, load }));
            }
        }
        let mut steps = closed.repeat(self.rounds as usize);
        for batch in self.load_batches.iter().copied() {
            let mut open = Vec::new();
            for transport in self.transports.iter().copied() {
                let loads = self.loads.iter().map(|percent| Load::Open { percent: *percent });
                open.extend(loads.map(|load| Step { transport, batch, load }));
            }
            steps.extend(open.repeat(self.rounds as usize));
        }
        steps
    }

    /// Checks what one flag alone can't say, of every point.
    ///
    /// # Errors
    /// The first flag that contradicts another.
    pub fn check(&self) -> Result<(), SweepConfigError> {
        named_once("--batches", &self.batches)?;
        named_once("--workers", &self.workers)?;
        named_once("--transports", &self.transports)?;
        named_once("--loads", &self.loads)?;
        named_once("--load-batches", &self.load_batches)?;
        if let Some(batch) = self.load_batches.iter().find(|batch| !self.batches.contains(batch)) {
            return Err(SweepConfigError::NoPeak { batch: *batch });
        }
        if Workload::of(self.every().workload).writes == Kind::Insert {
            return Err(SweepConfigError::Inserts);
        }
        for step in self.steps() {
            if let Load::Closed { workers } = step.load {
                BenchConfig { batch: step.batch, workers: Some(workers), ..self.every().clone() }.check()?;
            }
        }
        Ok(())
    }
}

fn named_once<T: PartialEq + Display>(flag: &'static str, list: &[T]) -> Result<(), SweepConfigError> {
    match (0..list.len()).find(|at| list[..*at].contains(&list[*at])) {
        Some(at) => Err(SweepConfigError::Twice { flag, value: list[at].to_string() }),
        None => Ok(()),
    }
}

/// Flags that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SweepConfigError {
    /// One point would be measured twice.
    #[error("{flag} names {value} twice")]
    Twice {
        /// The flag.
        flag: &'static str,
        /// What it names.
        value: String,
    },
    /// A load is a share of a peak, which the closed loop finds.
    #[error("--load-batches names {batch}, which is not among --batches: its peak would not be known")]
    NoPeak {
        /// The batch.
        batch: u32,
    },
    /// What one point inserts, the next would find there.
    #[error("a sweep needs a workload without inserts: the records are loaded once, for all points")]
    Inserts,
    /// A point's flags contradict each other.
    #[error(transparent)]
    Point(#[from] ConfigError),
}

/// Those of the benchmark's own flags that every point has.
#[derive(Debug, Clone)]
struct EveryPoint(BenchConfig);

/// Their names; those of RDMA besides.
const OF_EVERY_POINT: [&str; 13] = [
    "placement",
    "threads",
    "cores",
    "workload",
    "records",
    "value_size",
    "theta",
    "depth",
    "connections",
    "at_most_once",
    "verify",
    "seed",
    "wire_limit",
];

impl Args for EveryPoint {
    fn augment_args(command: Command) -> Command {
        let all = BenchConfig::augment_args(Command::new("bench"));
        let ours = |arg: &&clap::Arg| OF_EVERY_POINT.contains(&arg.get_id().as_str());
        RdmaOptions::augment_args(command.args(all.get_arguments().filter(ours)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for EveryPoint {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut config = BenchConfig::default();
        take(matches, "placement", &mut config.placement);
        take(matches, "workload", &mut config.workload);
        take(matches, "records", &mut config.records);
        take(matches, "theta", &mut config.theta);
        take(matches, "connections", &mut config.connections);
        take(matches, "at_most_once", &mut config.at_most_once);
        take(matches, "verify", &mut config.verify);
        take(matches, "seed", &mut config.seed);
        config.threads = matches.get_one("threads").copied();
        config.cores = matches.get_one("cores").cloned();
        config.value_size = matches.get_one("value_size").copied();
        config.depth = matches.get_one("depth").copied();
        config.wire_limit = matches.get_one("wire_limit").copied();
        config.rdma = RdmaOptions::from_arg_matches(matches)?;
        Ok(Self(config))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn take<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str, field: &mut T) {
    if let Some(value) = matches.get_one::<T>(name) {
        *field = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        sweep: SweepConfig,
    }

    fn parse(flags: &[&str]) -> Result<SweepConfig, String> {
        let all = std::iter::once("sweep").chain(flags.iter().copied());
        let parsed = Command::try_parse_from(all).map_err(|error| error.to_string())?;
        let config = parsed.sweep.resolved();
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn closed_loops_come_first_and_transports_share_what_is_drawn() {
        let flags = ["--batches", "1,100", "--workers", "1,2", "--transports", "tcp,shm", "--loads", "50,90"];
        let steps = parse(&flags).unwrap().steps();
        let step = |transport, batch, load| Step { transport, batch, load };
        assert_eq!(steps.len(), 8 + 4);
        assert_eq!(
            steps[..3],
            [
                step(Scheme::Tcp, 1, Load::Closed { workers: 1 }),
                step(Scheme::Shm, 1, Load::Closed { workers: 1 }),
                step(Scheme::Tcp, 100, Load::Closed { workers: 1 }),
            ]
        );
        assert_eq!(steps[8], step(Scheme::Tcp, 100, Load::Open { percent: 50 }));
        assert_eq!(steps[11], step(Scheme::Shm, 100, Load::Open { percent: 90 }));
        let thrice = parse(&[&flags[..], &["--rounds", "3", "--load-batches", "1,100"]].concat()).unwrap().steps();
        assert_eq!((thrice.len(), &thrice[16..24], &thrice[36..40]), (48, &steps[..8], &steps[8..]), "in turn");
        assert!(thrice[24..36].iter().all(|step| step.batch == 1), "a batch's operations are drawn once");
    }

    #[test]
    fn latency_is_measured_with_two_batches_or_the_largest_or_not_at_all() {
        let load_batches = |flags: &[&str]| parse(flags).unwrap().load_batches;
        assert_eq!(load_batches(&[]), [100, 10_000]);
        assert_eq!(load_batches(&["--batches", "1,20,10"]), [20]);
        assert_eq!(load_batches(&["--batches", "1,20,10", "--load-batches", "1"]), [1]);
        assert!(parse(&["--closed"]).unwrap().steps().iter().all(|step| matches!(step.load, Load::Closed { .. })));
    }

    #[test]
    fn every_flag_of_a_point_is_the_benchmark_s_own_and_reaches_it() {
        let config = parse(&[
            "--placement",
            "free",
            "--threads",
            "1",
            "--cores",
            "0",
            "--workload",
            "ycsb-a",
            "--records",
            "7",
            "--value-size",
            "9",
            "--theta",
            "0.5",
            "--depth",
            "3",
            "--connections",
            "shared",
            "--at-most-once",
            "--verify",
            "--seed",
            "5",
            "--wire-limit=false",
            "--duration",
            "300ms",
            "--warmup",
            "200ms",
        ]);
        let given = serde_json::to_value(config.unwrap().every()).unwrap();
        let plain = serde_json::to_value(parse(&[]).unwrap().every()).unwrap();
        for name in OF_EVERY_POINT.into_iter().chain(["duration", "warmup"]) {
            assert_ne!(given[name], plain[name], "{name}");
        }
    }

    #[test]
    fn lists_that_make_no_sense_are_refused_in_words() {
        for (flags, words) in [
            (&["--batches", "1,10,1"][..], "--batches names 1 twice"),
            (&["--transports", "tcp,tcp"], "--transports names tcp twice"),
            (&["--load-batches", "7"], "not among --batches"),
            (&["--workload", "ycsb-d"], "without inserts"),
            (&["--workload", "ycsb-f", "--batches", "40000"], "too large for this workload"),
            (&["--batches", "0"], "0 is not in 1.."),
            (&["--batches", ""], "empty string"),
            (&["--closed", "--loads", "50"], "cannot be used with"),
        ] {
            let error = parse(flags).unwrap_err();
            assert!(error.contains(words), "{flags:?}: {error}");
        }
    }
}
