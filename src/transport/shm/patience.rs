//! Whether a half looks again for a while, or sleeps at once.
//!
//! ```text
//!   look --nothing--> let own tasks run --look--> let the core's other threads run --look--> ... --> sleep
//! ```
//!
//! Both ends often share one core: a spin that keeps it would keep the peer from the very thing that is waited for.
//! So each round gives the core away twice, to the runtime and to the kernel. Where the peer alone wants the core, that
//! is the shortest way there and back: no system call but one `sched_yield` each way.
//!
//! Where somebody else wants it too it is the longest: the kernel takes a yield for willingness to wait a whole time
//! slice, milliseconds, and a sleeper comes sooner. So looking is given up after [`LOOKING_MAX`], and time spent in
//! vain, or so long that a sleep would not have been noticed in it, is paid back: as many waits sleep at once as make
//! it half a microsecond a wait. Long batches and idle connections end there too, where sleeping costs nothing.
#![forbid(unsafe_code)]

use std::task::Poll;
use std::time::{Duration, Instant};

/// Longest time worth looking for: some times what sleeping and waking cost both ends together.
const LOOKING_MAX: Duration = Duration::from_micros(50);

/// What looking in vain may cost a wait, on average.
const LOST_NS_A_WAIT: u128 = 500;

/// Most waits in a row that sleep at once.
const SLEEPS_MAX: u128 = 1 << 14;

/// The patience of one half.
#[derive(Debug)]
pub(super) struct Patience {
    /// Waits to come that sleep at once.
    sleeps_left: u128,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { sleeps_left: 0 }
    }

    /// Looks again for a bounded time; true as soon as `ready` says so, false where it is better to sleep.
    pub(super) async fn look(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if self.sleeps_left > 0 {
            self.sleeps_left -= 1;
            return false;
        }
        let began = Instant::now();
        loop {
            let_others_run().await;
            let mut found = ready();
            if !found {
                rustix::thread::sched_yield();
                found = ready();
            }
            let elapsed = began.elapsed();
            if elapsed > LOOKING_MAX {
                self.sleeps_left = (elapsed.as_nanos() / LOST_NS_A_WAIT).min(SLEEPS_MAX);
                return found;
            }
            if found {
                return true;
            }
        }
    }
}

/// Gives the runtime's other tasks a turn. Unlike tokio's `yield_now` it does not ask the kernel for events each time,
/// which costs as much as all the rest of a round; the runtime does so by itself every 61 turns.
async fn let_others_run() {
    let mut passed = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
