//! The receiving half.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::inbound::Arrived;
use super::lenders::InPlace;
use super::queue::{Half, Queue};
use super::shared::Shared;
use super::waiter::Waiter;
use crate::transport::allowance::{Allowance, OnTheWay};
use crate::transport::pace::Pace;
use crate::transport::share::Share;
use crate::transport::{Buffer, ConnectionConfig, Frame, FrameReceiver, Lender, Memory, TransportError};
use crate::wire::{HEADER_BYTES, frame_bytes};
use std::sync::Arc;
use std::time::Duration;

/// Receives frames in place, as long as there are receive buffers to spare.
#[derive(Debug)]
pub struct RdmaReceiver {
    shared: Arc<Shared>,
    in_place: Arc<InPlace>,
    frame_bytes_max: u32,
    frame_wait: Duration,
    pace: Pace,
    /// Bytes of the frame being read that were here at the last look.
    read_bytes: u32,
    /// What follows a message's first frame.
    rest: Option<Rest>,
    /// Of the last message too, until the next one is asked for.
    share: Share,
}

/// A message of which frames were taken.
#[derive(Debug)]
struct Rest {
    buffer: Buffer,
    begin: usize,
    end: usize,
}

/// What is next.
enum Next {
    Message(Buffer, u32),
    End,
    Nothing,
    /// Too much else is on its way.
    Waits,
    /// A frame that was announced is not all here.
    Begun {
        got: u32,
        needed: u32,
    },
}

impl RdmaReceiver {
    pub(super) fn new(shared: Arc<Shared>, config: &ConnectionConfig) -> Self {
        let in_place = Arc::new(InPlace(Arc::downgrade(&shared)));
        let (frame_bytes_max, frame_wait) = (config.frame_bytes_max, config.frame_wait);
        let (pace, share) = (Pace::new(frame_wait), Share::default());
        Self { shared, in_place, frame_bytes_max, frame_wait, pace, read_bytes: 0, rest: None, share }
    }

    /// The last message is answered.
    fn forget_last(&mut self) {
        if self.rest.is_none() {
            self.share.end();
        }
    }

    /// The first frame of a message: all of it, or copied out of it.
    fn frame(&mut self, buffer: Buffer, bytes: u32) -> Result<Frame, TransportError> {
        self.pace.begin();
        self.read_bytes = 0;
        let message = &buffer[..bytes as usize];
        match frame_bytes(message, self.frame_bytes_max) {
            Ok(Some(frame_bytes)) if frame_bytes == bytes => Ok(Frame::new(buffer, bytes)),
            _ => {
                self.rest = Some(Rest { buffer, begin: 0, end: bytes as usize });
                self.frame_of_rest()
            }
        }
    }

    /// What comes of a frame whose message ended before it: a peer that sends whole frames is dying, or none of ours.
    async fn unfinished(&mut self, got: u32, needed: u32) -> TransportError {
        let shared = &self.shared;
        let ending = async {
            let mut waiter = Waiter::new(shared, Half::Receiver);
            while !shared.look(Half::Receiver, |queue| queue.has_more() || queue.tell_read().is_err()) {
                waiter.wait().await;
            }
        };
        match self.pace.in_time(ending).await {
            Some(()) => TransportError::CutShort { got, needed },
            None => TransportError::Stalled { got, needed, wait: self.frame_wait },
        }
    }

    /// The next frame of a message with several, copied; what is wrong with a message stays wrong.
    fn frame_of_rest(&mut self) -> Result<Frame, TransportError> {
        let rest = self.rest.as_mut().expect("the caller looked");
        let left = &rest.buffer[rest.begin..rest.end];
        let got = left.len() as u32;
        let Some(needed) = frame_bytes(left, self.frame_bytes_max)? else {
            return Err(TransportError::CutShort { got, needed: HEADER_BYTES });
        };
        if got < needed {
            return Err(TransportError::CutShort { got, needed });
        }
        let lent = Arc::clone(&self.shared.heap).lend(needed as usize);
        let mut buffer = lent.ok_or(TransportError::OutOfMemory { frame_bytes: needed })?;
        buffer[..needed as usize].copy_from_slice(&left[..needed as usize]);
        rest.begin += needed as usize;
        if rest.begin == rest.end {
            self.rest = None;
        }
        Ok(Frame::new(buffer, needed))
    }
}

/// What is next for a receiver, of these parts.
fn next(shared: &Shared, in_place: &Arc<InPlace>, share: &mut Share) -> Result<Next, TransportError> {
    shared.look(Half::Receiver, |queue| {
        queue.read_next(share).map_err(RdmaError::lost)?;
        let ended = queue.end().cloned();
        let gone = |ended: RdmaError| match ended {
            RdmaError::Gone => Ok(Next::End),
            error => Err(error.lost()),
        };
        match queue.arrived.front() {
            None => ended.map_or(Ok(Next::Nothing), gone),
            Some(Arrived::Close) => Ok(Next::End),
            Some(Arrived::Refused(refused)) => {
                let error = refused.error();
                let _lost = queue.tell_read();
                Err(error)
            }
            Some(Arrived::There(_) | Arrived::Reading { .. }) if let Some(error) = &ended => Err(error.clone().lost()),
            Some(Arrived::There(_)) => Ok(Next::Waits),
            Some(Arrived::Reading { .. }) => {
                let begun = queue.work.reading().map(|(got, needed)| Next::Begun { got, needed });
                Ok(begun.unwrap_or(Next::Nothing))
            }
            Some(Arrived::Here { .. } | Arrived::Read { .. }) => {
                let (buffer, bytes, on_the_way) = take(shared, in_place, queue)?;
                share.hold(on_the_way);
                Ok(Next::Message(buffer, bytes))
            }
        }
    })
}

/// Takes the message that is here.
fn take(
    shared: &Shared,
    in_place: &Arc<InPlace>,
    queue: &mut Queue,
) -> Result<(Buffer, u32, Option<OnTheWay>), TransportError> {
    match queue.arrived.pop_front() {
        Some(Arrived::Read { buffer, frame_bytes, on_the_way }) => {
            // The next one can come while this one is used.
            queue.read_ahead().map_err(RdmaError::lost)?;
            Ok((buffer, frame_bytes, on_the_way))
        }
        Some(Arrived::Here { span, bytes }) if queue.in_place < shared.in_place_max => {
            queue.in_place += 1;
            Ok((Buffer::new(Memory::Registered(span), Arc::clone(in_place) as _), bytes, None))
        }
        Some(Arrived::Here { span, bytes }) => {
            // Whoever holds many frames must not keep the peer from sending: from here on they are copied.
            let lent = Arc::clone(&shared.heap).lend(bytes as usize);
            let mut buffer = lent.ok_or(TransportError::OutOfMemory { frame_bytes: bytes })?;
            buffer[..bytes as usize].copy_from_slice(&span[..bytes as usize]);
            queue.post_again(span);
            Ok((buffer, bytes, None))
        }
        _ => unreachable!("the caller looked"),
    }
}

impl FrameReceiver for RdmaReceiver {
    async fn receive(&mut self) -> Result<Option<Frame>, TransportError> {
        if self.rest.is_some() {
            return match self.frame_of_rest() {
                Err(TransportError::CutShort { got, needed }) => Err(self.unfinished(got, needed).await),
                frame => frame.map(Some),
            };
        }
        self.forget_last();
        // Whoever comes for the next frame has sent what there was to send: a reply would have told it by the way.
        let _lost = self.shared.look(Half::Receiver, Queue::tell_read);
        let message = {
            let mut waiter = Waiter::new(&self.shared, Half::Receiver);
            loop {
                match next(&self.shared, &self.in_place, &mut self.share)? {
                    Next::Message(buffer, bytes) => break (buffer, bytes),
                    Next::End => return Ok(None),
                    Next::Nothing => waiter.wait().await,
                    Next::Waits => {
                        // The queue goes on meanwhile: the other direction has need of it, and a peer may be gone.
                        tokio::select! {
                            () = self.share.wait() => {}
                            () = waiter.wait() => {}
                        }
                        // It was not the peer that took the time.
                        self.pace.begin();
                    }
                    Next::Begun { got, needed } => {
                        self.pace.moved((got - self.read_bytes) as usize);
                        self.read_bytes = got;
                        let waited = self.pace.in_time(waiter.wait()).await;
                        waited.ok_or(TransportError::Stalled { got, needed, wait: self.frame_wait })?;
                    }
                }
            }
        };
        let frame = self.frame(message.0, message.1);
        if frame.is_err() {
            // Nobody may come for another.
            let _lost = self.shared.look(Half::Receiver, Queue::tell_read);
        }
        match frame {
            Err(TransportError::CutShort { got, needed }) => Err(self.unfinished(got, needed).await),
            frame => frame.map(Some),
        }
    }

    fn receive_now(&mut self) -> Result<Option<Frame>, TransportError> {
        let frame = if self.rest.is_some() {
            self.frame_of_rest()
        } else {
            self.forget_last();
            let Next::Message(buffer, bytes) = next(&self.shared, &self.in_place, &mut self.share)? else {
                return Ok(None);
            };
            self.frame(buffer, bytes)
        };
        match frame {
            // Left for `receive`, which waits for what such a peer has still to say.
            Err(TransportError::CutShort { .. }) => Ok(None),
            frame => frame.map(Some),
        }
    }

    fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = frame_bytes_max;
        self.shared.change(|queue| queue.set_frame_bytes_max(frame_bytes_max));
    }

    fn set_allowance(&mut self, allowance: Arc<Allowance>) {
        self.share.set(Arc::clone(&allowance));
        self.shared.change(|queue| queue.allowance = Some(allowance));
    }

    fn is_midway(&self) -> bool {
        self.rest.is_some() || self.shared.look(Half::Receiver, |queue| queue.has_begun())
    }

    async fn discard(&mut self) {
        self.rest = None;
        self.share.leave();
        let mut waiter = Waiter::new(&self.shared, Half::Receiver);
        while !self.shared.look(Half::Receiver, Queue::discard).unwrap_or(true) {
            waiter.wait().await;
        }
    }
}

impl Drop for RdmaReceiver {
    fn drop(&mut self) {
        // The peer may wait for memory that was read.
        let _lost = self.shared.look(Half::Receiver, Queue::tell_read);
    }
}
