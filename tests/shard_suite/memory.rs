//! The memory cap: refusals that change nothing, and memory that serves any size of record.
#![forbid(unsafe_code)]

use super::support::{Model, Place, execute, op, store};
use freight::budget::Budget;
use freight::op::{Action, Outcome};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig, StoreError};
use std::sync::Arc;

const MIB: u64 = 1 << 20;

/// Puts records of `value_bytes` until one is refused; gives how many fit.
fn fill(store: &Store, prefix: &str, value_bytes: usize) -> usize {
    let (mut scratch, mut outcomes) = (Scratch::new(0), OutcomeList::new());
    let value = vec![0x7E; value_bytes];
    for first in (0..).step_by(100) {
        let keys: Vec<String> = (first..first + 100).map(|i| format!("{prefix} {i:019}")).collect();
        let batch: OpList = keys.iter().map(|key| op(key.as_bytes(), Action::Put { value: &value })).collect();
        outcomes.clear();
        store.execute(&batch, 0, &mut outcomes, &mut scratch);
        let refused = outcomes.iter().position(|outcome| outcome == Outcome::OutOfMemory);
        if let Some(refused) = refused {
            return first + refused;
        }
    }
    unreachable!("every store has a cap here");
}

fn delete_all(store: &Store, prefix: &str) {
    for first in (0..).step_by(1000) {
        let keys: Vec<String> = (first..first + 1000).map(|i| format!("{prefix} {i:019}")).collect();
        let outcomes = execute(store, keys.iter().map(|key| op(key.as_bytes(), Action::Delete)));
        if outcomes.iter().all(|outcome| outcome == Outcome::NotFound) {
            return;
        }
    }
}

#[test]
fn memory_of_small_records_serves_large_ones_and_back() {
    let cap = 128 * MIB;
    let store = store(IndexKind::Buckets, 8, cap);
    for value_bytes in [100, 10 << 10, 1 << 20, 100, 200 << 10, 10 << 10] {
        let records = fill(&store, "k", value_bytes);
        let stats = store.stats();
        let share = stats.payload_bytes as f64 / cap as f64;
        println!("{records} of {value_bytes} bytes reach {share:.3} of the cap");
        // Small records pay for headers and index cells. Records with mappings of their own can't use what is
        // free in chunks that an index still holds a part of: at most one a shard.
        let share_min = match value_bytes {
            100 => 0.75,
            10_240 => 0.9,
            _ => 0.85,
        };
        assert!(share > share_min, "{share:.3} of the cap with {value_bytes}-byte values: {stats:?}");
        delete_all(&store, "k");
        assert_eq!(store.stats().records, 0);
    }
}

#[test]
fn what_is_refused_changes_nothing_and_everything_else_goes_on() {
    for index in IndexKind::BUILT {
        let store = store(*index, 2, 16 * MIB);
        fill(&store, "k", 1000);
        let records = store.stats().records;
        assert!(records > 10_000, "{records} records fit in 16 MiB");
        let key = format!("k {:019}", 7);
        let key = key.as_bytes();
        let (same, large) = (vec![1; 1000], vec![2; 3 << 20]);
        let before = execute(&store, [op(key, Action::Get)]);
        let Outcome::Value { version: Some(version), .. } = before.outcome(0) else { panic!("{before:?}") };
        let outcomes = execute(
            &store,
            [
                op(key, Action::Put { value: &large }),
                op(key, Action::CompareAndSwap { expected: version, value: &large }),
                op(b"new", Action::CompareAndSwap { expected: 0, value: &large }),
                op(key, Action::Get),
                op(b"new", Action::Get),
                op(key, Action::Put { value: &same }),
                op(key, Action::Get),
                op(key, Action::Delete),
                op(key, Action::Get),
                op(key, Action::Put { value: &same }),
            ],
        );
        for refused in 0..3 {
            assert_eq!(outcomes.outcome(refused), Outcome::OutOfMemory);
        }
        assert_eq!(outcomes.outcome(3), before.outcome(0));
        assert_eq!(outcomes.outcome(4), Outcome::NotFound);
        assert!(matches!(outcomes.outcome(5), Outcome::Done { .. }), "an overwrite of the same size goes on");
        assert!(matches!(outcomes.outcome(6), Outcome::Value { value, .. } if value == same));
        assert!(matches!(outcomes.outcome(7), Outcome::Done { .. }), "a delete goes on");
        assert_eq!(outcomes.outcome(8), Outcome::NotFound);
        assert!(matches!(outcomes.outcome(9), Outcome::Done { .. }), "what was freed is used again");
        assert_eq!(store.stats().records, records);
    }
}

#[test]
fn a_counter_is_refused_where_there_is_no_room_for_it() {
    for index in IndexKind::BUILT {
        let store = store(*index, 1, 4 * MIB);
        fill(&store, "k", 1000);
        // Other sizes may still find room in the last chunk: use that up too.
        for size in [500, 100, 30, 5] {
            fill(&store, &format!("{size}"), size);
        }
        let keys: Vec<String> = (0..10_000).map(|i| format!("counter {i}")).collect();
        let outcomes = execute(&store, keys.iter().map(|key| op(key.as_bytes(), Action::Add { delta: 1 })));
        let refused = outcomes.iter().filter(|outcome| *outcome == Outcome::OutOfMemory).count();
        assert!(refused > 0, "10,000 counters fit in a full store");
        let found = execute(&store, keys.iter().map(|key| op(key.as_bytes(), Action::Get)));
        assert_eq!(found.iter().filter(|outcome| *outcome == Outcome::NotFound).count(), refused);
    }
}

#[test]
fn random_operations_at_the_cap_agree_with_a_map() {
    for index in IndexKind::BUILT {
        let (store, mut model) = (store(*index, 4, 8 * MIB), Model::default());
        let mut random = super::support::Random(11);
        let value = vec![0x11; 40_000];
        for _ in 0..400 {
            let keys: Vec<String> = (0..50).map(|_| random.below(3000).to_string()).collect();
            let ops: Vec<_> = keys
                .iter()
                .map(|key| match random.below(8) {
                    0 => op(key.as_bytes(), Action::Delete),
                    1 => op(key.as_bytes(), Action::Get),
                    2..6 => op(key.as_bytes(), Action::Put { value: &value[..random.below(10_000)] }),
                    6 => op(key.as_bytes(), Action::Put { value: &value[..random.below(40_000)] }),
                    _ => {
                        let expected = model.version(key.as_bytes());
                        op(key.as_bytes(), Action::CompareAndSwap { expected, value: &value[..random.below(2_000)] })
                    }
                })
                .collect();
            let outcomes = execute(&store, ops.iter().copied());
            for (op, outcome) in ops.iter().zip(outcomes.iter()) {
                model.check(op, outcome, Place { shard: store.shard_of(op.key), now: 0 });
            }
        }
        let stats = store.stats();
        assert_eq!((stats.records, stats.payload_bytes), (model.len() as u64, model.payload_bytes() as u64));
    }
}

#[test]
fn a_dropped_store_credits_all_it_charged() {
    for index in IndexKind::BUILT {
        let budget = Arc::new(Budget::new(64 * MIB));
        let config = StoreConfig {
            shards: 4,
            index: *index,
            hash_secret: [3; 32],
            budget: Arc::clone(&budget),
            eviction: Eviction::None,
        };
        let store = Store::new(config).expect("a valid configuration");
        for size in [10, 1000, 5000, 100_000, 1_000_000] {
            fill(&store, &size.to_string(), size);
        }
        assert!(budget.bytes_used() > 60 * MIB);
        let stats = store.stats();
        assert!(stats.index_bytes + stats.slab_bytes <= budget.bytes_used(), "{stats:?}");
        drop(store);
        assert_eq!(budget.bytes_used(), 0);
    }
}

#[cfg(not(feature = "leapfrog"))]
#[test]
fn an_index_that_is_not_built_is_an_error() {
    let budget = Arc::new(Budget::new(u64::MAX));
    let config =
        StoreConfig { shards: 1, index: IndexKind::Leapfrog, hash_secret: [1; 32], budget, eviction: Eviction::None };
    assert_eq!(Store::new(config).err(), Some(StoreError::IndexNotBuilt));
}

#[test]
fn a_cap_below_the_empty_shards_is_an_error() {
    for index in IndexKind::BUILT {
        let config = |shards, bytes_max| StoreConfig {
            shards,
            index: *index,
            hash_secret: [0; 32],
            budget: Arc::new(Budget::new(bytes_max)),
            eviction: Eviction::None,
        };
        let error = Store::new(config(16, 1000)).expect_err("1,000 bytes are too few");
        assert_eq!(error, StoreError::OutOfMemory { bytes_max: 1000, shards: 16 });
        for shards in [0, 3, 8192] {
            let error = Store::new(config(shards, u64::MAX)).expect_err("no valid number of shards");
            assert_eq!(error, StoreError::ShardCount { shards });
        }
    }
}
