//! Buffers: lent by a transport, built in by one owner, then shared as a frame, then lent again.
#![forbid(unsafe_code)]

use super::rdma;
use super::shell::Shell;
use super::shm::{InPlace, Span};
use crate::pages::Pages;
use crate::wire::FrameBuffer;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Lends buffers and takes them back; unless it says otherwise it only takes back.
pub trait Lender: Send + Sync {
    /// A buffer of at least `bytes` bytes, all initialised, their content left over from its last use. `None`
    /// where the memory budget or the system forbids it.
    fn lend(self: Arc<Self>, _bytes: usize) -> Option<Buffer> {
        None
    }

    /// Grows lent memory to at least `bytes` bytes and keeps its content; false, and nothing changed, where the
    /// budget forbids it.
    fn grow(&self, _memory: &mut Memory, _bytes: usize) -> bool {
        false
    }

    /// Takes memory back.
    fn take_back(&self, memory: Memory);
}

/// Where lent bytes are. Each kind begins with address and length, so that reading them decides nothing.
#[derive(Debug)]
#[repr(usize)]
pub enum Memory {
    /// On the heap.
    Heap(Box<[u8]>),
    /// In pages of its own.
    Pages(Pages),
    /// In a segment of shared memory, to build in.
    Span(Span),
    /// In a segment of shared memory, where a peer built it; to read only.
    InPlace(InPlace),
    /// In memory that is registered with a network card.
    Registered(rdma::Span),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Box::default())
    }
}

impl Deref for Memory {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(memory) => memory,
            Self::Pages(memory) => memory,
            Self::Span(span) => span,
            Self::InPlace(arrived) => arrived,
            Self::Registered(span) => span,
        }
    }
}

impl DerefMut for Memory {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(memory) => memory,
            Self::Pages(memory) => memory,
            Self::Span(span) => span,
            Self::Registered(span) => span,
            Self::InPlace(_) => unreachable!("what arrived is a frame already, and frames are never changed"),
        }
    }
}

/// Lent memory with one owner, to build a frame in. Goes back to its lender when dropped.
pub struct Buffer {
    memory: Memory,
    lender: Arc<dyn Lender>,
}

impl Buffer {
    /// Memory and whom it belongs to: for lenders.
    #[must_use]
    pub fn new(memory: Memory, lender: Arc<dyn Lender>) -> Self {
        Self { memory, lender }
    }

    /// Where its bytes are.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Its memory alone: for lenders that take over from others.
    pub(super) fn into_memory(mut self) -> Memory {
        std::mem::take(&mut self.memory)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        if !memory.is_empty() {
            self.lender.take_back(memory);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl FrameBuffer for Buffer {
    fn grow(&mut self, bytes: usize) -> bool {
        bytes <= self.memory.len() || self.lender.grow(&mut self.memory, bytes)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.memory.len())
    }
}

/// Forgets what it takes back.
struct Unaccounted;

impl Lender for Unaccounted {
    fn take_back(&self, memory: Memory) {
        drop(memory);
    }
}

/// One whole frame, never changed again. Clones share it; the last one dropped gives its buffer back.
#[derive(Clone)]
pub struct Frame {
    buffer: Shell,
    frame_bytes: u32,
}

impl Frame {
    /// The first `frame_bytes` bytes of a buffer as a frame.
    ///
    /// # Panics
    /// Where the buffer is shorter.
    #[must_use]
    pub fn new(buffer: Buffer, frame_bytes: u32) -> Self {
        assert!(frame_bytes as usize <= buffer.len(), "{frame_bytes} bytes in {buffer:?}");
        Self { buffer: Shell::new(buffer), frame_bytes }
    }

    /// A frame in memory of its own, that no account knows of: for a few words that must be said even where there is
    /// no memory left to lend.
    #[must_use]
    pub fn unaccounted(bytes: Vec<u8>) -> Self {
        let frame_bytes = bytes.len() as u32;
        Self::new(Buffer::new(Memory::Heap(bytes.into_boxed_slice()), Arc::new(Unaccounted)), frame_bytes)
    }

    /// Bytes of the frame.
    #[must_use]
    pub fn frame_bytes(&self) -> u32 {
        self.frame_bytes
    }

    /// Where its bytes are.
    pub(super) fn memory(&self) -> &Memory {
        self.buffer.memory()
    }

    /// Whether it is in memory of this lender's.
    pub(super) fn is_lent_by(&self, lender: &Arc<dyn Lender>) -> bool {
        Arc::ptr_eq(&self.buffer.lender, lender)
    }

    /// The span it was built in, where that is in shared memory.
    pub(super) fn span(&self) -> Option<&Span> {
        match &self.buffer.memory {
            Memory::Span(span) => Some(span),
            Memory::Heap(_) | Memory::Pages(_) | Memory::InPlace(_) | Memory::Registered(_) => None,
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[..self.frame_bytes as usize]
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.frame_bytes)
    }
}
