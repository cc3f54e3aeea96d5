//! What tells a node the time.
#![forbid(unsafe_code)]

use crate::op::Time;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells a node the time, from any thread. Cheap to clone.
///
/// A clock that is set back brings nothing back: the node's time stands still until the clock is past it again, and
/// what is to expire meanwhile expires that much later. One that is set forward lets what it jumps over expire at once.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// The system's wall clock: other nodes', and people's, who name instants.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            since.as_secs() * 1_000 + Time::from(since.subsec_millis())
        })
    }

    /// A clock that tells what `now` gives.
    #[must_use]
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}
