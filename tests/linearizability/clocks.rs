//! Clocks that are set back and forth, and what they may have shown while a call was under way.
#![forbid(unsafe_code)]

use crate::support::history::{Recorder, Span};
use freight::op::Time;
use freight::server::Clock;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// The time of tests: that of their runtime, which may be simulated.
#[derive(Clone)]
pub(crate) struct Clocks {
    begun: Instant,
    random: Arc<Mutex<ChaCha8Rng>>,
    /// How far behind a clock may be, in milliseconds.
    behind_max: Time,
}

/// No clock shows 0, which is no time.
const BEGINNING: Time = 1_000_000;

impl Clocks {
    /// Needs a runtime.
    pub(crate) fn new(seed: u64, behind_max: Time) -> Self {
        let random = Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed)));
        Self { begun: Instant::now(), random, behind_max }
    }

    fn now(&self) -> Time {
        BEGINNING + self.begun.elapsed().as_millis() as u64
    }

    /// A node's clock, which is set to another time once in a while.
    pub(crate) fn clock(&self) -> Clock {
        let (clocks, behind) = (self.clone(), AtomicU64::new(0));
        Clock::new(move || {
            let mut random = clocks.random.lock().expect("nobody panics with it");
            if random.random_range(0..4) == 0 {
                behind.store(random.random_range(0..=clocks.behind_max), Ordering::Relaxed);
            }
            clocks.now() - behind.load(Ordering::Relaxed)
        })
    }

    /// Takes down what any of these clocks may show.
    pub(crate) fn recorder(&self) -> Recorder {
        let clocks = self.clone();
        Recorder::timed(move || Span { min: clocks.now() - clocks.behind_max, max: clocks.now() })
    }
}
