//! What is remembered is bounded, and what is forgotten is never executed twice.
#![forbid(unsafe_code)]

use crate::table::{Node, again, first};
use freight::completions::{Carrier, Identity};
use freight::op::{Action, Op, Outcome};

/// What a node of these bounds remembers, and sessions that it knows at a time: a KiB each.
const SMALL: u64 = 200 << 10;
const SESSIONS: u64 = 200;

#[test]
fn acknowledged_outcomes_take_no_memory() {
    let mut node = Node::new();
    let mut one = node.connect();
    node.add(&mut one, first(1, 1), b"k");
    let empty = node.completions.bytes_used();
    for sequence in 2..10_000 {
        let identity = Identity { acknowledged_up_to: sequence, ..first(1, sequence) };
        assert_eq!(node.add(&mut one, identity, b"k"), Some(sequence as i64));
    }
    assert_eq!(node.completions.bytes_used(), empty);
}

#[test]
fn the_oldest_outcomes_go_first_and_are_unknown_then() {
    let mut node = Node::with(SMALL);
    let mut one = node.connect();
    for sequence in 1..=2_000 {
        assert_eq!(node.add(&mut one, first(1, sequence), b"k"), Some(sequence as i64));
        assert!(node.completions.bytes_used() <= SMALL);
    }
    let known: Vec<bool> = (1..=2_000).map(|sequence| node.add(&mut one, again(1, sequence), b"k").is_some()).collect();
    let oldest = known.iter().position(|known| *known).expect("the last ones are known");
    assert!(oldest > 500 && known[oldest..].iter().all(|known| *known), "known from {oldest} on");
    assert_eq!(node.add(&mut one, first(1, 2_001), b"k"), Some(2_001), "nothing was executed twice");
}

#[test]
fn a_session_has_so_many_outcomes_and_no_more() {
    let mut node = Node::with(64 << 20);
    let mut one = node.connect();
    for sequence in 1..=(1 << 16) + 10 {
        assert_eq!(node.add(&mut one, first(1, sequence), b"k"), Some(sequence as i64));
    }
    assert_eq!(node.add(&mut one, again(1, 10), b"k"), None, "the oldest went");
    assert_eq!(node.add(&mut one, again(1, 11), b"k"), Some(11), "the others are known");
}

#[test]
fn a_session_in_use_is_not_pushed_out_by_others() {
    let mut node = Node::with(SMALL);
    let (mut mine, mut flood) = (node.connect(), node.connect());
    assert_eq!(node.add(&mut mine, first(1, 1), b"mine"), Some(1));
    for session in 2..20_000 {
        node.add(&mut flood, first(session, 1), b"theirs");
        assert!(node.completions.sessions() as u64 <= SESSIONS && node.completions.bytes_used() <= SMALL);
    }
    assert_eq!(node.add(&mut mine, again(1, 1), b"mine"), Some(1), "its outcome is still known");
}

#[test]
fn large_outcomes_of_others_push_out_nobody_who_holds_little() {
    let mut node = Node::with(1 << 20);
    let (mut mine, mut greedy) = (node.connect(), node.connect());
    assert_eq!(node.add(&mut mine, first(1, 1), b"mine"), Some(1));
    let value = vec![7; 10_000];
    for sequence in 1..1_000 {
        // The value is read before it is overwritten, and so recorded.
        let op = |action| Op { key: b"theirs", action, version_wanted: false };
        let ops = [op(Action::Get), op(Action::Put { value: &value })];
        node.execute(&mut greedy, first(2, sequence), &ops);
        assert!(node.completions.bytes_used() <= 1 << 20);
    }
    assert_eq!(node.add(&mut mine, again(1, 1), b"mine"), Some(1), "its outcome is still known");
}

#[test]
fn what_takes_more_than_a_frame_s_share_is_executed_and_not_remembered() {
    let mut node = Node::with(1 << 20);
    let mut one = node.connect();
    let op = |key, action| Op { key, action, version_wanted: false };
    let value = vec![7; 100 << 10];
    node.execute(&mut one, first(1, 1), &[op(b"large", Action::Put { value: &value })]);
    let ops = [op(b"large", Action::Get), op(b"large", Action::Delete), op(b"k", Action::Add { delta: 1 })];
    let outcomes = node.execute(&mut one, first(1, 2), &ops);
    assert_eq!(outcomes.outcome(0), Outcome::Value { value: &value, version: None });
    let outcomes = node.execute(&mut one, again(1, 2), &ops);
    assert!(outcomes.iter().all(|outcome| outcome == Outcome::Unknown));
    assert_eq!(node.add(&mut one, again(1, 3), b"k"), Some(2));
}

#[test]
fn a_forgotten_session_comes_back_and_what_it_did_is_unknown() {
    let mut node = Node::with(SMALL);
    let mut one = node.connect();
    node.add(&mut one, first(1, 7), b"k");
    for session in 2..2 + SESSIONS {
        node.add(&mut one, first(session, 1), b"other");
    }
    for identity in [first(1, 7), again(1, 7), first(1, 3)] {
        assert_eq!(node.add(&mut one, identity, b"k"), None);
    }
    assert_eq!(node.add(&mut one, first(1, 8), b"k"), Some(2), "what comes behind is executed");
    assert_eq!(node.add(&mut one, again(1, 8), b"k"), Some(2));
}

/// A node whose session 1 executed sequence 1 and was forgotten, mark and all, and a connection from before.
pub(crate) fn marks_lost() -> (Node, Carrier) {
    let mut node = Node::with(SMALL);
    let (old, mut flood) = (node.connect(), node.connect());
    assert_eq!(node.add(&mut flood, first(1, 1), b"k"), Some(1));
    // Far more than there are marks.
    for session in 2..5_000 {
        node.add(&mut flood, first(session, 1), b"other");
    }
    (node, old)
}

#[test]
fn where_marks_were_lost_nothing_is_executed_that_may_have_been() {
    let (mut node, mut old) = marks_lost();
    assert_eq!(node.add(&mut old, first(1, 1), b"k"), None, "it may have been on its way since before");
    assert_eq!(node.add(&mut old, first(1, 2), b"k"), None, "it may have been on its way with the first");
    let newer = Identity { acknowledged_up_to: 3, ..first(1, 3) };
    assert_eq!(node.add(&mut old, newer, b"k"), Some(2), "what was sent when those were answered is executed");
    let (mut node, _) = marks_lost();
    let mut new = node.connect();
    assert_eq!(node.add(&mut new, again(1, 1), b"k"), None, "it says that it was sent before");
    assert_eq!(node.add(&mut new, first(6_000, 1), b"k"), Some(2), "a new session on a new connection is new");
}

#[test]
fn where_marks_were_lost_every_retry_of_what_is_not_recorded_is_unknown_until_something_new_comes() {
    let (mut node, _) = marks_lost();
    let mut new = node.connect();
    // They come back in any order.
    for sequence in [3, 1, 4, 2] {
        assert_eq!(node.add(&mut new, again(1, sequence), b"k"), None, "sequence {sequence}");
    }
    assert_eq!(node.add(&mut new, first(1, 5), b"k"), Some(2));
    assert_eq!(node.add(&mut new, again(1, 6), b"k"), Some(3), "it was sent first behind the fifth");
    assert_eq!(node.add(&mut new, again(1, 4), b"k"), None);
}
