//! What the shard tests share: a model to hold the store against, seeded randomness, small helpers.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::op::{Action, Op, Outcome, VERSION_ABSENT, Version};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{IndexKind, Scratch, Store, StoreConfig};
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) fn store(index: IndexKind, shards: u32, bytes_max: u64) -> Store {
    let budget = Arc::new(Budget::new(bytes_max));
    let hash_secret = std::array::from_fn(|i| (i as u8).wrapping_mul(151) ^ 0x5A);
    Store::new(StoreConfig { shards, index, hash_secret, budget }).expect("a valid configuration")
}

/// Executes operations as one batch and gives the outcomes.
pub(crate) fn execute<'a>(store: &Store, ops: impl IntoIterator<Item = Op<'a>>) -> OutcomeList {
    let mut outcomes = OutcomeList::new();
    store.execute(&ops.into_iter().collect::<OpList>(), &mut outcomes, &mut Scratch::new(0));
    outcomes
}

pub(crate) fn op<'a>(key: &'a [u8], action: Action<'a>) -> Op<'a> {
    Op { key, action, version_wanted: true }
}

/// SplitMix64: a seed names the whole run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// What the store should be: a plain map. Versions it learns from the store, and holds them against the rules.
#[derive(Default)]
pub(crate) struct Model {
    records: HashMap<Vec<u8>, (Vec<u8>, Version)>,
    versions_seen: std::collections::HashSet<(usize, Version)>,
}

impl Model {
    pub(crate) fn version(&self, key: &[u8]) -> Version {
        self.records.get(key).map_or(VERSION_ABSENT, |record| record.1)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.records.iter().map(|(key, (value, _))| key.len() + value.len()).sum()
    }

    /// Applies an operation that the store answered with `outcome`; panics where the model says otherwise.
    /// `shard` tells apart the version counters of shards.
    pub(crate) fn check(&mut self, op: &Op<'_>, outcome: Outcome<'_>, shard: usize) {
        let before = self.records.get(op.key).cloned();
        let current = before.as_ref().map_or(VERSION_ABSENT, |record| record.1);
        let key = String::from_utf8_lossy(&op.key[..op.key.len().min(40)]);
        match (op.action, outcome) {
            (_, Outcome::OutOfMemory) if !matches!(op.action, Action::Get | Action::Delete) => {}
            (Action::Get, Outcome::Value { value, version }) => {
                let (expected, expected_version) = before.unwrap_or_else(|| panic!("{key} was deleted"));
                assert!(value == expected, "get of {key}: another value");
                assert_eq!(version, op.version_wanted.then_some(expected_version), "get of {key}");
            }
            (Action::Get, Outcome::NotFound) => assert!(before.is_none(), "{key} was lost"),
            (Action::Put { value }, Outcome::Done { version }) => self.write(op, value, version, shard),
            (Action::CompareAndSwap { expected, value }, Outcome::Done { version }) => {
                assert_eq!(current, expected, "compare-and-swap of {key}");
                self.write(op, value, version, shard);
            }
            (Action::CompareAndSwap { expected, .. }, Outcome::VersionMismatch { current: told }) => {
                assert_ne!(current, expected, "compare-and-swap of {key}");
                assert_eq!(told, current, "compare-and-swap of {key}");
            }
            (Action::Delete, Outcome::Done { version: None }) => {
                assert!(self.records.remove(op.key).is_some(), "{key} was deleted twice");
            }
            (Action::Delete, Outcome::NotFound) => assert!(before.is_none(), "delete didn't find {key}"),
            (Action::Add { delta }, outcome) => self.check_add(op, delta, before, outcome, shard),
            (action, outcome) => panic!("{action:?} of {key}: {outcome:?}"),
        }
    }

    fn check_add(
        &mut self,
        op: &Op<'_>,
        delta: i64,
        before: Option<(Vec<u8>, Version)>,
        outcome: Outcome<'_>,
        shard: usize,
    ) {
        let text = before.map_or_else(|| "0".to_owned(), |record| String::from_utf8_lossy(&record.0).into_owned());
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        match (number.map(|number| number.checked_add(delta)), outcome) {
            (None, Outcome::NotANumber) | (Some(None), Outcome::CounterOverflow) => {}
            (Some(Some(sum)), Outcome::Counter { value, version }) => {
                assert_eq!(value, sum);
                self.write(op, sum.to_string().as_bytes(), version, shard);
            }
            (expected, outcome) => panic!("add {delta} to {text}: {outcome:?}, expected {expected:?}"),
        }
    }

    fn write(&mut self, op: &Op<'_>, value: &[u8], version: Option<Version>, shard: usize) {
        let version = version.expect("these tests always want the version of a change");
        assert_ne!(version, VERSION_ABSENT);
        assert!(self.versions_seen.insert((shard, version)), "version {version} was drawn twice");
        self.records.insert(op.key.to_vec(), (value.to_vec(), version));
    }
}
