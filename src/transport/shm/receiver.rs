//! The receiving half: frames read in place from a trusted peer, copied out of an untrusted one's segment.
//!
//! ```text
//!                                  +-- trusted peer, one whole frame --------> frame in place, released when dropped
//!   slot --take--> piece of bytes--+
//!                                  +-- else: header copied, checked, --------> heap frame, piece released
//!                                      the rest copied behind it (copy D)
//! ```
//!
//! What pieces carry is a stream: a frame may come in several, several frames may come in one. Lengths and content are
//! read once, out of memory that the peer may be changing meanwhile, and judged in memory that it cannot reach.
#![forbid(unsafe_code)]

use super::error::ShmError;
use super::handshake::Segments;
use super::layout::{self, CONSUMED, Descriptor, ENDED_SENDING, GRANULE_BYTES, PUBLISHED, SLOTS, granules_for};
use super::link::{Half, Link, load, lost};
use super::patience::{Patience, happened};
use super::segment::Arrived;
use super::sender::ShmLender;
use crate::transport::allowance::Allowance;
use crate::transport::buffer::Memory;
use crate::transport::pace::Pace;
use crate::transport::share::Share;
use crate::transport::{Buffer, ConnectionConfig, Frame, FrameReceiver, Lender, TransportError};
use crate::wire::{FrameBuffer, HEADER_BYTES, frame_bytes};
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes lent at once for a frame of which only a part has arrived; more only as they arrive.
const UNTRUSTED_BYTES: usize = 256 << 10;

/// Pieces taken in a row: a peer may send a frame byte by byte.
const PIECES_A_TURN: u32 = 64;

const HEADER: usize = HEADER_BYTES as usize;

/// Takes frames from the peer's segment.
#[derive(Debug)]
pub struct ShmReceiver {
    lender: Arc<ShmLender>,
    config: ConnectionConfig,
    patience: Patience,
    /// Frames of the peer that were taken, and that it has published as far as was seen.
    taken: u64,
    published: u64,
    /// Granules that frames in place keep from the peer.
    granules_held: Arc<AtomicU32>,
    piece: Option<Piece>,
    head: Head,
    partial: Option<Partial>,
    pace: Pace,
    /// Of the last frame too, until the next one is asked for.
    share: Share,
}

/// What is left of what the peer published as one.
#[derive(Debug)]
struct Piece {
    release: Release,
    /// Where the next byte is, in the segment's data.
    offset: usize,
    bytes: usize,
}

/// A header of which not all bytes are there.
#[derive(Debug)]
struct Head {
    bytes: [u8; HEADER],
    filled: usize,
}

/// A frame of which not all bytes are there.
#[derive(Debug)]
struct Partial {
    buffer: Buffer,
    filled: usize,
    frame_bytes: u32,
}

/// Releases what the peer published when it is dropped.
#[derive(Debug)]
struct Release {
    link: Arc<Link>,
    first: u32,
    number: u64,
    /// What it counts among the granules held, if it does.
    held: Option<(Arc<AtomicU32>, u32)>,
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some((held, granules)) = &self.held {
            // Relaxed: it only counts.
            held.fetch_sub(*granules, Ordering::Relaxed);
        }
        let segments = self.link.segments().expect("frames come after the handshake");
        // Release, partner: `load` in `ShmLender::reclaim` of the peer. What we read there, we have read.
        segments.own.control()[layout::released(self.first)].store(self.number, Ordering::Release);
        self.link.wake(Half::Sender);
    }
}

/// A frame in the peer's segment. The order of its parts matters: it is released when nothing reads it any more.
#[derive(Debug)]
#[repr(C)]
pub struct InPlace {
    bytes: Arrived,
    _release: Release,
}

impl Deref for InPlace {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl ShmReceiver {
    pub(super) fn new(lender: Arc<ShmLender>, config: &ConnectionConfig) -> Self {
        Self {
            lender,
            config: config.clone(),
            patience: Patience::new(),
            taken: 0,
            published: 0,
            granules_held: Arc::default(),
            piece: None,
            head: Head { bytes: [0; HEADER], filled: 0 },
            partial: None,
            pace: Pace::new(config.frame_wait),
            share: Share::default(),
        }
    }

    /// Takes what the peer published next.
    fn take(&mut self, segments: &Segments) -> Result<Option<Piece>, ShmError> {
        let words = segments.peer.words();
        if self.taken == self.published {
            // Partner: the store in `ShmSender::publish` of the peer.
            self.published = load(&words[PUBLISHED]);
            let frames = self.published.wrapping_sub(self.taken);
            if frames > SLOTS {
                return Err(ShmError::BadCount { frames, max: SLOTS });
            }
            if frames == 0 {
                return Ok(None);
            }
        }
        let descriptor = Descriptor::from_word(words[layout::slot(self.taken)].load(Ordering::Relaxed));
        self.taken += 1;
        // Release, partner: `load` in `ShmSender::has_slot` of the peer. The slot has been read.
        segments.own.control()[CONSUMED].store(self.taken, Ordering::Release);
        let granules = segments.peer.layout().granules;
        if !descriptor.is_within(granules) {
            return Err(ShmError::BadDescriptor { first: descriptor.first, bytes: descriptor.bytes, granules });
        }
        let release =
            Release { link: Arc::clone(self.lender.link()), first: descriptor.first, number: self.taken, held: None };
        let offset = descriptor.first as usize * GRANULE_BYTES;
        Ok(Some(Piece { release, offset, bytes: descriptor.bytes as usize }))
    }

    /// Goes on with what is there: a frame, or `None` where more must come.
    fn advance(&mut self, segments: &Segments) -> Result<Option<Frame>, TransportError> {
        // Framing that is lost does not come back.
        frame_bytes(&self.head.bytes[..self.head.filled], self.config.frame_bytes_max)?;
        for _ in 0..PIECES_A_TURN {
            let next = match self.piece.take() {
                Some(rest) => Some(rest),
                None => self.take(segments).map_err(TransportError::Shm)?,
            };
            let Some(mut piece) = next else { return Ok(None) };
            if self.partial.is_none() && self.head.filled == 0 && segments.peer.is_trusted() {
                match self.in_place(segments, piece) {
                    Ok(frame) => return Ok(Some(frame)),
                    Err(back) => piece = back,
                }
            }
            let frame = self.copy_from(segments, &mut piece)?;
            if piece.bytes > 0 {
                self.piece = Some(piece);
            }
            if frame.is_some() || self.share.is_waiting() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// As [`ShmReceiver::advance`], and tells the pace how far it came.
    fn advance_paced(&mut self, segments: &Segments) -> Result<Option<Frame>, TransportError> {
        let (got_before, _) = self.progress();
        let frame = self.advance(segments)?;
        if frame.is_some() {
            self.pace.begin();
            happened();
        } else {
            let (got, _) = self.progress();
            self.pace.moved((got - got_before) as usize);
        }
        Ok(frame)
    }

    /// A piece as a frame where it is, if it is one and the peer can spare the room.
    fn in_place(&self, segments: &Segments, piece: Piece) -> Result<Frame, Piece> {
        let granules = granules_for(piece.bytes) as u32;
        let held = self.granules_held.load(Ordering::Relaxed);
        if held + granules > segments.peer.layout().granules / 2 {
            return Err(piece);
        }
        let arrived = segments.peer.arrived(piece.offset, piece.bytes).expect("the descriptor was checked");
        // What is no frame, or not one, is told apart where it is copied.
        let whole = frame_bytes(&arrived, self.config.frame_bytes_max).unwrap_or_default();
        let Some(whole) = whole.filter(|whole| *whole as usize == piece.bytes) else { return Err(piece) };
        let mut release = piece.release;
        self.granules_held.fetch_add(granules, Ordering::Relaxed);
        release.held = Some((Arc::clone(&self.granules_held), granules));
        let memory = Memory::InPlace(InPlace { bytes: arrived, _release: release });
        Ok(Frame::new(Buffer::new(memory, Arc::clone(&self.lender) as _), whole))
    }

    /// Copies what the header or the frame at hand still lacks out of a piece.
    fn copy_from(&mut self, segments: &Segments, piece: &mut Piece) -> Result<Option<Frame>, TransportError> {
        if self.partial.is_none() {
            let filled = self.head.filled;
            let bytes = piece.bytes.min(HEADER - filled);
            piece.copy(segments, &mut self.head.bytes[filled..filled + bytes]);
            self.head.filled += bytes;
            let head = &self.head.bytes[..self.head.filled];
            let Some(frame_bytes) = frame_bytes(head, self.config.frame_bytes_max)? else { return Ok(None) };
            if !self.share.begin(frame_bytes) {
                return Ok(None);
            }
            self.partial = Some(self.begin(frame_bytes, piece.bytes)?);
            self.head.filled = 0;
        }
        let partial = self.partial.as_mut().expect("it was just begun");
        while piece.bytes > 0 && partial.filled < partial.frame_bytes as usize {
            let room = partial.room()?;
            let bytes = room.len().min(piece.bytes);
            piece.copy(segments, &mut room[..bytes]);
            partial.filled += bytes;
        }
        let done = self.partial.take_if(|partial| partial.filled == partial.frame_bytes as usize);
        Ok(done.map(|partial| Frame::new(partial.buffer, partial.frame_bytes)))
    }

    /// What was given out is answered, where nothing of the next frame is here.
    fn forget_last(&mut self) {
        if self.partial.is_none() && self.head.filled == 0 {
            self.share.end();
        }
    }

    /// Lends for a frame whose header is there; `arrived` bytes behind the header are too.
    fn begin(&self, frame_bytes: u32, arrived: usize) -> Result<Partial, TransportError> {
        let whole = frame_bytes as usize;
        let at_once = (HEADER + arrived).max(UNTRUSTED_BYTES);
        let lent = if self.config.peer_trusted { whole } else { whole.min(at_once) };
        let pool = Arc::clone(self.lender.pool());
        let mut buffer = pool.lend(lent).ok_or(TransportError::OutOfMemory { frame_bytes })?;
        buffer[..HEADER].copy_from_slice(&self.head.bytes);
        Ok(Partial { buffer, filled: HEADER, frame_bytes })
    }

    /// How much is there of the frame at hand, or of its header, and how much is needed.
    fn progress(&self) -> (u32, u32) {
        match &self.partial {
            Some(partial) => (partial.filled as u32, partial.frame_bytes),
            None => (self.head.filled as u32, HEADER_BYTES),
        }
    }

    /// What the end of the stream means where it came.
    fn end(&self, in_order: bool) -> Result<Option<Frame>, TransportError> {
        match self.progress() {
            (0, _) if in_order => Ok(None),
            (0, _) => Err(lost(io::ErrorKind::ConnectionReset)),
            (got, needed) => Err(TransportError::CutShort { got, needed }),
        }
    }

    /// Waits until there may be more; in the middle of a frame no longer than the peer may take.
    async fn wait(&mut self, link: &Link, segments: &Segments) -> Result<(), TransportError> {
        let (words, seen) = (segments.peer.words(), self.published);
        let mut ready = || load(&words[PUBLISHED]) != seen || link.ended() & ENDED_SENDING != 0;
        let (got, needed) = self.progress();
        let patience = &mut self.patience;
        let waiting = async {
            if !patience.look(link.shares_core(), &mut ready).await {
                link.sleep(Half::Receiver, &mut ready).await?;
            }
            Ok(())
        };
        // Between two frames a peer may be silent for as long as it likes.
        if got == 0 {
            return waiting.await;
        }
        let stalled = TransportError::Stalled { got, needed, wait: self.config.frame_wait };
        self.pace.in_time(waiting).await.unwrap_or(Err(stalled))
    }
}

impl Piece {
    /// Copies its next bytes out.
    fn copy(&mut self, segments: &Segments, to: &mut [u8]) {
        segments.peer.copy_out(self.offset, to);
        self.offset += to.len();
        self.bytes -= to.len();
    }
}

impl Partial {
    /// Where more of the frame goes.
    fn room(&mut self) -> Result<&mut [u8], TransportError> {
        let whole = self.frame_bytes as usize;
        if self.filled == self.buffer.len() {
            let bytes = (self.filled * 2).min(whole);
            if !self.buffer.grow(bytes) {
                return Err(TransportError::OutOfMemory { frame_bytes: self.frame_bytes });
            }
        }
        let end = self.buffer.len().min(whole);
        Ok(&mut self.buffer[self.filled..end])
    }
}

impl FrameReceiver for ShmReceiver {
    async fn receive(&mut self) -> Result<Option<Frame>, TransportError> {
        self.forget_last();
        let link = Arc::clone(self.lender.link());
        let segments = link.ready(Half::Receiver).await?;
        loop {
            // A peer that always has something ready, a frame, a piece or a bell, must not keep the thread's other
            // tasks waiting.
            tokio::task::coop::consume_budget().await;
            // Asked before the ring is: what was published before the end is taken first.
            let (ended, gone) = (link.ended() & ENDED_SENDING != 0, link.is_gone());
            if let Some(frame) = self.advance_paced(segments)? {
                return Ok(Some(frame));
            }
            if self.share.is_waiting() {
                self.share.wait().await;
                // It was not the peer that took the time.
                self.pace.begin();
                continue;
            }
            if self.taken != self.published {
                // The turn ended in the middle of what is there.
                continue;
            }
            if ended || gone {
                return self.end(ended);
            }
            self.wait(&link, segments).await?;
        }
    }

    fn receive_now(&mut self) -> Result<Option<Frame>, TransportError> {
        self.forget_last();
        let link = Arc::clone(self.lender.link());
        let frame = link.segments().map_or(Ok(None), |segments| self.advance_paced(segments))?;
        self.share.step_back();
        Ok(frame)
    }

    fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.config.frame_bytes_max = frame_bytes_max;
    }

    fn set_allowance(&mut self, allowance: Arc<Allowance>) {
        self.share.set(allowance);
    }

    fn is_midway(&self) -> bool {
        self.progress().0 > 0 || self.piece.is_some()
    }

    async fn discard(&mut self) {
        self.share.leave();
        let link = Arc::clone(self.lender.link());
        let Ok(segments) = link.ready(Half::Receiver).await else { return };
        (self.partial, self.head.filled) = (None, 0);
        loop {
            tokio::task::coop::consume_budget().await;
            let ended = link.ended() & ENDED_SENDING != 0 || link.is_gone();
            self.piece = None;
            match self.take(segments) {
                Ok(Some(_released)) => {}
                Ok(None) if !ended && self.wait(&link, segments).await.is_ok() => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

impl Drop for ShmReceiver {
    fn drop(&mut self) {
        self.lender.link().drop_half(Half::Receiver);
    }
}
