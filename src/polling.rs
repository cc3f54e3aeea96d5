//! Looks for what a task waits for a while before its thread sleeps: bounded busy polling, paid for by credit.
//!
//! To put a thread to sleep and wake it costs either end ten microseconds, on a virtual machine fifty: the waker
//! interrupts the other processor, and one that has halted takes its time to come back. So who expects something soon
//! keeps its thread awake, as long as that has paid off lately:
//!
//! ```text
//!   it comes in time:  + what a sleep would have cost here    credit >= 0: look
//!   it does not:       - the time that was spent on it        credit <  0: sleep at once, + a little each time
//! ```
//!
//! Tasks of the thread that are ready have their turn first; then the kernel is asked for events, and nobody waits for
//! them. One task of a thread looks at a time: what keeps the thread awake for one does so for all. Where many of them
//! wait, what wakes the thread comes in bursts, a sleep between two of which costs each task little: who sees one puts
//! the thread into debt.
//! Another thread that wants the processor gets it by `sched_yield`: at each turn where the last one went to somebody,
//! else at each sixteenth. If that one keeps it for long the look is over, and all of that time is to be paid back.
//!
//! Only on a runtime of one thread: on one of several each turn would wake another of them.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::yield_now;

/// Longest time that a thread with nothing else to do looks: what a peer takes whose processor has halted and must wake
/// first, which is what a sleep here would cost once more.
const LOOK_MAX: Duration = Duration::from_micros(60);

/// A look ends after so long, whoever had the time.
const WAIT_MAX: Duration = Duration::from_micros(300);

/// A turn that took longer went to others, and counts as the next.
const TURN_MAX: Duration = Duration::from_micros(5);
const OTHERS_TURN: Duration = Duration::from_micros(1);

/// Turns between two times that the processor is given away that nobody seems to want.
const TURNS_ALONE: u32 = 16;

/// A yield that came back in less switched to nobody: it is a system call, two switches are three times as long.
const YIELDED_TO_NOBODY_MAX: Duration = Duration::from_micros(1);

/// So many arrivals of others in one turn are a crowd: a sleep is little beside all that wakes the thread then.
const CROWD: u64 = 12;

/// What a thread owes that looked in a crowd: two thousand waits.
const CROWD_DEBT_NS: i64 = 1_000_000;

/// What a wait without a sleep saves, and what a wait without a look pays back.
const EARNED_NS: i64 = 10_000;
const PAID_BACK_NS: i64 = 500;

/// Most credit.
const CREDIT_NS_MAX: i64 = 1_000_000;

/// Most debt: two time slices of somebody else.
const DEBT_NS_MAX: i64 = 8_000_000;

/// What the tasks of a thread share.
struct Thread {
    credit_ns: Cell<i64>,
    /// When a task that looks had its turn last. One that is not heard of any more went to another thread, or its
    /// runtime rests.
    looked_at: Cell<Option<Instant>>,
    /// How often something came that is worth a look, for whichever task.
    arrivals: Cell<u64>,
    /// Whether another thread ran when the processor was last given away.
    core_is_wanted: Cell<bool>,
}

thread_local! {
    static THREAD: Thread = const { Thread::new() };
}

impl Thread {
    const fn new() -> Self {
        Self {
            credit_ns: Cell::new(0),
            looked_at: Cell::new(None),
            arrivals: Cell::new(0),
            core_is_wanted: Cell::new(false),
        }
    }

    fn earn(&self, ns: i64) {
        self.credit_ns.set((self.credit_ns.get() + ns).clamp(-DEBT_NS_MAX, CREDIT_NS_MAX));
    }

    fn owe(&self, time: Duration) {
        self.earn(-i64::try_from(time.as_nanos()).unwrap_or(DEBT_NS_MAX).min(DEBT_NS_MAX));
    }

    /// Whether a task looks already.
    fn has_a_looker(&self) -> bool {
        self.looked_at.get().is_some_and(|at| at.elapsed() < WAIT_MAX)
    }

    /// A look, if there is credit for one.
    fn look(&self) -> Option<Look> {
        if self.credit_ns.get() < 0 {
            self.earn(PAID_BACK_NS);
            return None;
        }
        let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        matches!(runtime, Ok(RuntimeFlavor::CurrentThread)).then(|| Look::begin(self, Instant::now()))
    }
}

/// Waits for `awaited`; where that `is_worth_a_look`, it is looked for before the thread sleeps.
pub(crate) async fn look_for<T>(is_worth_a_look: bool, awaited: impl Future<Output = T>) -> T {
    let mut awaited = pin!(awaited);
    let (mut look, mut may_look) = (None, is_worth_a_look);
    std::future::poll_fn(|cx| {
        let polled = awaited.as_mut().poll(cx);
        THREAD.with(|thread| {
            let found = polled.is_ready();
            if may_look && !found && !thread.has_a_looker() {
                may_look = false;
                look = thread.look();
            }
            look.take_if(|look| !look.goes_on(thread, found, cx));
            if found && is_worth_a_look {
                thread.arrivals.set(thread.arrivals.get() + 1);
            }
        });
        polled
    })
    .await
}

/// What came on this thread that was worth a look, whoever had the processor meanwhile.
#[cfg(test)]
pub(crate) fn arrivals() -> u64 {
    THREAD.with(|thread| thread.arrivals.get())
}

/// A look of one task.
struct Look {
    began: Instant,
    /// What it took so far, and what other threads took to which the processor was given.
    spent: Duration,
    lent: Duration,
    turn_began: Instant,
    /// Arrivals by then.
    arrivals: u64,
    turns: u32,
}

impl Look {
    fn begin(thread: &Thread, now: Instant) -> Self {
        thread.looked_at.set(Some(now));
        let (spent, lent) = (Duration::ZERO, Duration::ZERO);
        Self { began: now, spent, lent, turn_began: now, arrivals: thread.arrivals.get(), turns: 0 }
    }

    /// Ends a turn, and has the task woken for the next if there is to be one. `found`: what it looks for is there.
    fn goes_on(&mut self, thread: &Thread, found: bool, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        if !self.pays(thread, found, now) {
            return false;
        }
        self.turns = self.turns.wrapping_add(1);
        if thread.core_is_wanted.get() || self.turns.is_multiple_of(TURNS_ALONE) {
            rustix::thread::sched_yield();
            self.lend(thread, now, Instant::now());
        }
        // Its turn comes when no other task is ready, and the kernel was asked for events.
        let is_over = pin!(yield_now()).poll(cx).is_ready();
        debug_assert!(!is_over, "the others have theirs first");
        true
    }

    /// Settles a turn that ends now, and says whether another one may pay.
    fn pays(&mut self, thread: &Thread, found: bool, now: Instant) -> bool {
        thread.looked_at.set(Some(now));
        let turn = now - self.turn_began;
        self.spent += if turn < TURN_MAX { turn } else { OTHERS_TURN };
        self.turn_began = now;
        // What came while another thread had the processor all the time would have come sooner to one that slept.
        let is_late = self.lent >= WAIT_MAX;
        // Fewer than before are those of another thread, to which the task went.
        let is_crowded = thread.arrivals.get().saturating_sub(self.arrivals) >= CROWD;
        self.arrivals = thread.arrivals.get();
        let is_over = found || is_crowded || self.spent >= LOOK_MAX || now - self.began >= WAIT_MAX;
        if found && !is_late && !is_crowded {
            thread.earn(EARNED_NS);
        } else if is_over {
            thread.owe(self.spent + self.lent);
        }
        if is_crowded {
            thread.credit_ns.set(thread.credit_ns.get().min(-CROWD_DEBT_NS));
        }
        !is_over
    }

    /// The processor was given away for so long.
    fn lend(&mut self, thread: &Thread, from: Instant, until: Instant) {
        let lent = until - from;
        thread.core_is_wanted.set(lent > YIELDED_TO_NOBODY_MAX);
        self.lent += lent;
        self.turn_began = until;
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        THREAD.with(|thread| thread.looked_at.set(None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Poll, Wake, Waker};
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    const MICRO: Duration = Duration::from_micros(1);

    /// A runtime of one thread, and how often that went to sleep.
    fn runtime() -> (Runtime, Arc<AtomicUsize>) {
        let sleeps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sleeps);
        let parked = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let runtime = Builder::new_current_thread().enable_all().on_thread_park(parked).build().expect("a runtime");
        (runtime, sleeps)
    }

    fn credit_ns() -> i64 {
        THREAD.with(|thread| thread.credit_ns.get())
    }

    fn set_credit_ns(credit_ns: i64) {
        THREAD.with(|thread| thread.credit_ns.set(credit_ns));
    }

    #[test]
    fn what_is_looked_for_needs_no_sleep() {
        for is_worth_a_look in [true, false] {
            set_credit_ns(0);
            let (runtime, sleeps) = runtime();
            let read = runtime.block_on(async {
                let (mut near, far) = UnixStream::pair().expect("sockets");
                far.try_write(b"it").expect("room");
                // Only the kernel knows that something is there.
                look_for(is_worth_a_look, near.read(&mut [0; 2])).await.expect("a socket")
            });
            assert_eq!(read, 2);
            assert_eq!(sleeps.load(Ordering::Relaxed) == 0, is_worth_a_look);
            assert_eq!(credit_ns(), if is_worth_a_look { EARNED_NS } else { 0 });
        }
    }

    #[test]
    fn who_is_in_debt_sleeps_at_once_and_pays_a_little_back() {
        let (runtime, sleeps) = runtime();
        set_credit_ns(-EARNED_NS);
        let never = look_for(true, std::future::pending::<()>());
        assert!(runtime.block_on(async { tokio::time::timeout(Duration::from_millis(1), never).await }).is_err());
        assert_eq!(credit_ns(), PAID_BACK_NS - EARNED_NS);
        assert!(sleeps.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn a_look_in_vain_costs_what_it_took_and_no_more_than_the_turns_of_others() {
        let (thread, began) = (Thread::new(), Instant::now());
        let mut look = Look::begin(&thread, began);
        assert!((1..60).all(|micros| look.pays(&thread, false, began + micros * MICRO)));
        assert!(!look.pays(&thread, false, began + 60 * MICRO));
        assert_eq!(thread.credit_ns.get(), -60_000);
        let mut look = Look::begin(&thread, began);
        assert!(look.pays(&thread, false, began + 299 * MICRO), "others had the time");
        assert!(!look.pays(&thread, false, began + 300 * MICRO));
        assert_eq!(thread.credit_ns.get(), -62_000);
    }

    #[test]
    fn what_comes_earns_a_sleep_though_others_of_the_thread_had_the_time() {
        let (thread, began) = (Thread::new(), Instant::now());
        let mut look = Look::begin(&thread, began);
        for turn in 1..=2 {
            thread.arrivals.set(turn * (CROWD - 1));
            assert!(look.pays(&thread, false, began + 125 * turn as u32 * MICRO), "what came for others took its time");
        }
        assert!((1..30).all(|micros| look.pays(&thread, false, began + (250 + micros) * MICRO)), "it goes on");
        assert!(!look.pays(&thread, true, began + 450 * MICRO), "it is there");
        assert_eq!(thread.credit_ns.get(), EARNED_NS);
        let earned = (0..1_000).all(|_| !Look::begin(&thread, began).pays(&thread, true, began));
        assert!(earned && thread.credit_ns.get() == CREDIT_NS_MAX);
    }

    #[test]
    fn where_many_wait_nobody_looks_for_long() {
        let (thread, began) = (Thread::new(), Instant::now());
        for found in [false, true] {
            thread.credit_ns.set(CREDIT_NS_MAX);
            let mut look = Look::begin(&thread, began);
            thread.arrivals.set(thread.arrivals.get() + CROWD);
            assert!(!look.pays(&thread, found, began));
            assert_eq!(thread.credit_ns.get(), -CROWD_DEBT_NS);
        }
        // What another thread took is paid back there too.
        let mut look = Look::begin(&thread, began);
        look.lend(&thread, began, began + 4_000 * MICRO);
        thread.credit_ns.set(0);
        thread.arrivals.set(thread.arrivals.get() + CROWD);
        assert!(!look.pays(&thread, true, began + 4_000 * MICRO));
        assert_eq!(thread.credit_ns.get(), -4_000_000);
        // One that began on a thread where more came.
        let mut look = Look::begin(&thread, began);
        assert!(look.pays(&Thread::new(), false, began));
    }

    #[test]
    fn what_comes_behind_a_time_slice_of_another_thread_is_late() {
        let (thread, began) = (Thread::new(), Instant::now());
        for found in [true, false] {
            thread.credit_ns.set(0);
            let mut look = Look::begin(&thread, began);
            look.lend(&thread, began, began + 4_000 * MICRO);
            assert!(thread.core_is_wanted.get());
            assert!(!look.pays(&thread, found, began + 4_000 * MICRO));
            assert_eq!(thread.credit_ns.get(), -4_000_000);
        }
        let mut look = Look::begin(&thread, began);
        look.lend(&thread, began, began + 20_000 * MICRO);
        assert!(!look.pays(&thread, true, began + 20_000 * MICRO));
        assert_eq!(thread.credit_ns.get(), -DEBT_NS_MAX);
        look.lend(&thread, began, began + MICRO);
        assert!(!thread.core_is_wanted.get(), "that was a system call");
    }

    #[test]
    fn one_task_of_a_thread_looks_and_another_one_after_it() {
        let (runtime, _) = runtime();
        set_credit_ns(0);
        runtime.block_on(async {
            let mut cx = Context::from_waker(Waker::noop());
            let looked_at = || THREAD.with(|thread| thread.looked_at.get());
            // Somebody looks, for an hour from now.
            let other = Some(Instant::now() + 3_600_000_000 * MICRO);
            THREAD.with(|thread| thread.looked_at.set(other));
            let mut waiting = Box::pin(look_for(true, std::future::pending::<()>()));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert_eq!(looked_at(), other);
            // Nobody has heard of it for long.
            THREAD.with(|thread| thread.looked_at.set(Some(Instant::now() - WAIT_MAX)));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert!(THREAD.with(Thread::has_a_looker) || credit_ns() < 0, "it looks now");
            drop(waiting);
            assert_eq!(looked_at(), None, "who leaves does not look any more");
        });
    }

    #[test]
    fn without_a_runtime_no_thread_looks() {
        let thread = Thread::new();
        assert!(thread.look().is_none());
        assert!(runtime().0.block_on(async { thread.look().is_some() }));
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_look_wakes_itself_for_a_while_and_then_what_comes_wakes_the_task() {
        let (runtime, _) = runtime();
        set_credit_ns(0);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        // Outside of the runtime's own loop nobody defers a wake-up.
        let _entered = runtime.enter();
        let (tell, told) = oneshot::channel();
        let mut waiting = pin!(look_for(true, told));
        let mut turns = 0;
        while wakes.0.load(Ordering::Relaxed) == turns {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            turns += 1;
        }
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), turns - 1, "and then no more");
        tell.send(7).expect("somebody waits");
        assert_eq!(wakes.0.load(Ordering::Relaxed), turns, "what comes wakes it");
        assert_eq!(waiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(7)));
    }
}
