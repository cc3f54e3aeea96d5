//! How a half waits: it spins for a while, then sleeps.
#![forbid(unsafe_code)]

use super::options::PollMode;
use super::queue::Half;
use super::shared::Shared;
use std::sync::PoisonError;
use std::time::Instant;

/// Polls between two yields to the runtime: a yield costs as much as a few of them.
const POLLS_PER_YIELD: u32 = 8;

/// One half's wait for one thing: called again each time the thing is not there yet.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    shared: &'a Shared,
    half: Half,
    began: Option<Instant>,
    slept: bool,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(shared: &'a Shared, half: Half) -> Self {
        Self { shared, half, began: None, slept: false }
    }

    /// Waits until it is worth looking again.
    pub(super) async fn wait(&mut self) {
        // A peer that always has a message ready must not keep the thread's other tasks waiting.
        tokio::task::coop::consume_budget().await;
        if self.spins() {
            for _ in 0..POLLS_PER_YIELD {
                if self.shared.look_after(self.half, |_, handled| handled > 0) {
                    return;
                }
                std::hint::spin_loop();
            }
            self.shared.look(self.half, |queue| {
                if queue.end().is_none() {
                    let told = queue.replenish();
                    told.unwrap_or_else(|error| queue.fail(error));
                }
            });
            tokio::task::yield_now().await;
            return;
        }
        self.slept = true;
        if !self.shared.arm(self.half) {
            self.shared.sleep(self.half).await;
        }
    }

    fn spins(&mut self) -> bool {
        match self.shared.poll {
            PollMode::Spin => true,
            PollMode::Event => false,
            PollMode::Adaptive => {
                let length = self.shared.spin.lock().unwrap_or_else(PoisonError::into_inner).length();
                let began = *self.began.get_or_insert_with(Instant::now);
                !self.slept && began.elapsed() < length
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            let mut spin = self.shared.spin.lock().unwrap_or_else(PoisonError::into_inner);
            spin.waited(began.elapsed(), self.slept);
        }
    }
}
