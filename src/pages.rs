//! Pages straight from the kernel: mapped zeroed and aligned, returned whole.
#![expect(unsafe_code, reason = "maps and unmaps memory")]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a page. A kernel with larger pages rounds up by itself what is mapped and returned.
pub(crate) const PAGE_BYTES: u32 = 4096;

/// Bytes of a huge page on x86-64, and on aarch64 with 4 KiB pages.
pub(crate) const HUGE_PAGE_BYTES: u32 = 2 << 20;

/// Memory of its own, owned like a `Box<[u8]>`, in huge pages where the kernel grants them: one translation serves
/// 2 MiB of it.
#[derive(Debug)]
#[repr(C)]
pub struct Pages {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: it is the only owner of its plain bytes, as a `Box<[u8]>` is.
unsafe impl Send for Pages {}
// SAFETY: a shared one only gives shared slices.
unsafe impl Sync for Pages {}

impl Pages {
    /// Zeroed memory of `bytes`; `None` where the kernel refuses.
    ///
    /// # Panics
    /// Where `bytes` is no multiple of 4 KiB, or none: our own bug.
    #[must_use]
    pub fn map(bytes: usize) -> Option<Self> {
        assert!(bytes > 0 && bytes.is_multiple_of(PAGE_BYTES as usize), "{bytes} bytes are no pages");
        let base = map(bytes, HUGE_PAGE_BYTES as usize)?;
        advise_huge_pages(base, bytes);
        Some(Self { base, bytes })
    }
}

impl Deref for Pages {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `base` and `bytes` name mapped, initialised memory that only `self` owns; its borrow forbids writes.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Pages {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the exclusive borrow of `self` makes this slice the only one.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: a whole mapping of `map`, whose owner is at its end.
        let unmapped = unsafe { unmap(self.base, self.bytes) };
        debug_assert!(unmapped, "a whole mapping is returned without splitting another");
    }
}

/// Zeroed, writable, private memory of `bytes`, aligned to `alignment`; `None` where the kernel refuses.
/// Both must be multiples of the page size, the alignment a power of two. The caller owns it until [`unmap`].
#[cfg(not(miri))]
pub(crate) fn map(bytes: usize, alignment: usize) -> Option<NonNull<u8>> {
    let slack = if alignment > PAGE_BYTES as usize { alignment } else { 0 };
    let base = map_anywhere(bytes + slack)?;
    let misaligned = base.addr().get() & (alignment - 1);
    let head = if slack == 0 || misaligned == 0 { 0 } else { alignment - misaligned };
    // SAFETY: `head` <= `slack`, so the sum stays inside the mapping of `bytes + slack`.
    let aligned = unsafe { base.add(head) };
    if head > 0 {
        // SAFETY: the first `head` bytes were mapped above and nobody knows them yet.
        unsafe { unmap(base, head) };
    }
    if slack > head {
        // SAFETY: `bytes` <= `bytes + slack - head`, so the sum stays inside the mapping.
        let tail = unsafe { aligned.add(bytes) };
        // SAFETY: the last `slack - head` bytes were mapped above and nobody knows them yet.
        unsafe { unmap(tail, slack - head) };
    }
    Some(aligned)
}

#[cfg(not(miri))]
fn map_anywhere(bytes: usize) -> Option<NonNull<u8>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a private anonymous mapping at an address of the kernel's choice touches no existing memory.
    let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) };
    NonNull::new(base.ok()?.cast())
}

/// Asks for huge pages. A kernel that has none says so, and that is fine.
#[cfg(not(miri))]
pub(crate) fn advise_huge_pages(base: NonNull<u8>, bytes: usize) {
    // SAFETY: this advice changes no content and no validity, for whatever range it names.
    let _unsupported = unsafe { rustix::mm::madvise(base.as_ptr().cast(), bytes, rustix::mm::Advice::LinuxHugepage) };
}

/// Returns memory to the kernel. False where the kernel refuses (it may, when that would split a mapping and
/// the process has as many as it may have): then the memory stays mapped.
///
/// # Safety
/// The range must be pages of [`map`], not yet returned, and nobody may use them any more.
#[cfg(not(miri))]
pub(crate) unsafe fn unmap(base: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the caller vouches that these pages are ours and no longer used.
    unsafe { rustix::mm::munmap(base.as_ptr().cast(), bytes) }.is_ok()
}

/// Miri knows no such system calls: the same contract on the global allocator.
#[cfg(miri)]
mod twin {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::ptr::NonNull;

    // What is a multiple of huge pages is aligned to them: chunks must be.
    fn layout(bytes: usize) -> Layout {
        let huge = super::HUGE_PAGE_BYTES as usize;
        let alignment = if bytes.is_multiple_of(huge) { huge } else { super::PAGE_BYTES as usize };
        Layout::from_size_align(bytes, alignment).expect("sizes are far below isize::MAX")
    }

    pub(crate) fn map(bytes: usize, _alignment: usize) -> Option<NonNull<u8>> {
        // SAFETY: no caller asks for zero bytes.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes)) })
    }

    pub(crate) fn advise_huge_pages(_base: NonNull<u8>, _bytes: usize) {}

    /// # Safety
    /// As for the real one, and only whole mappings.
    pub(crate) unsafe fn unmap(base: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the caller vouches that `map` gave these bytes, with the layout of their size.
        unsafe { dealloc(base.as_ptr(), layout(bytes)) };
        true
    }
}
#[cfg(miri)]
pub(crate) use twin::{advise_huge_pages, map, unmap};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zeroed_and_writable() {
        let mut pages = Pages::map(3 << 20).expect("3 MiB are there");
        assert!(pages.len() == 3 << 20 && pages.iter().all(|byte| *byte == 0));
        pages.fill(7);
        assert!(pages.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn mapped_memory_is_aligned_and_zeroed() {
        let bytes = 2 << 20;
        let base = map(bytes, bytes).expect("2 MiB are there");
        assert_eq!(base.addr().get() % bytes, 0);
        // SAFETY: the mapping is ours, `bytes` long, initialised to zero by the kernel.
        let memory = unsafe { std::slice::from_raw_parts(base.as_ptr(), bytes) };
        assert!(memory.iter().all(|byte| *byte == 0));
        // SAFETY: mapped above, and `memory` is not used again.
        assert!(unsafe { unmap(base, bytes) });
    }
}
