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
//! slice, milliseconds, and a sleeper comes sooner. So looking lives on credit: what is found in time earns what a
//! sleep would have cost, a look of more than [`LOOKING_MAX`] costs all the time it took. Who is in debt sleeps at
//! once, and each such wait pays back a little. A guest that takes the core now and then is forgiven; a neighbour that
//! wants it all the time, long batches and idle connections end in sleep, where sleeping costs little or nothing.
#![forbid(unsafe_code)]

use std::task::Poll;
use std::time::{Duration, Instant};

/// Longest time worth looking for: some times what sleeping and waking cost both ends together.
const LOOKING_MAX: Duration = Duration::from_micros(50);

/// What a wait without a sleep saves both ends.
const EARNED_NS: i64 = 5_000;

/// What a wait that sleeps at once pays back: what looking in vain may cost a wait, on average.
const PAID_BACK_NS: i64 = 500;

/// Most credit: a few time slices of somebody else.
const CREDIT_NS_MAX: i64 = 20_000_000;

/// Most debt: what some ten thousand waits pay back.
const DEBT_NS_MAX: i64 = 8_000_000;

/// The patience of one half.
#[derive(Debug)]
pub(super) struct Patience {
    credit_ns: i64,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { credit_ns: 0 }
    }

    /// Looks again for a bounded time; true as soon as `ready` says so, false where it is better to sleep.
    pub(super) async fn look(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        if self.credit_ns < 0 {
            self.credit_ns += PAID_BACK_NS;
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
                let cost_ns = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
                self.credit_ns = self.credit_ns.saturating_sub(cost_ns).max(-DEBT_NS_MAX);
                return found;
            }
            if found {
                self.credit_ns = (self.credit_ns + EARNED_NS).min(CREDIT_NS_MAX);
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
