//! A full store that evicts: what fits, what stays, what it costs, and that nothing older ever comes back.
#![forbid(unsafe_code)]

use super::model::{key, random_op, step_at};
use super::support::{Model, Random, execute, execute_at, op, store_on};
use freight::budget::Budget;
use freight::hash::slot;
use freight::op::{Action, Content, Edit, Expiry, Op, Outcome, Time};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{Eviction, IndexKind, Ownership, Scratch, Store};
use freight::slots::SlotSet;
use std::collections::HashSet;
use std::sync::Arc;

const MIB: u64 = 1 << 20;

const EVICTIONS: [Eviction; 2] = [Eviction::S3Fifo, Eviction::Random];

fn evicting(index: IndexKind, shards: u32, bytes_max: u64, eviction: Eviction) -> (Store, Arc<Budget>) {
    let budget = Arc::new(Budget::new(bytes_max));
    (store_on(Arc::clone(&budget), index, shards, eviction), budget)
}

fn put(store: &Store, key: &[u8], value: &[u8]) {
    let outcomes = execute(store, [op(key, Action::Put { value })]);
    let outcome = outcomes.outcome(0);
    assert!(matches!(outcome, Outcome::Done { .. }), "a put of {} bytes: {outcome:?}", value.len());
}

fn value(outcomes: &OutcomeList, index: usize) -> Option<&[u8]> {
    match outcomes.outcome(index) {
        Outcome::Value { value, .. } => Some(value),
        Outcome::NotFound => None,
        other => panic!("{other:?}"),
    }
}

fn is_there(store: &Store, key: &[u8]) -> bool {
    value(&execute(store, [op(key, Action::Get)]), 0).is_some()
}

fn name(number: usize) -> Vec<u8> {
    format!("key {number:012}").into_bytes()
}

/// Which of so many keys are there, without counting as hits of all of them: each is asked for once.
fn present(store: &Store, count: usize) -> HashSet<usize> {
    (0..count).filter(|number| is_there(store, &name(*number))).collect()
}

#[test]
fn random_operations_agree_with_a_map_that_may_forget() {
    for index in IndexKind::BUILT {
        for (seed, eviction) in EVICTIONS.into_iter().enumerate() {
            let (store, budget) = evicting(*index, 4, 16 * MIB, eviction);
            let (mut scratch, mut random) = (Scratch::new(2), Random(40 + seed as u64));
            let mut model = Model::forgetful();
            let values: Vec<Vec<u8>> = (0..64).map(|i| vec![i as u8 ^ 0x5C; i * i * 17]).collect();
            let mut latest: Time = 1_000;
            for _ in 0..1_500 {
                latest += random.below(20) as Time;
                let now = latest - if random.below(10) == 0 { random.below(100) as Time } else { 0 };
                let names: Vec<Vec<u8>> = (0..random.below(60)).map(|_| key(random.below(3_000))).collect();
                let ops: Vec<Op<'_>> = names
                    .iter()
                    .map(|key| {
                        let value = &values[random.below(64)];
                        random_op(&mut random, &model, now, key, value)
                    })
                    .collect();
                step_at(&store, &mut scratch, &mut model, now, &ops);
                assert!(budget.bytes_used() <= 16 * MIB);
            }
            let stats = store.stats();
            println!("{index:?}, {eviction}: {} records, {} evicted", stats.records, stats.records_evicted);
            assert!(stats.records_evicted > 1_000 && stats.records <= model.len() as u64, "{stats:?}");
            let all: Vec<Vec<u8>> = (0..3_000).map(key).collect();
            let ops: Vec<Op<'_>> = all.iter().map(|key| op(key, Action::Get)).collect();
            step_at(&store, &mut scratch, &mut model, latest, &ops);
        }
    }
}

/// Puts records of a size until so many bytes were written; each is there when its put is answered.
fn write(store: &Store, budget: &Budget, random: &mut Random, size: impl Fn(&mut Random) -> usize, bytes: usize) {
    let (bytes_max, filler, mut written) = (budget.bytes_max(), vec![0xA5; 8 << 20], 0);
    while written < bytes {
        let (key, value) = (name(random.below(1 << 40)), &filler[..size(random)]);
        let outcomes = execute(store, [op(&key, Action::Put { value }), op(&key, Action::Get)]);
        let (put, get) = (outcomes.outcome(0), outcomes.outcome(1));
        assert!(matches!(put, Outcome::Done { .. }), "a put of {} bytes: {put:?}", value.len());
        assert!(matches!(get, Outcome::Value { value: found, .. } if found == value), "it is not there");
        assert!(budget.bytes_used() <= bytes_max, "{} of {bytes_max} bytes", budget.bytes_used());
        written += key.len() + value.len();
    }
}

#[test]
fn every_put_fits_and_the_cap_holds_at_every_step_whatever_sizes_follow_each_other() {
    for index in IndexKind::BUILT {
        for eviction in EVICTIONS {
            let cap = 48 * MIB;
            let (store, budget) = evicting(*index, 4, cap, eviction);
            let mut random = Random(3);
            for size in [100, 10 << 10, 1 << 20, 300, 100 << 10, 8 << 20, 2_000] {
                write(&store, &budget, &mut random, |_| size, 2 * cap as usize);
                let stats = store.stats();
                let share = stats.payload_bytes as f64 / cap as f64;
                println!("{index:?}, {eviction}: {} records of {size} bytes, {share:.3} of the cap", stats.records);
                // The second index takes a hundred bytes a record, and keeps them for a while.
                let share_min = if *index == IndexKind::Leapfrog { 0.3 } else { 0.6 };
                assert!(share > share_min, "{share:.3} of the cap with {size}-byte values: {stats:?}");
            }
            let mixed = |random: &mut Random| 1 << random.below(20);
            write(&store, &budget, &mut random, mixed, 3 * cap as usize);
            let stats = store.stats();
            let share = stats.payload_bytes as f64 / cap as f64;
            println!("{index:?}, {eviction}: {} records of mixed sizes, {share:.3} of the cap", stats.records);
            assert!(share > 0.4, "{share:.3} of the cap with mixed values: {stats:?}");
        }
    }
}

#[test]
fn the_cap_holds_at_every_step_for_several_threads_whose_sizes_change() {
    for index in IndexKind::BUILT {
        for eviction in EVICTIONS {
            let (store, budget) = evicting(*index, 8, 48 * MIB, eviction);
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    let (store, budget) = (&store, &budget);
                    scope.spawn(move || {
                        let mut random = Random(thread);
                        let sizes = [50, 3 << 10, 300 << 10, 700, 20 << 10];
                        for turn in 0..sizes.len() {
                            let size = sizes[(turn + thread as usize) % sizes.len()];
                            write(store, budget, &mut random, |random| size + random.below(size), 24 << 20);
                        }
                    });
                }
            });
            assert!(store.stats().records_evicted > 1_000);
        }
    }
}

#[test]
fn a_put_of_a_usual_size_evicts_one_record_and_one_of_another_size_a_chunk_at_most() {
    for eviction in EVICTIONS {
        let (store, _) = evicting(IndexKind::Buckets, 1, 32 * MIB, eviction);
        (0..400_000).for_each(|number| put(&store, &name(number), &[1; 50]));
        let mut before = store.stats().records_evicted;
        assert!(before > 0, "it is full");
        for number in 400_000..450_000 {
            put(&store, &name(number), &[1; 50]);
            let now = store.stats().records_evicted;
            assert!(now - before <= 1, "one put evicted {}", now - before);
            before = now;
        }
        let slots_a_chunk = (2 << 20) / 80;
        for (number, value_bytes) in (450_000..).zip([1_000, 9_000, 100_000, 250_000]) {
            put(&store, &name(number), &vec![1; value_bytes]);
            let now = store.stats().records_evicted;
            assert!(now - before <= slots_a_chunk, "a put of {value_bytes} bytes evicted {}", now - before);
            before = now;
        }
        put(&store, &name(460_000), &vec![1; 8 << 20]);
        let evicted = store.stats().records_evicted - before;
        assert!(evicted <= 6 * slots_a_chunk, "a put of 8 MiB evicted {evicted}");
    }
}

#[test]
fn a_record_takes_less_than_four_bytes_more_than_without_eviction() {
    let (plain, _) = evicting(IndexKind::Buckets, 1, u64::MAX, Eviction::None);
    for (eviction, bytes_max) in
        [(Eviction::S3Fifo, u64::MAX), (Eviction::S3Fifo, 32 * MIB), (Eviction::Random, 32 * MIB)]
    {
        let (store, _) = evicting(IndexKind::Buckets, 1, bytes_max, eviction);
        let mut worst: f64 = 0.0;
        for number in 0..500_000 {
            put(&store, &name(number), &[1; 50]);
            if number >= 100_000 && number % 10_000 == 0 {
                let stats = store.stats();
                worst = worst.max(stats.eviction_bytes as f64 / stats.records as f64);
            }
        }
        println!("{eviction}, cap {bytes_max}: {worst:.2} bytes a record");
        assert!(worst < 4.0, "{eviction}: {worst:.2} bytes a record");
    }
    (0..500_000).for_each(|number| put(&plain, &name(number), &[1; 50]));
    let (evicting, _) = evicting(IndexKind::Buckets, 1, u64::MAX, Eviction::S3Fifo);
    (0..500_000).for_each(|number| put(&evicting, &name(number), &[1; 50]));
    assert_eq!(evicting.stats().slab_bytes, plain.stats().slab_bytes, "marks lie in bits that were free");
}

#[test]
fn what_is_asked_for_stays_through_a_scan() {
    for index in IndexKind::BUILT {
        let survivors = |eviction| {
            let (store, _) = evicting(*index, 2, 16 * MIB, eviction);
            (0..2_000).for_each(|number| put(&store, &name(number), &[1; 50]));
            let mut hot = 2_000;
            for number in 2_000..500_000 {
                put(&store, &name(number), &[1; 50]);
                if number % 20 == 0 {
                    hot = (hot + 1) % 2_000;
                    is_there(&store, &name(hot));
                }
            }
            assert!(store.stats().records_evicted > 300_000, "the scan is longer than what fits");
            present(&store, 2_000).len()
        };
        assert!(survivors(Eviction::S3Fifo) > 1_980);
        assert!(survivors(Eviction::Random) < 1_000);
    }
}

#[test]
fn chance_follows_from_the_secret() {
    let survivors = |shards| {
        let (store, _) = evicting(IndexKind::Buckets, shards, 8 * MIB, Eviction::Random);
        (0..150_000).for_each(|number| put(&store, &name(number), &[1; 50]));
        present(&store, 150_000)
    };
    let first = survivors(1);
    assert_eq!(first, survivors(1));
    assert_ne!(first, survivors(2));
    let old = first.iter().filter(|number| **number < 75_000).count();
    assert!(old > 500 && old < first.len() / 4, "{old} of {} are old", first.len());
}

#[test]
fn what_is_expired_goes_first() {
    let (store, _) = evicting(IndexKind::Buckets, 1, 16 * MIB, Eviction::S3Fifo);
    let mut number = 0;
    while store.stats().records_evicted == 0 {
        put(&store, &name(number), &[1; 58]);
        number += 1;
    }
    // Hit, so that they would stay.
    let expiring = Edit::new(Content::Write(&[1; 50]), Expiry::At(1_000));
    for key in (number..number + 5_000).map(name) {
        execute_at(&store, 0, [op(&key, Action::Edit(expiring)), op(&key, Action::Get)]);
    }
    assert_eq!((store.stats().records_expiring, store.stats().records_expired), (5_000, 0));
    for key in (number + 5_000..number + 40_000).map(name) {
        execute_at(&store, 2_000, [op(&key, Action::Put { value: &[1; 58] })]);
    }
    assert_eq!((store.stats().records_expiring, store.stats().records_expired), (0, 5_000));
}

#[test]
fn a_record_that_is_changed_is_not_evicted_for_its_own_change() {
    for eviction in EVICTIONS {
        let (store, _) = evicting(IndexKind::Buckets, 1, 32 * MIB, eviction);
        let (mut appended, mut length) = (0, 0);
        for number in 0..3_000 {
            put(&store, &name(number), &[1; 20_000]);
            let append = Edit::new(Content::Append(&[2; 2_000]), Expiry::Keep);
            let outcomes = execute(&store, [op(b"log", Action::Edit(append))]);
            let Outcome::Edited(told) = outcomes.outcome(0) else { panic!("{outcomes:?}") };
            // It may have gone for one of the others.
            length = if told.was_there { length + 2_000 } else { 2_000 };
            appended = appended.max(length);
            assert_eq!(told.value_bytes, length);
        }
        assert!(appended > 100_000, "it grew to {appended} bytes at most");
    }
}

#[test]
fn a_value_that_its_shard_is_too_small_for_takes_memory_of_the_others() {
    for index in IndexKind::BUILT {
        for eviction in EVICTIONS {
            let (store, budget) = evicting(*index, 8, 32 * MIB, eviction);
            (0..400_000).for_each(|number| put(&store, &name(number), &[1; 50]));
            let large = vec![3; 8 << 20];
            for number in 0..20 {
                let key = name(1_000_000 + number);
                let ops = [
                    op(&key, Action::Put { value: b"old" }),
                    op(&key, Action::Put { value: &large }),
                    op(&key, Action::Get),
                    op(&key, Action::Put { value: b"new" }),
                    op(&key, Action::Get),
                    op(&key, Action::Put { value: &large }),
                ];
                let outcomes = execute(&store, ops);
                for done in [0, 1, 3, 5] {
                    assert!(matches!(outcomes.outcome(done), Outcome::Done { .. }), "{:?}", outcomes.outcome(done));
                }
                assert!(value(&outcomes, 2) == Some(&large[..]) && value(&outcomes, 4) == Some(b"new"));
                assert!(budget.bytes_used() <= 32 * MIB);
            }
            (0..50_000).for_each(|number| put(&store, &name(number), &[1; 50]));
        }
    }
}

#[test]
fn what_no_eviction_makes_room_for_is_refused_and_the_rest_goes_on() {
    for eviction in EVICTIONS {
        let (store, budget) = evicting(IndexKind::Buckets, 2, 10 * MIB, eviction);
        let large = vec![3; 8 << 20];
        let ops = [
            op(b"a", Action::Put { value: b"1" }),
            op(b"b", Action::Put { value: &large }),
            op(b"b", Action::Put { value: b"2" }),
            op(b"c", Action::Put { value: b"3" }),
            op(b"b", Action::Get),
        ];
        let outcomes = execute(&store, ops);
        assert_eq!(outcomes.outcome(1), Outcome::OutOfMemory);
        assert!([0, 2, 3].iter().all(|done| matches!(outcomes.outcome(*done), Outcome::Done { .. })));
        assert_eq!(value(&outcomes, 4), Some(&b"2"[..]));
        assert!(budget.bytes_used() <= 10 * MIB);
    }
}

#[test]
fn what_was_evicted_during_a_move_does_not_come_back_on_the_new_owner() {
    for index in IndexKind::BUILT {
        for eviction in EVICTIONS {
            let (old, _) = evicting(*index, 2, 32 * MIB, eviction);
            let (new, _) = evicting(*index, 2, 128 * MIB, eviction);
            old.set_ownership(Ownership { epoch: 1, slots: SlotSet::ALL });
            new.set_ownership(Ownership { epoch: 1, slots: SlotSet::NONE });
            (0..200_000).for_each(|number| put(&old, &name(number), &[1; 100]));
            let mut export = old.begin_export(SlotSet::ALL);
            let relay = |export: &mut _| old.export_next(export, true, |carried| new.import(carried));
            while export.keys_left().is_none() {
                relay(&mut export);
            }
            (200_000..230_000).for_each(|number| put(&old, &name(number), &[2; 100]));
            let gone: Vec<usize> = (0..200_000).filter(|number| !is_there(&old, &name(*number))).collect();
            assert!(gone.len() > 1_000, "{} were evicted", gone.len());
            while export.keys_left() != Some(0) {
                relay(&mut export);
            }
            assert!(!export.overflowed());
            old.set_ownership(Ownership { epoch: 2, slots: SlotSet::NONE });
            relay(&mut export);
            new.set_ownership(Ownership { epoch: 2, slots: SlotSet::ALL });
            let back = gone.iter().filter(|number| is_there(&new, &name(**number))).count();
            assert_eq!(back, 0, "{back} of {} came back", gone.len());
        }
    }
}

#[test]
fn what_is_evicted_once_its_slots_are_given_up_holds_no_move_up_and_what_was_before_does_not_come_back() {
    for index in IndexKind::BUILT {
        for eviction in EVICTIONS {
            let (old, _) = evicting(*index, 8, 32 * MIB, eviction);
            let (new, _) = evicting(*index, 8, 128 * MIB, eviction);
            let even: SlotSet = (0..16_384).filter(|slot| slot % 2 == 0).collect();
            let odd = SlotSet::ALL.without(&even);
            old.set_ownership(Ownership { epoch: 1, slots: SlotSet::ALL });
            new.set_ownership(Ownership { epoch: 1, slots: SlotSet::NONE });
            let (moving, staying): (Vec<usize>, Vec<usize>) =
                (0..600_000).partition(|number| even.contains(slot(&name(*number))));
            moving[..200_000].iter().for_each(|number| put(&old, &name(*number), &[1; 100]));
            let mut export = old.begin_export(even.clone());
            let relay = |export: &mut _| old.export_next(export, true, |carried| new.import(carried));
            while export.keys_left().is_none() {
                relay(&mut export);
            }
            staying[..50_000].iter().for_each(|number| put(&old, &name(*number), &[2; 100]));
            let is_gone = |number: &&usize| !is_there(&old, &name(**number));
            let gone: Vec<usize> = moving[..200_000].iter().filter(is_gone).copied().collect();
            assert!(gone.len() > 1_000, "{} were evicted", gone.len());
            assert!(export.keys_left() > Some(0), "what was evicted is still to be told");
            old.set_ownership(Ownership { epoch: 1, slots: odd });
            while export.keys_left() != Some(0) {
                relay(&mut export);
            }
            let before = old.stats().records_evicted;
            staying[50_000..200_000].iter().for_each(|number| put(&old, &name(*number), &[2; 100]));
            // Longer than all that its shard has: others are made to give some.
            put(&old, &name(staying[0]), &vec![3; 8 << 20]);
            assert!(old.stats().records_evicted > before + 10_000, "the old owner is in use");
            assert_eq!((export.keys_left(), export.overflowed()), (Some(0), false));
            old.export_next(&mut export, true, |carried| panic!("{carried:?} is left"));
            new.set_ownership(Ownership { epoch: 2, slots: even });
            let back = gone.iter().filter(|number| is_there(&new, &name(**number))).count();
            assert_eq!(back, 0, "{back} of {} came back", gone.len());
            assert!(new.stats().records > 10_000, "the others are there");
        }
    }
}

#[test]
fn records_that_come_from_another_node_make_room_for_themselves() {
    for eviction in EVICTIONS {
        let (old, _) = evicting(IndexKind::Buckets, 2, 64 * MIB, eviction);
        let (new, budget) = evicting(IndexKind::Buckets, 2, 8 * MIB, eviction);
        old.set_ownership(Ownership { epoch: 1, slots: SlotSet::ALL });
        new.set_ownership(Ownership { epoch: 1, slots: SlotSet::NONE });
        (0..200_000).for_each(|number| put(&old, &name(number), &[1; 50]));
        let mut export = old.begin_export(SlotSet::ALL);
        while export.keys_left() != Some(0) {
            old.export_next(&mut export, true, |carried| {
                assert!(new.import(carried), "there is room for every record");
                true
            });
        }
        let stats = new.stats();
        assert!(stats.records > 20_000 && stats.records_evicted > 50_000, "{stats:?}");
        assert!(budget.bytes_used() <= 8 * MIB);
    }
}

#[test]
fn a_batch_of_one_shard_s_puts_at_the_cap_is_executed_in_order() {
    let (store, _) = evicting(IndexKind::Buckets, 1, 8 * MIB, Eviction::S3Fifo);
    let value = vec![7; 30_000];
    let keys: Vec<Vec<u8>> = (0..2_000).map(name).collect();
    let mut batch = OpList::new();
    for key in &keys {
        batch.push(op(key, Action::Put { value: &value }));
        batch.push(op(key, Action::Get));
    }
    let (mut outcomes, mut scratch) = (OutcomeList::new(), Scratch::new(0));
    store.execute(&batch, 0, &mut outcomes, &mut scratch);
    for number in 0..keys.len() {
        assert!(matches!(outcomes.outcome(2 * number), Outcome::Done { .. }));
        assert_eq!(value.len(), self::value(&outcomes, 2 * number + 1).map_or(0, <[u8]>::len));
    }
}
