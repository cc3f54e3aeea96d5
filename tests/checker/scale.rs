//! Histories as large as tests of the store record, judged well within the checker's bounds.
#![forbid(unsafe_code)]

use crate::execution::{Plan, execute};
use crate::support::checker::{Checker, Violation, assert_linearizable};
use crate::support::history::{Bytes, Call, History, OwnedOp, OwnedOutcome, Span};

const ONE_KEY: Plan = Plan {
    clients: 8,
    keys: 1,
    batches: 16_000,
    batch_ops_max: 1,
    values: 1_000_000,
    reads_percent: 50,
    lost_percent: 0,
    versions_percent: 0,
    edits_percent: 0,
    evicted_percent: 0,
    bug: None,
};

const MANY_KEYS: Plan = Plan { clients: 16, keys: 50, batches: 10_000, batch_ops_max: 10, ..ONE_KEY };

#[test]
fn sixteen_thousand_operations_on_one_key() {
    for plan in [ONE_KEY, Plan { values: 5, ..ONE_KEY }, Plan { versions_percent: 50, ..ONE_KEY }] {
        both_verdicts(execute(plan, 1));
    }
}

#[test]
fn fifty_thousand_operations_on_fifty_keys() {
    both_verdicts(execute(MANY_KEYS, 2));
}

#[test]
fn fifty_thousand_operations_on_five_hundred_keys() {
    both_verdicts(execute(Plan { keys: 500, ..MANY_KEYS }, 3));
}

#[test]
fn lost_batches_among_fifty_thousand_operations() {
    both_verdicts(execute(Plan { lost_percent: 1, ..MANY_KEYS }, 4));
    // Few values leave it open which lost write was seen: cheap to accept.
    assert_linearizable(&execute(Plan { lost_percent: 1, values: 5, ..MANY_KEYS }, 5));
    assert_linearizable(&execute(Plan { lost_percent: 1, ..ONE_KEY }, 6));
}

/// The history is accepted; with one more call, that reads what nobody wrote, it is rejected, which takes a search
/// through all orders.
fn both_verdicts(mut history: History) {
    println!("{} operations", history.op_count());
    assert_linearizable(&history);
    let (key, calls) = history.calls.first_key_value().expect("a key");
    let (key, end) = (Bytes::clone(key), calls.iter().filter_map(|call| call.ret).max().expect("an answer"));
    let read = (OwnedOp::Get, OwnedOutcome::Value { value: (*b"of nobody").into(), version: None });
    history.push(&key, Call { client: 99, invoke: end + 1, ret: Some(end + 2), time: Span::ANY, steps: vec![read] });
    let verdict = Checker::default().check(&history);
    let Err(Violation::NotLinearizable { prefix_calls, .. }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(prefix_calls, history.calls[&key].len());
}
