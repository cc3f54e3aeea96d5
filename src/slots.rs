//! A set of slots: 16,384 bits, and the text that people write for it, like `0-4095,9000`.
#![forbid(unsafe_code)]

use crate::limits::SLOTS;
use std::fmt;
use std::ops::RangeInclusive;

/// Bits of a word.
const WORD_BITS: usize = 64;

/// Words of a set.
const WORDS: usize = SLOTS as usize / WORD_BITS;

/// Bytes of a set: a bit a slot, the lowest bit of the first byte for slot 0.
pub const SLOT_SET_BYTES: usize = SLOTS as usize / 8;

/// A set of slots, 2 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet {
    words: [u64; WORDS],
}

impl SlotSet {
    /// No slot.
    pub const NONE: Self = Self { words: [0; WORDS] };

    /// Every slot.
    pub const ALL: Self = Self { words: [u64::MAX; WORDS] };

    /// Whether a slot is in it. What is no slot counts modulo their number.
    #[inline(always)]
    #[must_use]
    pub fn contains(&self, slot: u16) -> bool {
        let slot = usize::from(slot);
        self.words[slot / WORD_BITS % WORDS] >> (slot % WORD_BITS) & 1 != 0
    }

    /// Adds a slot; false where it was in it already.
    ///
    /// # Panics
    /// On what is no slot.
    pub fn insert(&mut self, slot: u16) -> bool {
        assert!(u32::from(slot) < SLOTS, "slot {slot}");
        let was_new = !self.contains(slot);
        self.words[usize::from(slot) / WORD_BITS] |= 1 << (usize::from(slot) % WORD_BITS);
        was_new
    }

    /// The slots in it that the other lacks.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self { words: std::array::from_fn(|index| self.words[index] & !other.words[index]) }
    }

    /// The slots that both have.
    #[must_use]
    pub fn shared(&self, other: &Self) -> Self {
        Self { words: std::array::from_fn(|index| self.words[index] & other.words[index]) }
    }

    /// The slots that either has.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        Self { words: std::array::from_fn(|index| self.words[index] | other.words[index]) }
    }

    /// The set as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SLOT_SET_BYTES] {
        std::array::from_fn(|index| self.words[index / 8].to_le_bytes()[index % 8])
    }

    /// The set of bytes that [`SlotSet::to_bytes`] gave: any bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SLOT_SET_BYTES]) -> Self {
        let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * index + byte]));
        Self { words: std::array::from_fn(word) }
    }

    /// Number of slots in it.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The stretches of slots in it, from the lowest on.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = (next..SLOTS as u16).find(|slot| self.contains(*slot))?;
            let end = (first..SLOTS as u16).find(|slot| !self.contains(*slot)).unwrap_or(SLOTS as u16);
            next = end;
            Some(first..=end - 1)
        })
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::NONE;
        slots.into_iter().for_each(|slot| _ = set.insert(slot));
        set
    }
}

/// Stretches like `0-4095,9000`; nothing for no slot.
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", range_text(&range))?;
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

/// A stretch as people write it: `0-4095`, or `9000` for one slot.
#[must_use]
pub fn range_text(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() { range.start().to_string() } else { format!("{}-{}", range.start(), range.end()) }
}

/// Reads a stretch as people write it; `None` for what is none, or leaves the slots.
#[must_use]
pub fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // A number's own parser takes a sign too.
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let slot = |text: &str| text.parse().ok().filter(|slot: &u16| is_digits(text) && u32::from(*slot) < SLOTS);
    let (first, last): (u16, u16) = (slot(first)?, slot(last)?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_says_it_in_stretches() {
        let mut set: SlotSet = [0, 1, 2, 63, 64, 9000, 16_383].into_iter().collect();
        assert_eq!((set.to_string(), set.count()), ("0-2,63-64,9000,16383".to_owned(), 7));
        assert!(!set.insert(63) && set.insert(65));
        assert!(set.contains(65) && !set.contains(66));
        assert_eq!((SlotSet::NONE.to_string(), SlotSet::ALL.to_string()), (String::new(), "0-16383".to_owned()));
        assert_eq!((SlotSet::NONE.count(), SlotSet::ALL.count()), (0, SLOTS));
    }

    #[test]
    fn sets_are_taken_apart_and_put_together_and_survive_as_bytes() {
        let (low, high): (SlotSet, SlotSet) = ((0..9000).collect(), (8000..16_384).collect());
        assert_eq!(low.without(&high).to_string(), "0-7999");
        assert_eq!(low.shared(&high).to_string(), "8000-8999");
        assert_eq!(low.joined(&high), SlotSet::ALL);
        let set: SlotSet = [0, 9, 16_383].into_iter().collect();
        let bytes = set.to_bytes();
        assert_eq!((bytes[0], bytes[1], bytes[SLOT_SET_BYTES - 1]), (1, 2, 128));
        assert_eq!(SlotSet::from_bytes(&bytes), set);
    }

    #[test]
    fn stretches_are_read_as_they_are_written() {
        for text in ["0", "16383", "0-16383", "7-9"] {
            assert_eq!(range_text(&parse_range(text).expect("a stretch")), text);
        }
        assert_eq!(parse_range("5-5"), Some(5..=5));
        for text in ["", "-", "1-", "-1", "9-7", "16384", "0-16384", "a", "1-2-3", "1 - 2", "+1", "+1-2", "1-+2"] {
            assert_eq!(parse_range(text), None, "{text:?}");
        }
    }
}
