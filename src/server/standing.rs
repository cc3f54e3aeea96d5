//! A wait that stands while others beside it come and go: it is told once whom to wake, not each time it is asked.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use tokio::task::unconstrained;

/// Waits for `F`, which, where it is not over, has noted whom to wake.
#[derive(Debug)]
pub(super) struct Standing<F> {
    awaited: Pin<Box<F>>,
    /// Whom `awaited` wakes.
    woken: Option<Waker>,
}

impl<F: Future> Standing<F> {
    pub(super) fn new(awaited: F) -> Self {
        Self { awaited: Box::pin(awaited), woken: None }
    }

    /// As [`Future::poll`]; asks `F` only where it has somebody else to wake, or `is_over` says that it ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_over: impl FnOnce(&F) -> bool) -> Poll<F::Output> {
        let is_told = self.woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker()));
        if is_told && !is_over(&self.awaited) {
            return Poll::Pending;
        }
        // One of tokio's whose task has had its turn would note nothing, to be asked again soon.
        let polled = pin!(unconstrained(self.awaited.as_mut())).poll(cx);
        if !is_told {
            self.woken = Some(cx.waker().clone());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::task::{consume_budget, coop::has_budget_remaining, yield_now};
    use tokio::time::{Sleep, sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn who_asks_first_when_its_turn_is_over_is_woken_all_the_same() {
        let wait = async {
            while has_budget_remaining() {
                assert!(pin!(consume_budget()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
            }
            let mut standing = Standing::new(sleep(Duration::from_secs(1)));
            assert!(poll_fn(|cx| Poll::Ready(standing.poll(cx, Sleep::is_elapsed))).await.is_pending());
            yield_now().await;
            poll_fn(|cx| standing.poll(cx, Sleep::is_elapsed)).await;
        };
        timeout(Duration::from_secs(5), wait).await.expect("it fires");
    }
}
