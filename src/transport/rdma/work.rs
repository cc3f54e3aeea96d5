//! Work: what a queue pair has been given to do, and the memory it does it with.
//!
//! ```text
//!   post receive: span -----> receives[slot] --completion--> span, bytes, word
//!   post send:    frame ----> sends (in order) --a signalled completion behind it--> dropped
//!   announce:     frame ----> announced (in order) --the peer says: read--> dropped
//!   begin read:   buffer ---> reads (in order), chunk by chunk --last chunk's completion--> buffer
//! ```
//!
//! Architecture invariant: memory that the device may touch lies here, where nobody can look at it, until the device is
//! done with it or the queue pair is destroyed. That is the proof of every post below.
#![expect(unsafe_code, reason = "posting hands memory to the device")]

use super::RdmaError;
use super::message::Word;
use super::slab::Span;
use super::verbs::{Completion, CompletionQueue, Ended, Failure, Piece, QueuePair, RECEIVES_AT_ONCE, SendHow};
use crate::transport::{Buffer, Frame, Memory};
use std::collections::VecDeque;

/// Completions taken at a time: eRPC takes as many as it posts receives at once.
const COMPLETIONS_AT_ONCE: usize = 16;

/// READs on their way at a time: beyond what devices begin at once (16 is common), the queue pair would only wait.
pub(super) const READS_MAX: usize = 16;

/// Places in the send queue for messages that are no frames, beyond `--tx-depth`.
pub(super) const CONTROL_SENDS: u32 = 16;

/// Bit of a request's id that marks receives.
const RECEIVE: u64 = 1 << 63;

/// What was posted and what it cost, since the connection was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// SENDs posted.
    pub sends: u64,
    /// SENDs and READs that were posted signalled.
    pub signalled: u64,
    /// Receives posted.
    pub receives: u64,
    /// Doorbells rung for receives.
    pub receive_posts: u64,
    /// READs posted.
    pub reads: u64,
    /// Messages that carry nothing but counts.
    pub updates: u64,
    /// Events taken from the completion channel.
    pub events: u64,
}

/// A finished piece of work.
#[derive(Debug)]
pub(super) enum Done {
    /// A message is in a receive of ours.
    Received { span: Span, bytes: u32, word: Word },
    /// The oldest frame being read is here.
    Read { buffer: Buffer, frame_bytes: u32 },
}

/// What a place in the send queue holds until it completes.
#[derive(Debug)]
enum Sent {
    /// A frame that the device reads from.
    Frame { _frame: Frame },
    /// A message that needs no memory, or took it along.
    Message,
    /// A chunk of a frame that is read.
    Read { bytes: u32 },
}

/// A frame that is read chunk by chunk.
#[derive(Debug)]
struct Reading {
    buffer: Buffer,
    frame_bytes: u32,
    address: u64,
    key: u32,
    posted_bytes: u32,
    read_bytes: u32,
}

/// A queue pair at work. Fields are dropped in order: the pair first, then what it worked on.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) pair: QueuePair,
    pub(super) completions: CompletionQueue,
    pub(super) counts: Counts,
    receives: Vec<Option<Span>>,
    slots_free: Vec<usize>,
    sends: VecDeque<Sent>,
    /// The id of the first of `sends`.
    first_send: u64,
    announced: VecDeque<Frame>,
    reads: VecDeque<Reading>,
    reads_posted: usize,
    unsignalled: u32,
    tx_depth: u32,
    signalled_one_in: u32,
    chunk_bytes: u32,
}

impl Work {
    pub(super) fn new(
        pair: QueuePair,
        completions: CompletionQueue,
        receives: usize,
        (tx_depth, signalled_one_in, chunk_bytes): (u32, u32, u32),
    ) -> Self {
        Self {
            pair,
            completions,
            counts: Counts::default(),
            receives: (0..receives).map(|_| None).collect(),
            slots_free: (0..receives).collect(),
            sends: VecDeque::new(),
            first_send: 0,
            announced: VecDeque::new(),
            reads: VecDeque::new(),
            reads_posted: 0,
            unsignalled: 0,
            tx_depth,
            signalled_one_in,
            chunk_bytes,
        }
    }

    /// Takes what has ended.
    pub(super) fn poll(&mut self, done: &mut Vec<Done>) -> Result<usize, RdmaError> {
        let mut handled = 0;
        loop {
            let mut room = [Completion::default(); COMPLETIONS_AT_ONCE];
            let count = self.completions.poll(&mut room)?.len();
            for completion in &room[..count] {
                self.end(completion, done)?;
            }
            handled += count;
            if count < COMPLETIONS_AT_ONCE {
                return Ok(handled);
            }
        }
    }

    fn end(&mut self, completion: &Completion, done: &mut Vec<Done>) -> Result<(), RdmaError> {
        match completion.ended() {
            Ended::Failed(failure) => Err(RdmaError::Completion { failure }),
            Ended::Received(word) => {
                let slot = (completion.id & !RECEIVE) as usize;
                let span = self.receives.get_mut(slot).and_then(Option::take);
                let span = span.ok_or(RdmaError::Completion { failure: Failure::Local })?;
                self.slots_free.push(slot);
                done.push(Done::Received { span, bytes: completion.bytes, word: Word::decode(word) });
                Ok(())
            }
            Ended::Sent | Ended::Read => {
                while self.first_send <= completion.id {
                    let Some(sent) = self.sends.pop_front() else { break };
                    self.first_send += 1;
                    if let Sent::Read { bytes } = sent {
                        self.reads_posted -= 1;
                        self.chunk_read(bytes, done);
                    }
                }
                Ok(())
            }
        }
    }

    /// Chunks complete in the order in which they were posted.
    fn chunk_read(&mut self, bytes: u32, done: &mut Vec<Done>) {
        let first = self.reads.front_mut().expect("a chunk belongs to a frame being read");
        first.read_bytes += bytes;
        if first.read_bytes == first.frame_bytes {
            let Reading { buffer, frame_bytes, .. } = self.reads.pop_front().expect("it was looked at");
            done.push(Done::Read { buffer, frame_bytes });
        }
    }

    /// Posts receives.
    pub(super) fn post_receives(&mut self, spans: &mut Vec<Span>) -> Result<(), RdmaError> {
        while !spans.is_empty() {
            let mut list = Vec::with_capacity(RECEIVES_AT_ONCE);
            for span in spans.drain(..spans.len().min(RECEIVES_AT_ONCE)) {
                let slot = self.slots_free.pop().expect("there is a slot for every span");
                list.push((RECEIVE | slot as u64, span.piece(0, span.len() as u32)));
                self.receives[slot] = Some(span);
            }
            self.counts.receives += list.len() as u64;
            self.counts.receive_posts += 1;
            // SAFETY: the spans lie in `receives` until their requests end, or the pair is dropped, before them.
            unsafe { self.pair.post_receives(&list) }?;
        }
        Ok(())
    }

    /// Whether the send queue has room for a frame or an announcement.
    pub(super) fn has_room_for_frame(&self) -> bool {
        self.sends.len() - self.reads_posted < self.tx_depth as usize
    }

    /// Whether it has room for a message that is no frame.
    pub(super) fn has_room_for_control(&self) -> bool {
        self.sends.len() - self.reads_posted < (self.tx_depth + CONTROL_SENDS) as usize
    }

    /// Whether nothing is left to be sent or read by the peer.
    pub(super) fn is_idle(&self) -> bool {
        self.announced.is_empty() && self.sends.len() == self.reads_posted
    }

    /// Sends a message with a frame's bytes, or with none. The frame's memory must be registered.
    pub(super) fn post_send(&mut self, word: Word, frame: Option<Frame>, signal: bool) -> Result<(), RdmaError> {
        let piece = frame.as_ref().map(piece_of);
        let inline = piece.is_none_or(|piece| piece.bytes <= self.pair.inline_bytes_max());
        // Nearly full, every one is signalled, so that there is always one to wait for.
        let nearly_full = self.sends.len() - self.reads_posted + 1 >= self.tx_depth as usize;
        let signalled = signal || nearly_full || self.unsignalled + 1 >= self.signalled_one_in;
        let id = self.next_send(signalled);
        self.counts.sends += 1;
        let how = SendHow { id, immediate: word.encode(), signalled, inline };
        // SAFETY: the frame lies in `sends` until this request ends, or the pair is dropped, before it. Frames never
        // change.
        let posted = unsafe { self.pair.post_send(piece, how) };
        self.sends.push_back(match frame {
            Some(frame) if !inline => Sent::Frame { _frame: frame },
            _ => Sent::Message,
        });
        Ok(posted?)
    }

    fn next_send(&mut self, signalled: bool) -> u64 {
        self.unsignalled = if signalled { 0 } else { self.unsignalled + 1 };
        self.counts.signalled += u64::from(signalled);
        self.first_send + self.sends.len() as u64
    }

    /// Keeps a frame for the peer to read.
    pub(super) fn announce(&mut self, frame: Frame) {
        self.announced.push_back(frame);
    }

    pub(super) fn announced(&self) -> usize {
        self.announced.len()
    }

    /// The peer has read so many.
    pub(super) fn forget_announced(&mut self, count: usize) -> Result<(), RdmaError> {
        if count > self.announced.len() {
            return Err(RdmaError::Protocol { what: "it read more frames than were announced" });
        }
        drop(self.announced.drain(..count));
        Ok(())
    }

    /// Begins to read a frame of the peer's into a registered buffer.
    pub(super) fn begin_read(&mut self, buffer: Buffer, frame_bytes: u32, address: u64, key: u32) {
        assert!(frame_bytes > 0 && frame_bytes as usize <= buffer.len(), "{frame_bytes} bytes into {buffer:?}");
        self.reads.push_back(Reading { buffer, frame_bytes, address, key, posted_bytes: 0, read_bytes: 0 });
    }

    /// Posts READs of what was begun, as many as there may be.
    pub(super) fn post_reads(&mut self) -> Result<(), RdmaError> {
        while self.reads_posted < READS_MAX {
            let Some(at) = self.reads.iter().position(|reading| reading.posted_bytes < reading.frame_bytes) else {
                break;
            };
            let id = self.next_send(true);
            let reading = &mut self.reads[at];
            let from = reading.posted_bytes;
            let bytes = (reading.frame_bytes - from).min(self.chunk_bytes);
            let piece = span_of(reading.buffer.memory()).piece(from, bytes);
            reading.posted_bytes += bytes;
            let address = reading.address.wrapping_add(u64::from(from));
            let key = reading.key;
            self.counts.reads += 1;
            self.reads_posted += 1;
            // SAFETY: the buffer lies in `reads` until its last chunk ends, or the pair is dropped, before it.
            let posted = unsafe { self.pair.post_read(id, piece, address, key) };
            self.sends.push_back(Sent::Read { bytes });
            posted?;
        }
        Ok(())
    }
}

/// Where a frame's bytes are.
fn piece_of(frame: &Frame) -> Piece {
    span_of(frame.memory()).piece(0, frame.frame_bytes())
}

/// Where an announced frame's bytes are, for the peer.
pub(super) fn address_of(frame: &Frame) -> (u64, u32) {
    (piece_of(frame).address, span_of(frame.memory()).remote_key())
}

fn span_of(memory: &Memory) -> &Span {
    match memory {
        Memory::Registered(span) => span,
        Memory::Heap(_) | Memory::Pages(_) | Memory::Span(_) | Memory::InPlace(_) => {
            unreachable!("frames from elsewhere are copied before they come here")
        }
    }
}
