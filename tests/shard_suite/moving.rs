//! Records that leave a store and come to another while both are in use.
#![forbid(unsafe_code)]

use super::support::{Random, execute, op, store};
use freight::hash::slot;
use freight::op::{Action, Carried, Op, Outcome, Version};
use freight::shard::{Export, IndexKind, Ownership, Store, Sweep};
use freight::slots::SlotSet;
use std::collections::BTreeMap;

fn keys(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("key {number}").into_bytes()).collect()
}

/// The even slots: what moves.
fn even() -> SlotSet {
    (0..16_384).filter(|slot| slot % 2 == 0).collect()
}

fn own(store: &Store, slots: SlotSet) {
    store.set_ownership(Ownership { epoch: 1, slots });
}

/// What a store holds of these keys: value and version.
fn held(store: &Store, keys: &[Vec<u8>]) -> BTreeMap<Vec<u8>, (Vec<u8>, Version)> {
    let outcomes = execute(store, keys.iter().map(|key| op(key, Action::Get)));
    let found = keys.iter().zip(outcomes.iter()).filter_map(|(key, outcome)| match outcome {
        Outcome::Value { value, version } => Some((key.clone(), (value.to_vec(), version.expect("wanted")))),
        _ => None,
    });
    found.collect()
}

/// Hands the next chunk of up to so many records to another store.
fn relay(from: &Store, export: &mut Export, to: &Store, max: usize) {
    let mut taken = 0;
    from.export_next(export, true, |carried| {
        taken += 1;
        taken <= max && to.import(carried)
    });
}

/// Writes and deletes some of the keys.
fn change(store: &Store, keys: &[Vec<u8>], random: &mut Random) {
    for _ in 0..20 {
        let key = &keys[random.below(keys.len())];
        let value = vec![7; random.below(300)];
        let action = match random.below(4) {
            0 => Action::Delete,
            1 => Action::Add { delta: 1 },
            _ => Action::Put { value: &value },
        };
        execute(store, [op(key, action)]);
    }
}

#[test]
fn what_is_exported_while_it_changes_arrives_as_it_is_in_the_end_with_its_versions() {
    for index in IndexKind::BUILT {
        for seed in 0..30 {
            let mut random = Random(seed);
            let (old, new) = (store(*index, 4, u64::MAX), store(*index, 2, u64::MAX));
            let keys = keys(400);
            own(&old, SlotSet::ALL);
            own(&new, SlotSet::NONE);
            for _ in 0..30 {
                change(&old, &keys, &mut random);
            }
            let mut export = old.begin_export(even());
            while export.keys_left().is_none_or(|keys| keys > 8) {
                relay(&old, &mut export, &new, 1 + random.below(20));
                if random.below(3) == 0 {
                    change(&old, &keys, &mut random);
                }
            }
            own(&old, SlotSet::ALL.without(&even()));
            let odd = held(&old, &keys);
            while export.keys_left() != Some(0) {
                relay(&old, &mut export, &new, 3);
            }
            relay(&old, &mut export, &new, 3);
            new.raise_versions(old.version_max());
            own(&new, even());
            old.end_export();
            // Nothing was executed on what was given up: it is as it was.
            own(&old, SlotSet::ALL);
            let mut all = held(&old, &keys);
            all.retain(|key, _| slot(key).is_multiple_of(2));
            assert_eq!(held(&new, &keys), all, "seed {seed}");
            assert!(odd.keys().all(|key| !slot(key).is_multiple_of(2)));
            let version_max = old.version_max();
            let put = execute(&new, keys.iter().map(|key| op(key, Action::Put { value: b"new" })));
            for (key, outcome) in keys.iter().zip(put.iter()) {
                let is_own = slot(key).is_multiple_of(2);
                let newer = |outcome| matches!(outcome, Outcome::Done { version: Some(new) } if new > version_max);
                assert!(if is_own { newer(outcome) } else { outcome == Outcome::WrongNode }, "{outcome:?}");
            }
        }
    }
}

#[test]
fn a_chunk_that_did_not_arrive_is_handed_over_again() {
    let (old, new) = (store(IndexKind::Buckets, 4, u64::MAX), store(IndexKind::Buckets, 4, u64::MAX));
    let keys = keys(300);
    own(&old, SlotSet::ALL);
    own(&new, SlotSet::NONE);
    execute(&old, keys.iter().map(|key| op(key, Action::Put { value: key })));
    let mut export = old.begin_export(SlotSet::ALL);
    let (mut has_arrived, mut random, mut rounds) = (true, Random(1), 0);
    loop {
        // Every other chunk is lost, and what changes meanwhile counts.
        let (mut chunk, is_lost) = (Vec::<(Vec<u8>, Version, Vec<u8>)>::new(), random.below(2) == 0);
        old.export_next(&mut export, has_arrived, |Carried { key, version, value, .. }| {
            let has_room = chunk.len() < 20;
            if has_room {
                chunk.push((key.to_vec(), version, value.to_vec()));
            }
            has_room
        });
        has_arrived = !is_lost;
        if !is_lost {
            let import = |(key, version, value): &(Vec<u8>, Version, Vec<u8>)| {
                assert!(new.import(Carried { key, version: *version, value, deadline: None }));
            };
            chunk.iter().for_each(import);
            if export.keys_left() == Some(0) && rounds >= 40 {
                break;
            }
        }
        rounds += 1;
        if rounds < 40 {
            change(&old, &keys, &mut random);
        }
    }
    own(&new, SlotSet::ALL);
    assert_eq!(held(&new, &keys), held(&old, &keys));
}

#[test]
fn keys_that_change_past_the_account_make_an_export_void() {
    let store = store(IndexKind::Buckets, 1, 8 << 20);
    own(&store, SlotSet::ALL);
    let export = store.begin_export(SlotSet::ALL);
    let key = |number: u32| [&number.to_le_bytes()[..], &[1; 60_000]].concat();
    let mut number = 0;
    while !export.overflowed() {
        execute(&store, [op(&key(number), Action::Delete)]);
        number += 1;
        assert!(number < 1_000, "the account has no room for so many keys");
    }
    let charged = store.stats().slab_bytes;
    store.end_export();
    drop(export);
    // What was noted is credited: the store takes records again.
    assert!(matches!(
        execute(&store, [op(b"k", Action::Put { value: &[0; 4 << 20] })]).iter().next(),
        Some(Outcome::Done { .. })
    ));
    assert!(store.stats().slab_bytes > charged);
}

#[test]
fn a_sweep_leaves_nothing_but_what_it_shall_keep() {
    for index in IndexKind::BUILT {
        let store = store(*index, 4, u64::MAX);
        let keys = keys(20_000);
        let values: Vec<_> = (0..keys.len()).map(|number| vec![1; number % 90]).collect();
        let puts = || keys.iter().zip(&values).map(|(key, value)| op(key, Action::Put { value }));
        execute(&store, puts());
        execute(&store, keys.iter().step_by(3).map(|key| op(key, Action::Delete)));
        execute(&store, puts().step_by(2));
        let before = held(&store, &keys);
        let mut sweep = Sweep::new(even());
        while store.sweep(&mut sweep) {}
        let mut kept = before.clone();
        kept.retain(|key, _| slot(key).is_multiple_of(2));
        assert_eq!(held(&store, &keys), kept);
        assert_eq!(store.stats().records, kept.len() as u64);
        let mut sweep = Sweep::new(SlotSet::NONE);
        while store.sweep(&mut sweep) {}
        assert_eq!((store.stats().records, store.stats().payload_bytes), (0, 0));
        let again: Vec<Op<'_>> = puts().collect();
        execute(&store, again);
        assert_eq!(store.stats().records, keys.len() as u64);
    }
}

#[test]
fn a_copy_that_comes_late_takes_nothing_back() {
    let store = store(IndexKind::Buckets, 1, u64::MAX);
    let import = |version, value| store.import(Carried { key: b"k", version, value, deadline: None });
    assert!(import(5, b"new") && import(3, b"old") && import(5, b"same"));
    assert_eq!(execute(&store, [op(b"k", Action::Get)]).outcome(0), Outcome::Value { value: b"new", version: Some(5) });
    assert!(import(9, b"newer"));
    assert_eq!(store.version_max(), 9);
    assert!(import(0, b"") && store.stats().records == 0, "gone");
}
