//! Each index against a plain list, with hashes of our choice: random, alike, and all the same.
#![forbid(unsafe_code)]

use super::buckets::BucketIndex;
use super::index::{Index, Keys};
#[cfg(feature = "leapfrog")]
use super::leap::LeapIndex;
use super::memory::Pool;
use super::slab::Handle;
use crate::budget::Budget;
use std::sync::Arc;

/// The hash of each handle: handles count up from 0.
#[derive(Default)]
struct Hashes(Vec<u64>);

impl Keys for Hashes {
    fn hash(&self, handle: Handle) -> u64 {
        self.0[handle.0 as usize]
    }

    fn prefetch(&self, _handle: Handle) {}
}

/// An index, and what it should hold.
struct Pair<I> {
    index: I,
    hashes: Hashes,
    live: Vec<Handle>,
}

impl<I: Index> Pair<I> {
    fn new(bytes_max: u64) -> Self {
        let pool = Pool::new(Arc::new(Budget::new(bytes_max)));
        Self { index: I::new(&pool).expect("room for an empty index"), hashes: Hashes::default(), live: Vec::new() }
    }

    /// Inserts a new handle under a hash; false where the index refuses.
    fn insert(&mut self, hash: u64) -> bool {
        if !self.index.make_room(hash, &self.hashes) {
            return false;
        }
        let handle = Handle(self.hashes.0.len() as u32);
        self.hashes.0.push(hash);
        self.index.insert(hash, handle);
        self.live.push(handle);
        true
    }

    fn remove(&mut self, at: usize) {
        let handle = self.live.swap_remove(at);
        let hash = self.hashes.hash(handle);
        self.index.remove(hash, handle, &self.hashes);
        assert_eq!(self.index.find(hash, |other| other == handle), None);
    }

    fn assert_holds_all(&self) {
        for handle in &self.live {
            let hash = self.hashes.hash(*handle);
            assert_eq!(self.index.find(hash, |other| other == *handle), Some(*handle), "hash {hash:#x}");
            self.index.prefetch(hash);
        }
        assert!(self.index.stats().cells_moved_max <= I::CELLS_MOVED_MAX);
    }
}

/// SplitMix64's mixing of a number.
fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Fills an index with hashes until `count` or a refusal, empties it in another order, and fills it again.
fn fill_and_empty<I: Index>(count: usize, hash: impl Fn(u64) -> u64) -> usize {
    let mut pair = Pair::<I>::new(u64::MAX);
    let mut held = 0;
    for round in 0..3_u64 {
        for number in 0..count as u64 {
            if !pair.insert(hash(number)) {
                break;
            }
        }
        held = pair.live.len();
        pair.assert_holds_all();
        let mut random = mixed(round);
        while pair.live.len() > held / (2 + round as usize) {
            random = mixed(random);
            pair.remove((random % pair.live.len() as u64) as usize);
        }
        pair.assert_holds_all();
        while !pair.live.is_empty() {
            pair.remove(pair.live.len() / 2);
        }
    }
    held
}

fn random_hashes<I: Index>() {
    assert_eq!(fill_and_empty::<I>(50_000, mixed), 50_000);
}

fn alike_hashes<I: Index>() {
    // Few distinct values in the bits that tell buckets or cells of one segment apart.
    assert_eq!(fill_and_empty::<I>(3_000, |number| mixed(number) & !0x3F_FFFF), 3_000);
    // Nothing but the low bits: no directory tells them apart, and one segment has to take them all.
    let held = fill_and_empty::<I>(100_000, |number| mixed(number) >> 40);
    assert!((400..=640).contains(&held), "{held} hashes without top bits");
}

fn equal_hashes<I: Index>() {
    for hash in [0, 1, u64::MAX, 1 << 62, 0x1234_5678_9ABC_DEF0] {
        let held = fill_and_empty::<I>(100_000, |_| hash);
        assert!((400..=640).contains(&held), "{held} equal hashes {hash:#x}");
    }
}

fn churn<I: Index>() {
    // Many more inserts than cells, at one size: nothing piles up.
    let mut pair = Pair::<I>::new(u64::MAX);
    let mut largest = 0;
    for number in 0..200_000_u64 {
        assert!(pair.insert(mixed(number)));
        if pair.live.len() > 1000 {
            pair.remove((mixed(!number) % 1000) as usize);
        }
        largest = largest.max(pair.index.stats().bytes);
    }
    pair.assert_holds_all();
    assert!(largest < 1 << 20, "{largest} bytes for 1,000 records");
}

fn replaced_handles<I: Index>() {
    let mut pair = Pair::<I>::new(u64::MAX);
    for number in 0..2000 {
        assert!(pair.insert(mixed(number / 2)));
    }
    for at in 0..2000 {
        let (old, new) = (pair.live[at], Handle(pair.hashes.0.len() as u32));
        let hash = pair.hashes.hash(old);
        pair.hashes.0.push(hash);
        pair.index.replace(hash, old, new);
        pair.live[at] = new;
        assert_eq!(pair.index.find(hash, |other| other == old), None);
    }
    pair.assert_holds_all();
}

fn refused_memory<I: Index>() {
    // Room for the first segment and little more: it fills up to the last cell it may use, and loses nothing.
    let mut pair = Pair::<I>::new(3 << 20);
    let mut number = 0;
    while pair.insert(mixed(number)) {
        number += 1;
    }
    pair.assert_holds_all();
    while !pair.live.is_empty() {
        pair.remove(0);
    }
    assert!(pair.insert(mixed(number)), "what was freed is used again");
}

/// Runs each fact for each index.
macro_rules! on_each_index {
    ($($fact:ident),+) => {
        mod buckets {
            $(#[test] fn $fact() { super::$fact::<super::BucketIndex>(); })+
        }
        #[cfg(feature = "leapfrog")]
        mod leapfrog {
            $(#[test] fn $fact() { super::$fact::<super::LeapIndex>(); })+
        }
    };
}
on_each_index!(random_hashes, alike_hashes, equal_hashes, churn, replaced_handles, refused_memory);
