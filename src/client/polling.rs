//! Polls for an answer for a moment before it sleeps.
//!
//! To put a thread to sleep and wake it costs either end ten microseconds, on a virtual machine fifty: the waker
//! interrupts the other processor, and one that has halted takes its time to come back. So who waits for a frame of
//! singles goes on asking for a while, where it has paid off lately:
//!
//! ```text
//!   answer in time:  + what a sleep would have cost here    credit >= 0: poll
//!   answer later:    - the longest time of polling          credit <  0: sleep at once, + a little for each such wait
//! ```
//!
//! Tasks of the thread that are ready have their turns meanwhile, and what they take hardly counts; the kernel is asked
//! for events every 61 turns, as always in tokio. Only byte streams of this machine are polled for: shared memory and
//! RDMA look by themselves, and a network takes longer than a wake-up. And only on a runtime of one thread: on one of
//! several each turn would wake another of them.
#![forbid(unsafe_code)]

use crate::transport::Scheme;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Longest time that a thread with nothing else to do spends on an answer: what a node takes whose processor has halted
/// and must wake first, which is what a sleep of the caller would cost once more.
const POLLED_MAX: Duration = Duration::from_micros(60);

/// A turn that took longer went to others, and counts as the next.
const TURN_MAX: Duration = Duration::from_micros(5);
const OTHERS_TURN: Duration = Duration::from_micros(1);

/// Polling ends after this, whoever had the time: the others may be polling too.
const WAIT_MAX: Duration = Duration::from_micros(300);

/// What an answer in time saves, and what a wait without a look pays back.
const EARNED_NS: i64 = 10_000;
const PAID_BACK_NS: i64 = 500;

/// Most credit, and most debt.
const CREDIT_NS_MAX: i64 = 1_000_000;

/// Where a caller is, and the node that it asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) scheme: Scheme,
    /// Whether the node's address is one of this machine to itself.
    pub(super) is_loopback: bool,
    /// The processor that serves the connection, as the node says, and the caller's.
    pub(super) node_cpu: Option<u16>,
    pub(super) own_cpu: usize,
    /// Whether the runtime has one thread.
    pub(super) is_one_thread: bool,
}

impl Ends {
    /// Whether polling may pay. On a processor that both share it would keep the node from its work.
    pub(super) fn may_poll(&self) -> bool {
        matches!(self.scheme, Scheme::Tcp | Scheme::Tls)
            && self.is_loopback
            && self.is_one_thread
            && self.node_cpu.is_some_and(|cpu| usize::from(cpu) != self.own_cpu)
    }
}

/// Whether polling pays.
#[derive(Debug, Default)]
pub(super) struct Polling {
    credit_ns: i64,
}

impl Polling {
    /// Whether to poll for the next answer.
    pub(super) fn is_due(&mut self) -> bool {
        let is_due = self.credit_ns >= 0;
        self.credit_ns += if is_due { 0 } else { PAID_BACK_NS };
        is_due
    }

    /// So much time was spent until an answer came, or polling ended.
    pub(super) fn spent(&mut self, time: Duration) {
        let earned_ns = match time {
            Duration::ZERO => 0,
            _ if time < POLLED_MAX => EARNED_NS,
            _ => -(time.as_nanos() as i64),
        };
        self.credit_ns = (self.credit_ns + earned_ns).clamp(-CREDIT_NS_MAX, CREDIT_NS_MAX);
    }
}

/// Waits for `answer`, polling for it first; with the time that was spent on that.
pub(super) async fn polled<T>(answer: impl Future<Output = T>) -> (T, Duration) {
    let (mut answer, began) = (pin!(answer), Instant::now());
    let (mut turn_began, mut spent) = (began, Duration::ZERO);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready((answer, spent));
        }
        if spent < POLLED_MAX {
            let now = Instant::now();
            let turn = now - turn_began;
            spent += match turn {
                _ if now - began > WAIT_MAX => POLLED_MAX - spent,
                _ if turn < TURN_MAX => turn,
                _ => OTHERS_TURN,
            };
            turn_began = now;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};
    use tokio::sync::oneshot;

    #[test]
    fn only_another_processor_is_polled_for_over_a_stream_by_a_thread_of_its_own() {
        let ends = Ends { scheme: Scheme::Tcp, is_loopback: true, node_cpu: Some(1), own_cpu: 0, is_one_thread: true };
        assert!(ends.may_poll());
        assert!(Ends { scheme: Scheme::Tls, ..ends }.may_poll());
        for scheme in [Scheme::Shm, Scheme::Rdma, Scheme::Sim] {
            assert!(!Ends { scheme, ..ends }.may_poll(), "{scheme}");
        }
        assert!(!Ends { own_cpu: 1, ..ends }.may_poll(), "the node's own");
        assert!(!Ends { node_cpu: None, ..ends }.may_poll(), "who knows where");
        assert!(!Ends { is_one_thread: false, ..ends }.may_poll());
        assert!(!Ends { is_loopback: false, ..ends }.may_poll(), "behind a network");
    }

    #[test]
    fn what_does_not_pay_is_done_seldom() {
        let mut polling = Polling::default();
        let polled = (0..10_000).filter(|_| {
            let is_due = polling.is_due();
            if is_due {
                polling.spent(POLLED_MAX);
            }
            is_due
        });
        assert!(polled.count() < 10_000 / 30);
        (0..1_000).for_each(|_| polling.spent(Duration::from_micros(1)));
        assert!((0..20).all(|_| polling.is_due()));
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
    fn it_wakes_itself_for_a_while_and_then_waits_for_the_answer() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let (tell, told) = oneshot::channel();
        let mut waiting = pin!(polled(told));
        let mut turns = 0;
        while wakes.0.load(Ordering::Relaxed) == turns {
            assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            turns += 1;
        }
        assert!(turns > 1, "it asked again");
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(wakes.0.load(Ordering::Relaxed), turns - 1, "and then no more");
        tell.send(7).expect("somebody waits");
        assert_eq!(wakes.0.load(Ordering::Relaxed), turns, "the answer wakes it");
        let Poll::Ready((answer, spent)) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) else {
            panic!("it is there")
        };
        assert_eq!((answer, spent >= POLLED_MAX), (Ok(7), true));
    }
}
