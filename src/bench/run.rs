//! The run, from the first connection to the report.
//!
//! ```text
//!   draw pools | connect | load | warm up | wire limit | measured run | wire limit | report
//! ```
//!
//! Phases follow each other without overlap: each waits for its last reply. The wire limit's frames have the sizes
//! that the warm-up's had on average, and it stands right beside the run on both sides because machines change their
//! minds.
#![forbid(unsafe_code)]

use super::config::{BenchConfig, ConfigError};
use super::driver::Driver;
use super::load::LoadError;
use super::machine::Machine;
use super::progress::say;
use super::report::{Evidence, Report};
use super::text::what_ran;
use crate::client::ClientError;
use crate::profile::{Profile, ProfileError};
use crate::transport::Endpoint;
use std::io;

/// On a crowded machine a short warm-up can pass before the first answer: so often it is repeated.
const WARM_UPS_MORE: u32 = 20;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Flags contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The pools would take more than a quarter of the memory there is.
    #[error(
        "the operations to draw take {needed_bytes} bytes, too much of {available_bytes} available: \
         fewer --workers or a smaller --batch"
    )]
    PoolTooLarge {
        /// What the pools take, about.
        needed_bytes: u64,
        /// What there is.
        available_bytes: u64,
    },
    /// A thread or its runtime could not be had.
    #[error("cannot start a client thread: {0}")]
    Thread(#[source] io::Error),
    /// A node could not be reached, or was lost between phases.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The records could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No operation of the warm-up was answered: there is nothing to measure.
    #[error("no operation of the warm-up was answered: {kind}")]
    NothingAnswered {
        /// The kind of failure, as in the report.
        kind: &'static str,
    },
    /// A node answers no wire-limit frames, as it says in its hello: nothing was loaded.
    #[error("{endpoint} does not let its wire limit be measured from here: start it with --allow-wire-limit")]
    WireLimitForbidden {
        /// The node.
        endpoint: Endpoint,
    },
    /// The wire limit could not be measured.
    #[error("cannot measure the wire limit: {kind}")]
    WireLimit {
        /// The kind of failure, as in the report.
        kind: &'static str,
    },
    /// The profile could not be had.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// The nodes to drive.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where they listen.
    pub endpoints: Vec<Endpoint>,
    /// The cores of the node's threads, where it runs in this process.
    pub node_cores: Option<Vec<usize>>,
}

/// Runs the benchmark and returns its report.
///
/// # Errors
/// Whatever keeps it from a report; errors of single operations are in the report.
pub async fn run(config: BenchConfig, target: Target) -> Result<Report, BenchError> {
    config.check()?;
    let config = config.resolved();
    if let Some(path) = &config.profile {
        Profile::check(path)?;
    }
    let machine = Machine::here();
    let (duration, warmup, profile) = (config.duration, config.warmup, config.profile.clone());
    let begin = format!("measuring for {}: {}", humantime::format_duration(duration), what_ran(&config));
    let mut driver = Driver::start(config, &target.endpoints).await?;
    let topology = driver.topology(target);
    let load = driver.load().await?;
    say(&format!("warming up for {}", humantime::format_duration(warmup)));
    let mut warm = driver.run(warmup, false).await?;
    for _ in 0..WARM_UPS_MORE {
        if warm.measure.ops > 0 || !warm.measure.errors.is_empty() {
            break;
        }
        warm = driver.run(warmup, false).await?;
    }
    if warm.measure.ops == 0 {
        return Err(BenchError::NothingAnswered { kind: warm.measure.errors.keys().next().unwrap_or(&"no time") });
    }
    let sizes = Driver::frame_sizes(&warm);
    let before = driver.carry(sizes).await?;
    say(&begin);
    let profile = profile.as_deref().map(Profile::start).transpose()?;
    let run = driver.run(duration, true).await?;
    profile.map(Profile::finish).transpose()?;
    let after = driver.carry(sizes).await?;
    let memory = driver.memory().await?;
    let carried = before.zip(after).map(|(before, after)| [before, after]);
    Ok(Report::new(Evidence { config: driver.into_config(), machine, topology, load, run, carried, memory }))
}
