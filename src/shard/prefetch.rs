//! Asks the processor to fetch cache lines that will be read soon.
#![expect(unsafe_code, reason = "prefetch instructions take raw addresses")]

/// Bytes of a cache line on the processors we know.
const LINE_BYTES: usize = 64;

/// Prefetches the first `LINES` cache lines that `bytes` touches, as far as they reach.
#[inline(always)]
pub(super) fn prefetch<const LINES: usize>(bytes: &[u8]) {
    let misaligned = bytes.as_ptr().addr() % LINE_BYTES;
    for line in 0..LINES {
        if !bytes.is_empty() && line * LINE_BYTES < bytes.len() + misaligned {
            // It may lie before `bytes`, in their first line: only an address, never read through.
            prefetch_line(bytes.as_ptr().wrapping_sub(misaligned).wrapping_add(line * LINE_BYTES));
        }
    }
}

#[inline(always)]
fn prefetch_line(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it faults on no address and changes no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    {
        // SAFETY: a prefetch is a hint: it faults on no address and changes no memory.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly))
        };
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _no_hint_here = address;
}
