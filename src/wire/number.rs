//! Lossless conversions between the wire's fixed widths and `usize`, which only indexes.
#![forbid(unsafe_code)]

const _: () = assert!(usize::BITS >= 32, "frames are indexed by 32 bits");

/// A 32-bit length or offset as an index.
#[inline]
#[expect(clippy::as_conversions, reason = "usize has at least 32 bits, asserted above")]
pub(crate) const fn index(n: u32) -> usize {
    n as usize
}

/// A length that a limit keeps below 2^32, as a wire integer.
///
/// # Panics
/// On 2^32 and above, which is a bug of the caller.
#[inline]
#[track_caller]
pub(crate) fn length(n: usize) -> u32 {
    u32::try_from(n).expect("lengths in a frame are below 2^32 by its limit")
}

/// An index or length in 64 bits.
#[inline(always)]
#[expect(clippy::as_conversions, reason = "usize has at most 64 bits")]
pub(crate) const fn wide(n: usize) -> u64 {
    n as u64
}

/// The low 24 bits as bytes.
///
/// # Panics
/// In debug builds, on 2^24 and above.
#[inline]
pub(crate) fn to_u24(n: u32) -> [u8; 3] {
    let [a, b, c, d] = n.to_le_bytes();
    debug_assert!(d == 0, "{n} does not fit 24 bits");
    [a, b, c]
}

/// Three bytes as an integer.
#[inline]
pub(crate) fn from_u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_le_bytes([a, b, c, 0])
}
