//! SIGHUP, at which a node reads files again.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears of each SIGHUP.
#[derive(Debug)]
pub(super) struct Hangups(Signal);

impl Hangups {
    /// From now on no SIGHUP finds the default action.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(signal(SignalKind::hangup())?))
    }

    /// Returns at the next.
    pub(super) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }

    /// Does something at each, for ever.
    pub(super) async fn each(mut self, mut act: impl FnMut()) -> Infallible {
        loop {
            self.next().await;
            act();
        }
    }
}
