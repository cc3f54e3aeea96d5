//! What a lane counts while the clock runs.
//!
//! Every lane has a [`Measure`] of its own, so nothing is shared or locked on the hot path; they are added up when
//! the run is over. Time is cut into slices, whole seconds where the run is long enough: the report's rate is the
//! median slice, its spread says how far the slices lie apart.
//!
//! ```text
//!   closed loop   begin building -------- reply in hand        one latency a batch
//!   open loop     op's turn ... op's turn --- sent -- reply    from each operation's turn; a batch's is its oldest's
//! ```
//!
//! In an open loop an operation's turn comes on schedule, whether or not the lane is still waiting for a reply, so a
//! stall is charged to every operation that it kept waiting (no "coordinated omission").
#![forbid(unsafe_code)]

use super::recorder::Recorder;
use super::values::Mismatch;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// When a phase is measured, and how it is cut into slices.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// The first instant that counts.
    pub start: Instant,
    /// Length of a slice.
    pub slice: Duration,
    /// Number of slices.
    pub slices: u32,
}

impl Window {
    /// A window of about `length` from `start`: whole seconds, or fifths of a run shorter than five.
    #[must_use]
    pub fn new(start: Instant, length: Duration) -> Self {
        let slice = Duration::from_secs(1).min(length / 5).max(Duration::from_millis(1));
        let slices = (length.as_secs_f64() / slice.as_secs_f64()).round().max(1.0) as u32;
        Self { start, slice, slices }
    }

    /// The first instant that counts no more.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.start + self.slice * self.slices
    }

    /// The slice that `now` falls in, none after the end.
    #[inline]
    fn slice_at(&self, now: Instant) -> Option<usize> {
        // 64 bits of nanoseconds are 584 years; dividing 128 bits would cost more than the rest of the counting.
        let slice = now.saturating_duration_since(self.start).as_nanos() as u64 / self.slice.as_nanos() as u64;
        (slice < u64::from(self.slices)).then_some(slice as usize)
    }
}

/// The counts of one lane in one phase.
#[derive(Debug)]
pub struct Measure {
    window: Window,
    /// Operations whose reply came within each slice.
    pub slice_ops: Vec<u64>,
    /// Latency of batches, in nanoseconds.
    pub batch_ns: Recorder,
    /// Latency of operations in an open loop, in nanoseconds.
    pub operation_ns: Option<Histogram<u64>>,
    /// Operations answered without an error, those after the window's end included.
    pub ops: u64,
    /// Batches answered.
    pub batches: u64,
    /// Gets that found a value.
    pub hits: u64,
    /// Gets that found none.
    pub misses: u64,
    /// Operations that failed, by the kind of failure.
    pub errors: BTreeMap<&'static str, u64>,
    /// All of them.
    pub errors_total: u64,
    /// The first value that was not what it should be.
    pub first_mismatch: Option<Mismatch>,
    /// Frames exchanged with nodes.
    pub frames: u64,
    /// Bytes of frames sent.
    pub bytes_sent: u64,
    /// Bytes of frames received.
    pub bytes_received: u64,
}

impl Measure {
    /// Counts from nothing; with latencies of operations where the loop is open.
    #[must_use]
    pub fn new(window: Window, open_loop: bool) -> Self {
        Self {
            window,
            slice_ops: vec![0; window.slices as usize],
            batch_ns: Recorder::new(histogram()),
            operation_ns: open_loop.then(histogram),
            ops: 0,
            batches: 0,
            hits: 0,
            misses: 0,
            errors: BTreeMap::new(),
            errors_total: 0,
            first_mismatch: None,
            frames: 0,
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    /// Counts a batch that began at `begun` and was answered at `answered`, with `ops` operations that didn't fail.
    #[inline]
    pub fn batch(&mut self, ops: u32, begun: Instant, answered: Instant) {
        if ops == 0 {
            return;
        }
        self.batches += 1;
        self.ops += u64::from(ops);
        if let Some(slice) = self.window.slice_at(answered) {
            self.slice_ops[slice] += u64::from(ops);
        }
        self.batch_ns.record(answered.saturating_duration_since(begun).as_nanos() as u64);
    }

    /// Counts the latencies of a batch's operations, whose turns came `spacing_ns` apart from `first_turn` on.
    #[inline]
    pub fn operations(&mut self, ops: u32, first_turn: Instant, spacing_ns: f64, answered: Instant) {
        let Some(histogram) = self.operation_ns.as_mut().filter(|_| ops > 0) else { return };
        let oldest_ns = answered.saturating_duration_since(first_turn).as_nanos() as f64;
        let newest_ns = (oldest_ns - spacing_ns * f64::from(ops - 1)).max(0.0);
        record_evenly(histogram, newest_ns, spacing_ns, u64::from(ops));
    }

    /// Counts `ops` failed operations.
    #[cold]
    pub fn failed(&mut self, kind: &'static str, ops: u64) {
        *self.errors.entry(kind).or_default() += ops;
        self.errors_total += ops;
    }

    /// Adds another lane's counts of the same window.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.slice_ops.iter_mut().zip(&other.slice_ops) {
            *mine += theirs;
        }
        self.batch_ns.add(&other.batch_ns);
        if let (Some(mine), Some(theirs)) = (&mut self.operation_ns, &other.operation_ns) {
            *mine += theirs;
        }
        self.ops += other.ops;
        self.batches += other.batches;
        self.hits += other.hits;
        self.misses += other.misses;
        self.frames += other.frames;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.errors_total += other.errors_total;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.first_mismatch = self.first_mismatch.take().or_else(|| other.first_mismatch.clone());
    }

    /// When the first slice began, as Unix time by this machine's clock.
    #[must_use]
    pub fn began_unix_seconds(&self) -> f64 {
        let began = SystemTime::now().checked_sub(self.window.start.elapsed());
        began.and_then(|began| began.duration_since(UNIX_EPOCH).ok()).unwrap_or_default().as_secs_f64()
    }

    /// Length of a slice.
    #[must_use]
    pub fn slice(&self) -> Duration {
        self.window.slice
    }

    /// Operations a second of each slice.
    #[must_use]
    pub fn rates(&self) -> Vec<f64> {
        self.slice_ops.iter().map(|ops| *ops as f64 / self.window.slice.as_secs_f64()).collect()
    }
}

/// Three digits from 64 ns to ten minutes.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(64, 600_000_000_000, 3).expect("the bounds are valid constants")
}

/// Records `count` values that lie `spacing` apart, a bucket at a time: a batch of ten thousand operations fills a
/// few hundred buckets.
fn record_evenly(histogram: &mut Histogram<u64>, least: f64, spacing: f64, count: u64) {
    let mut done = 0;
    while done < count {
        let value = least + spacing * done as f64;
        let bucket_end = histogram.highest_equivalent(value as u64) as f64 + 1.0;
        let fitting = if spacing > 0.0 { ((bucket_end - value) / spacing).ceil() as u64 } else { count };
        let take = fitting.clamp(1, count - done);
        histogram.saturating_record_n(value as u64, take);
        done += take;
    }
}

/// The value at `quantile` of a list, 0.5 for the median; halfway between two where it falls between.
#[must_use]
pub fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = quantile * last as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_into_seconds_or_fifths() {
        let cut = |length_ms| {
            let window = Window::new(Instant::now(), Duration::from_millis(length_ms));
            (window.slice.as_millis(), window.slices)
        };
        assert_eq!(cut(10_000), (1000, 10));
        assert_eq!(cut(5_000), (1000, 5));
        assert_eq!(cut(2_000), (400, 5));
        assert_eq!(cut(500), (100, 5));
        assert_eq!(cut(100), (20, 5));
    }

    #[test]
    fn operations_count_in_the_slice_of_their_reply_and_not_after_the_end() {
        let start = Instant::now();
        let window = Window::new(start, Duration::from_secs(5));
        let mut measure = Measure::new(window, false);
        for answered_ms in [0, 999, 1000, 4999, 5000, 9000] {
            measure.batch(10, start, start + Duration::from_millis(answered_ms));
        }
        assert_eq!(measure.slice_ops, [20, 10, 0, 0, 10]);
        assert_eq!((measure.ops, measure.batches), (60, 6));
        assert_eq!(measure.rates()[0], 20.0);
    }

    #[test]
    fn evenly_spaced_latencies_equal_those_recorded_one_by_one() {
        for (least, spacing, count) in
            [(1_000.0, 200.0, 10_000), (5e6, 0.3, 5000), (70.0, 1e6, 3), (0.0, 0.0, 9), (9e3, 64.0, 100)]
        {
            let (mut at_once, mut one_by_one) = (histogram(), histogram());
            record_evenly(&mut at_once, least, spacing, count);
            for i in 0..count {
                one_by_one.record((least + spacing * i as f64) as u64).unwrap();
            }
            assert_eq!(at_once, one_by_one, "{count} from {least} by {spacing}");
        }
    }

    #[test]
    fn a_stall_is_charged_to_every_operation_that_waited() {
        let start = Instant::now();
        let mut measure = Measure::new(Window::new(start, Duration::from_secs(5)), true);
        // A thousand operations due over one second, all answered at its end: half of them waited half a second.
        measure.operations(1000, start, 1e6, start + Duration::from_secs(1));
        let operation_ns = measure.operation_ns.unwrap();
        assert_eq!(operation_ns.len(), 1000);
        assert!(operation_ns.value_at_quantile(0.5).abs_diff(500_000_000) < 2_000_000);
        assert!(operation_ns.max().abs_diff(1_000_000_000) < 2_000_000);
    }

    #[test]
    fn merged_counts_are_the_sum() {
        let start = Instant::now();
        let window = Window::new(start, Duration::from_secs(5));
        let (mut a, mut b) = (Measure::new(window, true), Measure::new(window, true));
        a.batch(10, start, start + Duration::from_millis(3));
        b.batch(20, start, start + Duration::from_millis(1003));
        b.failed("timeout", 5);
        b.hits = 7;
        a.merge(&b);
        assert_eq!(a.slice_ops[..2], [10, 20]);
        assert_eq!((a.ops, a.batches, a.hits, a.errors["timeout"]), (30, 2, 7, 5));
        assert_eq!(a.batch_ns.histogram().len(), 2);
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.5), 1.5);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
