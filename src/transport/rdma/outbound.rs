//! What a sender asks of the queue.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::greeting::Greeting;
use super::message::{ANNOUNCEMENT_BYTES, Announcement, Kind, PREFIX_BYTES};
use super::queue::{ANNOUNCED_MAX, Queue};
use super::verbs::{PairAddress, PairPath};
use super::work;
use crate::transport::{Frame, Lender};
use std::sync::Arc;
use zerocopy::IntoBytes;

impl Queue {
    /// Connects to the peer of this greeting.
    pub(super) fn connect(&mut self, own: &PairAddress, peer: &Greeting, path: &PairPath) -> Result<(), RdmaError> {
        Ok(self.work.pair.connect(own, &peer.address, path)?)
    }

    /// Both sides are ready: from here on messages may go out.
    pub(super) fn open(&mut self, peer: &Greeting) {
        self.peer_receive_bytes = Some(peer.receive_bytes);
        (self.credits, self.credits_max) = (peer.credits.into(), peer.credits.into());
        let begun = self.begin();
        begun.unwrap_or_else(|error| self.fail(error));
    }

    /// Sends what could not be sent before. The peer may have been ready first, and its frames be here and read.
    fn begin(&mut self) -> Result<(), RdmaError> {
        if let Some(early) = self.early.take() {
            // A peer grants one credit at least.
            let sent = self.send(&early)?;
            debug_assert!(sent, "nothing was sent before");
        }
        self.tell_read()?;
        self.replenish()
    }

    /// Sends frames of registered memory until one must wait; how many it has taken.
    pub(super) fn send_all(&mut self, frames: &[Frame]) -> Result<usize, RdmaError> {
        let mut taken = 0;
        while taken < frames.len() && self.send(&frames[taken])? {
            taken += 1;
        }
        Ok(taken)
    }

    /// Sends a frame of registered memory; false where it must wait.
    fn send(&mut self, frame: &Frame) -> Result<bool, RdmaError> {
        if let Some(end) = self.end() {
            return Err(end.clone());
        }
        let Some(receive_bytes) = self.peer_receive_bytes else {
            let taken = self.early.is_none();
            self.early.get_or_insert_with(|| frame.clone());
            return Ok(taken);
        };
        if self.credits == 0 || !self.work.has_room_for_frame() {
            return Ok(false);
        }
        if frame.frame_bytes() <= receive_bytes {
            self.credits -= 1;
            let word = self.word(Kind::Frame);
            self.work.send(word, Some(frame.clone()), false)?;
            return Ok(true);
        }
        if self.work.announced() >= ANNOUNCED_MAX {
            return Ok(false);
        }
        let (address, key) = work::address_of(frame);
        let mut prefix = [0; PREFIX_BYTES];
        let prefix_bytes = frame.len().min(PREFIX_BYTES);
        prefix[..prefix_bytes].copy_from_slice(&frame[..prefix_bytes]);
        let announcement =
            Announcement { address: address.into(), key: key.into(), frame_bytes: frame.frame_bytes().into(), prefix };
        let Some(mut buffer) = Arc::clone(&self.pool).lend(ANNOUNCEMENT_BYTES) else {
            // Memory comes back as the peer reads; where there is none to come back, nothing will.
            return if self.work.is_idle() { Err(RdmaError::NoMemory) } else { Ok(false) };
        };
        buffer[..ANNOUNCEMENT_BYTES].copy_from_slice(announcement.as_bytes());
        self.credits -= 1;
        self.work.announce(frame.clone());
        let word = self.word(Kind::Announcement);
        self.work.send(word, Some(Frame::new(buffer, ANNOUNCEMENT_BYTES as u32)), false)?;
        Ok(true)
    }

    /// Says that no more frames follow; true once everything has arrived.
    pub(super) fn close(&mut self) -> Result<bool, RdmaError> {
        if let Some(end) = self.end() {
            return Err(end.clone());
        }
        if !self.closed && self.peer_receive_bytes.is_some() && self.work.has_room_for_control() {
            self.closed = true;
            let word = self.word(Kind::Close);
            // Signalled: it ends, and with it all before it.
            self.work.send(word, None, true)?;
        }
        Ok(self.closed && self.work.is_idle())
    }
}
