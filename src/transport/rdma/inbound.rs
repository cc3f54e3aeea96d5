//! What arrives at the queue: messages in order, and frames that are read for them.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::message::{Announcement, Kind, Word};
use super::queue::{ANNOUNCED_MAX, Queue};
use super::slab::Span;
use crate::transport::allowance::{OnTheWay, UNCOUNTED_BYTES};
use crate::transport::share::Share;
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
    /// On its way, counted if it is long.
    Reading { on_the_way: Option<OnTheWay> },
    /// In memory of ours.
    Read { buffer: Buffer, frame_bytes: u32, on_the_way: Option<OnTheWay> },
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
        if self.credits > self.peer.map_or(0, |peer| peer.credits.into()) {
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
                let announced = <[Announcement]>::ref_from_bytes(&span[..bytes as usize]);
                let announced = announced.ok().filter(|announced| !announced.is_empty());
                let announced = announced.ok_or(RdmaError::Protocol { what: "it announces half an announcement" })?;
                let unread = |arrived: &&Arrived| matches!(arrived, Arrived::There(_) | Arrived::Reading { .. });
                if self.arrived.iter().filter(unread).count() + announced.len() > ANNOUNCED_MAX {
                    return Err(RdmaError::Protocol { what: "it announces more frames than agreed" });
                }
                let announced = announced.iter().map(|&announced| Arrived::There(Box::new(announced)));
                self.arrived.extend(announced);
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

    /// Begins to read announced frames, in order, as far ahead as agreed and as there is room for without waiting.
    pub(super) fn read_ahead(&mut self) -> Result<(), RdmaError> {
        let of_frames = |arrived: &&Arrived| matches!(arrived, Arrived::Reading { .. } | Arrived::Read { .. });
        let most = if self.discarding || self.next_waits { 0 } else { READ_AHEAD_MAX };
        let mut ahead = self.arrived.iter().filter(of_frames).count();
        while ahead < most {
            let Some(at) = self.arrived.iter().position(|arrived| matches!(arrived, Arrived::There(_))) else { break };
            let Arrived::There(announcement) = &self.arrived[at] else { break };
            let announcement = **announcement;
            // Whoever receives it is told what is wrong with it, by the limit that holds then.
            let Ok((bytes, _)) = judge(&announcement, self.frame_bytes_max) else { break };
            let on_the_way = match &self.allowance {
                Some(allowance) if bytes > UNCOUNTED_BYTES => match allowance.try_enter(bytes.into()) {
                    None => break,
                    admitted => admitted,
                },
                _ => None,
            };
            let Some(buffer) = Arc::clone(&self.pool).lend(bytes as usize) else { break };
            self.begin_read(at, &announcement, buffer, on_the_way);
            ahead += 1;
        }
        self.work.read()
    }

    /// Reads the announced frame that is next, as soon as it may come, or refuses it.
    pub(super) fn read_next(&mut self, share: &mut Share) -> Result<(), RdmaError> {
        if self.end().is_some() {
            return Ok(());
        }
        if let Some(Arrived::There(announcement)) = self.arrived.front() {
            let announcement = **announcement;
            let begun = judge(&announcement, self.frame_bytes_max).and_then(|(bytes, frame_bytes)| {
                self.next_waits = !share.begin(bytes);
                if self.next_waits {
                    return Ok(());
                }
                let lent = Arc::clone(&self.pool).lend(bytes as usize);
                let buffer = lent.ok_or(Refused::OutOfMemory { frame_bytes })?;
                self.begin_read(0, &announcement, buffer, share.take());
                Ok(())
            });
            if let Err(refused) = begun {
                share.end();
                self.arrived[0] = Arrived::Refused(refused);
                // Its memory is the sender's again, unread.
                self.owed_frames_read += 1;
            }
        }
        self.read_ahead()
    }

    fn begin_read(&mut self, at: usize, announcement: &Announcement, buffer: Buffer, on_the_way: Option<OnTheWay>) {
        self.arrived[at] = Arrived::Reading { on_the_way };
        let Announcement { address, key, frame_bytes, .. } = announcement;
        self.work.begin_read(buffer, frame_bytes.get(), address.get(), key.get());
    }

    /// Throws away what arrives, and reads nothing more; true once no more can follow.
    pub(super) fn discard(&mut self) -> Result<bool, RdmaError> {
        self.discarding = true;
        let mut closed = false;
        for arrived in std::mem::take(&mut self.arrived) {
            match arrived {
                Arrived::Here { span, .. } => self.post_again(span),
                Arrived::There(_) => self.owed_frames_read += 1,
                Arrived::Reading { .. } => self.arrived.push_back(arrived),
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

    /// Whether anything is here or announced that nobody has taken.
    pub(super) fn has_begun(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Takes announced frames of up to so many bytes from now on.
    pub(super) fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.frame_bytes_max = frame_bytes_max;
    }
}

/// Bytes to be read of what is announced, and of its first frame; or why it may not come.
fn judge(announcement: &Announcement, frame_bytes_max: u32) -> Result<(u32, u32), Refused> {
    let bytes = announcement.frame_bytes.get();
    let prefix = &announcement.prefix[..announcement.prefix.len().min(bytes as usize)];
    let whole = wire::frame_bytes(prefix, frame_bytes_max).map_err(Refused::Framing)?;
    // More than one frame's bytes are for nobody but a test to send; what is lent stays within the limit.
    if bytes == 0 || bytes > frame_bytes_max.saturating_mul(2) {
        return Err(Refused::Protocol);
    }
    Ok((bytes, whole.unwrap_or(bytes)))
}
