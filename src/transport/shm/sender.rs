//! The sending half: frames built in our segment are published as they are, others are copied there in pieces.
//!
//! ```text
//!   lend span --build--> frame --publish--> slot ... taken, released by the receiver --> frame dropped, span free
//!   heap frame --copied into a span of its own, or piece by piece as spans come free--> the same
//! ```
//!
//! A published frame is held here until the receiver releases it, in whatever order that happens. Lending keeps a
//! quarter of the segment free for pieces: a frame at the head of the queue that has no span never waits for one that
//! is only being built.
#![forbid(unsafe_code)]

use super::error::ShmError;
use super::handshake::Segments;
use super::layout::{self, CONSUMED, Descriptor, ENDED_RECEIVING, GRANULE_BYTES, PUBLISHED, SLOTS};
use super::link::{Half, Link, load, lost};
use super::patience::{Patience, happened};
use super::segment::{OwnSegment, Span};
use crate::transport::buffer::Memory;
use crate::transport::pace::Pace;
use crate::transport::{Buffer, Frame, FrameSender, HeapPool, Lender, TransportError};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The largest piece of a frame that is copied, in bytes: less than a core's cache, so that the receiver finds it warm.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// Lends spans of our segment while there are any, heap memory otherwise.
#[derive(Debug)]
pub(super) struct ShmLender {
    link: Arc<Link>,
    pool: Arc<HeapPool>,
    in_flight: Mutex<InFlight>,
}

/// Frames published and not yet released.
#[derive(Debug, Default)]
struct InFlight {
    frames: Vec<Published>,
    /// The sender is gone: nobody will release frames any more, and none may be lent.
    ended: bool,
}

#[derive(Debug)]
struct Published {
    /// 1 for the first frame.
    number: u64,
    first: u32,
    _frame: Frame,
}

impl ShmLender {
    pub(super) fn new(link: Arc<Link>, pool: Arc<HeapPool>) -> Arc<Self> {
        Arc::new(Self { link, pool, in_flight: Mutex::default() })
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn pool(&self) -> &Arc<HeapPool> {
        &self.pool
    }

    fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        // A panic elsewhere cannot leave the list half changed.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops frames that the receiver has released; whether there were any.
    fn reclaim(&self, segments: &Segments) -> bool {
        let words = segments.peer.words();
        let mut in_flight = self.in_flight();
        let before = in_flight.frames.len();
        // Partner of `load`: the store in `Released::drop` of the peer. It reads nothing of the frame any more.
        in_flight.frames.retain(|frame| load(&words[layout::released(frame.first)]) != frame.number);
        in_flight.frames.len() < before
    }

    /// A span that leaves room for pieces.
    fn span(&self, bytes: usize) -> Option<Span> {
        let segments = self.link.segments()?;
        self.reclaim(segments);
        if self.in_flight().ended {
            return None;
        }
        segments.own.lend(bytes, reserve(&segments.own))
    }
}

fn reserve(own: &OwnSegment) -> u32 {
    own.layout().granules / 4
}

impl Lender for ShmLender {
    fn lend(self: Arc<Self>, bytes: usize) -> Option<Buffer> {
        match self.span(bytes) {
            Some(span) => Some(Buffer::new(Memory::Span(span), self)),
            None => Arc::clone(&self.pool).lend(bytes),
        }
    }

    fn grow(&self, memory: &mut Memory, bytes: usize) -> bool {
        let Memory::Span(span) = memory else { return self.pool.grow(memory, bytes) };
        if let Some(segments) = self.link.segments()
            && span.extend(bytes, reserve(&segments.own))
        {
            return true;
        }
        let mut larger = match self.span(bytes) {
            Some(span) => Memory::Span(span),
            None => match Arc::clone(&self.pool).lend(bytes) {
                Some(buffer) => buffer.into_memory(),
                None => return false,
            },
        };
        larger[..span.len()].copy_from_slice(span);
        *memory = larger;
        true
    }

    fn take_back(&self, memory: Memory) {
        // A span goes back by being dropped.
        self.pool.take_back(memory);
    }
}

/// Sends frames through our segment.
#[derive(Debug)]
pub struct ShmSender {
    lender: Arc<ShmLender>,
    patience: Patience,
    send_wait: Duration,
    pace: Pace,
    published: u64,
    consumed: u64,
    /// The frame at hand: its bytes, and those that are published.
    frame_bytes: u32,
    taken: u32,
    closed: bool,
}

impl ShmSender {
    pub(super) fn new(lender: Arc<ShmLender>, send_wait: Duration) -> Self {
        Self {
            lender,
            patience: Patience::new(),
            send_wait,
            pace: Pace::new(send_wait),
            published: 0,
            consumed: 0,
            frame_bytes: 0,
            taken: 0,
            closed: false,
        }
    }

    fn check_open(&self, link: &Link) -> Result<(), TransportError> {
        if self.closed || link.is_gone() || link.ended() & ENDED_RECEIVING != 0 {
            return Err(lost(io::ErrorKind::BrokenPipe));
        }
        Ok(())
    }

    /// Whether a slot is free.
    fn has_slot(&mut self, segments: &Segments) -> Result<bool, ShmError> {
        if self.published - self.consumed < SLOTS {
            return Ok(true);
        }
        // Partner: the store in `ShmReceiver::take` of the peer, which has read the slot.
        self.consumed = load(&segments.peer.words()[CONSUMED]);
        match self.published.checked_sub(self.consumed) {
            Some(frames) if frames <= SLOTS => Ok(frames < SLOTS),
            _ => Err(ShmError::BadCount { frames: self.published.wrapping_sub(self.consumed), max: SLOTS }),
        }
    }

    /// Waits until the receiver may have made room.
    async fn wait(&mut self, segments: &Segments) -> Result<(), TransportError> {
        // A peer that rings without pause must not keep the thread's other tasks waiting.
        tokio::task::coop::consume_budget().await;
        let (lender, seen) = (Arc::clone(&self.lender), self.consumed);
        let words = segments.peer.words();
        let mut ready = || {
            let consumed = load(&words[CONSUMED]) != seen;
            lender.reclaim(segments) || consumed || lender.link.ended() & ENDED_RECEIVING != 0
        };
        let patience = &mut self.patience;
        let waiting = async {
            if !patience.look(lender.link.shares_core(), &mut ready).await {
                lender.link.sleep(Half::Sender, &mut ready).await?;
            }
            Ok(())
        };
        let (taken, frame_bytes, wait) = (self.taken, self.frame_bytes, self.send_wait);
        let waited = self.pace.in_time(waiting).await;
        waited.unwrap_or(Err(TransportError::NotTaken { taken, frame_bytes, wait }))?;
        self.check_open(&lender.link)
    }

    /// Publishes a frame that lies in a span of our segment.
    async fn publish(&mut self, segments: &Segments, frame: Frame, first: u32) -> Result<(), TransportError> {
        while !self.has_slot(segments).map_err(TransportError::Shm)? {
            self.wait(segments).await?;
        }
        let descriptor = Descriptor { first, bytes: frame.frame_bytes() };
        let control = segments.own.control();
        control[layout::slot(self.published)].store(descriptor.to_word(), Ordering::Relaxed);
        self.published += 1;
        let mut in_flight = self.lender.in_flight();
        in_flight.frames.push(Published { number: self.published, first, _frame: frame });
        drop(in_flight);
        // Release, partner: `load` in `ShmReceiver::take` of the peer. Slot and frame are seen with it.
        control[PUBLISHED].store(self.published, Ordering::Release);
        self.lender.link.wake(Half::Receiver);
        happened();
        Ok(())
    }

    /// Copies bytes into spans as they come free, and publishes each.
    async fn copy(&mut self, segments: &Segments, mut rest: &[u8]) -> Result<(), TransportError> {
        while !rest.is_empty() {
            let mut piece = self.piece(segments, rest.len()).await?;
            let bytes = piece.len().min(rest.len());
            let (now, later) = rest.split_at(bytes);
            piece[..bytes].copy_from_slice(now);
            let first = piece.first();
            let lender = Arc::clone(&self.lender);
            let frame = Frame::new(Buffer::new(Memory::Span(piece), lender), bytes as u32);
            self.publish(segments, frame, first).await?;
            self.taken += bytes as u32;
            self.pace.moved(bytes);
            rest = later;
        }
        Ok(())
    }

    /// A span for a piece of what is left: all of it, if it may be, or less.
    async fn piece(&mut self, segments: &Segments, bytes: usize) -> Result<Span, TransportError> {
        let most = PIECE_BYTES_MAX.min(segments.own.layout().data_bytes() / 4);
        loop {
            self.lender.reclaim(segments);
            let mut wanted = bytes.min(most);
            loop {
                if let Some(span) = segments.own.lend(wanted, 0) {
                    return Ok(span);
                }
                if wanted <= GRANULE_BYTES {
                    break;
                }
                wanted /= 2;
            }
            self.wait(segments).await?;
        }
    }
}

impl FrameSender for ShmSender {
    fn lender(&self) -> Arc<dyn Lender> {
        Arc::clone(&self.lender) as _
    }

    async fn send(&mut self, frame: Frame) -> Result<(), TransportError> {
        // A peer that always has room must not keep the thread's other tasks waiting.
        tokio::task::coop::consume_budget().await;
        let link = Arc::clone(self.lender.link());
        let segments = link.ready(Half::Sender).await?;
        self.check_open(&link)?;
        self.pace.begin();
        (self.frame_bytes, self.taken) = (frame.frame_bytes(), 0);
        let first = frame.span().filter(|span| span.is_of(&segments.own)).map(Span::first);
        match first {
            Some(first) if frame.frame_bytes() > 0 => self.publish(segments, frame, first).await,
            _ => self.copy(segments, &frame).await,
        }
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        let link = Arc::clone(self.lender.link());
        link.ready(Half::Sender).await?;
        self.closed = true;
        link.tell_ended(Half::Sender);
        if link.is_gone() { Err(lost(io::ErrorKind::BrokenPipe)) } else { Ok(()) }
    }
}

impl Drop for ShmSender {
    fn drop(&mut self) {
        self.lender.link().drop_half(Half::Sender);
        // The receiver may still read these: their bytes stay as they are, for nothing is lent any more.
        let mut in_flight = self.lender.in_flight();
        in_flight.ended = true;
        let frames = std::mem::take(&mut in_flight.frames);
        drop(in_flight);
        drop(frames);
    }
}
