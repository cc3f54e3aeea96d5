//! Segments as memory: the one file here that turns shared pages into references.
//!
//! ```text
//!                     requests: client writes      replies: node writes
//!   client maps       read-write, lends spans      read-only, trusts the node: frames read in place
//!   node maps         read-only, trusts nobody:    read-write, lends spans; the file is sealed against
//!                     atomic words, copied out     every writer but this mapping
//! ```
//!
//! Architecture invariant: a `&[u8]` exists only over bytes that nobody else can change while it lives. A [`Span`] is
//! ours alone until it is given back, and only its own end can write to its segment: a client's because its node maps
//! it read-only (a client trusts its node), a node's because the file is sealed with `F_SEAL_FUTURE_WRITE` before the
//! client gets it. [`Arrived`] bytes are the node's promise to a client. What a client may change is reached by atomic
//! words, and copied out by an instruction of the processor: no reference to it exists.
#![expect(unsafe_code, reason = "references to shared memory")]

use super::granules::Granules;
use super::layout::{GRANULE_BYTES, Layout, granules_for};
use crate::budget::Budget;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The budget is charged for what is touched in steps of so many granules.
const CHARGE_GRANULES: u32 = 64;

/// A mapped file; unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is an address and a length; who may touch the bytes is decided by the types below.
unsafe impl Send for Mapping {}
// SAFETY: as above; it has no state of its own.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: BorrowedFd<'_>, bytes: usize, protection: ProtFlags) -> rustix::io::Result<Self> {
        // SAFETY: a mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, file, 0) }?;
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address 0 unless told to");
        Ok(Self { base, bytes })
    }

    /// The words of the first `bytes` bytes.
    fn words(&self, bytes: usize) -> &[AtomicU64] {
        assert!(bytes <= self.bytes && bytes.is_multiple_of(8), "{bytes} of {} bytes", self.bytes);
        // SAFETY: the range is mapped, page-aligned and initialised (files begin as zeroes) while `self` lives, and
        // atomics may be changed by anybody at any time. They are stored to only where the mapping is writable: see
        // `OwnSegment::control` and `PeerSegment::words`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), bytes / 8) }
    }

    /// The address of a range that must lie inside.
    fn at(&self, offset: usize, bytes: usize) -> NonNull<u8> {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset, "{bytes} bytes at {offset} of {}", self.bytes);
        // SAFETY: `offset` is at most the mapping's length, as was just asserted.
        unsafe { self.base.add(offset) }
    }

    /// Copies bytes out that another process may be writing; each is read once.
    ///
    /// A Rust copy of such memory would race, which is undefined. What one instruction of the processor does is not,
    /// and nothing is assumed of what comes of it.
    #[cfg(target_arch = "x86_64")]
    fn copy_racing(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: `to.len()` bytes are read, which are mapped while `self` lives, and as many written, all of `to`; the
        // two do not overlap, for no reference to what a peer can change exists; the direction flag is clear at every
        // `asm!`, and neither stack nor flags are touched.
        unsafe {
            std::arch::asm!(
                "rep movsb",
                inout("rcx") to.len() => _,
                inout("rdi") to.as_mut_ptr() => _,
                inout("rsi") from.as_ptr() => _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// The same by atomic bytes.
    #[cfg(not(target_arch = "x86_64"))]
    fn copy_racing(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len()).cast::<std::sync::atomic::AtomicU8>();
        // SAFETY: these bytes are mapped while `self` lives, and atomics may be changed by anybody at any time.
        let from = unsafe { std::slice::from_raw_parts(from.as_ptr(), to.len()) };
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.load(std::sync::atomic::Ordering::Relaxed);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: whoever holds bytes of it holds the segment, and so it, in an `Arc`: nobody does any more.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "a whole mapping goes as it came");
    }
}

/// The segment that this end writes.
#[derive(Debug)]
pub(super) struct OwnSegment {
    mapping: Mapping,
    layout: Layout,
    claims: Mutex<Claims>,
    /// Who pays for what is touched; nobody until it is known.
    budget: OnceLock<Arc<Budget>>,
}

#[derive(Debug)]
struct Claims {
    granules: Granules,
    granules_charged: u32,
    bytes_charged: u64,
}

impl OwnSegment {
    /// Maps a file of that layout, of which nobody else in this process lends.
    ///
    /// # Errors
    /// The kernel's reason.
    pub(super) fn new(file: BorrowedFd<'_>, layout: Layout) -> rustix::io::Result<Arc<Self>> {
        let mapping = Mapping::new(file, layout.bytes(), ProtFlags::READ | ProtFlags::WRITE)?;
        let claims =
            Mutex::new(Claims { granules: Granules::new(layout.granules), granules_charged: 0, bytes_charged: 0 });
        Ok(Arc::new(Self { mapping, layout, claims, budget: OnceLock::new() }))
    }

    /// Its sizes.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Has `budget` pay: `bytes` now, and for data as it is first used. False, and nobody pays, where it can't.
    pub(super) fn charge_to(&self, budget: &Arc<Budget>, bytes: u64) -> bool {
        if !budget.charge_connection(bytes) {
            return false;
        }
        self.claims().bytes_charged += bytes;
        self.budget.set(Arc::clone(budget)).expect("a segment is charged to one budget");
        true
    }

    /// The words before its data.
    pub(super) fn control(&self) -> &[AtomicU64] {
        self.mapping.words(self.layout.data_at())
    }

    /// Lends `bytes` bytes, rounded up to granules, while at least `reserve` granules stay free.
    pub(super) fn lend(self: &Arc<Self>, bytes: usize, reserve: u32) -> Option<Span> {
        let run = u32::try_from(granules_for(bytes)).ok()?;
        let mut claims = self.claims();
        if !claims.allow(run, self.layout.granules, reserve) {
            return None;
        }
        let first = claims.granules.find(run)?;
        self.claim(&mut claims, first, first + run)?;
        drop(claims);
        let bytes = run as usize * GRANULE_BYTES;
        let base = self.mapping.at(self.layout.data_at() + first as usize * GRANULE_BYTES, bytes);
        Some(Span { base, bytes, first, segment: Arc::clone(self) })
    }

    fn claim(&self, claims: &mut Claims, from: u32, to: u32) -> Option<()> {
        if let Some(budget) = self.budget.get()
            && to > claims.granules_charged
        {
            let charged = to.next_multiple_of(CHARGE_GRANULES).min(self.layout.granules);
            let bytes = u64::from(charged - claims.granules_charged) * GRANULE_BYTES as u64;
            if !budget.charge_connection(bytes) {
                return None;
            }
            claims.granules_charged = charged;
            claims.bytes_charged += bytes;
        }
        claims.granules.take(from, to);
        Some(())
    }

    fn claims(&self) -> MutexGuard<'_, Claims> {
        // A panic elsewhere cannot leave it half changed: it is changed by whole runs.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claims {
    fn allow(&self, run: u32, granules: u32, reserve: u32) -> bool {
        u64::from(self.granules.used()) + u64::from(run) + u64::from(reserve) <= u64::from(granules)
    }
}

impl Drop for OwnSegment {
    fn drop(&mut self) {
        let charged = self.claims().bytes_charged;
        if let Some(budget) = self.budget.get() {
            budget.credit_connection(charged);
        }
    }
}

/// A run of granules of our own segment that one owner may write. Given back when dropped.
#[repr(C)]
pub struct Span {
    base: NonNull<u8>,
    bytes: usize,
    first: u32,
    segment: Arc<OwnSegment>,
}

// SAFETY: a span is the only way to its bytes in this process, like a box.
unsafe impl Send for Span {}
// SAFETY: shared, it only gives out shared references to plain bytes.
unsafe impl Sync for Span {}

impl Span {
    /// The granule it begins with.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// Whether it is of that segment.
    pub(super) fn is_of(&self, segment: &Arc<OwnSegment>) -> bool {
        Arc::ptr_eq(&self.segment, segment)
    }

    /// Grows to at least `bytes` bytes where it is, if what follows is free and `reserve` granules stay so.
    pub(super) fn extend(&mut self, bytes: usize, reserve: u32) -> bool {
        let Ok(run) = u32::try_from(granules_for(bytes)) else { return false };
        let run_now = (self.bytes / GRANULE_BYTES) as u32;
        if run <= run_now {
            return true;
        }
        let mut claims = self.segment.claims();
        let (from, to) = (self.first + run_now, self.first.saturating_add(run));
        let grown = claims.allow(run - run_now, self.segment.layout.granules, reserve)
            && claims.granules.are_free(from, to)
            && self.segment.claim(&mut claims, from, to).is_some();
        drop(claims);
        if grown {
            self.bytes = run as usize * GRANULE_BYTES;
        }
        grown
    }
}

impl Deref for Span {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the run is mapped and initialised while `segment` is held, claimed by this span alone, and written
        // by no other process: see the invariant above.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Span {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the borrow of the span is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.bytes) }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let run = (self.bytes / GRANULE_BYTES) as u32;
        self.segment.claims().granules.give_back(self.first, self.first + run);
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({} bytes at granule {})", self.bytes, self.first)
    }
}

/// The segment that the other end writes, mapped read-only.
#[derive(Debug)]
pub(super) struct PeerSegment {
    mapping: Mapping,
    layout: Layout,
    trusted: bool,
}

impl PeerSegment {
    /// Maps a file of that layout. `trusted` says that its writer leaves frames alone until they are released.
    ///
    /// # Errors
    /// The kernel's reason.
    pub(super) fn new(file: BorrowedFd<'_>, layout: Layout, trusted: bool) -> rustix::io::Result<Arc<Self>> {
        let mapping = Mapping::new(file, layout.bytes(), ProtFlags::READ)?;
        Ok(Arc::new(Self { mapping, layout, trusted }))
    }

    /// Its sizes.
    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether frames may be read where they are.
    pub(super) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Its words, to be loaded `Relaxed` only: the mapping is read-only.
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.mapping.words(self.layout.bytes())
    }

    /// Copies data out, from byte `offset` on, whatever the peer does to it meanwhile: each byte is read once.
    ///
    /// # Panics
    /// Where the range lies outside the data.
    pub(super) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let data_bytes = self.layout.data_bytes();
        assert!(offset <= data_bytes && to.len() <= data_bytes - offset, "{} bytes at {offset}", to.len());
        self.mapping.copy_racing(self.layout.data_at() + offset, to);
    }

    /// Bytes of a frame where it is; `None` where the range lies outside the data.
    ///
    /// # Panics
    /// On a segment whose writer is not trusted.
    pub(super) fn arrived(self: &Arc<Self>, offset: usize, bytes: usize) -> Option<Arrived> {
        assert!(self.trusted, "no reference to what a client can change");
        if offset > self.layout.data_bytes() || bytes > self.layout.data_bytes() - offset {
            return None;
        }
        let base = self.mapping.at(self.layout.data_at() + offset, bytes);
        Some(Arrived { base, bytes, _segment: Arc::clone(self) })
    }
}

/// Bytes of a frame that a trusted peer sent, in its segment.
#[repr(C)]
pub(super) struct Arrived {
    base: NonNull<u8>,
    bytes: usize,
    _segment: Arc<PeerSegment>,
}

// SAFETY: nobody writes to these bytes while it exists, so they may be read from anywhere.
unsafe impl Send for Arrived {}
// SAFETY: as above.
unsafe impl Sync for Arrived {}

impl Deref for Arrived {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the range is mapped and initialised while the segment is held, and its writer, which is trusted,
        // leaves it alone until it is told that the frame is released: that happens after this is dropped.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }
}

impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arrived({} bytes)", self.bytes)
    }
}
