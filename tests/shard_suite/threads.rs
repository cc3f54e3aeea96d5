//! Many threads on one store.
#![forbid(unsafe_code)]

use super::support::{Random, execute, op, store};
use freight::hash::Key;
use freight::op::{Action, Batch, Op, Outcome, Outcomes, Position};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{IndexKind, Scratch};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[test]
fn concurrent_adds_sum_up() {
    for index in IndexKind::BUILT {
        let store = store(*index, 4, u64::MAX);
        let keys: Vec<String> = (0..50).map(|i| format!("counter {i}")).collect();
        let (threads, batches, adds) = (4, 200, 100);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (store, keys) = (&store, &keys);
                scope.spawn(move || {
                    let (mut scratch, mut outcomes) = (Scratch::new(thread), OutcomeList::new());
                    let mut random = Random(thread.into());
                    for _ in 0..batches {
                        let add = |_| op(keys[random.below(50)].as_bytes(), Action::Add { delta: 1 });
                        let batch: OpList = (0..adds).map(add).collect();
                        outcomes.clear();
                        store.execute(&batch, 0, &mut outcomes, &mut scratch);
                        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Counter { .. })));
                    }
                });
            }
        });
        let outcomes = execute(&store, keys.iter().map(|key| op(key.as_bytes(), Action::Add { delta: 0 })));
        let sum: i64 = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Counter { value, .. } => value,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(sum, i64::from(threads) * batches * adds);
    }
}

#[test]
fn of_concurrent_swaps_from_one_version_one_wins() {
    for index in IndexKind::BUILT {
        let store = store(*index, 1, u64::MAX);
        for round in 0..200 {
            let key = format!("lock {round}");
            let wins: usize = std::thread::scope(|scope| {
                let swap = || {
                    let swap = op(key.as_bytes(), Action::CompareAndSwap { expected: 0, value: b"mine" });
                    matches!(execute(&store, [swap]).outcome(0), Outcome::Done { .. })
                };
                let threads: Vec<_> = (0..3).map(|_| scope.spawn(swap)).collect();
                threads.into_iter().map(|thread| usize::from(thread.join().expect("no panic"))).sum()
            });
            assert_eq!(wins, 1);
        }
    }
}

#[test]
fn growth_under_concurrent_writers_and_readers_loses_nothing() {
    for index in IndexKind::BUILT {
        let store = store(*index, 4, u64::MAX);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let store = &store;
                scope.spawn(move || {
                    let keys: Vec<String> = (0..20_000).map(|i| format!("{thread} {i}")).collect();
                    for group in keys.chunks(500) {
                        let put = |key| op(key, Action::Put { value: key });
                        execute(store, group.iter().map(|key| put(key.as_bytes())));
                        // What this thread wrote, it reads; and every other key it deletes again.
                        let found = execute(store, group.iter().map(|key| op(key.as_bytes(), Action::Get)));
                        for (key, outcome) in group.iter().zip(found.iter()) {
                            assert!(matches!(outcome, Outcome::Value { value, .. } if value == key.as_bytes()));
                        }
                        execute(store, group.iter().step_by(2).map(|key| op(key.as_bytes(), Action::Delete)));
                    }
                });
            }
        });
        assert_eq!(store.stats().records, 4 * 10_000);
    }
}

/// A batch that panics when its last operation is asked for.
struct Faulty(OpList);

impl Batch for Faulty {
    fn op_count(&self) -> u32 {
        self.0.op_count()
    }

    fn for_each_key<'a>(&'a self, visit: impl FnMut(Position, Key<'a>, bool)) {
        self.0.for_each_key(visit);
    }

    fn op(&self, position: Position) -> Op<'_> {
        assert!(position.index + 1 < self.op_count(), "planted");
        self.0.op(position)
    }
}

/// Outcomes that panic on the first.
struct Refusing;

impl Outcomes for Refusing {
    fn set(&mut self, _index: u32, _outcome: Outcome<'_>) {
        panic!("planted");
    }
}

#[test]
fn a_panic_in_a_batch_or_its_outcomes_leaves_the_store_whole() {
    for index in IndexKind::BUILT {
        let store = store(*index, 1, u64::MAX);
        let put = |key| op(key, Action::Put { value: b"v" });
        let mut scratch = Scratch::new(0);
        let batch: OpList = [put(b"a"), put(b"b"), put(b"c")].into_iter().collect();
        let faulty = Faulty(batch.clone());
        let run = |scratch: &mut Scratch| store.execute(&faulty, 0, &mut OutcomeList::new(), scratch);
        assert!(catch_unwind(AssertUnwindSafe(|| run(&mut scratch))).is_err());
        let run = |scratch: &mut Scratch| store.execute(&batch, 0, &mut Refusing, scratch);
        assert!(catch_unwind(AssertUnwindSafe(|| run(&mut scratch))).is_err());
        // The first batch got two operations done, the second one more on "a"; the scratch still serves.
        let (mut outcomes, gets) = (OutcomeList::new(), [b"a", b"b", b"c"].map(|key| op(key, Action::Get)));
        store.execute(&gets.into_iter().collect::<OpList>(), 0, &mut outcomes, &mut scratch);
        let found: Vec<Outcome<'_>> = outcomes.iter().collect();
        let value = |version| Outcome::Value { value: b"v", version: Some(version) };
        assert_eq!(found, [value(3), value(2), Outcome::NotFound]);
        assert_eq!(store.stats().records, 2);
    }
}

#[test]
fn a_value_that_no_protocol_lets_through_panics_and_leaves_the_store_whole() {
    let (store, value) =
        (store(IndexKind::BUILT[0], 1, u64::MAX), vec![0; freight::limits::VALUE_BYTES_MAX as usize + 1]);
    let put = || execute(&store, [op(b"k", Action::Put { value: &value })]);
    assert!(catch_unwind(AssertUnwindSafe(put)).is_err());
    assert_eq!(execute(&store, [op(b"k", Action::Get)]).outcome(0), Outcome::NotFound);
}
