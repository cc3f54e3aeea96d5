//! Values that say what they should be.
//!
//! Every value is derived from its key, the stamp of who wrote it when, and the run's seed; the stamp stands in the
//! value itself, so that a reader checks every byte whoever wrote last:
//!
//! ```text
//!   16 bytes and more   | stamp 8 | words of a stream seeded by (key, stamp, seed, length) ... |
//!   0 to 15 bytes       | words of a stream seeded by (key, seed, length): no room for a stamp and proof of it |
//! ```
//!
//! The stream is wyrand's: a counter and one 64 x 64 -> 128-bit product a word, so that words don't wait for each
//! other and a value of 128 bytes takes about ten nanoseconds.
#![forbid(unsafe_code)]

use crate::hash::fold;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The shortest value that carries a stamp: eight bytes of stamp, eight that prove it.
pub const STAMPED_BYTES_MIN: usize = 16;

/// Who wrote a value, and which of that writer's writes it was: 16 bits of writer, 48 of sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp of values written before the run.
    pub const LOADED: Self = Self(0);

    /// The stamp before a writer's first. Writers count from 0.
    #[must_use]
    pub fn of_writer(writer: u16) -> Self {
        Self(u64::from(writer) << 48)
    }

    /// Moves on to the writer's next stamp.
    #[inline]
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// How many of its writer's stamps came after an earlier one.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// A value that is not what its key, stamp and the seed say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value of key {key:?} is wrong: {length} bytes that no writer of this run wrote there")]
pub struct Mismatch {
    /// The key, as text where it is text.
    pub key: String,
    /// The length of the value read, in bytes.
    pub length: usize,
}

/// Writes the value of `key` that `stamp` stands for into `value`, whatever its length.
#[inline]
pub fn fill(key: &[u8], stamp: Stamp, seed: u64, value: &mut [u8]) {
    if value.len() < STAMPED_BYTES_MIN {
        let mut stream = Stream::new(key, None, seed, value.len());
        let last = stream.next_word().to_le_bytes();
        let (first, rest) = value.split_at_mut(value.len().min(8));
        first.copy_from_slice(&last[..first.len()]);
        let more = stream.next_word().to_le_bytes();
        rest.copy_from_slice(&more[..rest.len()]);
        return;
    }
    let mut stream = Stream::new(key, Some(stamp), seed, value.len());
    let (head, body) = value.split_at_mut(8);
    head.copy_from_slice(&stamp.0.to_le_bytes());
    let (words, tail) = body.as_chunks_mut::<8>();
    for word in words {
        *word = stream.next_word().to_le_bytes();
    }
    let last = stream.next_word().to_le_bytes();
    tail.copy_from_slice(&last[..tail.len()]);
}

/// Checks every byte of a value read for `key`.
///
/// # Errors
/// [`Mismatch`] where the bytes are not those that the stamp inside them, or no stamp, stands for.
#[inline]
pub fn verify(key: &[u8], seed: u64, value: &[u8]) -> Result<(), Mismatch> {
    if is_right(key, seed, value) { Ok(()) } else { Err(mismatch(key, value)) }
}

#[inline]
fn is_right(key: &[u8], seed: u64, value: &[u8]) -> bool {
    let Some((head, body)) = value.split_first_chunk::<8>().filter(|_| value.len() >= STAMPED_BYTES_MIN) else {
        let mut expected = [0; STAMPED_BYTES_MIN];
        let expected = &mut expected[..value.len()];
        fill(key, Stamp::LOADED, seed, expected);
        return expected == value;
    };
    let mut stream = Stream::new(key, Some(Stamp(u64::from_le_bytes(*head))), seed, value.len());
    let (words, tail) = body.as_chunks::<8>();
    let mut difference = 0;
    for word in words {
        difference |= u64::from_le_bytes(*word) ^ stream.next_word();
    }
    let last = stream.next_word().to_le_bytes();
    difference == 0 && tail == &last[..tail.len()]
}

#[cold]
fn mismatch(key: &[u8], value: &[u8]) -> Mismatch {
    Mismatch { key: String::from_utf8_lossy(key).into_owned(), length: value.len() }
}

/// Words that look random: wyrand, by Wang Yi.
struct Stream {
    state: u64,
}

impl Stream {
    #[inline]
    fn new(key: &[u8], stamp: Option<Stamp>, seed: u64, length: usize) -> Self {
        let stamp = stamp.map_or(u64::MAX, |stamp| stamp.0);
        let who = fold(xxh3_64_with_seed(key, seed), stamp ^ 0xE703_7ED1_A0B4_28DB);
        Self { state: who ^ (length as u64).wrapping_mul(0x8EBC_6AF0_9C88_C6E3) }
    }

    #[inline]
    fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0xA076_1D64_78BD_642F);
        fold(self.state, self.state ^ 0xE703_7ED1_A0B4_28DB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    fn value(key: &[u8], stamp: Stamp, length: usize) -> Vec<u8> {
        let mut value = vec![0; length];
        fill(key, stamp, SEED, &mut value);
        value
    }

    #[test]
    fn a_filled_value_verifies_at_every_length() {
        let stamp = Stamp::of_writer(3).next();
        for length in (0..70).chain([127, 128, 129, 1000, 8 << 20]) {
            verify(b"42", SEED, &value(b"42", stamp, length)).unwrap();
        }
    }

    #[test]
    fn any_flipped_bit_is_a_mismatch() {
        for length in [1, 7, 8, 15, 16, 17, 24, 128] {
            let right = value(b"42", Stamp::of_writer(1).next(), length);
            for bit in 0..length * 8 {
                let mut wrong = right.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(verify(b"42", SEED, &wrong).is_err(), "length {length} bit {bit}");
            }
        }
    }

    #[test]
    fn another_key_seed_or_length_is_a_mismatch() {
        for length in [4, 8, 16, 128] {
            let right = value(b"42", Stamp::LOADED, length);
            assert!(verify(b"43", SEED, &right).is_err());
            assert!(verify(b"42", SEED + 1, &right).is_err());
            assert!(verify(b"42", SEED, &right[..length - 1]).is_err());
        }
    }

    #[test]
    fn half_of_one_value_and_half_of_another_is_a_mismatch() {
        let (old, new) = (value(b"42", Stamp::LOADED, 128), value(b"42", Stamp::of_writer(1).next(), 128));
        let mut torn = old.clone();
        torn[64..].copy_from_slice(&new[64..]);
        let error = verify(b"42", SEED, &torn).unwrap_err();
        assert_eq!(error.key, "42");
        assert_eq!(error.length, 128);
    }

    #[test]
    fn stamps_of_different_writers_and_writes_differ() {
        let stamps = [Stamp::LOADED, Stamp::of_writer(0).next(), Stamp::of_writer(1), Stamp::of_writer(1).next()];
        for (i, a) in stamps.iter().enumerate() {
            for b in &stamps[i + 1..] {
                assert_ne!(value(b"42", *a, 128)[8..], value(b"42", *b, 128)[8..]);
            }
        }
    }
}
