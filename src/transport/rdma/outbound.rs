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

/// Frames up to this size that are sent together share a message, copied: each message is a work request, a completion
/// and an acknowledgement of the network's.
const SHORT_BYTES: u32 = 1024;

impl Queue {
    /// Connects to the peer of this greeting.
    pub(super) fn connect(&mut self, own: &PairAddress, peer: &Greeting, path: &PairPath) -> Result<(), RdmaError> {
        Ok(self.work.pair.connect(own, &peer.address, path)?)
    }

    /// Both sides are ready: from here on messages may go out.
    pub(super) fn open(&mut self, peer: &Greeting) {
        self.peer = Some(*peer);
        self.credits = peer.credits.into();
        let begun = self.begin();
        begun.unwrap_or_else(|error| self.fail(error));
    }

    /// Sends what could not be sent before. The peer may have been ready first, and its frames be here and read.
    fn begin(&mut self) -> Result<(), RdmaError> {
        if let Some(early) = self.early.take() {
            // A peer grants one credit at least.
            let sent = self.send(&[early])?;
            debug_assert!(sent == 1, "nothing was sent before");
        }
        self.tell_read()?;
        self.replenish()
    }

    /// Sends frames of registered memory until one must wait; how many it has taken.
    pub(super) fn send_all(&mut self, frames: &[Frame]) -> Result<usize, RdmaError> {
        let mut taken = 0;
        while taken < frames.len() {
            match self.send(&frames[taken..])? {
                0 => break,
                sent => taken += sent,
            }
        }
        Ok(taken)
    }

    /// Sends one message, of the first of these frames and those behind it that go along; how many those are, none
    /// where the first must wait.
    fn send(&mut self, frames: &[Frame]) -> Result<usize, RdmaError> {
        if let Some(end) = self.end() {
            return Err(end.clone());
        }
        let Some(peer) = self.peer else {
            let taken = self.early.is_none();
            self.early.get_or_insert_with(|| frames[0].clone());
            return Ok(usize::from(taken));
        };
        if self.credits == 0 || !self.work.has_room_for_frame() {
            return Ok(0);
        }
        if frames[0].frame_bytes() > peer.receive_bytes {
            return self.announce(frames, &peer);
        }
        let (message, count) = self.together(frames, peer.receive_bytes).unwrap_or_else(|| (frames[0].clone(), 1));
        self.send_message(Kind::Frame, message)?;
        Ok(count)
    }

    /// A message of the short frames that these begin with, and how many they are; `None` where they are fewer than
    /// two, or there is no memory to copy them to.
    fn together(&self, frames: &[Frame], receive_bytes: u32) -> Option<(Frame, usize)> {
        let bytes_max = receive_bytes.min(self.pool.small_bytes());
        let (mut bytes, mut count) = (0, 0);
        for frame in frames.iter().take_while(|frame| frame.frame_bytes() <= SHORT_BYTES) {
            if bytes + frame.frame_bytes() > bytes_max {
                break;
            }
            bytes += frame.frame_bytes();
            count += 1;
        }
        if count < 2 {
            return None;
        }
        let mut buffer = Arc::clone(&self.pool).lend(bytes as usize)?;
        let mut end = 0;
        for frame in &frames[..count] {
            buffer[end..end + frame.len()].copy_from_slice(frame);
            end += frame.len();
        }
        Some((Frame::new(buffer, bytes), count))
    }

    /// Announces the frames that these begin with and that are too long for a receive, in one message; how many there
    /// was room for.
    fn announce(&mut self, frames: &[Frame], peer: &Greeting) -> Result<usize, RdmaError> {
        let unread_max = ANNOUNCED_MAX - self.work.announced();
        let fit = peer.receive_bytes as usize / ANNOUNCEMENT_BYTES;
        let count_max = unread_max.min(fit).min(peer.announcements.into());
        let is_long = |frame: &&Frame| frame.frame_bytes() > peer.receive_bytes;
        let count = frames.iter().take(count_max).take_while(is_long).count();
        if count == 0 {
            return Ok(0);
        }
        let bytes = count * ANNOUNCEMENT_BYTES;
        let Some(mut buffer) = Arc::clone(&self.pool).lend(bytes) else {
            // Memory comes back as the peer reads; where there is none to come back, nothing will.
            return if self.work.is_idle() { Err(RdmaError::NoMemory) } else { Ok(0) };
        };
        for (frame, place) in frames[..count].iter().zip(buffer.chunks_exact_mut(ANNOUNCEMENT_BYTES)) {
            place.copy_from_slice(announcement(frame).as_bytes());
            self.work.announce(frame.clone());
        }
        self.send_message(Kind::Announcement, Frame::new(buffer, bytes as u32))?;
        Ok(count)
    }

    fn send_message(&mut self, kind: Kind, message: Frame) -> Result<(), RdmaError> {
        self.credits -= 1;
        let word = self.word(kind);
        self.work.send(word, Some(message), false)
    }

    /// Says that no more frames follow; true once everything has arrived.
    pub(super) fn close(&mut self) -> Result<bool, RdmaError> {
        if let Some(end) = self.end() {
            return Err(end.clone());
        }
        if !self.closed && self.peer.is_some() && self.work.has_room_for_control() {
            self.closed = true;
            let word = self.word(Kind::Close);
            // Signalled: it ends, and with it all before it.
            self.work.send(word, None, true)?;
        }
        Ok(self.closed && self.work.is_idle())
    }
}

/// Where the peer can read a frame.
fn announcement(frame: &Frame) -> Announcement {
    let (address, key) = work::address_of(frame);
    let mut prefix = [0; PREFIX_BYTES];
    let prefix_bytes = frame.len().min(PREFIX_BYTES);
    prefix[..prefix_bytes].copy_from_slice(&frame[..prefix_bytes]);
    Announcement { address: address.into(), key: key.into(), frame_bytes: frame.frame_bytes().into(), prefix }
}
