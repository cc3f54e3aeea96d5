//! How long a half looks again before it sleeps.
//!
//! ```text
//!   look --nothing--> let own tasks run --look--> let the core's other threads run --look--> ... --> sleep
//! ```
//!
//! Both ends often share one core: a spin that keeps it would keep the peer from the very thing that is waited for.
//! So each round gives the core away twice, to the runtime and to the kernel, and costs about a microsecond where
//! nobody else wants it. Going to sleep and being woken costs both sides several. Rounds that were in vain halve the
//! patience, so that a connection that is mostly idle soon sleeps at once; a round that was not doubles it.
#![forbid(unsafe_code)]

/// Most rounds before sleeping.
const ROUNDS_MAX: u32 = 64;

/// Least rounds: what a peer on the same core needs to answer when it is awake.
const ROUNDS_MIN: u32 = 2;

/// The patience of one half.
#[derive(Debug)]
pub(super) struct Patience {
    rounds: u32,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { rounds: ROUNDS_MAX }
    }

    /// Looks again a bounded number of times; true as soon as `ready` says so.
    pub(super) async fn look(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        for _ in 0..self.rounds {
            tokio::task::yield_now().await;
            if ready() {
                self.rounds = (self.rounds * 2).min(ROUNDS_MAX);
                return true;
            }
            rustix::thread::sched_yield();
            if ready() {
                self.rounds = (self.rounds * 2).min(ROUNDS_MAX);
                return true;
            }
        }
        self.rounds = (self.rounds / 2).max(ROUNDS_MIN);
        false
    }
}
