//! The sweep: the same run at many batch sizes, workers and transports, and under loads that it can bear.
//!
//! ```text
//!   closed loop   workers x batches x transports        -> throughput, wire limit, latency of a batch, CPU
//!   open loop     load batches x transports x loads     -> latency of an operation at a share of the peak
//! ```
//!
//! One node in this process listens on every transport and is loaded once. Each point is a run like any other
//! ([`super::run()`]), with connections, warm-up and, in the closed loop, a wire limit of its own. Operations are drawn
//! anew only where batch or workers differ from the point before. A peak is the closed loop's best over all workers,
//! and a load is a share of its own transport's peak. A point that fails says so, and the next is tried. With more
//! rounds than one, points take turns, and of each the median round is told ([`medians`]).
#![forbid(unsafe_code)]

pub mod config;
mod rounds;
mod text;

pub use rounds::medians;
pub use text::tables;

use super::caller::Caller;
use super::config::BenchConfig;
use super::pool::Pool;
use super::progress::say;
use super::report::Report;
use super::run::{BenchError, Target, run_once};
use super::via::Via;
use crate::transport::Scheme;
use config::{SweepConfig, SweepConfigError};
use serde::{Serialize, Serializer};

/// One point that is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Over what.
    pub transport: Scheme,
    /// Operations a batch.
    pub batch: u32,
    /// How it is loaded.
    pub load: Load,
}

/// How a point is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// By so many workers, as fast as they can.
    Closed {
        /// Workers.
        workers: u32,
    },
    /// At so many hundredths of the peak, by the workers that reached it.
    Open {
        /// Per cent of the peak.
        percent: u32,
    },
}

/// One point that was measured, or tried.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Over what.
    #[serde(serialize_with = "as_text")]
    pub transport: Scheme,
    /// Operations a batch.
    pub batch: u32,
    /// Workers; null where the peak that they would share is not known.
    pub workers: Option<u32>,
    /// Per cent of the peak in an open loop; null in a closed one.
    pub load_percent: Option<u32>,
    /// What each of several rounds said that could be measured, ascending: operations a second in a closed loop, an
    /// operation's p99 in microseconds in an open one.
    pub rounds: Vec<f64>,
    /// What was measured, in the median round or in one that was not good; null where it failed.
    pub report: Option<Report>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What points have in common, and leave to the next.
#[derive(Debug)]
pub struct Sweep {
    every: BenchConfig,
    targets: Vec<Target>,
    is_loaded: bool,
    /// What was drawn last, and for which batch and workers.
    pools: Vec<Pool>,
    drawn_for: (u32, u32),
}

/// Why there is no sweep at all.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Flags contradict each other.
    #[error(transparent)]
    Config(#[from] SweepConfigError),
    /// The node cannot be reached over one of the transports.
    #[error(transparent)]
    Bench(#[from] BenchError),
}

impl Sweep {
    /// Asks the node over every transport whether it is there; there is a target for each of the config's.
    ///
    /// # Errors
    /// Flags that contradict each other, and the first transport that cannot be used.
    pub async fn start(config: &SweepConfig, targets: Vec<Target>) -> Result<Self, SweepError> {
        config.check()?;
        for target in &targets {
            Caller::connect(config.every(), &target.endpoints).await?.ping().await?;
        }
        let every = config.every().clone();
        Ok(Self { every, targets, is_loaded: false, pools: Vec::new(), drawn_for: (0, 0) })
    }

    /// Measures one point, or says why it could not. An open loop's peak is looked up in those `measured` before.
    pub async fn measure(&mut self, step: Step, measured: &[Point]) -> Point {
        let mut point = Point {
            transport: step.transport,
            batch: step.batch,
            workers: None,
            load_percent: None,
            rounds: Vec::new(),
            report: None,
            error: None,
        };
        let mut config = BenchConfig { batch: step.batch, transport: step.transport.into(), ..self.every.clone() };
        match step.load {
            Load::Closed { workers } => config.workers = Some(workers),
            Load::Open { percent } => {
                point.load_percent = Some(percent);
                config.wire_limit = Some(false);
                if let Some((workers, ops_per_second)) = peak(measured, step.transport, step.batch) {
                    config.workers = Some(workers);
                    config.rate = Some(((ops_per_second * f64::from(percent) / 100.0) as u64).max(1));
                }
            }
        }
        point.workers = config.workers;
        if let Some(workers) = config.workers {
            say(&format!("-- {point}"));
            match self.run(config, workers).await {
                Ok(report) => point.report = Some(report),
                Err(error) => point.error = Some(error.to_string()),
            }
        } else {
            point.error = Some("its peak is not known, for no closed loop was measured".to_owned());
        }
        say(&format!("-- {point}: {}", point.outcome()));
        point
    }

    async fn run(&mut self, config: BenchConfig, workers: u32) -> Result<Report, BenchError> {
        let shape = (config.batch, workers);
        if self.drawn_for != shape {
            self.pools.clear();
            self.drawn_for = shape;
        }
        let reaches = |target: &&Target| Via::of(&target.endpoints[0]) == config.transport;
        let target = self.targets.iter().find(reaches).expect("there is a target for each transport").clone();
        let report = run_once(config, target, !self.is_loaded, &mut self.pools).await?;
        self.is_loaded = true;
        Ok(report)
    }
}

/// The best that a closed loop did, in the median of its rounds, and with how many workers.
fn peak(measured: &[Point], transport: Scheme, batch: u32) -> Option<(u32, f64)> {
    let points = medians(measured);
    let closed =
        points.iter().filter(|point| (point.transport, point.batch, point.load_percent) == (transport, batch, None));
    let rates = closed.filter_map(|point| Some((point.workers?, point.report.as_ref()?.throughput.ops_per_second)));
    rates.max_by(|one, other| one.1.total_cmp(&other.1))
}

impl Point {
    /// Whether it was measured, and every operation did what it should.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.errors.total == 0)
    }
}

fn as_text<S: Serializer>(transport: &Scheme, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(transport)
}
