//! The run, from the first connection to the report.
//!
//! ```text
//!   draw pools | connect | load | warm up | wire limit | measured run | wire limit | report
//!                connect        | warm up | one-way frames                         | report     with --one-way
//! ```
//!
//! Phases follow each other without overlap: each waits for its last reply. The wire limit's frames have the sizes
//! that the warm-up's had on average, and it stands right beside the run on both sides because machines change their
//! minds.
#![forbid(unsafe_code)]

use super::caller::Caller;
use super::comparison::Comparison;
use super::config::{BenchConfig, ConfigError};
use super::driver::Driver;
use super::load::LoadError;
use super::machine::{self, Machine};
use super::one_way::OneWayReport;
use super::part::{StartError, together};
use super::pool::Pool;
use super::progress::say;
use super::report::{Evidence, Report};
use super::talk::TalkError;
use super::text::what_ran;
use super::via::Via;
use super::wire_limit::FrameSizes;
use crate::client::ClientError;
use crate::profile::{Profile, ProfileError};
use crate::transport::{Door, Endpoint};
use crate::wire::HEADER_BYTES;
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
    /// A server could not be reached over RESP, or was lost between phases.
    #[error(transparent)]
    Talk(#[from] TalkError),
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
    /// A node does not take frames that long.
    #[error("--frame-bytes {frame_bytes} is more than the node takes, which is {max}")]
    FrameTooLong {
        /// Bytes of the frame asked for.
        frame_bytes: u64,
        /// The most that the node, or the client, takes.
        max: u32,
    },
    /// A node lets fewer frames be in flight on a connection.
    #[error("{in_flight} frames in flight on a connection are more than the node takes, which is {max}: lower --depth")]
    TooManyFrames {
        /// Frames asked for.
        in_flight: u64,
        /// The most that every node takes.
        max: u32,
    },
    /// The frames in flight would not fit into memory.
    #[error(
        "the frames in flight take {needed_bytes} bytes, too much of {available_bytes} available: \
         smaller --frame-bytes, fewer --workers or less --depth"
    )]
    FramesTooLarge {
        /// What they take at both ends, or at this one where the node is elsewhere.
        needed_bytes: u64,
        /// What there is.
        available_bytes: u64,
    },
    /// The wire limit could not be measured.
    #[error("cannot measure the wire limit: {kind}")]
    WireLimit {
        /// The kind of failure, as in the report.
        kind: &'static str,
    },
    /// Several clients could not begin together.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The profile could not be had.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

/// The nodes to drive.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where they listen, all by frames or all by RESP.
    pub endpoints: Vec<Door>,
    /// The cores of the node's threads, where it runs in this process.
    pub node_cores: Option<Vec<usize>>,
}

/// Runs the benchmark and returns its report.
///
/// # Errors
/// Whatever keeps it from a report; errors of single operations are in the report.
pub async fn run(config: BenchConfig, target: Target) -> Result<Report, BenchError> {
    run_once(config, target, true, &mut Vec::new()).await
}

/// Runs the benchmark over each target's transport in turn: one node, reached in several ways and loaded once.
///
/// # Errors
/// The first transport that cannot be used, before any is measured; otherwise as [`run`].
///
/// # Panics
/// Where a target has no endpoint.
pub async fn compare(config: BenchConfig, targets: Vec<Target>) -> Result<Comparison, BenchError> {
    config.check()?;
    for target in &targets {
        Caller::connect(&config, &target.endpoints).await?.ping().await?;
    }
    let (mut reports, mut pools) = (Vec::with_capacity(targets.len()), Vec::new());
    for target in targets {
        let mut config = config.clone();
        config.transport = Via::of(&target.endpoints[0]);
        if config.transport.is_redis() {
            config.wire_limit = Some(false);
        }
        say(&format!("over {}:", config.transport));
        reports.push(run_once(config, target, reports.is_empty(), &mut pools).await?);
    }
    Ok(Comparison::new(reports))
}

/// Measures the wire limit and nothing else: frames of `--frame-bytes` one way.
///
/// # Errors
/// Whatever keeps it from a report, a frame that is not answered included.
///
/// # Panics
/// Without `--frame-bytes`.
pub async fn run_one_way(config: BenchConfig, target: Target) -> Result<OneWayReport, BenchError> {
    let config = checked(config)?;
    let machine = Machine::here();
    let (duration, warmup, profile) = (config.duration, config.warmup, config.profile.clone());
    let sizes = FrameSizes {
        request_bytes: config.frame_bytes.expect("who measures one way says how long frames are"),
        reply_bytes: HEADER_BYTES,
        ops_per_frame: 1.0,
        frames_per_batch: 1.0,
    };
    let ends = 1 + u64::from(target.node_cores.is_some());
    let (needed_bytes, available_bytes) =
        (ends * config.lanes() * u64::from(sizes.request_bytes), machine::available_bytes());
    if needed_bytes > available_bytes / 4 {
        return Err(BenchError::FramesTooLarge { needed_bytes, available_bytes });
    }
    let driver = Driver::start(config, &target.endpoints, Vec::new()).await?;
    let topology = driver.topology(target);
    driver.try_frame(sizes).await?;
    driver.carry("warming up: carrying", sizes, warmup).await?;
    let profile = profile.as_deref().map(Profile::start).transpose()?;
    let carried = driver.carry("measuring: carrying", sizes, duration).await?;
    profile.map(Profile::finish).transpose()?;
    Ok(OneWayReport::new(driver.into_parts().0, machine, topology, &carried))
}

/// The flags with their defaults, where they make sense.
fn checked(config: BenchConfig) -> Result<BenchConfig, BenchError> {
    config.check()?;
    let config = config.resolved();
    config.profile.as_deref().map_or(Ok(()), Profile::check)?;
    Ok(config)
}

/// One run, with the records loaded before where that is still to be done, and with `pools` where they are drawn.
pub(super) async fn run_once(
    config: BenchConfig,
    target: Target,
    load: bool,
    pools: &mut Vec<Pool>,
) -> Result<Report, BenchError> {
    let config = checked(config)?;
    let machine = Machine::here();
    let (duration, warmup, profile) = (config.duration, config.warmup, config.profile.clone());
    let part = config.part;
    let begin = format!("measuring for {}: {}", humantime::format_duration(duration), what_ran(&config));
    let mut driver = Driver::start(config, &target.endpoints, std::mem::take(pools)).await?;
    let topology = driver.topology(target);
    let load = if load && part.unwrap_or_default().loads() { Some(driver.load().await?) } else { None };
    if part.is_some() {
        together().await?;
    }
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
    let before = driver.wire_limit(sizes).await?;
    say(&begin);
    let profile = profile.as_deref().map(Profile::start).transpose()?;
    let run = driver.run(duration, true).await?;
    profile.map(Profile::finish).transpose()?;
    let after = driver.wire_limit(sizes).await?;
    let memory = driver.memory().await?;
    let carried = before.zip(after).map(|(before, after)| [before, after]);
    let (config, back) = driver.into_parts();
    *pools = back;
    Ok(Report::new(Evidence { config, machine, topology, load, run, carried, memory }))
}
