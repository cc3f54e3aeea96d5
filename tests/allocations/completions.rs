//! What comes again costs memory by what comes, not by what else its frame did.
#![forbid(unsafe_code)]

use crate::{allocations, counting};
use freight::budget::Budget;
use freight::completions::{Carrier, Completions, CompletionsConfig, Identity};
use freight::hash::Key;
use freight::op::{Action, Batch, Op, Outcome, Position};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use freight::slots::SlotSet;
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

/// A store of four shards, and what a node remembers in so many bytes.
fn node(bytes_max: u64) -> (Store, Arc<Completions>) {
    let budget = Arc::new(Budget::new(u64::MAX));
    let config = CompletionsConfig { bytes_max, budget: Arc::clone(&budget) };
    let store =
        StoreConfig { shards: 4, index: IndexKind::Buckets, hash_secret: [9; 32], budget, eviction: Eviction::None };
    (Store::new(store).expect("a valid configuration"), Arc::new(Completions::new(config)))
}

/// How often a retry of one operation of a frame of `ops` adds allocates.
fn of_a_retry(ops: u32) -> u64 {
    let (store, completions) = node(64 << 20);
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

/// So many clients come, put something and go: other ones each time that it is called with the same `session`.
fn clients_come_and_go(store: &Store, completions: &Arc<Completions>, clients: u64, session: &mut u64) {
    let (mut carrier, mut scratch) = (Carrier::new(completions), Scratch::new(0));
    let put = |value| Op { key: b"key", action: Action::Put { value }, version_wanted: false };
    let batch = [&b"1"[..], b"2", b"3"].map(put).into_iter().collect::<OpList>();
    for number in 0..clients {
        // As random as clients', and two frames of every third.
        *session = session.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for sequence in 1..=1 + u64::from(number % 3 == 0) {
            let identity = Identity { session: *session, sequence, acknowledged_up_to: 0, is_retry: false };
            let mut outcomes = OutcomeList::new();
            carrier.execute(store, &batch, 0, identity, &mut outcomes, &mut scratch).expect("memory");
        }
    }
}

/// Clients come, change something and go: what is left of each takes no more than it is accounted with, as a session,
/// and as a mark once there are too many.
#[test]
fn sessions_and_marks_take_no_more_memory_than_they_are_accounted_with() {
    let (store, completions) = node(4 << 20);
    let mut session = 1;
    // The record is there from here on.
    clients_come_and_go(&store, &node(4 << 20).1, 1, &mut session);
    let before = counting::bytes_here();
    for clients in [1_000, 3_000, 8_000, 20_000, 60_000] {
        clients_come_and_go(&store, &completions, clients, &mut session);
        let (taken, accounted) = (counting::bytes_here() - before, completions.bytes_used());
        let sessions = completions.sessions();
        println!("{sessions} sessions, {accounted} bytes accounted, {taken} taken");
        assert!(taken <= accounted as i64, "{taken} bytes taken, {accounted} accounted, {sessions} sessions");
    }
}

/// A move hands over every session and every mark: what it holds of them meanwhile is in no account.
#[test]
fn an_export_holds_little_of_each_session_and_mark() {
    let bytes_max = 4 << 20;
    let (store, completions) = node(bytes_max);
    clients_come_and_go(&store, &completions, 20_000, &mut 1);
    let (sessions, marks) = (completions.sessions() as u64, 2 * bytes_max / 1_024);
    let before = counting::bytes_here();
    let export = completions.export(&SlotSet::ALL, 1 << 10);
    let held = (counting::bytes_here() - before) as u64;
    println!("{held} bytes held of {sessions} sessions and {marks} marks");
    let most = 16 * sessions + 24 * marks + 64;
    assert!(held <= most, "{held} bytes held, {most} expected");
    drop(export);
}
