//! Answers a frame that comes again by what is recorded of it.
//!
//! Recorded is the outcome of each change, and of the gets on its key up to the first operation that tells what the key
//! holds. What the other gets on the key saw follows from that: the operations of a batch on one key take effect at one
//! instant, and what its changes wrote comes with the frame once more.
#![forbid(unsafe_code)]

use super::record::own_outcomes;
use crate::op::{Action, Batch, Op, Outcome, Outcomes};
use std::borrow::Cow;
use std::collections::HashMap;

/// What a key holds.
type Holds<'a> = Option<Cow<'a, [u8]>>;

/// Whether it follows from an outcome what the key holds behind the operation.
pub(super) fn tells(outcome: &Outcome<'_>) -> bool {
    matches!(outcome, Outcome::Value { .. } | Outcome::Done { .. } | Outcome::Counter { .. } | Outcome::NotFound)
}

/// Hands over the outcomes that a record tells of a batch; which operations have theirs now. Of a part of the frame
/// that came first, gets without the changes of their key are not told, unless they are recorded. The record is gone
/// through once, however few of its operations come again.
pub(super) fn replay(batch: &impl Batch, record: &[u8], outcomes: &mut impl Outcomes) -> Vec<bool> {
    let mut recorded = vec![None; batch.op_count() as usize];
    for there in own_outcomes(record) {
        if let Some(index) = index_of(batch, there.index.into()) {
            recorded[index as usize] = Some(there.outcome);
        }
    }
    let mut ops = Vec::with_capacity(recorded.len());
    batch.for_each_key(|position, _, is_plain_get| ops.push((position, is_plain_get)));
    // A plain get that is recorded stands before every change of its key that took effect.
    let plain_gets = ops.iter().filter(|(_, is_plain_get)| *is_plain_get);
    let saw_first = plain_gets
        .filter_map(|(position, _)| Some((batch.op(*position).key, saw(&recorded[position.index as usize]?))));
    let mut holds: HashMap<&[u8], Holds<'_>> = saw_first.collect();
    let mut answered = vec![false; ops.len()];
    for (position, is_plain_get) in ops {
        let (op, recorded) = (batch.op(position), recorded[position.index as usize]);
        let outcome = if is_plain_get { holds.get(op.key).map(read) } else { recorded };
        let Some(outcome) = outcome else { continue };
        outcomes.set(position.index, outcome);
        answered[position.index as usize] = true;
        if !is_plain_get && let Some(outcome) = recorded.filter(tells) {
            holds.insert(op.key, behind(&op, &outcome));
        }
    }
    answered
}

/// Where the operation stands that stood at `first` in the frame as first built.
fn index_of(batch: &impl Batch, first: u32) -> Option<u32> {
    // None stands further behind than it stood; in a frame that is whole each stands where it stood.
    let (mut low, mut high) = (0, batch.op_count().min(first + 1));
    let last = high.checked_sub(1)?;
    if batch.first_index(last) == first {
        return Some(last);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if batch.first_index(middle) < first { low = middle + 1 } else { high = middle }
    }
    (low < batch.op_count() && batch.first_index(low) == first).then_some(low)
}

/// What a get sees of it.
fn read<'a>(holds: &'a Holds<'_>) -> Outcome<'a> {
    holds.as_ref().map_or(Outcome::NotFound, |value| Outcome::Value { value, version: None })
}

/// What a get saw.
fn saw<'a>(outcome: &Outcome<'a>) -> Holds<'a> {
    if let Outcome::Value { value, .. } = *outcome { Some(Cow::Borrowed(value)) } else { None }
}

/// What a key holds behind an operation whose outcome tells it.
fn behind<'a>(op: &Op<'a>, outcome: &Outcome<'a>) -> Holds<'a> {
    debug_assert!(tells(outcome), "{outcome:?}");
    match (op.action, outcome) {
        (Action::Get, _) => saw(outcome),
        (Action::Put { value } | Action::CompareAndSwap { value, .. }, _) => Some(Cow::Borrowed(value)),
        (Action::Add { .. }, Outcome::Counter { value, .. }) => Some(Cow::Owned(value.to_string().into_bytes())),
        _ => None,
    }
}
