//! How long to wait before a node that could not be reached is tried again.
#![forbid(unsafe_code)]

use super::ClientConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait after a first failure.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// The longest wait after many.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Waits that double with each failure in a row, each drawn from its upper half, so that clients that lost a node
/// together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
    jitter: ChaCha8Rng,
}

impl Backoff {
    pub(super) fn new(config: &ClientConfig) -> Self {
        let seed = config.jitter_seed.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            // Without randomness clients merely come back together.
            let _filled = getrandom::fill(&mut bytes);
            u64::from_le_bytes(bytes)
        });
        Self { failures: 0, not_before: None, jitter: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// When the next try may begin; `None` for at once.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    pub(super) fn failed(&mut self) {
        let longest = WAIT_MIN.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures += 1;
        self.not_before = Some(Instant::now() + longest.mul_f64(self.jitter.random_range(0.5..1.0)));
    }

    pub(super) fn succeeded(&mut self) {
        (self.failures, self.not_before) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let config = ClientConfig { jitter_seed: Some(1), ..ClientConfig::default() };
        let mut backoff = Backoff::new(&config);
        assert_eq!(backoff.not_before(), None);
        let wait = |backoff: &mut Backoff| {
            backoff.failed();
            backoff.not_before().expect("a wait") - Instant::now()
        };
        let waits: Vec<_> = (0..100).map(|_| wait(&mut backoff)).collect();
        for (failures, wait) in (0..).zip(&waits) {
            let longest = Duration::from_millis(10 << failures.min(7)).min(WAIT_MAX);
            assert!((longest / 2..=longest).contains(wait), "{failures}: {wait:?}");
        }
        let mut same = Backoff::new(&config);
        assert!(waits.iter().all(|expected| wait(&mut same) == *expected), "a seed replays");
        backoff.succeeded();
        assert_eq!(backoff.not_before(), None);
        assert!(wait(&mut backoff) <= WAIT_MIN);
    }
}
