//! How many operations of a client are taken at a time.
#![forbid(unsafe_code)]

use super::parse::INLINE_BYTES_MAX;
use crate::limits::FRAME_OPS_MAX;

/// Operations of one batch, at most: enough to hide what memory takes, and so few that what a batch needs is little.
pub(super) const BATCH_OPS_MAX: usize = 1_024;

/// Operations of one line, at most: it has not half as many bytes.
pub(super) const LINE_OPS_MAX: usize = FRAME_OPS_MAX as usize;
const _: () = assert!(INLINE_BYTES_MAX / 2 <= LINE_OPS_MAX);

/// Operations behind which the other connections of a thread have their turn, at most.
const TURN_OPS_MAX: usize = 4_096;

/// Seconds' worth of operations that a line may ask for, where there is a rate. A line is one batch in any case, for
/// which others of its account wait too.
const LINE_SECONDS: usize = 10;

/// How many operations go together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portions {
    /// Of a turn.
    pub(super) turn: usize,
    /// Of a batch.
    pub(super) batch: usize,
    /// Words of a line.
    pub(super) line_words: usize,
}

impl Portions {
    /// For whoever may have so many operations a second, or as many as it likes.
    pub(super) fn at(ops_per_second: Option<u32>) -> Self {
        let most = ops_per_second.map_or(usize::MAX, |ops| ops.max(1) as usize);
        let line_words = most.saturating_mul(LINE_SECONDS);
        Self { turn: TURN_OPS_MAX.min(most), batch: BATCH_OPS_MAX.min(most), line_words }
    }
}
