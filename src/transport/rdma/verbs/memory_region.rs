//! Memory regions: pages of our own that the device may reach.
#![expect(unsafe_code, reason = "maps pages and registers them")]

use super::abi::{ACCESS_LOCAL_WRITE, ACCESS_REMOTE_READ, RawRegion};
use super::{ProtectionDomain, VerbsError};
use crate::pages;
use rustix::process::Resource;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Pages are this large or a multiple of it.
pub(in super::super) const PAGE_BYTES: usize = pages::PAGE_BYTES as usize;

/// From here on huge pages are asked for.
const HUGE_PAGE_BYTES: usize = pages::HUGE_PAGE_BYTES as usize;

/// What a peer may do with a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum PeerMay {
    /// Nothing: only our own receives write there.
    Nothing,
    /// Read it, once it is told where.
    Read,
}

/// Mapped and registered pages: pinned until they are dropped. Architecture invariant: no peer may ever write.
#[derive(Debug)]
pub(in super::super) struct MemoryRegion {
    raw: NonNull<RawRegion>,
    start: NonNull<u8>,
    bytes: usize,
    domain: Arc<ProtectionDomain>,
}

// SAFETY: the region is plain memory and two keys; who may touch the memory is decided by spans.
unsafe impl Send for MemoryRegion {}

// SAFETY: as above.
unsafe impl Sync for MemoryRegion {}

impl MemoryRegion {
    /// Maps and registers `bytes`, whole pages, zeroed.
    pub(in super::super) fn new(
        domain: &Arc<ProtectionDomain>,
        bytes: usize,
        peer: PeerMay,
    ) -> Result<Self, VerbsError> {
        debug_assert!(bytes > 0 && bytes.is_multiple_of(PAGE_BYTES), "{bytes} bytes are no whole pages");
        let start = map(bytes)?;
        let access = match peer {
            PeerMay::Nothing => ACCESS_LOCAL_WRITE,
            PeerMay::Read => ACCESS_LOCAL_WRITE | ACCESS_REMOTE_READ,
        };
        // SAFETY: the pages are mapped and nobody else knows them.
        let raw =
            unsafe { (domain.context().library.ibv_reg_mr)(domain.raw(), start.as_ptr().cast(), bytes, access as i32) };
        let Some(raw) = NonNull::new(raw) else {
            let error = refusal(bytes as u64);
            // SAFETY: the pages were mapped above, and the device never came to know them.
            unsafe { pages::unmap(start, bytes) };
            return Err(error);
        };
        Ok(Self { raw, start, bytes, domain: Arc::clone(domain) })
    }

    /// Its first byte.
    pub(in super::super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The key for our own work requests.
    pub(in super::super) fn local_key(&self) -> u32 {
        // SAFETY: the region lives as long as `self`, and its keys don't change.
        let region = unsafe { self.raw.as_ref() };
        region.lkey
    }

    /// The key for the peer's.
    pub(in super::super) fn remote_key(&self) -> u32 {
        // SAFETY: as in `local_key`.
        let region = unsafe { self.raw.as_ref() };
        region.rkey
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        // SAFETY: the region was registered and is deregistered once.
        let failed = unsafe { (self.domain.context().library.ibv_dereg_mr)(self.raw.as_ptr()) };
        if failed != 0 {
            // The device may still reach the pages: they stay mapped for ever rather than become somebody else's.
            tracing::warn!("a memory region stays behind: {failed}");
            return;
        }
        // SAFETY: the device has forgotten the pages, and spans of them hold the region.
        let unmapped = unsafe { pages::unmap(self.start, self.bytes) };
        debug_assert!(unmapped, "a whole mapping is returned without splitting another");
    }
}

/// Pages of our own: aligned to huge ones where they fill one, for only those can be one.
fn map(bytes: usize) -> Result<NonNull<u8>, VerbsError> {
    let is_huge = bytes >= HUGE_PAGE_BYTES;
    let start = pages::map(bytes, if is_huge { HUGE_PAGE_BYTES } else { PAGE_BYTES });
    let none = io::Error::from(io::ErrorKind::OutOfMemory);
    let refused = || VerbsError::System { what: "cannot map memory", source: Arc::new(none) };
    let start = start.ok_or_else(refused)?;
    if is_huge {
        pages::advise_huge_pages(start, bytes);
    }
    Ok(start)
}

/// Why registering was refused: mostly the limit on locked memory.
fn refusal(bytes: u64) -> VerbsError {
    let source = io::Error::last_os_error();
    let out_of_memory = matches!(source.kind(), io::ErrorKind::OutOfMemory);
    let limit = rustix::process::getrlimit(Resource::Memlock).current;
    match limit {
        Some(limit) if out_of_memory => VerbsError::LockedMemory { bytes, limit: format!("{} KiB", limit >> 10) },
        _ => VerbsError::System { what: "cannot register memory", source: Arc::new(source) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fills_a_huge_page_begins_at_one() {
        for bytes in [PAGE_BYTES, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + (1 << 20)] {
            let start = map(bytes).expect("memory is there");
            let alignment = if bytes < HUGE_PAGE_BYTES { PAGE_BYTES } else { HUGE_PAGE_BYTES };
            assert_eq!(start.addr().get() % alignment, 0, "{bytes} bytes");
            // SAFETY: mapped above, and nobody uses it.
            assert!(unsafe { pages::unmap(start, bytes) });
        }
    }
}
