//! Memory regions: pages of our own that the device may reach.
#![expect(unsafe_code, reason = "maps pages and registers them")]

use super::abi::{ACCESS_LOCAL_WRITE, ACCESS_REMOTE_READ, RawRegion};
use super::{ProtectionDomain, VerbsError};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::Resource;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Pages are this large or a multiple of it.
pub(in super::super) const PAGE_BYTES: usize = 4096;

/// From here on huge pages are asked for.
const HUGE_PAGE_BYTES: usize = 2 << 20;

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
            unsafe { unmap(start, bytes) };
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
        unsafe { unmap(self.start, self.bytes) };
    }
}

fn map(bytes: usize) -> Result<NonNull<u8>, VerbsError> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a private anonymous mapping at an address of the kernel's choice touches no existing memory.
    let mapped = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) };
    let refused = |error: io::Error| VerbsError::System { what: "cannot map memory", source: Arc::new(error) };
    let start = NonNull::new(mapped.map_err(|error| refused(error.into()))?.cast::<u8>());
    let start = start.ok_or_else(|| refused(io::ErrorKind::OutOfMemory.into()))?;
    if bytes >= HUGE_PAGE_BYTES {
        // SAFETY: this advice changes no content and no validity.
        let _unsupported = unsafe { rustix::mm::madvise(start.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
    }
    Ok(start)
}

/// # Safety
/// The range must be one of [`map`], unmapped once, and nobody may use it any more.
unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    let unmapped = unsafe { rustix::mm::munmap(start.as_ptr().cast(), bytes) };
    debug_assert!(unmapped.is_ok(), "a whole mapping can be returned");
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
