//! Random frames, retries, parts and acknowledgements on random connections, against a model that forgets nothing.
#![forbid(unsafe_code)]

use crate::support::for_each_seed;
use crate::table::Node;
use freight::completions::{Carrier, Identity};
use freight::op::{Action, Op, Outcome};
use freight::slots::SlotSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// A frame as its client knows it.
struct Frame {
    ops: Vec<(u8, Kind)>,
    /// What the adds came to when they were first executed, if they were.
    counters: Option<Vec<Option<i64>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Add,
}

#[derive(Default)]
struct Client {
    frames: BTreeMap<u64, Frame>,
    next: u64,
    acknowledged_up_to: u64,
}

fn draw(random: &mut ChaCha8Rng) -> Vec<(u8, Kind)> {
    let count = random.random_range(1..6);
    let kind = |random: &mut ChaCha8Rng| if random.random() { Kind::Add } else { Kind::Get };
    (0..count).map(|_| (random.random_range(0..4), kind(random))).collect()
}

/// What a counter says where a get or an add found it.
fn number(outcome: Outcome<'_>) -> Option<i64> {
    match outcome {
        Outcome::Counter { value, .. } => Some(value),
        Outcome::Value { value, .. } => Some(std::str::from_utf8(value).expect("text").parse().expect("a number")),
        Outcome::NotFound => Some(0),
        Outcome::Unknown => None,
        outcome => panic!("{outcome:?}"),
    }
}

/// Plays frames on one node after another, as their slots move; how many retries were known, and how many were not.
fn play(seed: u64, bytes_max: u64) -> (u32, u32) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut node = Node::with(bytes_max);
    let mut carriers: Vec<Carrier> = (0..3).map(|_| node.connect()).collect();
    let mut clients: BTreeMap<u64, Client> = (1..=3).map(|id| (id, Client::default())).collect();
    let mut counters = [0_i64; 4];
    let (mut known, mut unknown) = (0, 0);
    for _ in 0..400 {
        let id = random.random_range(1..=3);
        let client = clients.get_mut(&id).expect("a client");
        let is_new = client.frames.is_empty() || random.random_range(0..3) == 0;
        if is_new {
            client.next += 1;
            client.frames.insert(client.next, Frame { ops: draw(&mut random), counters: None });
        }
        let drawn = client.frames.keys().nth(random.random_range(0..client.frames.len())).copied();
        let sequence = if is_new { client.next } else { drawn.expect("there are frames") };
        let frame = client.frames.get_mut(&sequence).expect("it is known");
        let keys: Vec<_> = frame.ops.iter().map(|(key, _)| [b'k', *key]).collect();
        let action = |kind| if kind == Kind::Add { Action::Add { delta: 1 } } else { Action::Get };
        let op = |(key, (_, kind)): (&'_ [u8; 2], &(u8, Kind))| (*key, action(*kind));
        let ops: Vec<_> = keys.iter().zip(&frame.ops).map(op).collect();
        let ops: Vec<_> = ops.iter().map(|(key, action)| Op { key, action: *action, version_wanted: false }).collect();
        let identity = Identity {
            session: id,
            sequence,
            acknowledged_up_to: client.acknowledged_up_to,
            is_retry: frame.counters.is_some() || random.random(),
        };
        let at = random.random_range(0..carriers.len());
        let outcomes = node.execute(&mut carriers[at], identity, &ops);
        let came: Vec<_> = outcomes.iter().map(number).collect();
        let is_changed = |key: u8| frame.ops.contains(&(key, Kind::Add));
        match &frame.counters {
            None if frame.ops.iter().any(|(_, kind)| *kind == Kind::Add) && came.contains(&None) => {
                // A bound made it unknown before it was ever executed.
                assert!(bytes_max < 1 << 20, "nothing had to be forgotten");
                frame.counters = Some(vec![None; came.len()]);
            }
            None => {
                for ((key, kind), came) in frame.ops.iter().zip(&came) {
                    let counter = &mut counters[usize::from(*key)];
                    *counter += i64::from(*kind == Kind::Add);
                    assert_eq!(*came, Some(*counter), "seed {seed}: executed in order, once");
                }
                frame.counters = Some(came);
            }
            Some(first) => {
                for (((key, _), first), came) in frame.ops.iter().zip(first).zip(&came) {
                    match came {
                        // Asked again it sees what is there now.
                        Some(came) if !is_changed(*key) => assert_eq!(*came, counters[usize::from(*key)]),
                        Some(came) => {
                            assert_eq!(Some(*came), *first, "seed {seed}: the outcome of the first time");
                            known += 1;
                        }
                        None => {
                            assert!(bytes_max < 1 << 20 || sequence < client.acknowledged_up_to, "seed {seed}");
                            unknown += 1;
                        }
                    }
                }
            }
        }
        if random.random_range(0..10) == 0 {
            client.acknowledged_up_to = random.random_range(client.acknowledged_up_to..=client.next);
        }
        if random.random_range(0..40) == 0 {
            carriers[at] = node.connect();
        }
        if random.random_range(0..100) == 0 {
            // Everything moves to another node, records and what is known of them.
            let new = Node::with(bytes_max);
            let chunks = node.completions.export(&SlotSet::ALL, random.random_range(0..500));
            chunks.for_each(|chunk| new.completions.import(&chunk).expect("a chunk of ours"));
            carriers.clear();
            node.completions = std::sync::Arc::clone(&new.completions);
            carriers.extend((0..3).map(|_| node.connect()));
        }
    }
    (known, unknown)
}

#[test]
fn what_is_remembered_is_what_was_executed() {
    let (mut known, mut unknown) = (0, 0);
    for_each_seed(200, |seed| {
        let (more_known, more_unknown) = play(seed, 64 << 20);
        (known, unknown) = (known + more_known, unknown + more_unknown);
    });
    println!("{known} known, {unknown} acknowledged");
    assert!(known > 1_000 || std::env::var_os("FREIGHT_SEED").is_some());
}

#[test]
fn what_is_forgotten_is_never_executed_again() {
    let (mut known, mut unknown) = (0, 0);
    for_each_seed(200, |seed| {
        let (more_known, more_unknown) = play(seed, 6 << 10);
        (known, unknown) = (known + more_known, unknown + more_unknown);
    });
    println!("{known} known, {unknown} unknown");
    assert!(known > 100 && unknown > 1_000 || std::env::var_os("FREIGHT_SEED").is_some());
}
