//! Slots that are the node's, and those that are not.
#![forbid(unsafe_code)]

use super::support::{execute, op, store};
use freight::hash::slot;
use freight::op::{Action, Op, Outcome, Outcomes};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{IndexKind, Ownership, Scratch, Store};
use freight::slots::SlotSet;
use std::sync::atomic::{AtomicBool, Ordering};

fn keys(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("key {number}").into_bytes()).collect()
}

#[test]
fn operations_on_foreign_slots_are_answered_with_the_epoch_and_not_executed() {
    for index in IndexKind::BUILT {
        let store = store(*index, 4, u64::MAX);
        let keys = keys(200);
        let even: SlotSet = (0..16_384).filter(|slot| slot % 2 == 0).collect();
        store.set_ownership(Ownership { epoch: 7, slots: even });
        let (mut scratch, mut outcomes) = (Scratch::new(0), OutcomeList::new());
        let puts: OpList = keys.iter().map(|key| op(key, Action::Put { value: key })).collect();
        assert_eq!(store.execute(&puts, 0, &mut outcomes, &mut scratch), 7);
        for (key, outcome) in keys.iter().zip(outcomes.iter()) {
            assert_eq!(outcome == Outcome::WrongNode, slot(&key[..]) % 2 == 1, "{key:?}: {outcome:?}");
        }
        let even_keys = keys.iter().filter(|key| slot(&key[..]).is_multiple_of(2)).count() as u64;
        assert_eq!(store.stats().records, even_keys);
        // The same thread learns of the next change, and the records of what it keeps are where they were.
        store.set_ownership(Ownership { epoch: 8, slots: SlotSet::ALL });
        outcomes.clear();
        let gets: OpList = keys.iter().map(|key| op(key, Action::Get)).collect();
        assert_eq!(store.execute(&gets, 0, &mut outcomes, &mut scratch), 8);
        let found = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Value { .. })).count() as u64;
        assert_eq!(found, even_keys);
        assert_eq!(store.stats().records, even_keys);
    }
}

#[test]
fn a_thread_that_serves_two_stores_takes_neither_for_the_other() {
    let (one, other) = (store(IndexKind::Buckets, 2, u64::MAX), store(IndexKind::Buckets, 2, u64::MAX));
    one.set_ownership(Ownership { epoch: 1, slots: SlotSet::NONE });
    let (mut scratch, mut outcomes) = (Scratch::new(0), OutcomeList::new());
    let get: OpList = [op(b"k", Action::Get)].into_iter().collect();
    let mut told = |store: &Store| {
        outcomes.clear();
        let epoch = store.execute(&get, 0, &mut outcomes, &mut scratch);
        (epoch, outcomes.outcome(0) == Outcome::WrongNode)
    };
    assert_eq!([told(&one), told(&other), told(&one)], [(1, true), (0, false), (1, true)]);
    other.set_ownership(Ownership { epoch: 2, slots: SlotSet::ALL });
    assert_eq!([told(&other), told(&one), told(&other)], [(2, false), (1, true), (2, false)]);
}

/// Watches, under the lock of the shard, that nothing is executed while all slots are given up.
struct Watch<'a> {
    given_up: &'a AtomicBool,
    executed: i64,
    refused: u32,
}

impl Outcomes for Watch<'_> {
    fn set(&mut self, _: u32, outcome: Outcome<'_>) {
        match outcome {
            Outcome::WrongNode => self.refused += 1,
            Outcome::Counter { .. } => {
                assert!(!self.given_up.load(Ordering::SeqCst), "executed after the slots were given up");
                self.executed += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn once_slots_are_given_up_nothing_is_executed_on_them() {
    for index in IndexKind::BUILT {
        let store = store(*index, 8, u64::MAX);
        let keys = keys(50);
        let (given_up, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let executed = std::thread::scope(|scope| {
            let adds = |thread| {
                let (store, keys, given_up, over) = (&store, &keys, &given_up, &over);
                move || {
                    let mut scratch = Scratch::new(thread);
                    let mut watch = Watch { given_up, executed: 0, refused: 0 };
                    let one = |number: usize| -> Op<'_> { op(&keys[number % 50], Action::Add { delta: 1 }) };
                    let batch: OpList = (0..400).map(one).collect();
                    while !over.load(Ordering::Relaxed) || watch.executed == 0 || watch.refused == 0 {
                        store.execute(&batch, 0, &mut watch, &mut scratch);
                    }
                    watch.executed
                }
            };
            let threads: Vec<_> = (0..3).map(|thread| scope.spawn(adds(thread))).collect();
            for epoch in 1..400 {
                store.set_ownership(Ownership { epoch, slots: SlotSet::NONE });
                given_up.store(true, Ordering::SeqCst);
                std::thread::yield_now();
                given_up.store(false, Ordering::SeqCst);
                store.set_ownership(Ownership { epoch, slots: SlotSet::ALL });
                std::thread::yield_now();
            }
            over.store(true, Ordering::Relaxed);
            // A thread that was never scheduled in between still meets both.
            let mut flips = (0..).map(|flip| if flip % 2 == 0 { SlotSet::NONE } else { SlotSet::ALL });
            while !threads.iter().all(|thread| thread.is_finished()) {
                let slots = flips.next().expect("endless");
                store.set_ownership(Ownership { epoch: 400, slots });
                std::thread::yield_now();
            }
            store.set_ownership(Ownership { epoch: 401, slots: SlotSet::ALL });
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<i64>()
        });
        let sums = execute(&store, keys.iter().map(|key| op(key, Action::Add { delta: 0 })));
        let sum: i64 =
            sums.iter().map(|outcome| if let Outcome::Counter { value, .. } = outcome { value } else { 0 }).sum();
        assert_eq!(sum, executed, "each was executed once and answered, or neither");
    }
}
