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
use super::verbs::{About, AsyncEvent, Context};
use std::io;
use std::sync::Arc;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// One connection's ear.
#[derive(Debug)]
pub(super) struct Events {
    context: Arc<Context>,
    reports: Receiver<AsyncEvent>,
    /// The connection's completion queue and queue pair, as the library names them.
    queue: usize,
    pair: usize,
}

impl Events {
    /// Hears of what happens from now on.
    pub(super) fn new(context: &Arc<Context>, shared: &Arc<Shared>) -> Self {
        let (queue, pair) = shared.elements();
        Self { context: Arc::clone(context), reports: context.events(), queue, pair }
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
                        self.tell(event);
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

    /// What a peer can bring about as often as it likes fills no log.
    fn tell(&self, event: AsyncEvent) {
        let device = self.context.name();
        match event.about() {
            About::Pair(_) => tracing::debug!(device, "{event}"),
            _ => tracing::warn!(device, "{event}"),
        }
    }

    /// Why an event ends this connection; `None` where it is about another one. Who has missed some goes by its
    /// completions.
    fn ended_by(&self, report: Result<AsyncEvent, RecvError>) -> Option<RdmaError> {
        let event = report.ok()?;
        let reported = RdmaError::Reported { what: event.what() };
        match event.about() {
            About::Device => Some(RdmaError::Device),
            About::Queue(element) => (element == self.queue).then_some(reported),
            About::Pair(element) => (element == self.pair).then_some(reported),
            About::Nobody => None,
        }
    }
}
