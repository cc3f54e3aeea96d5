//! Which slot a record of so many bytes gets.
//!
//! ```text
//!   slot bytes            span      slots a span      waste at most
//!      16 ..=   1,024     64 KiB    4,096 ..= 64      7 bytes (every multiple of 8)
//!   1,025 ..=   4,096     64 KiB       63 ..= 16      6 %     (a span divided by 63, 62, ...)
//!   4,097 ..=  16,384    256 KiB       63 ..= 16      6 %
//!  16,385 ..= 262,144      1 MiB       63 ..=  4      20 %, 6 % up to 64 KiB
//!          above          its own       1             the last page
//! ```
#![forbid(unsafe_code)]

use super::memory::UNIT_BYTES;

/// The smallest slot, in bytes: a record's header and two bytes.
pub(super) const SLOT_BYTES_MIN: u32 = 16;

/// The largest slot that shares a span, in bytes.
pub(super) const SLOT_BYTES_MAX: u32 = 256 << 10;

/// Most slots in one span.
pub(super) const SPAN_SLOTS_MAX: u32 = UNIT_BYTES / SLOT_BYTES_MIN;

/// Number of size classes that share spans.
pub(super) const CLASS_COUNT: usize = DIVIDED_64K + 48 + 48 + 60;

/// Slots up to here are multiples of 8 bytes.
const STEPPED_BYTES_MAX: u32 = 1024;

/// Indices of classes below this are the slot size in steps of 8 bytes.
const DIVIDED_64K: usize = STEPPED_BYTES_MAX as usize / 8 + 1;
const DIVIDED_256K: usize = DIVIDED_64K + 48;
const DIVIDED_1M: usize = DIVIDED_256K + 48;

/// A size class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SizeClass {
    /// 0 to [`CLASS_COUNT`] - 1.
    pub(super) index: u16,
    /// Units of 64 KiB in each of its spans: 1, 4 or 16.
    pub(super) span_units: u16,
    /// Bytes of each slot, a multiple of 8.
    pub(super) slot_bytes: u32,
}

impl SizeClass {
    /// The class whose slots hold `bytes`; `None` above [`SLOT_BYTES_MAX`], where a record has a span of its own.
    #[inline]
    pub(super) fn of(bytes: u32) -> Option<Self> {
        let bytes = bytes.max(SLOT_BYTES_MIN).next_multiple_of(8);
        if bytes <= STEPPED_BYTES_MAX {
            return Some(Self { index: (bytes / 8) as u16, span_units: 1, slot_bytes: bytes });
        }
        Self::dividing(bytes)
    }

    fn dividing(bytes: u32) -> Option<Self> {
        let (span_units, first_index) = match bytes {
            ..4097 => (1, DIVIDED_64K),
            4097..16_385 => (4, DIVIDED_256K),
            16_385..=SLOT_BYTES_MAX => (16, DIVIDED_1M),
            _ => return None,
        };
        let span_bytes = u32::from(span_units) * UNIT_BYTES;
        // `bytes` is a multiple of 8, so the share of a span rounded down to one still holds it.
        let slots = span_bytes / bytes;
        let index = (first_index + 63 - slots as usize) as u16;
        let slot_bytes = (span_bytes / slots) & !7;
        debug_assert!(slot_bytes >= bytes && usize::from(index) < CLASS_COUNT, "{bytes} bytes in {slot_bytes}");
        Some(Self { index, span_units, slot_bytes })
    }

    /// Slots in each of its spans.
    pub(super) fn slots(self) -> u32 {
        u32::from(self.span_units) * UNIT_BYTES / self.slot_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_fits_its_class_with_little_waste() {
        for bytes in 0..=SLOT_BYTES_MAX {
            let class = SizeClass::of(bytes).expect("shared");
            let waste = class.slot_bytes.checked_sub(bytes).expect("the slot holds it");
            let waste_max = match bytes {
                ..16 => 16,
                16..=1024 => 7,
                1025..=65_536 => bytes / 15 + 8,
                _ => bytes / 4 + 8,
            };
            assert!(waste <= waste_max, "{bytes} bytes in {class:?}");
            assert!(usize::from(class.index) < CLASS_COUNT && class.slots() <= SPAN_SLOTS_MAX);
            assert_eq!(class.slot_bytes % 8, 0);
        }
        assert_eq!(SizeClass::of(SLOT_BYTES_MAX + 1), None);
    }

    #[test]
    fn one_class_has_one_index_and_one_slot_size() {
        let mut slot_bytes = [0; CLASS_COUNT];
        for bytes in 0..=SLOT_BYTES_MAX {
            let class = SizeClass::of(bytes).expect("shared");
            let known = &mut slot_bytes[usize::from(class.index)];
            assert!(*known == 0 || *known == class.slot_bytes, "{bytes} bytes in {class:?}");
            *known = class.slot_bytes;
        }
        assert!(slot_bytes.is_sorted_by(|a, b| a < b || *a == 0));
    }
}
