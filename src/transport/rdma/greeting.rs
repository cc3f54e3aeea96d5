//! Greetings: what both sides tell each other over the control connection before anything is sent.
//!
//! ```text
//!   0 magic 4 | 4 version 2 | 6 status 2 | 8 queue pair 4 | 12 packet number 4 | 16 GID 16 | 32 LID 2 | 34 MTU 2 |
//!   36 receive bytes 4 | 40 credits 2 | 42 READs served 1 | 43 announcements 1 | 44 processor 2 | 46 reserved 2
//!
//!   each side: greeting ------> takes the peer's, connects its queue pair ------> ready 4 ------> takes the peer's
//! ```
//!
//! The first 8 bytes are the same in every version. A side that can't open sends status 1 and a text instead, in the
//! rest of its greeting. A side sends nothing by RDMA before the other is ready, for it would go unanswered.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::verbs::PairAddress;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first bytes of a greeting.
const MAGIC: [u8; 4] = *b"FRDM";

/// The version of greetings and messages.
pub(super) const GREETING_VERSION: u16 = 1;

/// What a side sends once its queue pair is connected.
pub(super) const READY: [u8; 4] = *b"REDY";

/// Bytes of a greeting.
pub(super) const GREETING_BYTES: usize = size_of::<RawGreeting>();

const STATUS_REFUSED: u16 = 1;

/// Bytes of the text of a refusal.
const REFUSAL_BYTES: usize = 240;

/// Bytes of a refusal: a greeting's first 8, and a text.
pub(super) const REFUSAL_TOTAL_BYTES: usize = 8 + REFUSAL_BYTES;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawGreeting {
    magic: [u8; 4],
    version: U16,
    status: U16,
    number: U32,
    packet_number: U32,
    gid: [u8; 16],
    lid: U16,
    mtu_bytes: U16,
    receive_bytes: U32,
    credits: U16,
    reads_served: u8,
    /// 0 of a side that takes one.
    announcements: u8,
    /// One more than its number; 0 where it is not known.
    processor: U16,
    reserved_end: [u8; 2],
}

const _: () = {
    assert!(GREETING_BYTES == 48 && align_of::<RawGreeting>() == 1);
    assert!(std::mem::offset_of!(RawGreeting, gid) == 16);
    assert!(std::mem::offset_of!(RawGreeting, receive_bytes) == 36);
    assert!(std::mem::offset_of!(RawGreeting, reads_served) == 42);
    assert!(std::mem::offset_of!(RawGreeting, processor) == 44);
};

/// What one side has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) address: PairAddress,
    pub(super) mtu_bytes: u32,
    /// Bytes of each of its receive buffers.
    pub(super) receive_bytes: u32,
    /// Messages of frames or announcements that it can take before it has looked at one.
    pub(super) credits: u16,
    /// READs of its memory that it serves at a time.
    pub(super) reads_served: u8,
    /// Announcements that it takes in one message.
    pub(super) announcements: u8,
    /// The processor of its machine from which it opens the connection.
    pub(super) processor: Option<u16>,
}

impl Greeting {
    pub(super) fn encode(&self) -> [u8; GREETING_BYTES] {
        let raw = RawGreeting {
            magic: MAGIC,
            version: GREETING_VERSION.into(),
            status: 0.into(),
            number: self.address.number.into(),
            packet_number: self.address.packet_number.into(),
            gid: self.address.gid,
            lid: self.address.lid.into(),
            mtu_bytes: (self.mtu_bytes as u16).into(),
            receive_bytes: self.receive_bytes.into(),
            credits: self.credits.into(),
            reads_served: self.reads_served,
            announcements: self.announcements,
            processor: self.processor.map_or(0, |processor| processor.saturating_add(1)).into(),
            reserved_end: [0; 2],
        };
        zerocopy::transmute!(raw)
    }

    /// Reads the peer's, once its first 8 bytes have passed [`check_start`].
    pub(super) fn decode(bytes: &[u8; GREETING_BYTES]) -> Result<Self, RdmaError> {
        let raw: RawGreeting = zerocopy::transmute!(*bytes);
        let mtu_bytes = u32::from(raw.mtu_bytes.get());
        let bad = |what| Err(RdmaError::BadGreeting { what });
        if !mtu_bytes.is_power_of_two() || !(256..=4096).contains(&mtu_bytes) {
            return bad("its MTU is none");
        }
        if raw.credits.get() == 0 || (raw.receive_bytes.get() as usize) < super::message::ANNOUNCEMENT_BYTES {
            return bad("it has no room to receive");
        }
        if raw.number.get() >= 1 << 24 || raw.packet_number.get() >= 1 << 24 {
            return bad("a number has more than 24 bits");
        }
        Ok(Self {
            address: PairAddress {
                gid: raw.gid,
                number: raw.number.get(),
                packet_number: raw.packet_number.get(),
                lid: raw.lid.get(),
            },
            mtu_bytes,
            receive_bytes: raw.receive_bytes.get(),
            credits: raw.credits.get(),
            reads_served: raw.reads_served.max(1),
            announcements: raw.announcements.max(1),
            processor: raw.processor.get().checked_sub(1),
        })
    }
}

/// The processor that a peer's greeting names; `None` where it is none, or names none.
pub(super) fn processor(bytes: &[u8; GREETING_BYTES]) -> Option<u16> {
    let start = bytes.first_chunk().expect("greetings are longer");
    let refused = check_start(start).ok()?;
    if refused { None } else { Greeting::decode(bytes).ok()?.processor }
}

/// Checks the first 8 bytes; true where a refusal's text follows instead of a greeting.
pub(super) fn check_start(start: &[u8; 8]) -> Result<bool, RdmaError> {
    let (magic, rest) = start.split_at(4);
    if magic != MAGIC {
        return Err(RdmaError::NotRdma);
    }
    let version = u16::from_le_bytes([rest[0], rest[1]]);
    if version != GREETING_VERSION {
        return Err(RdmaError::Version { got: version });
    }
    Ok(u16::from_le_bytes([rest[2], rest[3]]) == STATUS_REFUSED)
}

/// A refusal: the text is cut where it is long.
pub(super) fn refusal(text: &str) -> [u8; REFUSAL_TOTAL_BYTES] {
    let mut bytes = [b' '; REFUSAL_TOTAL_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&GREETING_VERSION.to_le_bytes());
    bytes[6..8].copy_from_slice(&STATUS_REFUSED.to_le_bytes());
    let taken = text.len().min(REFUSAL_BYTES);
    bytes[8..8 + taken].copy_from_slice(&text.as_bytes()[..taken]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: Greeting = Greeting {
        address: PairAddress { gid: [7; 16], number: 0x0001_0203, packet_number: 0x00FF_FFFF, lid: 9 },
        mtu_bytes: 4096,
        receive_bytes: 8192,
        credits: 32,
        reads_served: 16,
        announcements: 8,
        processor: Some(5),
    };

    #[test]
    fn a_greeting_says_what_was_put_in() {
        let bytes = GREETING.encode();
        assert!(matches!(check_start(bytes.first_chunk().expect("48 bytes")), Ok(false)));
        assert_eq!(Greeting::decode(&bytes).expect("a greeting"), GREETING);
        assert_eq!(bytes[44..], [6, 0, 0, 0]);
        for processor in [None, Some(0), Some(5)] {
            let bytes = Greeting { processor, ..GREETING }.encode();
            assert_eq!(super::processor(&bytes), processor);
        }
        let (mut refused, mut other) = (bytes, bytes);
        (refused[6], other[0]) = (1, 0);
        assert_eq!([refused, other].map(|bytes| super::processor(&bytes)), [None; 2]);
    }

    #[test]
    fn other_greetings_are_refused_with_their_reason() {
        assert!(matches!(check_start(b"FRGT\x01\0\0\0"), Err(RdmaError::NotRdma)));
        assert!(matches!(check_start(b"FRDM\x02\0\0\0"), Err(RdmaError::Version { got: 2 })));
        assert!(matches!(check_start(refusal("full").first_chunk().expect("8 bytes")), Ok(true)));
        for bad in [
            Greeting { mtu_bytes: 1500, ..GREETING },
            Greeting { mtu_bytes: 8192, ..GREETING },
            Greeting { credits: 0, ..GREETING },
            Greeting { receive_bytes: 79, ..GREETING },
            Greeting { address: PairAddress { number: 1 << 24, ..GREETING.address }, ..GREETING },
        ] {
            assert!(matches!(Greeting::decode(&bad.encode()), Err(RdmaError::BadGreeting { .. })), "{bad:?}");
        }
    }
}
