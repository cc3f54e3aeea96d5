//! Work: what a queue pair has been given to do, and the memory it does it with.
//!
//! ```text
//!   post receive: span -----> receives[slot] --completion--> span, bytes, word
//!   post send:    frame ----> sends (in order) --a signalled completion behind it--> dropped
//!   announce:     frame ----> announced (in order) --the peer says: read--> dropped
//!   begin read:   buffer ---> reads (in order), chunk by chunk --last chunk's completion--> buffer
//! ```
//!
//! Sends and READs wait in a list until somebody rings: one doorbell for all that one look at the queue made.
//!
//! Architecture invariant: memory that the device may touch lies here (of READs: in `reads`), where nobody can look at
//! it, until the device is done with it or the queue pair is destroyed. That is the proof of every post below.
#![expect(unsafe_code, reason = "posting hands memory to the device")]

use super::RdmaError;
use super::counts::Counts;
use super::message::Word;
use super::reads::Reads;
use super::slab::Span;
use super::verbs::{
    Completion, CompletionQueue, Ended, Failure, Piece, QueuePair, RECEIVES_AT_ONCE, Request, SENDS_AT_ONCE, Verb,
};
use crate::transport::{Buffer, Frame, Memory};
use std::collections::VecDeque;

/// Completions taken at a time: eRPC takes as many as it posts receives at once.
const COMPLETIONS_AT_ONCE: usize = 16;

/// Places in the send queue for messages that are no frames, beyond `--tx-depth`.
pub(super) const CONTROL_SENDS: u32 = 16;

/// Bit of a request's id that marks receives.
const RECEIVE: u64 = 1 << 63;

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
    /// A frame that the device reads from, or copies when the doorbell rings.
    Frame { _frame: Frame },
    /// A message that needs no memory.
    Message,
    /// A chunk of a frame that is read.
    Read { bytes: u32 },
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
    /// The last of `sends`, which wait for the doorbell.
    list: Vec<Request>,
    announced: VecDeque<Frame>,
    reads: Reads,
    unsignalled: u32,
    depth: SendDepth,
}

/// How the send queue is used.
#[derive(Debug, Clone, Copy)]
pub(super) struct SendDepth {
    /// Messages of frames or announcements in it at a time.
    pub(super) tx_depth: u32,
    /// One in so many is signalled.
    pub(super) signalled_one_in: u32,
    /// Most requests that share a doorbell.
    pub(super) post_list: u32,
}

impl Work {
    pub(super) fn new(
        pair: QueuePair,
        completions: CompletionQueue,
        receives: usize,
        depth: SendDepth,
        chunk_bytes: u32,
    ) -> Self {
        Self {
            pair,
            completions,
            counts: Counts::default(),
            receives: (0..receives).map(|_| None).collect(),
            slots_free: (0..receives).collect(),
            sends: VecDeque::new(),
            first_send: 0,
            list: Vec::new(),
            announced: VecDeque::new(),
            reads: Reads::new(chunk_bytes),
            unsignalled: 0,
            depth: SendDepth { post_list: depth.post_list.clamp(1, SENDS_AT_ONCE as u32), ..depth },
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
            // Receives are as they should be, so what does not fit one is the peer's: Soft-RoCE calls it a local error.
            Ended::Failed(Failure::Local) if completion.id & RECEIVE != 0 => {
                Err(RdmaError::Completion { failure: Failure::TooLong })
            }
            Ended::Failed(failure) => Err(RdmaError::Completion { failure }),
            Ended::Wordless => Err(RdmaError::Protocol { what: "it sends a message without an immediate word" }),
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
                        done.extend(self.reads.end(bytes));
                    }
                }
                Ok(())
            }
        }
    }

    /// Its completion queue and its queue pair, as events of the device name them.
    pub(super) fn elements(&self) -> (usize, usize) {
        (self.completions.element(), self.pair.element())
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

    /// Places of the send queue that messages have.
    fn messages(&self) -> usize {
        self.sends.len() - self.reads.on_their_way()
    }

    /// Whether the send queue has room for a message of frames or announcements.
    pub(super) fn has_room_for_frame(&self) -> bool {
        self.messages() < self.depth.tx_depth as usize
    }

    /// Whether it has room for a message that is no frame.
    pub(super) fn has_room_for_control(&self) -> bool {
        self.messages() < (self.depth.tx_depth + CONTROL_SENDS) as usize
    }

    /// Whether nothing is left to be sent or read by the peer.
    pub(super) fn is_idle(&self) -> bool {
        self.announced.is_empty() && self.messages() == 0
    }

    /// Sends a message with a frame's bytes, or with none, when the doorbell rings. The frame's memory must be
    /// registered.
    pub(super) fn send(&mut self, word: Word, frame: Option<Frame>, signal: bool) -> Result<(), RdmaError> {
        let piece = frame.as_ref().map(piece_of);
        let inline = piece.is_none_or(|piece| piece.bytes <= self.pair.inline_bytes_max());
        // Nearly full, every one is signalled, so that there is always one to wait for.
        let nearly_full = self.messages() + 1 >= self.depth.tx_depth as usize;
        let signalled = signal || nearly_full || self.unsignalled + 1 >= self.depth.signalled_one_in;
        self.counts.sends += 1;
        let sent = frame.map_or(Sent::Message, |frame| Sent::Frame { _frame: frame });
        self.enlist(piece, signalled, Verb::Send { immediate: word.encode(), inline }, sent)
    }

    fn enlist(&mut self, piece: Option<Piece>, signalled: bool, verb: Verb, sent: Sent) -> Result<(), RdmaError> {
        self.unsignalled = if signalled { 0 } else { self.unsignalled + 1 };
        self.counts.signalled += u64::from(signalled);
        let id = self.first_send + self.sends.len() as u64;
        self.list.push(Request { id, piece, signalled, verb });
        self.sends.push_back(sent);
        if self.list.len() < self.depth.post_list as usize { Ok(()) } else { self.ring() }
    }

    /// Posts what is on the list.
    pub(super) fn ring(&mut self) -> Result<(), RdmaError> {
        if self.list.is_empty() {
            return Ok(());
        }
        self.counts.send_posts += 1;
        // SAFETY: what is sent lies in `sends` until its request ends, or the pair is dropped, before it, and frames
        // never change; what is read to lies in `reads` until its last chunk ends, likewise.
        let posted = unsafe { self.pair.post_sends(&self.list) };
        for (request, sent) in self.list.drain(..).rev().zip(self.sends.iter_mut().rev()) {
            if matches!(request.verb, Verb::Send { inline: true, .. }) {
                // The device has its bytes.
                *sent = Sent::Message;
            }
        }
        Ok(posted?)
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
        self.reads.begin(buffer, frame_bytes, address, key);
    }

    /// Bytes of the oldest frame being read that are here, and of all of it.
    pub(super) fn reading(&self) -> Option<(u32, u32)> {
        self.reads.oldest()
    }

    /// READs what was begun, as many chunks at a time as there may be.
    pub(super) fn read(&mut self) -> Result<(), RdmaError> {
        while let Some(chunk) = self.reads.next_chunk() {
            self.counts.reads += 1;
            let verb = Verb::Read { address: chunk.address, key: chunk.key };
            self.enlist(Some(chunk.piece), true, verb, Sent::Read { bytes: chunk.piece.bytes })?;
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

/// The registered memory that a buffer is.
pub(super) fn span_of(memory: &Memory) -> &Span {
    match memory {
        Memory::Registered(span) => span,
        Memory::Heap(_) | Memory::Pages(_) | Memory::Span(_) | Memory::InPlace(_) => {
            unreachable!("frames from elsewhere are copied before they come here")
        }
    }
}
