//! The store against a plain map: random operations, growth, deletes, every size class.
#![forbid(unsafe_code)]

use super::support::{Model, Place, Random, execute, op, store};
use freight::op::{Action, Condition, Content, Edit, Expiry, Op, Outcome, Time};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{IndexKind, Scratch, Store};

/// Executes a batch on both.
fn step(store: &Store, scratch: &mut Scratch, model: &mut Model, ops: &[Op<'_>]) {
    step_at(store, scratch, model, 0, ops);
}

/// As [`step`], at a time.
pub(crate) fn step_at(store: &Store, scratch: &mut Scratch, model: &mut Model, now: Time, ops: &[Op<'_>]) {
    let mut outcomes = OutcomeList::new();
    store.execute(&ops.iter().copied().collect::<OpList>(), now, &mut outcomes, scratch);
    for (op, outcome) in ops.iter().zip(outcomes.iter()) {
        model.check(op, outcome, Place { shard: store.shard_of(op.key), now });
    }
    assert_eq!(outcomes.iter().count(), ops.len());
}

fn assert_stats_agree(store: &Store, model: &Model) {
    let stats = store.stats();
    assert_eq!(stats.records, model.len() as u64);
    assert_eq!(stats.payload_bytes, model.payload_bytes() as u64);
    assert_eq!((stats.records_expiring, stats.records_expired), (model.expiring() as u64, model.expired()));
    assert_eq!(stats.shard_records.iter().sum::<u64>(), stats.records);
}

pub(crate) fn random_op<'a>(random: &mut Random, model: &Model, now: Time, key: &'a [u8], value: &'a [u8]) -> Op<'a> {
    let action = match random.below(24) {
        0..4 => Action::Get,
        4..8 => Action::Put { value },
        8..11 => Action::Delete,
        11..13 => {
            let expected = if random.below(4) == 0 { random.next() % 50 } else { model.version(key) };
            Action::CompareAndSwap { expected, value }
        }
        13..20 => Action::Edit(random_edit(random, now, value)),
        20 => Action::Put { value: [&b"7"[..], b"-3", b"9223372036854775806", b"01", b""][random.below(5)] },
        _ => Action::Add { delta: [1, -1, 5, i64::MAX, i64::MIN, -9][random.below(6)] },
    };
    // A get without a version has a way of its own through the shard.
    Op { key, action, version_wanted: action != Action::Get || random.below(2) == 0 }
}

fn random_edit<'a>(random: &mut Random, now: Time, value: &'a [u8]) -> Edit<'a> {
    let ms = random.below(200) as u64;
    let content = match random.below(8) {
        0 => Content::Remove,
        1 => Content::Append(b""),
        2 => Content::Append(&value[..value.len() / 4]),
        3..5 => Content::Write(value),
        _ => Content::Keep,
    };
    let expiry = match random.below(8) {
        0..3 => Expiry::Keep,
        3 => Expiry::Clear,
        4..6 => Expiry::At((now + ms).saturating_sub(20)),
        _ => Expiry::After(ms),
    };
    let edit = Edit::new(content, expiry);
    let edit = if random.below(2) == 0 { edit.wanting_value() } else { edit };
    if random.below(2) == 0 { edit } else { edit.on(Condition::ALL[1 + random.below(7)]) }
}

/// Keys of up to eight bytes, which an operation carries, and longer ones.
pub(crate) fn key(number: usize) -> Vec<u8> {
    format!("{number}{}", ["", "", "-of-more-than-eight-bytes"][number % 3]).into_bytes()
}

fn random_run(index: IndexKind, shards: u32, seed: u64, keys: usize, batches: usize) {
    println!("{index:?}, {shards} shards, seed {seed}, {keys} keys, {batches} batches");
    let (store, scratch) = (store(index, shards, u64::MAX), Scratch::new(2));
    let mut scratch = if seed % 2 == 1 { scratch.finding_repeats() } else { scratch };
    let (mut model, mut random) = (Model::default(), Random(seed));
    let values: Vec<Vec<u8>> = (0..64).map(|i| vec![i as u8 ^ 0x5C; i * i % 700]).collect();
    let mut latest = 1_000;
    for _ in 0..batches {
        // A tenth of the batches come late, with the time of an earlier one.
        latest += random.below(20) as Time;
        let now = latest - if random.below(10) == 0 { random.below(100) as Time } else { 0 };
        let names: Vec<Vec<u8>> = (0..random.below(300))
            .map(|_| {
                // A third of the keys are few: they meet again in one batch.
                let number = if random.below(3) == 0 { random.below(8) } else { random.below(keys) };
                key(number)
            })
            .collect();
        let ops: Vec<Op<'_>> =
            names.iter().map(|key| random_op(&mut random, &model, now, key, &values[key.len() * 7 % 64])).collect();
        step_at(&store, &mut scratch, &mut model, now, &ops);
    }
    assert_stats_agree(&store, &model);
    let all: Vec<Vec<u8>> = (0..keys).map(key).collect();
    let get = |key| Op { key, action: Action::Get, version_wanted: false };
    let ops: Vec<Op<'_>> = all.iter().map(|key| get(key)).collect();
    step(&store, &mut scratch, &mut model, &ops);
}

#[test]
fn random_operations_agree_with_a_map() {
    for index in IndexKind::BUILT {
        // Gets that repeat another one are told with it where the seed is odd.
        random_run(*index, 4, 1, 50, 300);
        random_run(*index, 4, 2, 50, 300);
        random_run(*index, 4, 3, 5_000, 1_000);
        random_run(*index, 4, 4, 5_000, 1_000);
        // Several small bins make a group.
        random_run(*index, 64, 5, 5_000, 1_000);
        random_run(*index, 64, 6, 5_000, 1_000);
    }
}

#[test]
fn growth_and_shrinkage_lose_nothing() {
    for index in IndexKind::BUILT {
        let (store, mut scratch, mut model) = (store(*index, 2, u64::MAX), Scratch::new(0), Model::default());
        let keys: Vec<Vec<u8>> = (0..40_000).map(|i: u32| format!("key {i}").into_bytes()).collect();
        for round in 0..3_usize {
            for group in keys.chunks(1000) {
                let ops: Vec<_> = group.iter().map(|key| op(key, Action::Put { value: &key[round..] })).collect();
                step(&store, &mut scratch, &mut model, &ops);
            }
            assert_stats_agree(&store, &model);
            for (i, group) in keys.chunks(1000).enumerate() {
                let survives = |j: usize| round == 0 && (i + j).is_multiple_of(7);
                let doomed = group.iter().enumerate().filter(|(j, _)| !survives(*j));
                let ops: Vec<_> = doomed.map(|(_, key)| op(key, Action::Delete)).collect();
                step(&store, &mut scratch, &mut model, &ops);
            }
            let ops: Vec<_> = keys.iter().map(|key| op(key, Action::Get)).collect();
            step(&store, &mut scratch, &mut model, &ops);
            assert_stats_agree(&store, &model);
        }
        let stats = store.stats();
        assert!(stats.index_growths > 100, "{stats:?}");
        assert!((1..=640).contains(&stats.index_cells_moved_max), "{stats:?}");
    }
}

#[test]
fn every_size_class_boundary_holds_its_record() {
    // Record sizes around multiples of 8, the last shared slot, spans and the limits.
    let edges = [16, 24, 512, 1016, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 1 << 20, 2 << 20];
    let mut sizes: Vec<usize> = edges.iter().flat_map(|edge| edge - edge.min(&30)..edge + 12).collect();
    sizes.extend((16..64).flat_map(|slots| [65_536 / slots, 262_144 / slots, (1 << 20) / slots]));
    sizes.extend([0, 1, 2, (8 << 20) - 1, 8 << 20]);
    let bytes: Vec<u8> = (0..8 << 20).map(|i: u32| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
    for index in IndexKind::BUILT {
        let (store, mut scratch, mut model) = (store(*index, 1, u64::MAX), Scratch::new(0), Model::default());
        for (i, size) in sizes.iter().enumerate() {
            let key = i.to_string();
            let ops = [
                op(key.as_bytes(), Action::Put { value: &bytes[..*size] }),
                op(key.as_bytes(), Action::Get),
                // Grows and shrinks one record through all sizes.
                op(b"one", Action::Put { value: &bytes[..sizes[sizes.len() - 1 - i]] }),
                op(b"one", Action::Get),
            ];
            step(&store, &mut scratch, &mut model, &ops);
            if *size > 1 << 18 && *size < 8 << 20 {
                step(&store, &mut scratch, &mut model, &[op(key.as_bytes(), Action::Delete)]);
            }
        }
        for key in [0, 1, 2, 17, 1000, 65_534, 65_535] {
            for value in [0, 1, 100] {
                let (key, value) = (&bytes[..key], &bytes[..value]);
                step(&store, &mut scratch, &mut model, &[op(key, Action::Put { value }), op(key, Action::Get)]);
            }
        }
        for i in 0..sizes.len() {
            step(&store, &mut scratch, &mut model, &[op(i.to_string().as_bytes(), Action::Get)]);
        }
        assert_stats_agree(&store, &model);
    }
}

#[test]
fn operations_on_one_key_take_effect_in_the_order_of_the_batch() {
    for index in IndexKind::BUILT {
        let store = store(*index, 4, u64::MAX);
        let outcomes = execute(
            &store,
            [
                op(b"k", Action::Get),
                op(b"k", Action::Put { value: b"1" }),
                op(b"k", Action::Get),
                op(b"k", Action::Add { delta: 41 }),
                op(b"k", Action::Get),
                op(b"k", Action::Delete),
                op(b"k", Action::Get),
                op(b"k", Action::Put { value: &[7; 5000] }),
                op(b"k", Action::Get),
            ],
        );
        let expected = [
            Outcome::NotFound,
            Outcome::Done { version: Some(1) },
            Outcome::Value { value: b"1", version: Some(1) },
            Outcome::Counter { value: 42, version: Some(2) },
            Outcome::Value { value: b"42", version: Some(2) },
            Outcome::Done { version: None },
            Outcome::NotFound,
            Outcome::Done { version: Some(4) },
            Outcome::Value { value: &[7; 5000], version: Some(4) },
        ];
        assert_eq!(outcomes.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_version_seen_before_a_delete_never_matches_again() {
    for index in IndexKind::BUILT {
        let store = store(*index, 1, u64::MAX);
        let first = execute(&store, [op(b"k", Action::Put { value: b"a" })]);
        let Outcome::Done { version: Some(expected) } = first.outcome(0) else { panic!("{first:?}") };
        let swap = |expected, value| op(b"k", Action::CompareAndSwap { expected, value });
        let outcomes = execute(
            &store,
            [
                op(b"k", Action::Delete),
                op(b"k", Action::Put { value: b"a" }),
                swap(expected, b"stale"),
                swap(0, b"absent"),
                op(b"k", Action::Delete),
                swap(expected, b"stale"),
                swap(0, b"absent"),
                op(b"k", Action::Get),
            ],
        );
        let expected = [
            Outcome::Done { version: None },
            Outcome::Done { version: Some(3) },
            Outcome::VersionMismatch { current: 3 },
            Outcome::VersionMismatch { current: 3 },
            Outcome::Done { version: None },
            Outcome::VersionMismatch { current: 0 },
            Outcome::Done { version: Some(5) },
            Outcome::Value { value: b"absent", version: Some(5) },
        ];
        assert_eq!(outcomes.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn versions_come_only_when_wanted() {
    for index in IndexKind::BUILT {
        let store = store(*index, 1, u64::MAX);
        let unwanted = |action| Op { key: b"k", action, version_wanted: false };
        let outcomes = execute(
            &store,
            [
                unwanted(Action::Put { value: b"1" }),
                unwanted(Action::Get),
                unwanted(Action::Add { delta: 1 }),
                unwanted(Action::CompareAndSwap { expected: 2, value: b"x" }),
            ],
        );
        let expected = [
            Outcome::Done { version: None },
            Outcome::Value { value: b"1", version: None },
            Outcome::Counter { value: 2, version: None },
            Outcome::Done { version: None },
        ];
        assert_eq!(outcomes.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn adds_refuse_what_is_no_number_or_would_overflow() {
    for index in IndexKind::BUILT {
        let store = store(*index, 1, u64::MAX);
        let outcomes = execute(
            &store,
            [
                op(b"k", Action::Put { value: b"no" }),
                op(b"k", Action::Add { delta: 1 }),
                op(b"k", Action::Get),
                op(b"n", Action::Add { delta: i64::MIN }),
                op(b"n", Action::Add { delta: -1 }),
                op(b"n", Action::Get),
            ],
        );
        assert_eq!(outcomes.outcome(1), Outcome::NotANumber);
        assert_eq!(outcomes.outcome(2), Outcome::Value { value: b"no", version: Some(1) });
        assert_eq!(outcomes.outcome(4), Outcome::CounterOverflow);
        assert_eq!(outcomes.outcome(5), Outcome::Value { value: b"-9223372036854775808", version: Some(2) });
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_batches_agrees_with_a_map(seed: u64, keys in 1_usize..400, batches in 1_usize..20) {
        for index in IndexKind::BUILT {
            random_run(*index, 4, seed, keys, batches);
        }
    }
}

#[test]
fn an_empty_batch_changes_nothing() {
    let store = store(IndexKind::BUILT[0], 1, u64::MAX);
    assert_eq!(execute(&store, []).iter().count(), 0);
    assert_eq!(store.stats().records, 0);
}

#[test]
fn scratch_serves_stores_of_different_sizes() {
    let (small, large) = (store(IndexKind::BUILT[0], 1, u64::MAX), store(IndexKind::BUILT[0], 128, u64::MAX));
    let mut scratch = Scratch::new(77);
    let (mut small_model, mut large_model) = (Model::default(), Model::default());
    for round in 0..10_u32 {
        let keys: Vec<String> = (0..200).map(|i| (i * round).to_string()).collect();
        let ops: Vec<_> = keys.iter().map(|key| op(key.as_bytes(), Action::Put { value: b"v" })).collect();
        step(&large, &mut scratch, &mut large_model, &ops);
        step(&small, &mut scratch, &mut small_model, &ops[..5]);
    }
    assert_stats_agree(&large, &large_model);
    assert_stats_agree(&small, &small_model);
}
