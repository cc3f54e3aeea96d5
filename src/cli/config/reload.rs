//! The file read again at SIGHUP: what can change while the node runs does, the rest is told.
#![forbid(unsafe_code)]

use super::{ConfigError, Setting, Settings, Sources};
use crate::cli::hangup::Hangups;
use crate::cli::log::Log;
use crate::cli::manager;
use crate::cli::serve::ServeArgs;
use crate::server::Node;
use clap::FromArgMatches;
use std::convert::Infallible;
use std::error::Error;
use std::io;

/// What of a running node takes over settings.
#[derive(Debug)]
pub(in crate::cli) struct Running<'a> {
    pub(in crate::cli) log: &'a Log,
    pub(in crate::cli) node: &'a Node,
}

/// How a running node takes over a setting; `Err` says what keeps it from that.
type TakeOver = fn(&Running<'_>, &ServeArgs) -> Result<(), String>;

/// Each setting that changes while the node runs. All others need a restart.
const AT_RUN_TIME: &[(&str, TakeOver)] = &[
    ("log-level", |running, args| running.log.set(args.log_level)),
    ("slow-batch", |running, args| {
        running.node.set_slow_batch(args.slow_batch);
        Ok(())
    }),
    ("connections-max", set_limits),
    ("connections-per-client", set_limits),
    ("connections-per-user", set_limits),
    ("bytes-in-flight", set_limits),
    ("ops-per-second", set_limits),
    ("handshake-timeout", set_limits),
    ("idle-timeout", set_limits),
];

fn set_limits(running: &Running<'_>, args: &ServeArgs) -> Result<(), String> {
    running.node.set_limits(args.limits().map_err(|error| error.to_string())?);
    Ok(())
}

/// Reads the file again at each SIGHUP.
#[derive(Debug)]
pub(in crate::cli) struct Reloader {
    sources: Sources,
    /// What the node runs with, whatever the file says by now.
    settings: Settings,
    hangups: Hangups,
}

impl Reloader {
    /// From now on no SIGHUP finds the default action.
    pub(in crate::cli) fn new(sources: Sources, settings: Settings) -> io::Result<Self> {
        Ok(Self { sources, settings, hangups: Hangups::new()? })
    }

    /// Reads the file at each SIGHUP, for ever.
    pub(in crate::cli) async fn run(mut self, running: &Running<'_>) -> Infallible {
        loop {
            self.hangups.next().await;
            manager::reloading();
            match self.reload(running) {
                Ok(said) => tracing::info!("SIGHUP: {said}"),
                Err(why) => tracing::error!("SIGHUP: everything stays as it was: {why}"),
            }
            manager::ready();
        }
    }

    /// Takes over what can be, and says what changed.
    fn reload(&mut self, running: &Running<'_>) -> Result<String, Box<dyn Error>> {
        let read = self.sources.read()?;
        let args = ServeArgs::from_arg_matches(&read.matches).map_err(ConfigError::Line)?;
        args.check()?;
        let changed: Vec<_> = read.changed(&self.settings).map(|(old, new)| (old.clone(), new.clone())).collect();
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        for (old, new) in changed {
            match take_over(running, &args, &new) {
                Ok(()) => {
                    taken.push(change(&old, &new));
                    self.settings.take(&new);
                }
                Err(why) => waiting.push(format!("{}{why}", change(&old, &new))),
            }
        }
        let file = read.file.map(|path| path.display().to_string()).unwrap_or_default();
        let taken = if taken.is_empty() { "nothing changed".to_owned() } else { taken.join(", ") };
        let waiting =
            if waiting.is_empty() { String::new() } else { format!("; needs a restart: {}", waiting.join(", ")) };
        Ok(format!("{file} is read again: {taken}{waiting}"))
    }
}

fn take_over(running: &Running<'_>, args: &ServeArgs, setting: &Setting) -> Result<(), String> {
    let (_, take) = AT_RUN_TIME.iter().find(|(key, _)| *key == setting.key).ok_or("")?;
    take(running, args).map_err(|why| format!(" ({why})"))
}

fn change(old: &Setting, new: &Setting) -> String {
    format!("{} {} -> {}", new.key, old.value(), new.value())
}
