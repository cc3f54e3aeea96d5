//! The queue of one connection: messages in, messages out, and the counts that keep both sides apart.
//!
//! Each message of frames or announcements uses one credit of its receiver; its receive is posted anew when the
//! message has been taken, and the credit travels back in the next message, whatever it is. Other messages use none:
//! for them each side keeps [`CONTROL_RECEIVES`] more, which is the most that can be on their way.
//!
//! ```text
//!   completions --progress--> inbound.rs --> arrived --> receiver half
//!   sender half ------------> outbound.rs --> work's list --ring--> device      rung by whoever gives up the lock
//! ```
//!
//! Architecture invariant: no waiting in here. Halves lock the queue, let it make progress, and look.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::counts::Counts;
use super::greeting::Greeting;
use super::inbound::Arrived;
use super::message::{FRAMES_READ_MAX, Kind, Word};
use super::pool::RegisteredPool;
use super::slab::Span;
use super::work::{Done, Work};
use crate::transport::{Allowance, Frame};
use std::collections::VecDeque;
use std::sync::Arc;

/// Announced frames that the peer has not read yet, at most.
pub(super) const ANNOUNCED_MAX: usize = 8;

/// Receives for messages that use no credit: one each time an announced frame was read, two with credits (the peer
/// must have seen one before it can cause a third), a close; and a list of them that waits to be posted.
pub(super) const CONTROL_RECEIVES: u32 = ANNOUNCED_MAX as u32 + 4 + LIST_MAX;

/// Receives posted at once, at most: what waits for a list to fill is not there for the peer.
pub(super) const LIST_MAX: u32 = 8;

/// The two halves of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Sender,
    Receiver,
}

impl Half {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

/// What both halves share.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) work: Work,
    pub(super) pool: Arc<RegisteredPool>,
    pub(super) arrived: VecDeque<Arrived>,
    /// Receives to be posted anew, and how many of them are worth a credit.
    pub(super) to_post: Vec<Span>,
    pub(super) to_post_credits: u16,
    post_list: usize,
    /// Messages of frames or announcements that the peer may send before it has heard of credits.
    rx_depth: u16,
    /// Credits and frames read that the peer has not been told of.
    owed_credits: u16,
    pub(super) owed_frames_read: u16,
    pub(super) frame_bytes_max: u32,
    /// Where long frames are counted that are read.
    pub(super) allowance: Option<Arc<Allowance>>,
    /// The frame that is next stands in its line: nothing is read ahead of it.
    pub(super) next_waits: bool,
    /// Nobody takes frames any more.
    pub(super) discarding: bool,
    /// Frames that are read in place.
    pub(super) in_place: u16,
    /// What the peer takes, once it is ready.
    pub(super) peer: Option<Greeting>,
    /// Messages of frames or announcements that it can take now.
    pub(super) credits: u32,
    pub(super) closed: bool,
    /// A frame taken before the connection was open: that which a peer begins with.
    pub(super) early: Option<Frame>,
    end: Option<RdmaError>,
    /// Which half sleeps: the sender, the receiver.
    waiting: [bool; 2],
    done: Vec<Done>,
}

impl Queue {
    /// A queue whose receives are in `spans`, and posted.
    pub(super) fn new(
        work: Work,
        pool: Arc<RegisteredPool>,
        spans: Vec<Span>,
        (rx_depth, post_list, frame_bytes_max): (u16, u32, u32),
    ) -> Result<Self, RdmaError> {
        let mut queue = Self {
            work,
            pool,
            arrived: VecDeque::new(),
            to_post: spans,
            to_post_credits: 0,
            post_list: post_list.min(u32::from(rx_depth) / 4).clamp(1, LIST_MAX) as usize,
            rx_depth,
            owed_credits: 0,
            owed_frames_read: 0,
            frame_bytes_max,
            allowance: None,
            next_waits: false,
            discarding: false,
            in_place: 0,
            peer: None,
            credits: 0,
            closed: false,
            early: None,
            end: None,
            waiting: [false; 2],
            done: Vec::new(),
        };
        queue.work.post_receives(&mut queue.to_post)?;
        Ok(queue)
    }

    pub(super) fn counts(&self) -> Counts {
        self.work.counts
    }

    /// Why the connection has ended, if it has.
    pub(super) fn end(&self) -> Option<&RdmaError> {
        self.end.as_ref()
    }

    /// Ends the connection; the first reason counts.
    pub(super) fn fail(&mut self, error: RdmaError) {
        self.end.get_or_insert(error);
    }

    pub(super) fn is_waiting(&self, half: Half) -> bool {
        self.waiting[half as usize]
    }

    pub(super) fn set_waiting(&mut self, half: Half, waiting: bool) {
        self.waiting[half as usize] = waiting;
    }

    /// Posts what was sent since, with one doorbell: the last thing to do before the queue is unlocked.
    pub(super) fn ring(&mut self) {
        if self.end.is_none()
            && let Err(error) = self.work.ring()
        {
            self.fail(error);
        }
    }

    /// Takes completions, and does what follows from them; how many there were.
    pub(super) fn progress(&mut self) -> usize {
        if self.end.is_some() {
            return 0;
        }
        let mut done = std::mem::take(&mut self.done);
        let polled = self.work.poll(&mut done);
        // What arrived before a failure still counts.
        let handled = done.drain(..).try_for_each(|done| self.handle(done)).and(polled);
        self.done = done;
        let followed = handled.and_then(|handled| self.follow_up(handled).map(|()| handled));
        followed.unwrap_or_else(|error| {
            self.fail(error);
            1
        })
    }

    fn follow_up(&mut self, handled: usize) -> Result<(), RdmaError> {
        if handled == 0 {
            return Ok(());
        }
        self.read_ahead()?;
        // A peer that closes waits until its frames are read.
        let closing = matches!(self.arrived.back(), Some(Arrived::Close));
        let told_at = if closing { 1 } else { ANNOUNCED_MAX / 2 };
        if usize::from(self.owed_frames_read) >= told_at {
            self.update()?;
        }
        self.replenish()
    }

    fn handle(&mut self, done: Done) -> Result<(), RdmaError> {
        match done {
            Done::Received { span, bytes, word } => self.received(span, bytes, word),
            Done::Read { buffer, frame_bytes } => {
                let reading = self.arrived.iter_mut().find_map(|arrived| match arrived {
                    Arrived::Reading { on_the_way } => Some((on_the_way.take(), arrived)),
                    _ => None,
                });
                let (on_the_way, arrived) = reading.expect("what is read was announced");
                *arrived = Arrived::Read { buffer, frame_bytes, on_the_way };
                self.owed_frames_read += 1;
                Ok(())
            }
        }
    }

    /// Takes a receive buffer back that was read in place.
    pub(super) fn give_back(&mut self, span: Span) {
        self.in_place -= 1;
        self.post_again(span);
        if self.waiting != [false; 2] && self.end.is_none() {
            // Nobody else may come by for long.
            let posted = self.replenish();
            posted.unwrap_or_else(|error| self.fail(error));
        }
    }

    /// Has a receive buffer posted anew, with the next list of them.
    pub(super) fn post_again(&mut self, span: Span) {
        self.to_post.push(span);
        self.to_post_credits += 1;
    }

    fn post_receives(&mut self) -> Result<(), RdmaError> {
        self.work.post_receives(&mut self.to_post)?;
        self.owed_credits += std::mem::take(&mut self.to_post_credits);
        Ok(())
    }

    /// Posts receives by the list, and tells the peer of credits before it has to wait for them. Of all credits an
    /// eighth may be read in place, less than a quarter is not posted, less than half not told: an eighth is left. A
    /// reply takes along what came before it, so that only who sends one way is told by messages of their own.
    pub(super) fn replenish(&mut self) -> Result<(), RdmaError> {
        if self.to_post.len() >= self.post_list {
            self.post_receives()?;
        }
        if self.owed_credits >= self.rx_depth / 2 { self.update() } else { Ok(()) }
    }

    /// Tells the peer that frames were read, so that their memory is its own again.
    pub(super) fn tell_read(&mut self) -> Result<(), RdmaError> {
        if self.owed_frames_read > 0 { self.update() } else { Ok(()) }
    }

    fn update(&mut self) -> Result<(), RdmaError> {
        if self.peer.is_none() || !self.work.has_room_for_control() {
            return Ok(());
        }
        self.work.counts.updates += 1;
        let word = self.word(Kind::Update);
        self.work.send(word, None, false)
    }

    /// The word of the next message: it takes along what is owed.
    pub(super) fn word(&mut self, kind: Kind) -> Word {
        debug_assert!(self.owed_frames_read <= FRAMES_READ_MAX, "announcements are fewer");
        Word {
            kind,
            frames_read: std::mem::take(&mut self.owed_frames_read),
            credits: std::mem::take(&mut self.owed_credits),
        }
    }
}
