//! Which record goes where memory is full: S3-FIFO, or chance.
//!
//! ```text
//!                     +--------- small: a tenth ---------+  hit    +----------- main ------------+
//!   new record -----> | ring of handles, first in first  | ------> | the slab itself: a hand goes | --> gone
//!                     | out                              |         | round, a hit is one more round|
//!                     +-----------------+----------------+         +------------------------------+
//!                                       | not hit                      ^
//!                                       v                              | comes back soon
//!                                 gone, its key to the ghost ----------+
//! ```
//!
//! After Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction" (SOSP 2023). Where that
//! has one queue, each class of sizes has its own here, for only a slot of its own class helps a record; how much
//! memory each class has is settled by `reclaim.rs`. What the main queue needs stands in the records' marks, so that a
//! record takes 0.5 bytes for the small queue and 2 for the ghost.
#![forbid(unsafe_code)]

use super::ghost::Ghost;
use super::reclaim::Hot;
use super::record::{Marks, Records};
use super::ring::Ring;
use super::slab::{CLASSES, Handle};
use super::table::Table;
use crate::budget::Budget;
use crate::op::Time;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a store does where its memory is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eviction {
    /// It refuses what does not fit.
    #[default]
    None,
    /// It evicts records that are not asked for: a cache.
    S3Fifo,
    /// It evicts any: a cache. Which ones follows from the store's secret.
    Random,
}

impl Eviction {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::None, Self::S3Fifo, Self::Random];

    /// What chooses the records of a shard that evicts. `seed` is what chance follows from.
    pub(super) fn policy(self, seed: u64) -> Option<Policy> {
        match self {
            Self::None => None,
            Self::S3Fifo => Some(Policy::S3Fifo),
            Self::Random => Some(Policy::Random(seed)),
        }
    }
}

impl fmt::Display for Eviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::S3Fifo => "s3-fifo",
            Self::Random => "random",
        })
    }
}

impl FromStr for Eviction {
    type Err = UnknownEviction;

    fn from_str(name: &str) -> Result<Self, UnknownEviction> {
        let found = Self::ALL.into_iter().find(|eviction| eviction.to_string() == name);
        found.ok_or_else(|| UnknownEviction { got: name.to_owned() })
    }
}

/// Text that names no way to evict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no eviction '{got}': none, s3-fifo or random")]
pub struct UnknownEviction {
    /// The text.
    pub got: String,
}

/// One part of this many of a class's slots is for its small queue.
const SMALL_SHARE: usize = 10;

/// What the classes lost counts half each time that one part of this many of all records went.
const LATELY_SHARE: u64 = 4;

/// Records that are looked at for one to evict: behind so many the next one goes, hit or not.
pub(super) const LOOKS_MAX: usize = 256;

/// What a shard knows of its records to evict some.
#[derive(Debug)]
pub(super) struct Evictor {
    policy: Policy,
    classes: Table<Class>,
    /// Records that all classes lost since their turnover was halved.
    lost: u64,
    ghost: Ghost,
    /// The record that a change under way is about: it stays.
    pub(super) pinned: Handle,
    /// Records that were evicted.
    evicted: u64,
    /// What is copied of a span that is emptied; nothing in between.
    pub(super) hot: Hot,
    /// Keys that were evicted since they were asked for last, which is under the same lock; `None` where nobody asks.
    pub(super) noted: Option<Vec<Box<[u8]>>>,
}

/// One size class.
#[derive(Debug)]
struct Class {
    small: Ring,
    /// Where the main queue goes on.
    hand: Handle,
    /// Records that it lost lately.
    lost: u64,
    /// Records that it lost since its share of the memory was looked at.
    due: u64,
}

/// How to choose.
#[derive(Debug)]
pub(super) enum Policy {
    S3Fifo,
    /// The state of SplitMix64.
    Random(u64),
}

/// A record that is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    pub(super) handle: Handle,
    /// Its deadline is reached.
    pub(super) is_expired: bool,
    /// Its key is to be known for a while.
    pub(super) is_remembered: bool,
}

impl Evictor {
    /// `None` where the budget refuses.
    pub(super) fn new(policy: Policy, budget: &Arc<Budget>) -> Option<Box<Self>> {
        let (mut classes, ghost) = (Table::new(budget), Ghost::new(budget));
        let class = || Class { small: Ring::new(budget), hand: Handle::FIRST, lost: 0, due: 0 };
        let is_ready = classes.reserve(CLASSES) && (0..CLASSES).all(|_| classes.push(class()));
        let (pinned, hot) = (Handle::NONE, Hot::default());
        is_ready.then(|| Box::new(Self { policy, classes, lost: 0, ghost, pinned, evicted: 0, hot, noted: None }))
    }

    /// Whether hits count.
    #[inline]
    pub(super) fn counts_hits(&self) -> bool {
        matches!(self.policy, Policy::S3Fifo)
    }

    /// Takes a record in that was written: `before` are the handle and marks that its key had.
    pub(super) fn written(
        &mut self,
        records: &mut Records,
        handle: Handle,
        hash: u64,
        before: Option<(Handle, Marks)>,
        now: Time,
    ) {
        if !self.counts_hits() {
            return;
        }
        match before {
            Some((at, marks)) if at == handle || marks.is_main() => records.set_marks(handle, marks.hit()),
            // It is to be found again under its new handle, and in the queue of its new class.
            Some((_, marks)) => {
                records.set_marks(handle, marks.hit());
                self.enqueue(records, handle, now);
            }
            None => {
                // Sized while there is room, so that there is one when it is needed.
                let _is_of_the_right_size = self.ghost.fit(records.count());
                if self.ghost.take(hash) {
                    records.set_marks(handle, Marks::MAIN);
                } else {
                    self.enqueue(records, handle, now);
                }
            }
        }
    }

    /// Puts a record behind the small queue of its class. One that gets too long, as while nothing is evicted, and one
    /// that has no memory to grow, hands its oldest on to the main queue.
    fn enqueue(&mut self, records: &mut Records, handle: Handle, now: Time) {
        let class = records.class_at(handle).expect("it was written just now");
        let length_max = small_records(records, class) * 3 / 2 + 1;
        let mut is_in = self.classes[class].small.push(handle);
        while !is_in || self.classes[class].small.len() > length_max {
            let Some(oldest) = self.classes[class].small.pop() else {
                return records.set_marks(handle, Marks::MAIN);
            };
            if small_record(records, oldest, class, now).is_some() {
                let marks = records.marks(oldest);
                records.set_marks(oldest, marks.to_main());
            }
            is_in = is_in || self.classes[class].small.push(handle);
        }
    }

    /// The record of a class that is to go next; `None` where there is none but the pinned one.
    pub(super) fn victim(&mut self, records: &mut Records, class: usize, now: Time) -> Option<Victim> {
        match &mut self.policy {
            Policy::Random(state) => random_victim(state, records, class, self.pinned, now),
            Policy::S3Fifo => self.small_victim(records, class, now).or_else(|| self.main_victim(records, class, now)),
        }
    }

    /// The oldest record of the small queue that was not hit, while the queue is longer than its share. Those that were
    /// go to the main queue.
    fn small_victim(&mut self, records: &mut Records, class: usize, now: Time) -> Option<Victim> {
        let mut looks = 0;
        while self.classes[class].small.len() > small_records(records, class) {
            let handle = self.classes[class].small.pop()?;
            let Some(is_expired) = small_record(records, handle, class, now) else { continue };
            looks += 1;
            let is_hit = records.marks(handle).hits() > 0 && looks < LOOKS_MAX;
            if handle == self.pinned || is_hit && !is_expired {
                records.set_marks(handle, Marks::MAIN);
            } else {
                return Some(Victim { handle, is_expired, is_remembered: !is_expired });
            }
        }
        None
    }

    /// The next record of the main queue that was not hit since the hand passed.
    fn main_victim(&mut self, records: &mut Records, class: usize, now: Time) -> Option<Victim> {
        // Every slot is met within the second half of the looks, if there are so few.
        for look in 0..2 * LOOKS_MAX {
            let handle = records.slab.next_in_class(class, self.classes[class].hand)?;
            self.classes[class].hand = handle.next();
            if records.class_at(handle).is_none() || handle == self.pinned {
                continue;
            }
            let (marks, is_expired) = (records.marks(handle), records.get_marked(handle).is_expired(now));
            if is_expired || look >= LOOKS_MAX || marks.is_main() && marks.hits() == 0 {
                return Some(Victim { handle, is_expired, is_remembered: false });
            }
            if marks.is_main() {
                records.set_marks(handle, marks.cooled());
            }
        }
        None
    }

    /// A slot of the class of which a span is to be given up.
    pub(super) fn next_span(&mut self, records: &Records, class: usize) -> Option<Handle> {
        match &mut self.policy {
            Policy::S3Fifo => {
                let handle = records.slab.next_in_class(class, self.classes[class].hand)?;
                self.classes[class].hand = Handle::new(handle.span() as u32 + 1, 0);
                Some(handle)
            }
            Policy::Random(state) => random_slot(state, records, class),
        }
    }

    /// Remembers the key of a record that goes.
    pub(super) fn remember(&mut self, hash: u64) {
        self.ghost.insert(hash);
    }

    /// Counts a record that a class loses, of so many that there are. What was lost long ago counts less and less.
    pub(super) fn count(&mut self, class: usize, records: u64, is_expired: bool, key: &[u8]) {
        if let Some(noted) = &mut self.noted {
            noted.push(key.into());
        }
        self.evicted += u64::from(!is_expired);
        self.lost += 1;
        self.classes[class].lost += 1;
        self.classes[class].due += 1;
        if self.lost > records / LATELY_SHARE + LOOKS_MAX as u64 {
            self.lost = 0;
            self.classes.iter_mut().for_each(|class| class.lost /= 2);
        }
    }

    /// Records that a class lost lately.
    pub(super) fn lost_lately(&self, class: usize) -> f64 {
        self.classes[class].lost as f64
    }

    /// Whether a class has lost so many since this was said last.
    pub(super) fn is_due(&mut self, class: usize, records: u64) -> bool {
        let is_due = self.classes[class].due >= records;
        if is_due {
            self.classes[class].due = 0;
        }
        is_due
    }

    /// A slot of a class, where its hand is.
    pub(super) fn next_in_class(&self, records: &Records, class: usize) -> Option<Handle> {
        records.slab.next_in_class(class, self.classes[class].hand)
    }

    /// Records that were evicted.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Bytes held beside the records.
    pub(super) fn bytes(&self) -> u64 {
        let queues = self.classes.iter().map(|class| class.small.bytes()).sum::<u64>();
        self.ghost.bytes() + queues + self.classes.bytes()
    }
}

/// Records of a class that its small queue is for.
fn small_records(records: &Records, class: usize) -> usize {
    records.slab.class_slots(class) as usize / SMALL_SHARE
}

/// Whether the deadline of a record of a small queue is reached; `None` where the handle names no such record any more.
fn small_record(records: &Records, handle: Handle, class: usize, now: Time) -> Option<bool> {
    let is_small = records.class_at(handle) == Some(class) && !records.marks(handle).is_main();
    is_small.then(|| records.get_marked(handle).is_expired(now))
}

fn random_victim(state: &mut u64, records: &Records, class: usize, pinned: Handle, now: Time) -> Option<Victim> {
    let mut handle = random_slot(state, records, class)?;
    // Where memory is full hardly a slot is free: the first look hits nearly always.
    for _ in 0..2 * LOOKS_MAX {
        if records.class_at(handle).is_some() && handle != pinned {
            let is_expired = records.get_marked(handle).is_expired(now);
            return Some(Victim { handle, is_expired, is_remembered: false });
        }
        handle = records.slab.next_in_class(class, handle.next())?;
    }
    None
}

/// Any slot of a class, in use or not.
fn random_slot(state: &mut u64, records: &Records, class: usize) -> Option<Handle> {
    let spans = records.slab.span_numbers() as u64;
    for _ in 0..LOOKS_MAX {
        let span = Handle::new(below(state, spans.max(1)) as u32, 0);
        if records.slab.class_at(span) == Some(class) {
            let slot = below(state, records.slab.slots_beside(span));
            return records.slab.next_in_class(class, Handle::new(span.span() as u32, slot as u32));
        }
    }
    // A class with hardly a span: the next one from anywhere on.
    records.slab.next_in_class(class, Handle::new(below(state, spans.max(1)) as u32, 0))
}

/// A number below a bound, by SplitMix64.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ (mixed >> 31)) % bound
}
