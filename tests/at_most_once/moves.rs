//! Completion records that move with their slots, and what happens where they do not.
#![forbid(unsafe_code)]

use crate::bounds::marks_lost;
use crate::table::{Node, again, first};
use freight::completions::{Identity, ImportError};
use freight::hash::slot;
use freight::limits::SLOTS;
use freight::op::{Action, Op, Outcome};
use freight::slots::SlotSet;

fn slots(wanted: impl Fn(u16) -> bool) -> SlotSet {
    (0..SLOTS as u16).filter(|slot| wanted(*slot)).collect()
}

fn move_records(from: &Node, to: &Node, slots: &SlotSet, chunk_bytes_max: usize) -> usize {
    let chunks = from.completions.export(slots, chunk_bytes_max);
    chunks.map(|chunk| to.completions.import(&chunk).expect("a chunk of ours")).count()
}

fn key(number: u32) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

#[test]
fn a_retry_at_the_new_owner_is_answered_as_at_the_old_one() {
    for chunk_bytes_max in [0, 100, 1_000, 1 << 20] {
        let (mut old, mut new) = (Node::new(), Node::new());
        let (mut at_old, mut at_new) = (old.connect(), new.connect());
        let keys: Vec<_> = (0..50).map(key).collect();
        let ops: Vec<_> = keys
            .iter()
            .map(|key| Op { key, action: Action::Add { delta: key.len() as i64 }, version_wanted: true })
            .collect();
        for session in 1..20 {
            for sequence in 1..4 {
                old.execute(&mut at_old, first(session, sequence), &ops);
            }
        }
        let even = slots(|slot| slot % 2 == 0);
        let chunks = move_records(&old, &new, &even, chunk_bytes_max);
        assert!(chunks >= if chunk_bytes_max < 1 << 20 { 19 } else { 1 }, "{chunks} chunks");
        // Taking the same twice is taking it once.
        move_records(&old, &new, &even, chunk_bytes_max);
        for (session, sequence) in (1..20).flat_map(|session| (1..4).map(move |sequence| (session, sequence))) {
            let known = old.execute(&mut at_old, again(session, sequence), &ops);
            let moved = new.execute(&mut at_new, again(session, sequence), &ops);
            for (index, key) in keys.iter().enumerate() {
                if slot(key) % 2 == 0 {
                    assert_eq!(moved.outcome(index), known.outcome(index), "{session} {sequence} {index}");
                }
            }
        }
        let counter = |node: &Node| node.store.stats().records;
        let even_keys = keys.iter().filter(|key| slot(*key) % 2 == 0).count() as u64;
        assert_eq!(counter(&new), 50 - even_keys, "nothing of what had moved was executed");
    }
}

/// The planted bug: the slots change hands, and what was executed on them is executed again.
#[test]
fn slots_moved_without_their_completion_records_are_caught() {
    let (mut old, mut new) = (Node::new(), Node::new());
    let (mut at_old, mut at_new) = (old.connect(), new.connect());
    assert_eq!(old.add(&mut at_old, first(1, 1), b"k"), Some(1));
    // The record moves: the counter stands at 1 on the new owner.
    assert_eq!(new.add(&mut at_new, first(9, 1), b"k"), Some(1));
    assert_eq!(new.add(&mut at_new, again(1, 1), b"k"), Some(2), "executed twice");
}

#[test]
fn what_was_forgotten_or_acknowledged_moves_as_well() {
    let (mut old, mut new) = (Node::with(200 << 10), Node::new());
    let mut at_new = new.connect();
    for session in 1..1_000 {
        let identity = Identity { acknowledged_up_to: 4, ..first(session, 4) };
        let mut connection = old.connect();
        old.add(&mut connection, identity, b"other");
    }
    move_records(&old, &new, &SlotSet::ALL, 1 << 10);
    assert_eq!(new.add(&mut at_new, first(1, 4), b"k"), None, "its mark was lost");
    assert_eq!(new.add(&mut at_new, first(999, 3), b"k"), None, "acknowledged");
    assert_eq!(new.add(&mut at_new, again(999, 4), b"other"), Some(999), "recorded");
    assert_eq!(new.add(&mut at_new, first(999, 5), b"k"), Some(1));
}

#[test]
fn large_values_move_in_chunks_of_their_own() {
    let (mut old, mut new) = (Node::new(), Node::new());
    let (mut at_old, mut at_new) = (old.connect(), new.connect());
    let value = vec![7; 1 << 20];
    let op = |action| Op { key: b"k", action, version_wanted: false };
    old.execute(&mut at_old, first(1, 1), &[op(Action::Put { value: &value })]);
    let ops = [op(Action::Get), op(Action::Delete)];
    old.execute(&mut at_old, first(1, 2), &ops);
    assert_eq!(move_records(&old, &new, &SlotSet::ALL, 1_000), 3, "the put and, too long for it, the get and the rest");
    let outcomes = new.execute(&mut at_new, again(1, 2), &ops);
    assert_eq!(outcomes.outcome(0), Outcome::Value { value: &value, version: None });
    assert_eq!(outcomes.outcome(1), Outcome::Done { version: None });
}

#[test]
fn chunks_cut_or_changed_anywhere_are_taken_or_refused_as_a_whole() {
    let mut old = Node::new();
    let mut at_old = old.connect();
    let op = |key, action| Op { key, action, version_wanted: true };
    let ops = [op(b"a", Action::Add { delta: 1 }), op(b"b", Action::Get), op(b"b", Action::Put { value: b"value" })];
    old.execute(&mut at_old, first(1, 1), &ops);
    old.execute(&mut at_old, first(2, 1), &ops);
    let chunk = old.completions.export(&SlotSet::ALL, 1 << 20).next().expect("a chunk");
    for length in 0..chunk.len() {
        let new = Node::new();
        let (taken, empty) = (new.completions.import(&chunk[..length]), new.completions.bytes_used());
        assert!(taken.is_ok() || empty == 0, "{length}: {taken:?}, {empty} bytes");
    }
    let (mut taken, mut refused) = (0, 0);
    for at in 0..chunk.len() {
        for byte in [0, 1, 0x7F, 0x80, 0xFF] {
            let mut changed = chunk.clone();
            changed[at] = byte;
            match Node::new().completions.import(&changed) {
                Ok(()) => taken += 1,
                Err(ImportError::Malformed { offset }) => {
                    assert!(offset < chunk.len(), "{offset} of {}", chunk.len());
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(taken > 10 && refused > 10, "{taken} taken, {refused} refused");
}

#[test]
fn what_finds_no_room_is_unknown_at_the_new_owner() {
    let (mut old, mut new) = (Node::new(), Node::with(4 << 10));
    let (mut at_old, mut at_new) = (old.connect(), new.connect());
    for sequence in 1..500 {
        old.add(&mut at_old, first(1, sequence), b"k");
    }
    move_records(&old, &new, &SlotSet::ALL, 1 << 10);
    assert!(new.completions.bytes_used() <= 4 << 10);
    let known = |sequence| new.add(&mut at_new, again(1, sequence), b"k");
    let answers: Vec<_> = (1..500).map(known).collect();
    assert!(answers[0].is_none() && answers.iter().zip(1..).all(|(value, n)| value.is_none_or(|value| value == n)));
    assert_eq!(new.store.stats().records, 0, "nothing was executed");
}

#[test]
fn a_floor_for_a_session_that_no_connection_uses_lets_it_be_forgotten_as_before() {
    let (mut old, mut new) = (Node::new(), Node::with(4 << 10));
    assert_eq!(old.add(&mut old.connect(), first(1, 5), b"k"), Some(1));
    assert_eq!(new.add(&mut new.connect(), first(1, 1), b"k"), Some(1));
    // Without records of its own: only how far it is known goes.
    move_records(&old, &new, &SlotSet::NONE, 1 << 20);
    for session in 2..20 {
        assert!(new.add(&mut new.connect(), first(session, 1), b"k").is_some());
    }
    assert!(new.completions.sessions() <= 4, "{} sessions", new.completions.sessions());
}

#[test]
fn records_that_come_for_a_session_whose_mark_was_lost_do_not_hide_that_it_was() {
    // With a record of the slots that move, and without: then only a floor comes.
    for moved in [SlotSet::ALL, SlotSet::NONE] {
        let (mut lossy, _) = marks_lost();
        let mut other = Node::new();
        assert_eq!(other.add(&mut other.connect(), first(1, 3), b"other"), Some(1));
        move_records(&other, &lossy, &moved, 1 << 20);
        let mut connection = lossy.connect();
        assert_eq!(lossy.add(&mut connection, again(1, 1), b"k"), None, "executed before its mark was lost");
        assert_eq!(lossy.add(&mut connection, again(1, 2), b"k"), None, "so may this have been");
        let known = lossy.add(&mut connection, again(1, 3), b"other");
        assert_eq!(known, (moved == SlotSet::ALL).then_some(1), "what is recorded is answered");
    }
}

#[test]
fn who_takes_over_from_a_node_that_is_in_doubt_is_in_doubt() {
    let (lossy, _) = marks_lost();
    let mut other = Node::new();
    assert_eq!(other.add(&mut other.connect(), first(1, 3), b"other"), Some(1));
    move_records(&other, &lossy, &SlotSet::ALL, 1 << 20);
    let mut last = Node::new();
    move_records(&lossy, &last, &SlotSet::ALL, 1 << 10);
    let mut connection = last.connect();
    for (sequence, outcome) in [(1, None), (3, Some(1)), (2, None)] {
        assert_eq!(last.add(&mut connection, again(1, sequence), b"other"), outcome, "sequence {sequence}");
    }
    assert_eq!(last.add(&mut connection, first(1, 4), b"other"), Some(1), "what is new is executed");
    // Of a session that was never lost there is no doubt.
    let (mut one, mut two) = (Node::new(), Node::new());
    assert_eq!(one.add(&mut one.connect(), first(1, 1), b"k"), Some(1));
    move_records(&one, &two, &SlotSet::ALL, 1 << 20);
    let mut connection = two.connect();
    assert_eq!(two.add(&mut connection, again(1, 2), b"k"), Some(1), "sent before, and executed nowhere");
}

#[test]
fn what_is_acknowledged_while_it_is_handed_over_is_not_copied_any_more() {
    let mut old = Node::new();
    let mut at_old = old.connect();
    let value = vec![7; 1_000];
    let op = |action| Op { key: b"k", action, version_wanted: false };
    old.execute(&mut at_old, first(1, 1), &[op(Action::Put { value: &value })]);
    for sequence in 2..500 {
        old.execute(&mut at_old, first(1, sequence), &[op(Action::Get), op(Action::Put { value: &value })]);
    }
    let mut chunks = old.completions.export(&SlotSet::ALL, 2_000);
    assert!(chunks.next().is_some());
    old.add(&mut at_old, Identity { acknowledged_up_to: 500, ..first(1, 500) }, b"n");
    let left: Vec<_> = chunks.collect();
    assert!(left.len() < 10, "{} chunks were copied ahead", left.len());
    let mut new = Node::new();
    left.iter().for_each(|chunk| new.completions.import(chunk).expect("a chunk of ours"));
    let mut at_new = new.connect();
    assert_eq!(new.add(&mut at_new, again(1, 499), b"n"), None, "acknowledged");
    assert_eq!(new.add(&mut at_new, again(1, 500), b"n"), Some(1));
}

#[test]
fn where_a_mark_was_lost_what_a_record_leaves_out_may_have_been_executed_too() {
    let (mut lossy, _) = marks_lost();
    let mut other = Node::new();
    let add = |key| Op { key, action: Action::Add { delta: 1 }, version_wanted: false };
    let ops = [add(&b"other"[..]), add(&b"k"[..])];
    other.execute(&mut other.connect(), first(1, 1), &ops);
    let its = slots(|number| number == slot(&b"other"[..]));
    move_records(&other, &lossy, &its, 1 << 20);
    let outcomes = lossy.execute(&mut lossy.connect(), again(1, 1), &ops);
    assert_eq!(outcomes.outcome(0), Outcome::Counter { value: 1, version: None });
    assert_eq!(outcomes.outcome(1), Outcome::Unknown, "the session added to it before its mark was lost");
}

#[test]
fn a_session_known_here_is_in_doubt_too_where_another_node_lost_what_it_knew_of_it() {
    let (lossy, _) = marks_lost();
    let mut other = Node::new();
    let mut connection = other.connect();
    assert_eq!(other.add(&mut connection, first(1, 2), b"k"), Some(1));
    move_records(&lossy, &other, &SlotSet::ALL, 1 << 20);
    assert_eq!(other.add(&mut connection, again(1, 1), b"k"), None, "executed at the other, which forgot it");
    assert_eq!(other.add(&mut connection, again(1, 2), b"k"), Some(1), "what is recorded is told");
    assert_eq!(other.add(&mut connection, first(1, 3), b"k"), Some(2), "what is sent first was nowhere before");
    assert_eq!(other.add(&mut connection, again(1, 1), b"k"), None);
}
