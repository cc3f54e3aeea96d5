//! What stands where in a segment: shared memory that one end of a connection writes and the other one reads.
//!
//! ```text
//!   word   0  published    frames ever handed to the peer                      (each on a cache line of its own)
//!          8  consumed     the peer's frames ever taken from its ring
//!         16  receiver     not 0: the receiving half sleeps, ring the bell when something is published
//!         24  sender       not 0: the sending half sleeps, ring when something is consumed or released
//!         32  ended        bit 0: no more frames follow; bit 1: nobody receives any more
//!         40  processor    1 + the one that this end last waited on; 0: it never did
//!         64  slots        256 descriptors, a ring: first granule << 32 | bytes
//!        512  released     a word a granule of the *peer's* data: the frame last released there
//!   page-aligned: data     granules of 1 KiB; a frame is a run of them
//! ```
//!
//! There are two segments: requests, which the client alone writes, and replies, which the node alone writes. A word
//! is never written by both, so each end can map the other's segment read-only.
#![forbid(unsafe_code)]

/// What frames are placed in multiples of, in bytes.
pub(super) const GRANULE_BYTES: usize = 1024;

/// Frames published and not yet taken, at most.
pub(super) const SLOTS: u64 = 256;

/// Word of frames ever published.
pub(super) const PUBLISHED: usize = 0;
/// Word of the peer's frames ever taken.
pub(super) const CONSUMED: usize = 8;
/// Word that says that the receiving half sleeps.
pub(super) const RECEIVER_ASLEEP: usize = 16;
/// Word that says that the sending half sleeps.
pub(super) const SENDER_ASLEEP: usize = 24;
/// Word of [`ENDED_SENDING`] and [`ENDED_RECEIVING`].
pub(super) const ENDED: usize = 32;
/// Word of the processor that this end last waited on, and 1 more.
pub(super) const PROCESSOR: usize = 40;
/// First word of the ring of descriptors.
const SLOTS_AT: usize = 64;
/// First word of what is released.
const RELEASED_AT: usize = 512;

/// No more frames follow.
pub(super) const ENDED_SENDING: u64 = 1;
/// Nobody receives any more.
pub(super) const ENDED_RECEIVING: u64 = 2;

/// Data begins at a multiple of it.
const PAGE_BYTES: usize = 4096;

/// Most granules of a segment: 1 GiB, so that all offsets fit where they are kept.
pub(super) const GRANULES_MAX: u32 = 1 << 20;

const _: () = {
    assert!(SLOTS_AT + SLOTS as usize <= RELEASED_AT);
    assert!(SLOTS.is_power_of_two());
    assert!(PROCESSOR < SLOTS_AT);
    assert!(PAGE_BYTES.is_multiple_of(GRANULE_BYTES));
};

/// The sizes of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Granules of its data.
    pub(super) granules: u32,
    /// Granules of the peer's data, of which it says what is released.
    pub(super) peer_granules: u32,
}

impl Layout {
    /// Where data begins, in bytes.
    pub(super) fn data_at(self) -> usize {
        (8 * (RELEASED_AT + self.peer_granules as usize)).next_multiple_of(PAGE_BYTES)
    }

    /// Bytes of data.
    pub(super) fn data_bytes(self) -> usize {
        self.granules as usize * GRANULE_BYTES
    }

    /// Bytes of the whole segment.
    pub(super) fn bytes(self) -> usize {
        self.data_at() + self.data_bytes()
    }
}

/// The word of a frame's descriptor, by the frame's number.
pub(super) fn slot(number: u64) -> usize {
    SLOTS_AT + (number % SLOTS) as usize
}

/// The word that says which frame was last released at a granule of the peer's.
pub(super) fn released(granule: u32) -> usize {
    RELEASED_AT + granule as usize
}

/// Granules that hold so many bytes; at least one.
pub(super) fn granules_for(bytes: usize) -> usize {
    bytes.div_ceil(GRANULE_BYTES).max(1)
}

/// Where a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Its first granule.
    pub(super) first: u32,
    /// Its bytes.
    pub(super) bytes: u32,
}

impl Descriptor {
    /// As it stands in a slot.
    pub(super) fn to_word(self) -> u64 {
        u64::from(self.first) << 32 | u64::from(self.bytes)
    }

    /// What a slot says; it need not be true.
    pub(super) fn from_word(word: u64) -> Self {
        Self { first: (word >> 32) as u32, bytes: word as u32 }
    }

    /// Whether it lies inside so many granules.
    pub(super) fn is_within(self, granules: u32) -> bool {
        let run = granules_for(self.bytes as usize) as u64;
        self.bytes > 0 && u64::from(self.first) + run <= u64::from(granules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_survive_their_word_and_lies_are_seen() {
        let honest = Descriptor { first: 5, bytes: 1025 };
        assert_eq!(Descriptor::from_word(honest.to_word()), honest);
        assert!(honest.is_within(7) && !honest.is_within(6));
        assert!(!Descriptor { first: 0, bytes: 0 }.is_within(7));
        assert!(!Descriptor { first: u32::MAX, bytes: u32::MAX }.is_within(GRANULES_MAX));
    }

    #[test]
    fn words_and_data_do_not_overlap() {
        let layout = Layout { granules: 3, peer_granules: 1000 };
        assert!(8 * released(layout.peer_granules) <= layout.data_at());
        assert_eq!(layout.bytes() - layout.data_at(), 3 * GRANULE_BYTES);
        assert!(slot(u64::MAX) < released(0));
    }
}
