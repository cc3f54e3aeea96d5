//! What comes again costs memory by what comes, not by what else its frame did.
#![forbid(unsafe_code)]

use crate::allocations;
use freight::budget::Budget;
use freight::completions::{Carrier, Completions, CompletionsConfig, Identity};
use freight::hash::Key;
use freight::op::{Action, Batch, Op, Outcome, Position};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use std::sync::Arc;

/// The operation that stood last in a frame of so many.
struct Last(OpList, u32);

impl Batch for Last {
    fn op_count(&self) -> u32 {
        1
    }

    fn for_each_key<'a>(&'a self, visit: impl FnMut(Position, Key<'a>, bool)) {
        self.0.for_each_key(visit);
    }

    fn op(&self, position: Position) -> Op<'_> {
        Batch::op(&self.0, position)
    }

    fn first_index(&self, _: u32) -> u32 {
        self.1 - 1
    }
}

/// How often a retry of one operation of a frame of `ops` adds allocates.
fn of_a_retry(ops: u32) -> u64 {
    let budget = Arc::new(Budget::new(u64::MAX));
    let config = CompletionsConfig::new(Arc::clone(&budget));
    let store =
        StoreConfig { shards: 4, index: IndexKind::Buckets, hash_secret: [9; 32], budget, eviction: Eviction::None };
    let (store, completions) = (Store::new(store).expect("a valid configuration"), Arc::new(Completions::new(config)));
    let (mut carrier, mut scratch) = (Carrier::new(&completions), Scratch::new(0));
    let first = Identity { session: 1, sequence: 1, acknowledged_up_to: 0, is_retry: false };
    let add = Op { key: b"counter", action: Action::Add { delta: 1 }, version_wanted: false };
    let (all, mut outcomes) = (std::iter::repeat_n(add, ops as usize).collect::<OpList>(), OutcomeList::new());
    carrier.execute(&store, &all, 0, first, &mut outcomes, &mut scratch).expect("memory");
    let (again, last) = (Identity { is_retry: true, ..first }, Last(OpList::from_iter([add]), ops));
    let mut retry = || {
        let mut outcomes = OutcomeList::new();
        carrier.execute(&store, &last, 0, again, &mut outcomes, &mut scratch).expect("memory");
        assert_eq!(outcomes.outcome(0), Outcome::Counter { value: ops.into(), version: None });
    };
    // Warm: memory for a batch.
    retry();
    allocations(retry)
}

#[test]
fn a_retry_of_one_operation_allocates_as_often_whatever_its_frame_held() {
    assert_eq!(of_a_retry(60_000), of_a_retry(2));
}
