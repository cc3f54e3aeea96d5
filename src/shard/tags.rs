//! Finds a tag among the ten of a bucket: eight at a time where the processor can, with a portable twin.
#![expect(unsafe_code, reason = "vector instructions ask for a processor feature")]

use super::bucket::{Bucket, CELLS};

const ALL_CELLS: u32 = (1 << CELLS) - 1;

/// The cells of a bucket whose tag is this one, a bit each.
#[inline]
pub(super) fn matches(bucket: &Bucket, tag: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has SSE2.
    let cells = unsafe { matches_sse2(bucket, tag) };
    #[cfg(not(target_arch = "x86_64"))]
    let cells = matches_portable(bucket, tag);
    debug_assert!(cells <= ALL_CELLS, "no cell beyond the bucket's");
    cells
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn matches_sse2(bucket: &Bucket, tag: u16) -> u32 {
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16};
    let vectors: &[__m128i; 4] = zerocopy::transmute_ref!(bucket);
    let wanted = _mm_set1_epi16(tag.cast_signed());
    let first = _mm_cmpeq_epi16(vectors[0], wanted);
    // Tags 8 and 9; what follows them is masked off below.
    let second = _mm_cmpeq_epi16(vectors[1], wanted);
    _mm_movemask_epi8(_mm_packs_epi16(first, second)).cast_unsigned() & ALL_CELLS
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn matches_portable(bucket: &Bucket, tag: u16) -> u32 {
    bucket.tags.iter().enumerate().fold(0, |cells, (cell, other)| cells | u32::from(*other == tag) << cell) & ALL_CELLS
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    #[test]
    fn vector_and_portable_matches_agree() {
        let mut random = 1_u64;
        for _ in 0..10_000 {
            let bytes: [u8; 64] = std::array::from_fn(|i| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Four distinct tags, so that matches happen, in the bytes behind the tags too.
                if i % 2 == 0 { (random >> 62) as u8 } else { 0x7F }
            });
            let bucket = Bucket::read_from_bytes(&bytes).expect("64 bytes");
            for tag in [0x7F00, 0x7F01, 0x7F02, 0x7F03, 0, 0xFFFF] {
                assert_eq!(matches(&bucket, tag), matches_portable(&bucket, tag));
            }
        }
    }
}
