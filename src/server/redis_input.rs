//! What a Redis client has sent and is not done with.
//!
//! ```text
//!   nothing here          no buffer
//!   being read            64 KiB from the thread's pool, which the next connection finds warm
//!   part of a command     as little as holds it; a long one's buffer doubles as its bytes arrive
//! ```
#![forbid(unsafe_code)]

use crate::transport::{Buffer, HeapPool, Lender};
use crate::wire::FrameBuffer;
use std::sync::Arc;

/// Bytes read at once, where there is room for so many.
const READ_BYTES: usize = 64 << 10;

/// What a part of a command that is no longer is kept in, and read into where there is no more.
const KEPT_BYTES: usize = 4 << 10;

/// Bytes of one client.
#[derive(Debug)]
pub(super) struct Input {
    pool: Arc<HeapPool>,
    buffer: Option<Buffer>,
    begin: usize,
    end: usize,
}

impl Input {
    pub(super) fn new(pool: &Arc<HeapPool>) -> Self {
        Self { pool: Arc::clone(pool), buffer: None, begin: 0, end: 0 }
    }

    /// What is there.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], |buffer| &mut buffer[self.begin..self.end])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    /// The first bytes are done with.
    pub(super) fn consume(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.end - self.begin, "{bytes} of {}", self.end - self.begin);
        self.begin += bytes;
        if self.is_empty() {
            (self.buffer, self.begin, self.end) = (None, 0, 0);
        }
    }

    /// So many more are there, in what [`Input::room`] gave.
    pub(super) fn arrived(&mut self, bytes: usize) {
        self.end += bytes;
        if self.is_empty() {
            self.buffer = None;
        }
    }

    /// Keeps what is there in as little memory as it takes, for it may have to wait.
    pub(super) fn settle(&mut self) {
        let held = self.end - self.begin;
        let Some(buffer) = self.buffer.as_mut().filter(|buffer| held <= KEPT_BYTES && buffer.len() > KEPT_BYTES) else {
            return;
        };
        // Where there is no memory for a little, what is there is kept.
        let Some(mut kept) = Arc::clone(&self.pool).lend_for_long(KEPT_BYTES) else { return };
        kept[..held].copy_from_slice(&buffer[self.begin..self.end]);
        (self.buffer, self.begin, self.end) = (Some(kept), 0, held);
    }

    /// Where to read to, for a command of at least `needed` bytes: some bytes, or `None` where there is no memory.
    pub(super) fn room(&mut self, needed: usize) -> Option<&mut [u8]> {
        let lend = |bytes| Arc::clone(&self.pool).lend(bytes);
        if self.buffer.is_none() {
            self.buffer = Some(lend(READ_BYTES).or_else(|| lend(KEPT_BYTES))?);
        }
        let buffer = self.buffer.as_mut().expect("it was lent");
        if self.begin > 0 {
            buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        // Of a long command no byte more than it has is read: what is behind it can wait. And it is believed as it
        // comes.
        let missing = needed.saturating_sub(self.end);
        let more = if missing < READ_BYTES { READ_BYTES } else { missing.min(self.end.max(READ_BYTES)) };
        if buffer.len() < self.end + more && !buffer.grow(self.end + more) && buffer.len() == self.end {
            return None;
        }
        let end = if missing < READ_BYTES { buffer.len() } else { buffer.len().min(needed) };
        Some(&mut buffer[self.end..end])
    }
}
