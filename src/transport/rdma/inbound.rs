//! What arrives at the queue: messages in order, and frames that are read for them.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::message::{Announcement, Kind, Word};
use super::pool::RegisteredPool;
use super::queue::{ANNOUNCED_MAX, Queue};
use super::slab::Span;
use crate::transport::{Buffer, Lender, TransportError};
use crate::wire::{self, WireError};
use std::sync::Arc;
use zerocopy::FromBytes;

/// Frames read or being read that nobody has taken yet, at most: while one is used, the next comes.
const READ_AHEAD_MAX: usize = 2;

/// A message that arrived, in order.
#[derive(Debug)]
pub(super) enum Arrived {
    /// In a receive buffer.
    Here { span: Span, bytes: u32 },
    /// At the peer, to be read.
    There(Box<Announcement>),
    /// On its way.
    Reading,
    /// In memory of ours.
    Read { buffer: Buffer, frame_bytes: u32 },
    /// Announced, and not to be read.
    Refused(Refused),
    /// No more follow.
    Close,
}

/// Why an announced frame was not read.
#[derive(Debug, Clone)]
pub(super) enum Refused {
    Framing(WireError),
    OutOfMemory { frame_bytes: u32 },
    Protocol,
}

impl Refused {
    pub(super) fn error(&self) -> TransportError {
        match self.clone() {
            Self::Framing(error) => TransportError::Framing(error),
            Self::OutOfMemory { frame_bytes } => TransportError::OutOfMemory { frame_bytes },
            Self::Protocol => RdmaError::Protocol { what: "it announces more bytes than a frame may have" }.lost(),
        }
    }
}

impl Queue {
    pub(super) fn received(&mut self, span: Span, bytes: u32, word: Word) -> Result<(), RdmaError> {
        self.credits += u32::from(word.credits);
        if self.credits > self.credits_max {
            return Err(RdmaError::Protocol { what: "it grants more credits than it has receives" });
        }
        self.work.forget_announced(word.frames_read.into())?;
        // Credits may follow a close, for the other direction goes on; nothing else may.
        if word.kind != Kind::Update && matches!(self.arrived.back(), Some(Arrived::Close)) {
            return Err(RdmaError::Protocol { what: "it sends more after it has closed" });
        }
        match word.kind {
            Kind::Frame => self.arrived.push_back(Arrived::Here { span, bytes }),
            Kind::Announcement => {
                let announced = Announcement::read_from_prefix(&span[..bytes as usize]);
                let (announcement, _) =
                    announced.map_err(|_| RdmaError::Protocol { what: "an announcement is too short" })?;
                let unread = |arrived: &&Arrived| matches!(arrived, Arrived::There(_) | Arrived::Reading);
                if self.arrived.iter().filter(unread).count() >= ANNOUNCED_MAX {
                    return Err(RdmaError::Protocol { what: "it announces more frames than agreed" });
                }
                self.arrived.push_back(Arrived::There(Box::new(announcement)));
                self.to_post.push(span);
                self.to_post_credits += 1;
            }
            Kind::Update => self.to_post.push(span),
            Kind::Close => {
                self.arrived.push_back(Arrived::Close);
                self.to_post.push(span);
            }
        }
        Ok(())
    }

    /// Begins to read announced frames, in order, as far ahead as agreed.
    pub(super) fn read_ahead(&mut self) -> Result<(), RdmaError> {
        let of_frames = |arrived: &&Arrived| matches!(arrived, Arrived::Reading | Arrived::Read { .. });
        let most = if self.discarding { 0 } else { READ_AHEAD_MAX };
        let mut ahead = self.arrived.iter().filter(of_frames).count();
        while ahead < most {
            let Some(next) = self.arrived.iter_mut().find(|arrived| matches!(arrived, Arrived::There(_))) else {
                break;
            };
            let Arrived::There(announcement) = &*next else { break };
            let announcement = **announcement;
            match begin(&announcement, self.frame_bytes_max, &self.pool) {
                Ok(buffer) => {
                    *next = Arrived::Reading;
                    let Announcement { address, key, frame_bytes, .. } = announcement;
                    self.work.begin_read(buffer, frame_bytes.get(), address.get(), key.get());
                    ahead += 1;
                }
                // Whoever receives it is told, by the limit that holds then.
                Err(_) => break,
            }
        }
        self.work.read()
    }

    /// Reads the announced frame that is next, or refuses it.
    pub(super) fn read_next(&mut self) -> Result<(), RdmaError> {
        if self.end().is_some() {
            return Ok(());
        }
        self.read_ahead()?;
        let Some(Arrived::There(announcement)) = self.arrived.front() else { return Ok(()) };
        if let Err(refused) = begin(announcement, self.frame_bytes_max, &self.pool) {
            self.arrived[0] = Arrived::Refused(refused);
            // Its memory is the sender's again, unread.
            self.owed_frames_read += 1;
        }
        Ok(())
    }

    /// Throws away what arrives, and reads nothing more; true once no more can follow.
    pub(super) fn discard(&mut self) -> Result<bool, RdmaError> {
        self.discarding = true;
        let mut closed = false;
        for arrived in std::mem::take(&mut self.arrived) {
            match arrived {
                Arrived::Here { span, .. } => self.post_again(span),
                Arrived::There(_) => self.owed_frames_read += 1,
                Arrived::Reading => self.arrived.push_back(arrived),
                Arrived::Read { .. } | Arrived::Refused(_) => {}
                Arrived::Close => closed = true,
            }
        }
        self.tell_read()?;
        Ok(closed || self.end().is_some())
    }

    /// Whether anything came behind the last message taken: another one, or the end.
    pub(super) fn has_more(&self) -> bool {
        self.end().is_some() || !self.arrived.is_empty()
    }

    /// Takes announced frames of up to so many bytes from now on.
    pub(super) fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = frame_bytes_max;
    }
}

/// Memory to read an announced frame into, if it is one that may come.
fn begin(announcement: &Announcement, frame_bytes_max: u32, pool: &Arc<RegisteredPool>) -> Result<Buffer, Refused> {
    let bytes = announcement.frame_bytes.get();
    let prefix = &announcement.prefix[..announcement.prefix.len().min(bytes as usize)];
    let whole = wire::frame_bytes(prefix, frame_bytes_max).map_err(Refused::Framing)?;
    let frame_bytes = whole.unwrap_or(bytes);
    // More than one frame's bytes are for nobody but a test to send; what is lent stays within the limit.
    if bytes == 0 || bytes > frame_bytes_max.saturating_mul(2) {
        return Err(Refused::Protocol);
    }
    Arc::clone(pool).lend(bytes as usize).ok_or(Refused::OutOfMemory { frame_bytes })
}
