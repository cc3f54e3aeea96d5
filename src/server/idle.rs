//! How long a connection has been idle: looked at now and then, not with each frame.
#![forbid(unsafe_code)]

use super::node::Shared;
use super::standing::Standing;
use std::fmt;
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How long a connection goes without being looked at, at most: whatever the limit, it may be another one by then.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Looks in the time that a connection may be idle.
const LOOKS: u32 = 4;

/// Watches one connection.
pub(super) struct Idle<'a> {
    shared: &'a Shared,
    /// Whether anything came since the last look.
    is_active: bool,
    /// When something last had.
    since: Instant,
    look: Standing<Sleep>,
}

impl<'a> Idle<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let look = Standing::new(sleep(look_every(shared.limits().idle_wait)));
        Self { shared, is_active: false, since: Instant::now(), look }
    }

    /// Something came.
    #[inline]
    pub(super) fn stir(&mut self) {
        self.is_active = true;
    }

    /// Returns when nothing has come for too long, and how long that is. Dropping the future loses nothing.
    pub(super) async fn too_long(&mut self) -> Duration {
        loop {
            poll_fn(|cx| self.look.poll(cx, Sleep::is_elapsed)).await;
            let (now, wait) = (Instant::now(), self.shared.limits().idle_wait);
            if std::mem::take(&mut self.is_active) {
                self.since = now;
            }
            match wait {
                Some(wait) if now - self.since >= wait => return wait,
                _ => self.look = Standing::new(sleep_until(now + look_every(wait))),
            }
        }
    }
}

fn look_every(wait: Option<Duration>) -> Duration {
    wait.map_or(LOOK_EVERY, |wait| (wait / LOOKS).clamp(Duration::from_millis(1), LOOK_EVERY))
}

impl fmt::Debug for Idle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("since", &self.since).finish_non_exhaustive()
    }
}
