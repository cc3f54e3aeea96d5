//! What the shard tests share: a model to hold the store against, seeded randomness, small helpers.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::limits::VALUE_BYTES_MAX;
use freight::op::{Action, Condition, Content, Edit, Edited, Expiry, Op, Outcome, Time, VERSION_ABSENT, Version};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

pub(crate) fn store(index: IndexKind, shards: u32, bytes_max: u64) -> Store {
    store_on(Arc::new(Budget::new(bytes_max)), index, shards, Eviction::None)
}

/// A store with this account.
pub(crate) fn store_on(budget: Arc<Budget>, index: IndexKind, shards: u32, eviction: Eviction) -> Store {
    let hash_secret = std::array::from_fn(|i| (i as u8).wrapping_mul(151) ^ 0x5A);
    Store::new(StoreConfig { shards, index, hash_secret, budget, eviction }).expect("a valid configuration")
}

/// Executes operations as one batch and gives the outcomes.
pub(crate) fn execute<'a>(store: &Store, ops: impl IntoIterator<Item = Op<'a>>) -> OutcomeList {
    execute_at(store, 0, ops)
}

/// As [`execute`], at a time.
pub(crate) fn execute_at<'a>(store: &Store, now: Time, ops: impl IntoIterator<Item = Op<'a>>) -> OutcomeList {
    let mut outcomes = OutcomeList::new();
    store.execute(&ops.into_iter().collect::<OpList>(), now, &mut outcomes, &mut Scratch::new(0));
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
    /// Those too whose deadline is reached, until their key is changed.
    records: HashMap<Vec<u8>, Record>,
    versions_seen: std::collections::HashSet<(usize, Version)>,
    /// The latest time that each shard was told.
    now: HashMap<usize, Time>,
    expired: u64,
    /// Whether a record may be gone at any time.
    may_forget: bool,
}

#[derive(Clone, Default)]
struct Record {
    value: Vec<u8>,
    version: Version,
    deadline: Option<Time>,
}

/// Where and when an operation is executed.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Tells apart the version counters and times of shards.
    pub(crate) shard: usize,
    pub(crate) now: Time,
}

impl Model {
    /// A store of which a record may be gone at any time, and then stays so.
    pub(crate) fn forgetful() -> Self {
        Self { may_forget: true, ..Self::default() }
    }

    pub(crate) fn version(&self, key: &[u8]) -> Version {
        self.records.get(key).map_or(VERSION_ABSENT, |record| record.version)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn expiring(&self) -> usize {
        self.records.values().filter(|record| record.deadline.is_some()).count()
    }

    pub(crate) fn expired(&self) -> u64 {
        self.expired
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.records.iter().map(|(key, record)| key.len() + record.value.len()).sum()
    }

    /// Applies an operation that the store answered with `outcome`; panics where the model says otherwise.
    pub(crate) fn check(&mut self, op: &Op<'_>, outcome: Outcome<'_>, place: Place) {
        let Place { shard, now } = place;
        let time = self.now.entry(shard).or_default();
        *time = now.max(*time);
        let now = *time;
        let key = String::from_utf8_lossy(&op.key[..op.key.len().min(40)]);
        let is_expired = |record: &Record| record.deadline.is_some_and(|deadline| deadline <= now);
        let mut before = self.records.get(op.key).filter(|record| !is_expired(record)).cloned();
        if self.may_forget && before.as_ref().is_some_and(|record| was_absent(op, outcome, record)) {
            self.records.remove(op.key);
            before = None;
        }
        if op.action != Action::Get && outcome != Outcome::OutOfMemory && before.is_none() {
            self.expired += u64::from(self.records.remove(op.key).is_some());
        }
        let current = before.as_ref().map_or(VERSION_ABSENT, |record| record.version);
        match (op.action, outcome) {
            (_, Outcome::OutOfMemory) if !matches!(op.action, Action::Get | Action::Delete) => {}
            (Action::Get, Outcome::Value { value, version }) => {
                let expected = before.unwrap_or_else(|| panic!("{key} was deleted, or expired by {now}"));
                assert!(value == expected.value, "get of {key}: another value");
                assert_eq!(version, op.version_wanted.then_some(expected.version), "get of {key}");
            }
            (Action::Get, Outcome::NotFound) => assert!(before.is_none(), "{key} was lost"),
            (Action::Put { value }, Outcome::Done { version }) => self.write(op, value, None, version, shard),
            (Action::CompareAndSwap { expected, value }, Outcome::Done { version }) => {
                assert_eq!(current, expected, "compare-and-swap of {key}");
                self.write(op, value, None, version, shard);
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
            (Action::Edit(edit), outcome) => self.check_edit(op, &edit, before, outcome, Place { shard, now }),
            (action, outcome) => panic!("{action:?} of {key}: {outcome:?}"),
        }
    }

    fn check_add(&mut self, op: &Op<'_>, delta: i64, before: Option<Record>, outcome: Outcome<'_>, shard: usize) {
        let deadline = before.as_ref().and_then(|record| record.deadline);
        let text = before.map_or_else(|| "0".to_owned(), |record| String::from_utf8_lossy(&record.value).into_owned());
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        match (number.map(|number| number.checked_add(delta)), outcome) {
            (None, Outcome::NotANumber) | (Some(None), Outcome::CounterOverflow) => {}
            (Some(Some(sum)), Outcome::Counter { value, version }) => {
                assert_eq!(value, sum);
                self.write(op, sum.to_string().as_bytes(), deadline, version, shard);
            }
            (expected, outcome) => panic!("add {delta} to {text}: {outcome:?}, expected {expected:?}"),
        }
    }

    fn check_edit(&mut self, op: &Op<'_>, edit: &Edit<'_>, before: Option<Record>, outcome: Outcome<'_>, place: Place) {
        let Place { shard, now } = place;
        let deadline = match edit.expiry() {
            Expiry::Keep => before.as_ref().and_then(|record| record.deadline),
            Expiry::Clear => None,
            Expiry::At(time) => Some(time),
            Expiry::After(ms) => Some(now + ms),
        };
        let is_done = is_as_expected(edit.condition(), before.as_ref(), deadline);
        let written = match (edit.content(), &before) {
            (Content::Keep, record) => record.as_ref().map(|record| record.value.clone()),
            (Content::Write(value), _) => Some(value.to_vec()),
            (Content::Append(more), record) => {
                Some([record.as_ref().map_or(&[][..], |record| &record.value), more].concat())
            }
            (Content::Remove, _) => None,
        };
        if is_done && matches!(&written, Some(value) if value.len() > VALUE_BYTES_MAX as usize) {
            return assert_eq!(outcome, Outcome::ValueTooLong, "{edit:?}");
        }
        let Outcome::Edited(told) = outcome else { panic!("{edit:?}: {outcome:?}") };
        let version = told.version.map(NonZeroU64::get);
        let behind = match written.filter(|_| deadline.is_none_or(|deadline| deadline > now)) {
            _ if !is_done => before.clone(),
            Some(value) => Some(Record { value, deadline, version: version.unwrap_or(VERSION_ABSENT) }),
            None => None,
        };
        let changes = |one: &Record, other: &Record| one.value != other.value || one.deadline != other.deadline;
        let value = before.as_ref().filter(|_| edit.value_wanted()).map(|record| &record.value[..]);
        let expected = Edited {
            is_done,
            was_there: before.is_some(),
            is_there: behind.is_some(),
            value,
            value_bytes: behind.as_ref().map_or(0, |record| record.value.len() as u32),
            deadline: behind.as_ref().and_then(|record| record.deadline).and_then(NonZeroU64::new),
            version: told.version,
        };
        assert_eq!(told, expected, "{edit:?}");
        match (before, behind) {
            (_, None) => _ = self.records.remove(op.key),
            (Some(before), Some(behind))
                if !changes(&before, &behind) && !matches!(edit.content(), Content::Write(_)) =>
            {
                assert_eq!(version, op.version_wanted.then_some(before.version), "{edit:?}");
            }
            (Some(before), Some(_)) if !is_done => assert_eq!(version, Some(before.version), "{edit:?}"),
            (_, Some(behind)) => self.write(op, &behind.value, behind.deadline, version, shard),
        }
    }

    fn write(&mut self, op: &Op<'_>, value: &[u8], deadline: Option<Time>, version: Option<Version>, shard: usize) {
        let version = version.expect("these tests always want the version of a change");
        assert_ne!(version, VERSION_ABSENT);
        assert!(self.versions_seen.insert((shard, version)), "version {version} was drawn twice");
        self.records.insert(op.key.to_vec(), Record { value: value.to_vec(), version, deadline });
    }
}

/// Whether an outcome says that there was no record, where this one may have been evicted.
fn was_absent(op: &Op<'_>, outcome: Outcome<'_>, record: &Record) -> bool {
    match (op.action, outcome) {
        (Action::Get | Action::Delete, outcome) => outcome == Outcome::NotFound,
        (Action::CompareAndSwap { .. }, Outcome::VersionMismatch { current }) => current == VERSION_ABSENT,
        (Action::CompareAndSwap { expected, .. }, Outcome::Done { .. }) => expected == VERSION_ABSENT,
        // A counter at 0 counts on as one that is absent does.
        (Action::Add { delta }, Outcome::Counter { value, .. }) => {
            let text = std::str::from_utf8(&record.value).unwrap_or_default();
            value == delta && text.parse::<i64>().ok().and_then(|number| number.checked_add(delta)) != Some(value)
        }
        (Action::Edit(_), Outcome::Edited(told)) => !told.was_there,
        _ => false,
    }
}

fn is_as_expected(condition: Condition, before: Option<&Record>, deadline: Option<Time>) -> bool {
    let end = |deadline: Option<Time>| deadline.unwrap_or(Time::MAX);
    match (condition, before) {
        (Condition::Always, _) => true,
        (Condition::IfAbsent, before) => before.is_none(),
        (_, None) => false,
        (Condition::IfPresent, _) => true,
        (Condition::IfLasting, Some(record)) => record.deadline.is_none(),
        (Condition::IfExpiring, Some(record)) => record.deadline.is_some(),
        (Condition::IfLater, Some(record)) => end(deadline) > end(record.deadline),
        (Condition::IfSooner, Some(record)) => end(deadline) < end(record.deadline),
        (Condition::IfExpiringSooner, Some(record)) => {
            record.deadline.is_some() && end(deadline) < end(record.deadline)
        }
    }
}
