//! The registered pool of one connection: what it builds frames in, and what it reads large ones into.
//!
//! A pool a connection, for a peer that may read our memory may read all that is registered in the queue pair's
//! protection domain: its own frames, and what is left over of earlier ones of its own. Registering costs a system
//! call and pins pages, so spans are kept for the next frame, within a bound.
#![forbid(unsafe_code)]

use super::slab::{self, Span};
use super::verbs::{PeerMay, ProtectionDomain, VerbsError};
use crate::budget::Budget;
use crate::transport::{Buffer, Lender, Memory};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Small spans registered at a time, and twice as many kept.
const SMALL_SPANS: u32 = 32;

/// Most bytes of a small span: the default receive. What a larger one takes is lent as large spans are, each as large
/// as it must be.
const SMALL_BYTES_MAX: u32 = 8192;

/// Most large spans kept.
const LARGE_KEPT_MAX: usize = 64;

/// Most bytes of large spans kept: two frames of default size each way.
const LARGE_BYTES_KEPT_MAX: usize = 32 << 20;

/// Spans of this size and above are multiples of it.
const STEP_BYTES: usize = 1 << 20;

/// Lends registered memory.
pub(super) struct RegisteredPool {
    domain: Arc<ProtectionDomain>,
    budget: Arc<Budget>,
    small_bytes: u32,
    large_bytes_kept_max: usize,
    free: Mutex<Free>,
    /// Whether the log has been told that there is no memory: a peer decides how often that is so.
    refused: AtomicBool,
}

#[derive(Debug, Default)]
struct Free {
    small: Vec<Span>,
    large: Vec<Span>,
    large_bytes: usize,
    /// Whether a large span was lent or given back since anybody asked.
    large_used: bool,
}

impl fmt::Debug for RegisteredPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisteredPool({:?})", self.budget)
    }
}

impl RegisteredPool {
    /// An empty pool; `receive_bytes` is what one SEND carries at most.
    pub(super) fn new(domain: &Arc<ProtectionDomain>, budget: &Arc<Budget>, receive_bytes: u32) -> Arc<Self> {
        // Under a cap pools keep little, so that what came and went as frames is there for records.
        let share = usize::try_from(budget.bytes_reserved() / 16).unwrap_or(usize::MAX).max(STEP_BYTES);
        let kept_max = if budget.bytes_max() == u64::MAX { usize::MAX } else { share };
        Arc::new(Self {
            domain: Arc::clone(domain),
            budget: Arc::clone(budget),
            small_bytes: receive_bytes.min(SMALL_BYTES_MAX),
            large_bytes_kept_max: kept_max.min(LARGE_BYTES_KEPT_MAX),
            free: Mutex::default(),
            refused: AtomicBool::new(false),
        })
    }

    /// Most bytes of what is lent from small spans, of which there are many at hand.
    pub(super) fn small_bytes(&self) -> u32 {
        self.small_bytes
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        // A panic elsewhere cannot leave a list of spans half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn span(&self, bytes: usize) -> Option<Span> {
        if bytes <= self.small_bytes as usize {
            if let Some(span) = self.free().small.pop() {
                return Some(span);
            }
            let mut spans = self.register(self.small_bytes, SMALL_SPANS)?;
            let span = spans.pop();
            self.free().small.append(&mut spans);
            return span;
        }
        if let Some(span) = self.free().take_large(bytes) {
            return Some(span);
        }
        // Powers of two while that wastes little, whole MiB above.
        let rounded = match bytes {
            0..STEP_BYTES => bytes.next_power_of_two(),
            _ => bytes.checked_next_multiple_of(STEP_BYTES)?,
        };
        self.register(u32::try_from(rounded).ok()?, 1)?.pop()
    }

    /// Whether it can lend so much without registering more.
    pub(super) fn has_kept(&self, bytes: usize) -> bool {
        let free = self.free();
        if bytes <= self.small_bytes as usize {
            return !free.small.is_empty();
        }
        free.large.iter().any(|span| span.len() >= bytes)
    }

    fn register(&self, span_bytes: u32, count: u32) -> Option<Vec<Span>> {
        let register = || slab::spans(&self.domain, &self.budget, (span_bytes, count), PeerMay::Read);
        let registered = register().or_else(|_| {
            // What is kept is of no use where it is in the way of what is needed.
            drop(std::mem::take(&mut *self.free()));
            register()
        });
        let tell = |error: &VerbsError| {
            // Relaxed: nothing hangs on it but a line.
            if !self.refused.swap(true, Ordering::Relaxed) {
                tracing::warn!("no registered memory, said once a connection: {error}");
            }
        };
        registered.inspect_err(tell).ok()
    }

    /// Unpins the large spans kept, where none was used since the last call.
    pub(super) fn give_back_unused(&self) {
        let mut free = self.free();
        if std::mem::replace(&mut free.large_used, false) {
            return;
        }
        free.large_bytes = 0;
        let unused = std::mem::take(&mut free.large);
        // Unpinning is a system call each, and nobody waits for it.
        drop(free);
        drop(unused);
    }
}

impl Free {
    /// The last span given back that is large enough.
    fn take_large(&mut self, bytes: usize) -> Option<Span> {
        self.large_used = true;
        let at = self.large.iter().rposition(|span| span.len() >= bytes)?;
        let span = self.large.remove(at);
        self.large_bytes -= span.len();
        Some(span)
    }
}

impl Lender for RegisteredPool {
    fn lend(self: Arc<Self>, bytes: usize) -> Option<Buffer> {
        let span = self.span(bytes)?;
        Some(Buffer::new(Memory::Registered(span), self))
    }

    fn grow(&self, memory: &mut Memory, bytes: usize) -> bool {
        let Some(mut larger) = self.span(bytes) else { return false };
        larger[..memory.len()].copy_from_slice(memory);
        self.take_back(std::mem::replace(memory, Memory::Registered(larger)));
        true
    }

    fn take_back(&self, memory: Memory) {
        // Memory from elsewhere goes back by being dropped.
        let Memory::Registered(span) = memory else { return };
        let mut free = self.free();
        if span.len() == self.small_bytes as usize {
            if free.small.len() < 2 * SMALL_SPANS as usize {
                free.small.push(span);
            }
            return;
        }
        free.large_used = true;
        if free.large.len() < LARGE_KEPT_MAX && free.large_bytes + span.len() <= self.large_bytes_kept_max {
            free.large_bytes += span.len();
            free.large.push(span);
        }
    }
}
