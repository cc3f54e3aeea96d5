//! The receiving half.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::queue::{Arrived, Half, Queue};
use super::shared::{InPlace, Shared, Waiter};
use crate::transport::{Buffer, Frame, FrameReceiver, Lender, Memory, TransportError};
use crate::wire::{HEADER_BYTES, frame_bytes};
use std::sync::Arc;

/// Receives frames in place, as long as there are receive buffers to spare.
#[derive(Debug)]
pub struct RdmaReceiver {
    shared: Arc<Shared>,
    in_place: Arc<InPlace>,
    frame_bytes_max: u32,
    /// What follows a message's first frame.
    rest: Option<Rest>,
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
}

impl RdmaReceiver {
    pub(super) fn new(shared: Arc<Shared>, frame_bytes_max: u32) -> Self {
        let in_place = Arc::new(InPlace(Arc::downgrade(&shared)));
        Self { shared, in_place, frame_bytes_max, rest: None }
    }

    fn next(&self) -> Result<Next, TransportError> {
        self.shared.look(Half::Receiver, |queue| {
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
                Some(Arrived::There(_) | Arrived::Reading) => match ended {
                    Some(error) => Err(error.lost()),
                    None => Ok(Next::Nothing),
                },
                Some(Arrived::Here { .. } | Arrived::Read { .. }) => self.take(queue),
            }
        })
    }

    fn take(&self, queue: &mut Queue) -> Result<Next, TransportError> {
        match queue.arrived.pop_front() {
            Some(Arrived::Read { buffer, frame_bytes }) => {
                // The next one can come while this one is used.
                queue.read_ahead().map_err(RdmaError::lost)?;
                Ok(Next::Message(buffer, frame_bytes))
            }
            Some(Arrived::Here { span, bytes }) if queue.in_place < self.shared.in_place_max => {
                queue.in_place += 1;
                Ok(Next::Message(Buffer::new(Memory::Registered(span), Arc::clone(&self.in_place) as _), bytes))
            }
            Some(Arrived::Here { span, bytes }) => {
                // Whoever holds many frames must not keep the peer from sending: from here on they are copied.
                let lent = Arc::clone(&self.shared.heap).lend(bytes as usize);
                let mut buffer = lent.ok_or(TransportError::OutOfMemory { frame_bytes: bytes })?;
                buffer[..bytes as usize].copy_from_slice(&span[..bytes as usize]);
                queue.post_again(span);
                Ok(Next::Message(buffer, bytes))
            }
            _ => Ok(Next::Nothing),
        }
    }

    /// The frame of a message: nearly always all of it.
    fn frame(&mut self, buffer: Buffer, bytes: u32) -> Result<Frame, TransportError> {
        let message = &buffer[..bytes as usize];
        match frame_bytes(message, self.frame_bytes_max) {
            Ok(Some(frame_bytes)) if frame_bytes == bytes => Ok(Frame::new(buffer, bytes)),
            _ => {
                self.rest = Some(Rest { buffer, begin: 0, end: bytes as usize });
                self.frame_of_rest()
            }
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

impl FrameReceiver for RdmaReceiver {
    async fn receive(&mut self) -> Result<Option<Frame>, TransportError> {
        if self.rest.is_some() {
            return self.frame_of_rest().map(Some);
        }
        // Whoever comes for the next frame has sent what there was to send: a reply would have told it by the way.
        let _lost = self.shared.look(Half::Receiver, Queue::tell_read);
        let message = {
            let mut waiter = Waiter::new(&self.shared, Half::Receiver);
            loop {
                match self.next()? {
                    Next::Message(buffer, bytes) => break (buffer, bytes),
                    Next::End => return Ok(None),
                    Next::Nothing => waiter.wait().await,
                }
            }
        };
        let frame = self.frame(message.0, message.1);
        if frame.is_err() {
            // Nobody may come for another.
            let _lost = self.shared.look(Half::Receiver, Queue::tell_read);
        }
        frame.map(Some)
    }
}

impl Drop for RdmaReceiver {
    fn drop(&mut self) {
        // The peer may wait for memory that was read.
        let _lost = self.shared.look(Half::Receiver, Queue::tell_read);
    }
}
