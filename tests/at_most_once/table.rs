//! The table of sessions by itself: a store, batches as lists, and connections that carry them.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::completions::{Carrier, Completions, CompletionsConfig, Identity};
use freight::op::{Action, Batch, Op, Outcome, Time};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use std::sync::Arc;

/// A node without a wire.
pub(crate) struct Node {
    pub(crate) store: Store,
    pub(crate) completions: Arc<Completions>,
    /// The time of the batches to come.
    pub(crate) now: Time,
    scratch: Scratch,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(64 << 20)
    }

    pub(crate) fn with(bytes_max: u64) -> Self {
        Self::on(Arc::new(Budget::new(u64::MAX)), Eviction::None, bytes_max)
    }

    /// A node that evicts records beyond so many bytes; what it remembers of sessions is beside them.
    pub(crate) fn evicting(eviction: Eviction, record_bytes_max: u64) -> Self {
        Self::on(Arc::new(Budget::new(record_bytes_max)), eviction, 64 << 20)
    }

    fn on(budget: Arc<Budget>, eviction: Eviction, bytes_max: u64) -> Self {
        let config = CompletionsConfig { bytes_max, budget: Arc::new(Budget::new(u64::MAX)) };
        let store = StoreConfig { shards: 2, index: IndexKind::Buckets, hash_secret: [1; 32], budget, eviction };
        Self {
            store: Store::new(store).expect("a store"),
            completions: Arc::new(Completions::new(config)),
            now: 1_000,
            scratch: Scratch::new(0).finding_repeats(),
        }
    }

    pub(crate) fn connect(&self) -> Carrier {
        Carrier::new(&self.completions)
    }

    /// What becomes of a batch that comes on a connection.
    pub(crate) fn execute(&mut self, on: &mut Carrier, identity: Identity, ops: &[Op<'_>]) -> OutcomeList {
        self.execute_batch(on, identity, &ops.iter().copied().collect::<OpList>())
    }

    pub(crate) fn execute_batch(&mut self, on: &mut Carrier, identity: Identity, batch: &impl Batch) -> OutcomeList {
        let mut outcomes = OutcomeList::new();
        on.execute(&self.store, batch, self.now, identity, &mut outcomes, &mut self.scratch).expect("memory");
        outcomes
    }

    /// What an add to a counter comes to; `None` where that is unknown.
    pub(crate) fn add(&mut self, on: &mut Carrier, identity: Identity, key: &[u8]) -> Option<i64> {
        let add = Op { key, action: Action::Add { delta: 1 }, version_wanted: false };
        match self.execute(on, identity, &[add]).outcome(0) {
            Outcome::Counter { value, .. } => Some(value),
            Outcome::Unknown => None,
            outcome => panic!("{outcome:?}"),
        }
    }
}

pub(crate) fn first(session: u64, sequence: u64) -> Identity {
    Identity { session, sequence, acknowledged_up_to: 0, is_retry: false }
}

pub(crate) fn again(session: u64, sequence: u64) -> Identity {
    Identity { is_retry: true, ..first(session, sequence) }
}
