//! Polls for an answer for a moment before it sleeps.
//!
//! To put a thread to sleep and wake it costs both ends some ten microseconds: the waker interrupts the other
//! processor, and one that has halted takes its time to come back. A node answers a frame of singles in less. So who
//! waits for one goes on asking as long as that, where it has paid off lately:
//!
//! ```text
//!   answer in time:  + what a sleep costs both ends         credit >= 0: poll
//!   answer later:    - the time that was spent on it        credit <  0: sleep at once, + a little for each such wait
//! ```
//!
//! All other tasks of the runtime have their turns meanwhile, and what they take hardly counts.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Longest time that a thread with nothing else to do spends on an answer: what a sleep costs.
const POLLED_MAX: Duration = Duration::from_micros(20);

/// A turn that took longer went to others, and counts as the next: so they end too where every turn is long.
const TURN_MAX: Duration = Duration::from_micros(5);
const OTHERS_TURN: Duration = Duration::from_micros(1);

/// What an answer in time saves both ends, and what a wait without a look pays back.
const EARNED_NS: i64 = 10_000;
const PAID_BACK_NS: i64 = 500;

/// Most credit, and most debt.
const CREDIT_NS_MAX: i64 = 1_000_000;

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
    let (mut answer, mut turn_began, mut spent) = (pin!(answer), Instant::now(), Duration::ZERO);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready((answer, spent));
        }
        if spent < POLLED_MAX {
            let now = Instant::now();
            let turn = now - turn_began;
            spent += if turn < TURN_MAX { turn } else { OTHERS_TURN };
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
    use tokio::sync::oneshot;

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

    #[tokio::test]
    async fn an_answer_is_polled_for_while_others_work_and_slept_for_afterwards() {
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            tell.send(()).unwrap();
        });
        let (answer, _) = polled(told).await;
        assert_eq!(answer, Ok(()));

        let (tell, told) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            tell.send(()).unwrap();
        });
        let (answer, spent) = polled(told).await;
        assert_eq!(answer, Ok(()));
        assert!(spent >= POLLED_MAX, "it sleeps after {POLLED_MAX:?}");
    }
}
