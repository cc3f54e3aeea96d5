//! Log lines: to standard error, filtered by level or by `RUST_LOG`.
#![forbid(unsafe_code)]

use std::fmt;
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, fmt as lines};

/// What is logged, at least that urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum LogLevel {
    /// What somebody has to look at.
    Error,
    /// What somebody may want to look at.
    Warn,
    /// What the node does.
    #[default]
    Info,
    /// Each connection too.
    Debug,
    /// All there is.
    Trace,
}

impl LogLevel {
    /// Ours at this level; of others, what is wrong at most.
    fn filter(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "warn,freight=info",
            Self::Debug => "warn,freight=debug",
            Self::Trace => "warn,freight=trace",
        }
    }
}

/// The log of a process that runs for long: its level may change.
pub(super) struct Log {
    /// `None` where the level is not ours to say.
    set: Option<Box<SetFilter>>,
}

type SetFilter = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

impl Log {
    /// Starts logging, each line with its time.
    pub(super) fn start(level: LogLevel) -> Self {
        let said = EnvFilter::try_from_default_env().ok();
        let is_ours = said.is_none();
        let filter = said.unwrap_or_else(|| EnvFilter::new(level.filter()));
        let log = lines().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        let log = log.with_target(false).with_filter_reloading();
        let handle = log.reload_handle();
        log.init();
        let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
        Self { set: is_ours.then(|| Box::new(set) as _) }
    }

    /// Logs at another level from now on.
    pub(super) fn set(&self, level: LogLevel) -> Result<(), String> {
        let set = self.set.as_ref().ok_or("RUST_LOG says what is logged")?;
        set(EnvFilter::new(level.filter()))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("is_ours", &self.set.is_some()).finish()
    }
}

/// Logs what a command that ends soon has to say, without the time.
pub(super) fn log_shortly(otherwise: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(otherwise));
    let log = lines().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    log.with_target(false).without_time().init();
}
