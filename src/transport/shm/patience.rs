//! Whether a half looks again for a while, or sleeps at once.
//!
//! ```text
//!   look --nothing--> let own tasks run --look--+--peer on this core---> give the core away ------+--> look ... sleep
//!                                               +--peer on another one-> spin a moment; give the -+
//!                                                                        core away if it is wanted
//! ```
//!
//! Each end says on which processor it waits. Where both share one, a spin would keep the peer from the very thing
//! that is waited for: the core is given away, with one `sched_yield`, the shortest way there and back. Not before all
//! tasks of this thread had their turn and nothing happened meanwhile: so one switch carries all there is to say, and
//! a thread with many connections switches no more often. Where the peer has a core of its own, a spin is ten times
//! shorter than a switch, and hundreds of times shorter than waking a core that sleeps.
//!
//! Looking costs time that somebody else may want, and the kernel takes a yield for willingness to wait a whole time
//! slice, milliseconds. So looking lives on credit: what is found in time earns what a sleep would have cost, a look in
//! vain costs all the time it took. Who is in debt sleeps at once, and each such wait pays back a little. A guest that
//! takes the core now and then is forgiven; a neighbour that wants it all the time, long batches and idle connections
//! end in sleep, where sleeping costs little or nothing.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::task::Poll;
use std::time::{Duration, Instant};

thread_local! {
    /// What happened on this thread: something was found, published, or the core given away.
    static EVENTS: Cell<u64> = const { Cell::new(0) };
}

/// Turns of the thread's tasks without an event before the core is given away: what one task found may be another's to
/// answer, and a third one's to send.
const QUIET_TURNS: u32 = 2;

/// Looks in a row while the peer has another core: a fraction of a microsecond.
const SPINS: u32 = 16;

/// Turns between two times that a core is given away that nobody seems to want.
const TURNS_ALONE: u32 = 16;

/// Turns between two looks at the clock, each as dear as a turn; every yield is timed too.
const TURNS_TIMED: u32 = 8;

/// A yield that came back in less switched to nobody: it is a system call, two switches are three times as long.
const YIELDED_TO_NOBODY_MAX: Duration = Duration::from_micros(1);

/// Most credit: a few time slices of somebody else.
const CREDIT_NS_MAX: i64 = 20_000_000;

/// Most debt.
const DEBT_NS_MAX: i64 = 8_000_000;

/// What waiting costs, by where the peer is.
#[derive(Debug, Clone, Copy)]
struct Costs {
    /// Longest time worth looking for. On a shared core most of it is the peer's, which works.
    looking_max: Duration,
    /// What a wait without a sleep saves both ends.
    earned_ns: i64,
    /// What a wait that sleeps at once pays back: what looking in vain may cost a wait, on average.
    paid_back_ns: i64,
}

/// Two switches more, and the calls that put to sleep and wake.
const ON_THIS_CORE: Costs = Costs { looking_max: Duration::from_micros(300), earned_ns: 5_000, paid_back_ns: 500 };

/// A halted core takes some 50 microseconds to wake.
const ON_ANOTHER_CORE: Costs =
    Costs { looking_max: Duration::from_micros(100), earned_ns: 50_000, paid_back_ns: 5_000 };

/// The patience of one half.
#[derive(Debug)]
pub(super) struct Patience {
    credit_ns: i64,
    /// Whether another thread ran when the core was last given away.
    core_is_wanted: bool,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { credit_ns: 0, core_is_wanted: false }
    }

    /// Looks again for a bounded time; true as soon as `ready` says so, false where it is better to sleep.
    /// `shares_core` says that the peer last waited on this processor.
    pub(super) async fn look(&mut self, shares_core: bool, mut ready: impl FnMut() -> bool) -> bool {
        let costs = if shares_core { ON_THIS_CORE } else { ON_ANOTHER_CORE };
        if self.credit_ns < 0 {
            self.credit_ns += costs.paid_back_ns;
            return false;
        }
        let (began, mut turns, mut quiet_turns) = (Instant::now(), 0_u32, 0_u32);
        loop {
            turns += 1;
            let events = EVENTS.get();
            let_others_run().await;
            quiet_turns = if EVENTS.get() == events { quiet_turns + 1 } else { 0 };
            // While others of this thread are busy, a spin would keep it from them.
            let mut found = ready() || (!shares_core && quiet_turns > 0 && spin(&mut ready));
            let is_wanted = shares_core || self.core_is_wanted || quiet_turns.is_multiple_of(TURNS_ALONE);
            let mut elapsed = if turns.is_multiple_of(TURNS_TIMED) { began.elapsed() } else { Duration::ZERO };
            if !found && is_wanted && quiet_turns >= QUIET_TURNS {
                happened();
                let before = began.elapsed();
                rustix::thread::sched_yield();
                elapsed = began.elapsed();
                self.core_is_wanted = elapsed - before > YIELDED_TO_NOBODY_MAX;
                found = ready();
            }
            if elapsed > costs.looking_max {
                let cost_ns = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
                self.credit_ns = self.credit_ns.saturating_sub(cost_ns).max(-DEBT_NS_MAX);
                return found;
            }
            if found {
                happened();
                self.credit_ns = (self.credit_ns + costs.earned_ns).min(CREDIT_NS_MAX);
                return true;
            }
        }
    }
}

/// Tells those that look on this thread that something happened on it.
pub(super) fn happened() {
    EVENTS.set(EVENTS.get().wrapping_add(1));
}

/// Looks again for a moment.
fn spin(ready: &mut impl FnMut() -> bool) -> bool {
    (0..SPINS).any(|_| {
        std::hint::spin_loop();
        ready()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_is_found_and_who_looks_in_vain_sleeps_at_once_until_it_is_paid_back() {
        for shares_core in [true, false] {
            let (mut patience, mut looks) = (Patience::new(), 0);
            let later = || {
                looks += 1;
                looks == 2
            };
            assert!(patience.look(shares_core, later).await, "it is looked for until it is there");
            while patience.credit_ns >= 0 {
                assert!(!patience.look(shares_core, || false).await, "nothing comes");
            }
            while patience.credit_ns < 0 {
                assert!(!patience.look(shares_core, || unreachable!("who is in debt does not look")).await);
            }
            assert!(patience.look(shares_core, || true).await, "a debt ends");
        }
    }

    #[tokio::test]
    async fn own_tasks_have_two_turns_before_the_core_is_given_away() {
        let (mut patience, turns) = (Patience::new(), std::rc::Rc::new(Cell::new(0)));
        let local = tokio::task::LocalSet::new();
        let task = std::rc::Rc::clone(&turns);
        local.spawn_local(async move {
            for turn in 1..=QUIET_TURNS {
                task.set(turn);
                let_others_run().await;
            }
        });
        let events = EVENTS.get();
        local.run_until(patience.look(true, || turns.get() == QUIET_TURNS)).await;
        assert_eq!(EVENTS.get(), events + 1, "found, and no yield before");
    }
}
