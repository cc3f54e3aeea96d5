//! Short byte strings, copied without a call.
//!
//! Most keys are short, and then calling `memcpy` costs more than their bytes. First and last chunk,
//! which may overlap, are all of a string of up to twice a chunk.
#![forbid(unsafe_code)]

/// Copies `from` over `to`.
///
/// # Panics
/// In debug builds, where their lengths differ.
#[inline(always)]
pub fn copy(to: &mut [u8], from: &[u8]) {
    debug_assert_eq!(to.len(), from.len());
    match from.len() {
        0 => {}
        // One case, not two: a processor that must guess lengths guesses wrong often enough.
        n @ 1..4 => [0, n / 2, n - 1].into_iter().for_each(|at| to[at] = from[at]),
        4..8 => copy_ends::<4>(to, from),
        8..16 => copy_ends::<8>(to, from),
        16..=32 => copy_ends::<16>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        to.first_chunk_mut().into_iter().for_each(|to: &mut [u8; N]| *to = *first);
        to.last_chunk_mut().into_iter().for_each(|to: &mut [u8; N]| *to = *last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_every_length_are_copied() {
        for length in 0..100_usize {
            let from: Vec<u8> = (0..length).map(|i| i as u8 ^ 0x5A).collect();
            let mut to = vec![0; length];
            copy(&mut to, &from);
            assert_eq!(to, from);
        }
    }
}
