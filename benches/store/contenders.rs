//! The stores that compete, each executing the same batches into the same kind of reply.
#![forbid(unsafe_code)]

use crate::workload::{FlatBatch, Reply};
use freight::budget::Budget;
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use std::sync::Arc;

/// One store, shared by threads.
pub(crate) trait Contender: Sync {
    fn execute(&self, batch: &FlatBatch, reply: &mut Reply, scratch: &mut Scratch);
}

pub(crate) fn freight(index: IndexKind, shards: u32) -> Store {
    let hash_secret = std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ 0xA5);
    let budget = Arc::new(Budget::new(u64::MAX));
    Store::new(StoreConfig { shards, index, hash_secret, budget, eviction: Eviction::None }).expect("a bench may panic")
}

impl Contender for Store {
    fn execute(&self, batch: &FlatBatch, reply: &mut Reply, scratch: &mut Scratch) {
        self.execute(batch, 0, reply, scratch);
    }
}

/// hashbrown with boxed keys and values, for one thread at a time. Locked once a batch, which costs nothing.
pub(crate) type Hashbrown = std::sync::Mutex<hashbrown::HashMap<Box<[u8]>, Box<[u8]>>>;

impl Contender for Hashbrown {
    fn execute(&self, batch: &FlatBatch, reply: &mut Reply, _scratch: &mut Scratch) {
        let mut map = self.lock().expect("a bench may panic");
        for (index, (key, put)) in batch.ops().enumerate() {
            match (put, map.get_mut(key)) {
                (None, Some(value)) => reply.value(index, value),
                (None, None) => reply.other(index, 2),
                (Some(new), Some(value)) if new.len() == value.len() => {
                    value.copy_from_slice(new);
                    reply.other(index, 1);
                }
                (Some(new), _) => {
                    map.insert(key.into(), new.into());
                    reply.other(index, 1);
                }
            }
        }
    }
}

impl Contender for dashmap::DashMap<Box<[u8]>, Box<[u8]>> {
    fn execute(&self, batch: &FlatBatch, reply: &mut Reply, _scratch: &mut Scratch) {
        for (index, (key, put)) in batch.ops().enumerate() {
            let Some(new) = put else {
                match self.get(key) {
                    Some(value) => reply.value(index, value.value()),
                    None => reply.other(index, 2),
                }
                continue;
            };
            match self.get_mut(key) {
                Some(mut value) if new.len() == value.len() => value.copy_from_slice(new),
                other => {
                    drop(other);
                    self.insert(key.into(), new.into());
                }
            }
            reply.other(index, 1);
        }
    }
}

impl Contender for papaya::HashMap<Box<[u8]>, Box<[u8]>> {
    fn execute(&self, batch: &FlatBatch, reply: &mut Reply, _scratch: &mut Scratch) {
        let map = self.pin();
        for (index, (key, put)) in batch.ops().enumerate() {
            match (put, map.get(key)) {
                (None, Some(value)) => reply.value(index, value),
                (None, None) => reply.other(index, 2),
                // It lends no value to write to.
                (Some(new), _) => {
                    map.insert(key.into(), new.into());
                    reply.other(index, 1);
                }
            }
        }
    }
}
