//! A warm store allocates nothing for a batch, whatever is in it.
#![forbid(unsafe_code)]

use crate::allocations;
use freight::budget::Budget;
use freight::op::{Action, Op, Outcome, Outcomes};
use freight::op_list::OpList;
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use std::sync::Arc;

/// Counts outcomes and the bytes of values.
#[derive(Default)]
struct Sum {
    outcomes: u64,
    value_bytes: usize,
}

impl Outcomes for Sum {
    fn set(&mut self, _index: u32, outcome: Outcome<'_>) {
        self.outcomes += 1;
        if let Outcome::Value { value, .. } = outcome {
            self.value_bytes += value.len();
        }
    }
}

/// Every kind of operation, on records that come, change size and go.
fn batch(values: &[u8]) -> OpList {
    let mut batch = OpList::new();
    for i in 0..2000_usize {
        let key = (i % 700).to_string();
        let value = &values[..i * 7 % 900];
        let action = match i % 8 {
            0..3 => Action::Get,
            3 | 4 => Action::Put { value },
            5 => Action::Delete,
            6 => Action::CompareAndSwap { expected: 0, value },
            _ => Action::Add { delta: 1 },
        };
        batch.push(Op { key: key.as_bytes(), action, version_wanted: true });
    }
    batch
}

fn assert_warm_batches_allocate_nothing(index: IndexKind) {
    let eviction = Eviction::None;
    let config =
        StoreConfig { shards: 4, index, hash_secret: [9; 32], budget: Arc::new(Budget::new(u64::MAX)), eviction };
    let store = Store::new(config).expect("a valid configuration");
    let (batch, mut scratch, mut sum) = (batch(&[1; 1000]), Scratch::new(0), Sum::default());
    // Warm: bins grow to their size, tables to theirs.
    (0..20).for_each(|_| _ = store.execute(&batch, 0, &mut sum, &mut scratch));
    let allocated = allocations(|| (0..100).for_each(|_| _ = store.execute(&batch, 0, &mut sum, &mut scratch)));
    assert_eq!(allocated, 0, "{index:?}");
    assert_eq!(sum.outcomes, 120 * 2000);
    assert!(sum.value_bytes > 0);
}

#[test]
fn warm_batches_allocate_nothing() {
    assert_warm_batches_allocate_nothing(IndexKind::Buckets);
}
