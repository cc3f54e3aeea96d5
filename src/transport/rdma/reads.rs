//! Frames of the peer's that are being read, chunk by chunk.
//!
//! ```text
//!   begin --> | chunk | chunk | chunk | rest |      chunks go out and end in order, across frames; with its last one
//!                                                   a frame is here
//! ```
#![forbid(unsafe_code)]

use super::verbs::Piece;
use super::work::{Done, span_of};
use crate::transport::Buffer;
use std::collections::VecDeque;

/// READs on their way at a time: beyond what devices begin at once (16 is common), the queue pair would only wait.
pub(super) const READS_MAX: usize = 16;

/// Frames being read. The device writes to their memory: nobody gets at it before the last chunk has ended.
#[derive(Debug)]
pub(super) struct Reads {
    frames: VecDeque<Reading>,
    on_their_way: usize,
    chunk_bytes: u32,
}

#[derive(Debug)]
struct Reading {
    buffer: Buffer,
    frame_bytes: u32,
    address: u64,
    key: u32,
    posted_bytes: u32,
    read_bytes: u32,
}

/// A READ to be posted.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) piece: Piece,
    pub(super) address: u64,
    pub(super) key: u32,
}

impl Reads {
    pub(super) fn new(chunk_bytes: u32) -> Self {
        Self { frames: VecDeque::new(), on_their_way: 0, chunk_bytes }
    }

    /// Begins to read a frame into a registered buffer.
    pub(super) fn begin(&mut self, buffer: Buffer, frame_bytes: u32, address: u64, key: u32) {
        assert!(frame_bytes > 0 && frame_bytes as usize <= buffer.len(), "{frame_bytes} bytes into {buffer:?}");
        self.frames.push_back(Reading { buffer, frame_bytes, address, key, posted_bytes: 0, read_bytes: 0 });
    }

    /// Chunks posted that have not ended.
    pub(super) fn on_their_way(&self) -> usize {
        self.on_their_way
    }

    /// Bytes of the oldest frame that are here, and of all of it.
    pub(super) fn oldest(&self) -> Option<(u32, u32)> {
        self.frames.front().map(|first| (first.read_bytes, first.frame_bytes))
    }

    /// The next chunk to read, which counts as on its way; `None` where there is none, or enough are.
    pub(super) fn next_chunk(&mut self) -> Option<Chunk> {
        if self.on_their_way == READS_MAX {
            return None;
        }
        let reading = self.frames.iter_mut().find(|reading| reading.posted_bytes < reading.frame_bytes)?;
        let from = reading.posted_bytes;
        let bytes = (reading.frame_bytes - from).min(self.chunk_bytes);
        let piece = span_of(reading.buffer.memory()).piece(from, bytes);
        reading.posted_bytes += bytes;
        self.on_their_way += 1;
        // A peer may say anything of where its memory is: its device judges.
        Some(Chunk { piece, address: reading.address.wrapping_add(u64::from(from)), key: reading.key })
    }

    /// The oldest chunk has ended, and perhaps its frame.
    pub(super) fn end(&mut self, bytes: u32) -> Option<Done> {
        self.on_their_way -= 1;
        let first = self.frames.front_mut().expect("a chunk belongs to a frame being read");
        first.read_bytes += bytes;
        if first.read_bytes < first.frame_bytes {
            return None;
        }
        let Reading { buffer, frame_bytes, .. } = self.frames.pop_front().expect("it was looked at");
        Some(Done::Read { buffer, frame_bytes })
    }
}
