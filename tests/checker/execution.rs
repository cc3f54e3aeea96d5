//! Random executions of clients on an atomic store, seeded; with a planted bug if wanted.
//!
//! Each tick, a random client takes its next step: it begins a batch, has one key of it carried out, or returns.
//! The tick is the clock that orders calls; another, by which records expire, goes on now and then. What a lost batch
//! does, it does at once, some time later, or never.
#![forbid(unsafe_code)]

use crate::store::{Record, with_version, without_version};
use crate::support::history::{Bytes, Call, History, OwnedOp, OwnedOutcome, Span};
use freight::op::{Condition, Content, Edit, Expiry, Time, Version};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// An edit's deadline is no further away.
pub(crate) const MS_MAX: u64 = 6;

/// What to execute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) clients: u32,
    pub(crate) keys: u32,
    pub(crate) batches: u32,
    /// Most operations in a batch.
    pub(crate) batch_ops_max: u32,
    /// Different values that puts write: few make a history ambiguous.
    pub(crate) values: u32,
    pub(crate) reads_percent: u32,
    pub(crate) lost_percent: u32,
    /// How often an outcome shows its version.
    pub(crate) versions_percent: u32,
    /// How many operations are edits.
    pub(crate) edits_percent: u32,
    /// How often a record is evicted before an operation on it.
    pub(crate) evicted_percent: u32,
    /// The store breaks its promise in this way, once in a while.
    pub(crate) bug: Option<Bug>,
}

/// Ways to break a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A write is answered and does not happen.
    LostUpdate,
    /// A compare-and-swap does not compare.
    BlindSwap,
    /// A get answers from the record as it was before the last change.
    StaleRead,
    /// An add is counted twice.
    DoubleAdd,
    /// A delete is answered, and the record is back afterwards.
    Resurrection,
    /// The operations of one batch on one key are carried out last first.
    BatchReversed,
    /// The operations of one batch on one key are carried out one by one, with others in between.
    BatchTorn,
    /// Of a lost batch, the first half happens.
    LostHalf,
    /// A write keeps the version of the record it replaces.
    VersionReused,
    /// A get finds a record whose deadline is reached.
    ExpiredRead,
    /// The deadline that an edit sets is told, and forgotten.
    DeadlineForgotten,
    /// A record that was evicted is back afterwards.
    EvictedComesBack,
    /// A put behind an eviction draws the version of the record that is gone.
    EvictedVersionReused,
}

impl Bug {
    pub(crate) const ALL: [Self; 9] = [
        Self::LostUpdate,
        Self::BlindSwap,
        Self::StaleRead,
        Self::DoubleAdd,
        Self::Resurrection,
        Self::BatchReversed,
        Self::BatchTorn,
        Self::LostHalf,
        Self::VersionReused,
    ];

    /// Those that only records with deadlines show.
    pub(crate) const OF_EXPIRY: [Self; 2] = [Self::ExpiredRead, Self::DeadlineForgotten];

    /// Those that only a store shows that evicts.
    pub(crate) const OF_EVICTION: [Self; 2] = [Self::EvictedComesBack, Self::EvictedVersionReused];
}

/// One history of the plan, by seed.
pub(crate) fn execute(plan: Plan, seed: u64) -> History {
    let mut execution = Execution {
        plan,
        random: ChaCha8Rng::seed_from_u64(seed),
        tick: 0,
        time: MS_MAX,
        drawn: 0,
        records: BTreeMap::new(),
        evicted: BTreeMap::new(),
        late: Vec::new(),
        history: History::default(),
    };
    let mut clients: Vec<Client> = (0..plan.clients).map(|id| Client { id, invoke: None, batch: Vec::new() }).collect();
    let mut begun = 0;
    while begun < plan.batches || clients.iter().any(|client| client.invoke.is_some()) {
        execution.tick += 1;
        execution.time += u64::from(plan.edits_percent > 0 && execution.chance(30));
        let client = execution.below(plan.clients) as usize;
        let client = &mut clients[client];
        if client.invoke.is_some() {
            execution.step(client);
        } else if begun < plan.batches {
            begun += 1;
            client.invoke = Some((execution.tick, execution.time));
            client.batch = execution.batch();
        }
        execution.maybe_late();
    }
    execution.history
}

struct Client {
    id: u32,
    /// The tick, and the time.
    invoke: Option<(u64, Time)>,
    batch: Vec<Compound>,
}

/// One key's part of a batch.
struct Compound {
    key: u32,
    ops: Vec<OwnedOp>,
    /// As many as are carried out.
    outcomes: Vec<OwnedOutcome>,
}

struct Execution {
    plan: Plan,
    random: ChaCha8Rng,
    tick: u64,
    time: Time,
    drawn: Version,
    /// The record, and as it was before the last change.
    records: BTreeMap<u32, (Record, Record)>,
    /// The record that was evicted last, of each key.
    evicted: BTreeMap<u32, Record>,
    /// Lost compounds that are still to happen.
    late: Vec<(u32, Vec<OwnedOp>)>,
    history: History,
}

impl Execution {
    fn batch(&mut self) -> Vec<Compound> {
        let mut batch = BTreeMap::<u32, Vec<OwnedOp>>::new();
        for _ in 0..=self.below(self.plan.batch_ops_max) {
            let key = self.below(self.plan.keys);
            let op = self.op(key);
            batch.entry(key).or_default().push(op);
        }
        batch.into_iter().map(|(key, ops)| Compound { key, ops, outcomes: Vec::new() }).collect()
    }

    fn op(&mut self, key: u32) -> OwnedOp {
        if self.chance(self.plan.edits_percent) {
            return self.edit();
        }
        if self.chance(self.plan.reads_percent) {
            return OwnedOp::Get;
        }
        let value = self.value();
        match self.below(10) {
            0..4 => OwnedOp::Put { value },
            4..5 => OwnedOp::Delete,
            5..7 => OwnedOp::Add { delta: i64::from(self.below(3)) - 1 },
            _ => {
                let version = self.records.get(&key).map_or(0, |(record, _)| record.version());
                let expected = if self.chance(80) { version } else { self.random.random_range(0..=self.drawn + 1) };
                OwnedOp::CompareAndSwap { expected, value }
            }
        }
    }

    fn edit(&mut self) -> OwnedOp {
        let bytes = self.value();
        let content = match self.below(8) {
            0..4 => Content::Keep,
            4..7 => Content::Write(&[]),
            _ => Content::Remove,
        };
        let ms = u64::from(self.below(MS_MAX as u32));
        let expiry = match self.below(8) {
            0..2 => Expiry::Keep,
            2 => Expiry::Clear,
            3..5 => Expiry::At(self.time + ms - MS_MAX / 3),
            _ => Expiry::After(ms),
        };
        let always = self.chance(60);
        let condition = if always { Condition::Always } else { Condition::ALL[self.below(7) as usize + 1] };
        let edit = Edit::new(content, expiry).on(condition);
        let edit = if self.chance(50) { edit.wanting_value() } else { edit };
        OwnedOp::Edit { edit, bytes: if matches!(content, Content::Write(_)) { bytes } else { Bytes::from([]) } }
    }

    /// Numbers and texts, so that adds meet both.
    fn value(&mut self) -> std::sync::Arc<[u8]> {
        let value = self.below(self.plan.values);
        let text = if value.is_multiple_of(3) { value.to_string() } else { format!("v{value}") };
        text.as_bytes().into()
    }

    /// The client's next step in its batch: one key, or the return.
    fn step(&mut self, client: &mut Client) {
        if self.chance(self.plan.lost_percent) {
            return self.lose(client);
        }
        let torn = self.plan.bug == Some(Bug::BatchTorn);
        let Some(compound) = client.batch.iter_mut().find(|compound| compound.outcomes.len() < compound.ops.len())
        else {
            return self.finish(client);
        };
        let first = compound.outcomes.len();
        let last = if torn { first + 1 } else { compound.ops.len() };
        let mut ops: Vec<_> = compound.ops[first..last].to_vec();
        let reversed = self.plan.bug == Some(Bug::BatchReversed);
        if reversed {
            ops.reverse();
        }
        let mut outcomes: Vec<_> = ops.iter().map(|op| self.carry_out(compound.key, op)).collect();
        if reversed {
            outcomes.reverse();
        }
        compound.outcomes.append(&mut outcomes);
    }

    fn finish(&mut self, client: &mut Client) {
        let ((invoke, min), ret) = (client.invoke.take().expect("in flight"), Some(self.tick));
        let time = Span { min, max: self.time };
        for compound in client.batch.drain(..) {
            let steps = compound.ops.into_iter().zip(compound.outcomes).collect();
            self.history.push(&key(compound.key), Call { client: client.id, invoke, ret, time, steps });
        }
    }

    /// The batch's answer is lost; what was not yet carried out is so now, later or never.
    fn lose(&mut self, client: &mut Client) {
        let (invoke, min) = client.invoke.take().expect("in flight");
        let time = Span { min, max: Time::MAX };
        for compound in client.batch.drain(..) {
            let left = &compound.ops[compound.outcomes.len()..];
            match self.below(3) {
                _ if left.is_empty() || left.len() < compound.ops.len() => self.happen(compound.key, left),
                0 => self.happen(compound.key, left),
                1 => self.late.push((compound.key, left.to_vec())),
                _ => {}
            }
            let steps = compound.ops.into_iter().map(|op| (op, OwnedOutcome::Unknown)).collect();
            self.history.push(&key(compound.key), Call { client: client.id, invoke, ret: None, time, steps });
        }
    }

    fn maybe_late(&mut self) {
        if !self.late.is_empty() && self.chance(10) {
            let index = self.random.random_range(0..self.late.len());
            let (key, ops) = self.late.swap_remove(index);
            self.happen(key, &ops);
        }
    }

    fn happen(&mut self, key: u32, ops: &[OwnedOp]) {
        let half = self.plan.bug == Some(Bug::LostHalf);
        let count = if half { ops.len() / 2 } else { ops.len() };
        for op in &ops[..count] {
            self.carry_out(key, op);
        }
    }

    /// One operation on the store, bugs included, as the client sees it.
    fn carry_out(&mut self, key: u32, op: &OwnedOp) -> OwnedOutcome {
        self.drawn += 1 + u64::from(self.below(2));
        let buggy = self.plan.bug.filter(|_| self.chance(10));
        let show_version = self.chance(self.plan.versions_percent);
        let is_evicted = self.plan.evicted_percent > 0 && self.chance(self.plan.evicted_percent);
        let (record, previous) = self.records.entry(key).or_default();
        if is_evicted && record.value.is_some() {
            self.evicted.insert(key, record.clone());
            *record = record.evicted();
        }
        let gone = self.evicted.get(&key).filter(|_| record.value.is_none());
        if let (Some(Bug::EvictedComesBack), Some(gone)) = (buggy, gone) {
            *record = gone.clone();
        }
        let before = record.clone();
        let mut outcome = match (buggy, op) {
            (Some(Bug::StaleRead), OwnedOp::Get) => previous.execute(op, 0, 0),
            (Some(Bug::ExpiredRead), OwnedOp::Get) => record.execute(op, 0, 0),
            (Some(Bug::BlindSwap), OwnedOp::CompareAndSwap { value, .. }) => {
                record.execute(&OwnedOp::Put { value: value.clone() }, self.drawn, self.time)
            }
            (Some(Bug::DoubleAdd), OwnedOp::Add { .. }) => {
                let outcome = record.execute(op, self.drawn, self.time);
                self.drawn += 1;
                record.execute(op, self.drawn, self.time);
                outcome
            }
            _ => record.execute(op, self.drawn, self.time),
        };
        match (buggy, op) {
            (Some(Bug::LostUpdate), OwnedOp::Put { .. } | OwnedOp::CompareAndSwap { .. })
            | (Some(Bug::Resurrection), OwnedOp::Delete) => *record = before.clone(),
            (Some(Bug::VersionReused), OwnedOp::Put { .. }) => record.drawn = before.drawn.max(1),
            (Some(Bug::EvictedVersionReused), OwnedOp::Put { .. }) => {
                if let Some(gone) = gone {
                    record.drawn = gone.drawn;
                    outcome = with_version(outcome, Some(gone.drawn));
                }
            }
            (Some(Bug::DeadlineForgotten), OwnedOp::Edit { .. }) => record.deadline = None,
            _ => {}
        }
        if *record != before {
            *previous = before;
        }
        if show_version { outcome } else { without_version(outcome) }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.random.random_range(0..limit)
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }
}

fn key(key: u32) -> Vec<u8> {
    format!("key {key}").into_bytes()
}
