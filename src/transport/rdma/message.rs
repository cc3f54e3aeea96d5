//! Messages: what one SEND says, in its immediate word and its bytes.
//!
//! ```text
//!   immediate word   kind 2 bits | frames read 14 bits | credits 16 bits        every message carries both counts
//!
//!   frame            a whole frame, or several, for a receive buffer has room for them
//!   announcement     address 8, key 4, frame bytes 4, the frame's first 64 bytes: where to READ a larger one; or
//!                    as many of these as the peer's greeting takes
//!   update           nothing: only the counts
//!   close            nothing: no more frames follow
//! ```
#![forbid(unsafe_code)]

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Frame,
    Announcement,
    Update,
    Close,
}

/// The immediate word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) kind: Kind,
    /// Announced frames that were read since the last message: their memory is the sender's again.
    pub(super) frames_read: u16,
    /// Receives posted anew since the last message.
    pub(super) credits: u16,
}

/// The most frames read that one word can tell.
pub(super) const FRAMES_READ_MAX: u16 = (1 << 14) - 1;

impl Word {
    pub(super) fn encode(self) -> u32 {
        debug_assert!(self.frames_read <= FRAMES_READ_MAX, "{self:?}");
        (self.kind as u32) << 30 | u32::from(self.frames_read) << 16 | u32::from(self.credits)
    }

    pub(super) fn decode(word: u32) -> Self {
        let kind = [Kind::Frame, Kind::Announcement, Kind::Update, Kind::Close][(word >> 30) as usize];
        Self { kind, frames_read: (word >> 16) as u16 & FRAMES_READ_MAX, credits: word as u16 }
    }
}

/// Bytes of a frame that travel with its announcement: its header, so that it can be refused unread.
pub(super) const PREFIX_BYTES: usize = 64;

/// Where a frame can be read.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Announcement {
    pub(super) address: U64,
    pub(super) key: U32,
    pub(super) frame_bytes: U32,
    pub(super) prefix: [u8; PREFIX_BYTES],
}

/// Bytes of an announcement.
pub(super) const ANNOUNCEMENT_BYTES: usize = size_of::<Announcement>();

const _: () = {
    assert!(ANNOUNCEMENT_BYTES == 80 && align_of::<Announcement>() == 1);
    assert!(std::mem::offset_of!(Announcement, key) == 8);
    assert!(std::mem::offset_of!(Announcement, frame_bytes) == 12);
    assert!(std::mem::offset_of!(Announcement, prefix) == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_says_what_was_put_in() {
        for kind in [Kind::Frame, Kind::Announcement, Kind::Update, Kind::Close] {
            for (frames_read, credits) in [(0, 0), (1, 2), (FRAMES_READ_MAX, u16::MAX)] {
                let word = Word { kind, frames_read, credits };
                assert_eq!(Word::decode(word.encode()), word);
            }
        }
    }
}
