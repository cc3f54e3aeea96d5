//! Latencies of one lane, recorded in passing.
//!
//! A histogram of three digits takes a quarter of a megabyte, and a client of fifty lanes has fifty: what is recorded
//! one by one waits for memory each time, 90 ns. So it is kept in a short list, and goes into the histogram together.
#![forbid(unsafe_code)]

use hdrhistogram::Histogram;

/// Latencies that are kept before they are recorded, two KiB of them.
const RECENT_MAX: usize = 256;

/// Latencies, in nanoseconds.
#[derive(Debug)]
pub struct Recorder {
    histogram: Histogram<u64>,
    /// Not yet in the histogram.
    recent: Vec<u64>,
}

impl Recorder {
    /// Nothing recorded, to be kept in `histogram`.
    #[must_use]
    pub fn new(histogram: Histogram<u64>) -> Self {
        Self { histogram, recent: Vec::with_capacity(RECENT_MAX) }
    }

    /// Records a latency; one out of the histogram's bounds as the bound.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.recent.push(ns);
        if self.recent.len() == RECENT_MAX {
            self.settle();
        }
    }

    /// Adds what another one recorded.
    pub fn add(&mut self, other: &Self) {
        self.histogram += &other.histogram;
        other.recent.iter().for_each(|ns| self.histogram.saturating_record(*ns));
    }

    /// All that was recorded.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut all = self.histogram.clone();
        self.recent.iter().for_each(|ns| all.saturating_record(*ns));
        all
    }

    #[inline(never)]
    fn settle(&mut self) {
        self.recent.drain(..).for_each(|ns| self.histogram.saturating_record(ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_into_the_histogram() {
        let new = || Recorder::new(Histogram::new_with_bounds(64, 1_000_000, 3).expect("bounds"));
        for count in [0, 1, RECENT_MAX as u64, 1_000] {
            let (mut all, mut half, mut other) = (new(), new(), new());
            for ns in 0..count {
                all.record(1_000 + ns);
                if ns % 2 == 0 {
                    half.record(1_000 + ns)
                } else {
                    other.record(1_000 + ns)
                };
            }
            half.add(&other);
            assert_eq!(all.histogram().len(), count);
            assert_eq!(all.histogram(), half.histogram(), "{count} latencies");
        }
    }
}
