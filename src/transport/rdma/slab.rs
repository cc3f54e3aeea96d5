//! Slabs: registered pages, charged to the memory budget, cut into spans.
//!
//! ```text
//!   slab:  | span 0 | span 1 | span 2 | ...          one mapping, one region, one pair of keys
//! ```
//!
//! A [`Span`] is the only claim on its bytes. While it is posted the device has it: it lies in the queue's hands, and
//! nobody looks at its bytes until its work request has ended. The last span dropped returns the slab.
#![expect(unsafe_code, reason = "spans are slices of registered memory")]

use super::verbs::{MemoryRegion, PAGE_BYTES, PeerMay, Piece, ProtectionDomain, VerbsError};
use crate::budget::Budget;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// Registered pages, as long as a span of them lives.
#[derive(Debug)]
struct Slab {
    region: MemoryRegion,
    /// Credited when the region is gone: fields are dropped in order.
    _charge: Charge,
}

#[derive(Debug)]
struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.credit_connection(self.bytes);
    }
}

/// Some bytes of a slab.
#[repr(C)]
pub struct Span {
    start: NonNull<u8>,
    bytes: usize,
    slab: Arc<Slab>,
}

// SAFETY: a span is the only claim on its bytes, like a box of them.
unsafe impl Send for Span {}

// SAFETY: as above.
unsafe impl Sync for Span {}

/// Registers `count` spans of `span_bytes` each, rounded up to whole pages together.
///
/// # Errors
/// The budget, the kernel or the limit on locked memory forbids it.
pub(super) fn spans(
    domain: &Arc<ProtectionDomain>,
    budget: &Arc<Budget>,
    (span_bytes, count): (u32, u32),
    peer: PeerMay,
) -> Result<Vec<Span>, VerbsError> {
    assert!(span_bytes > 0 && count > 0, "{count} spans of {span_bytes} bytes");
    let bytes = (span_bytes as usize * count as usize).next_multiple_of(PAGE_BYTES);
    if !budget.charge_connection(bytes as u64) {
        return Err(VerbsError::Budget { bytes: bytes as u64 });
    }
    let charge = Charge { budget: Arc::clone(budget), bytes: bytes as u64 };
    let region = MemoryRegion::new(domain, bytes, peer)?;
    let slab = Arc::new(Slab { region, _charge: charge });
    let span = |at: u32| {
        // SAFETY: `at` < `count`, so the span lies inside the region's pages.
        let start = unsafe { slab.region.start().add(at as usize * span_bytes as usize) };
        Span { start, bytes: span_bytes as usize, slab: Arc::clone(&slab) }
    };
    Ok((0..count).map(span).collect())
}

impl Span {
    /// So many bytes from there on, for a work request of ours.
    pub(super) fn piece(&self, from: u32, bytes: u32) -> Piece {
        let (begin, length) = (from as usize, bytes as usize);
        assert!(begin <= self.bytes && length <= self.bytes - begin, "{bytes} bytes at {from} of {self:?}");
        let address = self.start.addr().get() as u64 + u64::from(from);
        Piece { address, bytes, local_key: self.slab.region.local_key() }
    }

    /// The key by which the peer may read it, where it may.
    pub(super) fn remote_key(&self) -> u32 {
        self.slab.region.remote_key()
    }
}

impl Deref for Span {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are mapped as long as the slab, initialised by the kernel, and this span's alone.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Span {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the claim on the span is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({} bytes)", self.bytes)
    }
}
