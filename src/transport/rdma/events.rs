//! What a device reports unasked: it ends whom it is about, and nobody else.
//!
//! ```text
//!   device --descriptor--> the keeper that is woken first --Context--> every keeper of the device, on every thread
//! ```
//!
//! A descriptor is no longer readable for those who come late, so whoever takes an event tells the others.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::shared::Shared;
use super::verbs::{AsyncEvent, Context};
use std::io;
use std::sync::{Arc, Weak};
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// One connection's ear.
#[derive(Debug)]
pub(super) struct Events {
    context: Arc<Context>,
    reports: Receiver<AsyncEvent>,
    shared: Weak<Shared>,
}

impl Events {
    /// Hears of what happens from now on.
    pub(super) fn new(context: &Arc<Context>, shared: &Arc<Shared>) -> Self {
        Self { context: Arc::clone(context), reports: context.events(), shared: Arc::downgrade(shared) }
    }

    /// Takes events and hears of those that others took, until one ends the connection: why.
    ///
    /// # Errors
    /// The runtime cannot watch the device.
    pub(super) async fn watch(mut self) -> io::Result<RdmaError> {
        let watched = self.context.watch_events()?;
        // It may have failed before anybody heard.
        while !self.context.has_failed() {
            tokio::select! {
                ready = watched.readable() => {
                    let mut ready = ready?;
                    while let Some(event) = self.context.next_event() {
                        tracing::warn!(device = self.context.name(), "{event}");
                    }
                    ready.clear_ready();
                }
                report = self.reports.recv() => if let Some(error) = self.ended_by(report) {
                    return Ok(error);
                }
            }
        }
        Ok(RdmaError::Device)
    }

    fn ended_by(&self, report: Result<AsyncEvent, RecvError>) -> Option<RdmaError> {
        // Who has missed some goes by its completions.
        let event = report.ok()?;
        let shared = self.shared.upgrade()?;
        shared.ended_by(event)
    }
}
