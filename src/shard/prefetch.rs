//! Asks the processor to fetch cache lines that will be read soon.
#![expect(unsafe_code, reason = "prefetch instructions take raw addresses")]

/// Bytes of a cache line on the processors we know.
const LINE_BYTES: usize = 64;

/// Prefetches `bytes`, of long ones the first `LINES` cache lines or so.
///
/// Branches only on the length, which is mostly the same from one call to the next; where the bytes lie in their
/// cache lines differs each time.
#[inline(always)]
pub(super) fn prefetch<const LINES: usize>(bytes: &[u8]) {
    let Some(last) = bytes.len().min(LINES * LINE_BYTES).checked_sub(1) else {
        return;
    };
    for line in 0..LINES {
        if line * LINE_BYTES <= last {
            prefetch_line(&raw const bytes[line * LINE_BYTES]);
        }
    }
    if LINES > 1 {
        prefetch_line(&raw const bytes[last]);
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
