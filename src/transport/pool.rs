//! Heap buffers for byte streams: lent last in, first out, so that the next frame finds the warm one.
//!
//! A pool serves one thread's connections (or one client's); it may be used from any thread. What it keeps is
//! bounded, short buffers apart from long ones, and what lay longest is forgotten first. All it has allocated is
//! charged to the memory budget until it is freed: under a cap pools keep little, so that what came and went as frames
//! is there for records.
#![forbid(unsafe_code)]

use super::buffer::{Buffer, Lender, Memory};
use crate::budget::Budget;
use crate::pages::{HUGE_PAGE_BYTES, Pages};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most buffers a pool keeps for later: of the short ones more than a connection holds whose frames come in bursts.
const SHORT_KEPT_MAX: usize = 32;
const LONG_KEPT_MAX: usize = 16;

/// Most bytes a pool keeps for later where there is no cap.
const BYTES_KEPT_MAX: usize = 64 << 20;

/// The smallest buffer: a page, so that small frames find any buffer large enough.
const BUFFER_BYTES_MIN: usize = 4096;

/// Buffers of this size and above are multiples of it.
const BUFFER_BYTES_STEP: usize = 1 << 20;

/// A kept buffer serves what needs a quarter of it, or is short: what is lent for little must not keep much.
const SHORT_BYTES_MAX: usize = 64 << 10;

/// Lends heap memory.
#[derive(Debug)]
pub struct HeapPool {
    budget: Arc<Budget>,
    bytes_kept_max: usize,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// The last given back last.
    short: Vec<Memory>,
    long: Vec<Memory>,
    bytes: usize,
}

impl HeapPool {
    /// An empty pool that charges `budget`.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Arc<Self> {
        Self::one_of(1, budget)
    }

    /// As [`HeapPool::new`], one of `pools` that share a budget: together they keep no more than half of what the
    /// budget reserves for connections.
    #[must_use]
    pub fn one_of(pools: usize, budget: Arc<Budget>) -> Arc<Self> {
        let capped = budget.bytes_max() != u64::MAX;
        let share = usize::try_from(budget.bytes_reserved() / 2).unwrap_or(usize::MAX) / pools.max(1);
        let bytes_kept_max = if capped { share.min(BYTES_KEPT_MAX) } else { BYTES_KEPT_MAX };
        Arc::new(Self { budget, bytes_kept_max, free: Mutex::default() })
    }

    /// The account it charges.
    #[must_use]
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// A buffer that is no larger than it must be: for what is kept as long as a connection.
    pub fn lend_for_long(self: Arc<Self>, bytes: usize) -> Option<Buffer> {
        Some(Buffer::new(self.take(bytes, bytes)?, self))
    }

    /// A kept buffer of `bytes` to `bytes_max` bytes, or a new one of at least `bytes`.
    fn take(&self, bytes: usize, bytes_max: usize) -> Option<Memory> {
        let kept = self.free().take(bytes, bytes_max);
        kept.or_else(|| self.allocate(bytes))
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        // A panic elsewhere cannot leave a list of buffers half changed.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, bytes: usize) -> Option<Memory> {
        // Powers of two while that wastes little, whole MiB above.
        let rounded = match bytes {
            0..BUFFER_BYTES_STEP => bytes.max(BUFFER_BYTES_MIN).next_power_of_two(),
            _ => bytes.checked_next_multiple_of(BUFFER_BYTES_STEP)?,
        };
        let charged = self.budget.charge_connection(rounded as u64) || {
            // What is kept is of no use where it is in the way of what is needed.
            self.forget_kept();
            self.budget.charge_connection(rounded as u64)
        };
        if !charged {
            return None;
        }
        // A large frame is walked from end to end by both sides and the kernel: fewer translations are a tenth
        // more op/s.
        let allocated = if rounded < HUGE_PAGE_BYTES as usize {
            zeroed(rounded).map(Memory::Heap)
        } else {
            Pages::map(rounded).map(Memory::Pages)
        };
        if allocated.is_none() {
            self.budget.credit_connection(rounded as u64);
        }
        allocated
    }

    fn forget_kept(&self) {
        let kept = std::mem::take(&mut *self.free());
        kept.short.into_iter().chain(kept.long).for_each(|memory| self.release(memory));
    }

    fn release(&self, memory: Memory) {
        let bytes = memory.len() as u64;
        drop(memory);
        self.budget.credit_connection(bytes);
    }
}

/// Memory on the heap; `None` where the system has none to give.
fn zeroed(bytes: usize) -> Option<Box<[u8]>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).ok()?;
    memory.resize(bytes, 0);
    Some(memory.into_boxed_slice())
}

/// The largest kept buffer that serves `bytes`.
fn ample(bytes: usize) -> usize {
    bytes.saturating_mul(4).max(SHORT_BYTES_MAX)
}

impl Free {
    /// The last buffer given back that is large enough and not too large.
    fn take(&mut self, bytes: usize, bytes_max: usize) -> Option<Memory> {
        let mut take = |kept: &mut Vec<Memory>| {
            let at = kept.iter().rposition(|memory| (bytes..=bytes_max).contains(&memory.len()))?;
            let memory = kept.remove(at);
            self.bytes -= memory.len();
            Some(memory)
        };
        take(&mut self.short).or_else(|| take(&mut self.long))
    }

    /// Keeps what was given back, and gives the first of what must go for it, as [`Free::surplus`].
    fn keep(&mut self, memory: Memory, bytes_max: usize) -> Option<Memory> {
        if memory.len() > bytes_max {
            return Some(memory);
        }
        self.bytes += memory.len();
        let is_short = memory.len() <= SHORT_BYTES_MAX;
        if is_short { &mut self.short } else { &mut self.long }.push(memory);
        self.surplus(bytes_max)
    }

    /// A buffer that is too much, until there is none: the one that lay longest, for frames may be longer or shorter by
    /// now than those it came with.
    fn surplus(&mut self, bytes_max: usize) -> Option<Memory> {
        let is_full = self.bytes > bytes_max;
        let kept = if self.short.len() > SHORT_KEPT_MAX || is_full && self.long.is_empty() {
            &mut self.short
        } else if self.long.len() > LONG_KEPT_MAX || is_full {
            &mut self.long
        } else {
            return None;
        };
        let memory = kept.remove(0);
        self.bytes -= memory.len();
        Some(memory)
    }
}

impl Lender for HeapPool {
    fn lend(self: Arc<Self>, bytes: usize) -> Option<Buffer> {
        Some(Buffer::new(self.take(bytes, ample(bytes))?, self))
    }

    fn grow(&self, memory: &mut Memory, bytes: usize) -> bool {
        let Some(mut larger) = self.take(bytes, ample(bytes)) else { return false };
        larger[..memory.len()].copy_from_slice(memory);
        self.take_back(std::mem::replace(memory, larger));
        true
    }

    fn take_back(&self, memory: Memory) {
        if matches!(memory, Memory::Span(_) | Memory::InPlace(_) | Memory::Registered(_)) {
            // Memory from elsewhere goes back by being dropped.
            return;
        }
        let mut surplus = self.free().keep(memory, self.bytes_kept_max);
        while let Some(memory) = surplus {
            self.release(memory);
            surplus = self.free().surplus(self.bytes_kept_max);
        }
    }
}

impl Drop for HeapPool {
    fn drop(&mut self) {
        self.forget_kept();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FrameBuffer;

    #[test]
    fn the_warm_buffer_is_lent_again() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let pool = HeapPool::new(Arc::clone(&budget));
        let mut buffer = Arc::clone(&pool).lend(100).expect("no cap");
        buffer[..4].copy_from_slice(b"warm");
        drop(buffer);
        let buffer = Arc::clone(&pool).lend(4096).expect("no cap");
        assert_eq!(&buffer[..4], b"warm");
        drop(buffer);
        drop(pool);
        assert_eq!(budget.bytes_used(), 0);
    }

    #[test]
    fn a_large_buffer_is_not_lent_for_little() {
        let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
        drop(Arc::clone(&pool).lend(8 << 20));
        let little = Arc::clone(&pool).lend(16 << 10).expect("no cap");
        assert!(little.len() <= 64 << 10, "{little:?}");
        let large = Arc::clone(&pool).lend(2 << 20).expect("no cap");
        assert_eq!(large.len(), 8 << 20, "a quarter of it is enough to be lent the warm one");
        drop((little, large, Arc::clone(&pool).lend(64 << 10)));
        let kept_for_long = pool.lend_for_long(16 << 10).expect("no cap");
        assert_eq!(kept_for_long.len(), 16 << 10);
    }

    #[test]
    fn frames_of_another_length_find_warm_buffers_too() {
        let budget = Arc::new(Budget::new(u64::MAX));
        let pool = HeapPool::new(Arc::clone(&budget));
        let lend = |bytes| Arc::clone(&pool).lend(bytes).expect("no cap");
        drop((0..2 * LONG_KEPT_MAX).map(|_| lend(4 << 20)).collect::<Vec<_>>());
        assert_eq!(budget.bytes_used(), BYTES_KEPT_MAX as u64);
        lend(512 << 10)[0] = 7;
        assert_eq!(lend(512 << 10)[0], 7);
        drop((0..2 * SHORT_KEPT_MAX).map(|_| lend(100)).collect::<Vec<_>>());
        lend(512 << 10)[0] += 1;
        assert_eq!(lend(512 << 10)[0], 8, "many short ones cost no long one");
        lend(100)[0] = 9;
        drop((0..LONG_KEPT_MAX).map(|_| lend(2 << 20)).collect::<Vec<_>>());
        assert_eq!(lend(100)[0], 9, "nor the other way round");
        let used = budget.bytes_used();
        assert!(used <= BYTES_KEPT_MAX as u64, "{used}");
        drop(lend(BYTES_KEPT_MAX + 1));
        assert_eq!(budget.bytes_used(), used, "what is too large is not kept, and costs no other");
    }

    #[test]
    fn heap_that_the_system_refuses_is_none() {
        assert_eq!(zeroed(isize::MAX as usize), None, "no machine has so much");
        assert_eq!(zeroed(3).as_deref(), Some(&[0; 3][..]));
    }

    #[test]
    fn growth_keeps_the_content_and_obeys_the_budget() {
        let budget = Arc::new(Budget::new(20_000));
        let pool = HeapPool::new(budget);
        let mut buffer = Arc::clone(&pool).lend(1).expect("within the cap");
        buffer[0] = 9;
        assert!(buffer.grow(5000));
        assert_eq!((buffer[0], buffer.len()), (9, 8192));
        assert!(!buffer.grow(20_000));
        assert_eq!((buffer[0], buffer.len()), (9, 8192));
    }

    #[test]
    fn what_is_kept_is_not_in_the_way_of_what_is_needed() {
        let budget = Arc::new(Budget::with_reserve(4 << 20, 4 << 20));
        let pool = HeapPool::new(Arc::clone(&budget));
        drop(Arc::clone(&pool).lend(1 << 20));
        assert_eq!(budget.bytes_used(), 1 << 20);
        let large = Arc::clone(&pool).lend(3 << 20).expect("the cap has room for it alone");
        drop(large);
        assert_eq!(budget.bytes_used(), 0, "half the reserve is kept, and this is more");
    }
}
