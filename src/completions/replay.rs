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
/// that came first, gets without the changes of their key are not told, unless they are recorded.
pub(super) fn replay(batch: &impl Batch, record: &[u8], outcomes: &mut impl Outcomes) -> Vec<bool> {
    let mut recorded: Vec<_> = own_outcomes(record).collect();
    recorded.sort_unstable_by_key(|recorded| recorded.index);
    let find = |index| {
        let first = batch.first_index(index);
        let found = recorded.binary_search_by_key(&first, |recorded| recorded.index.into());
        found.ok().map(|at| recorded[at].outcome)
    };
    let mut ops = Vec::with_capacity(batch.op_count() as usize);
    batch.for_each_key(|position, _, is_plain_get| ops.push((position, is_plain_get)));
    // A plain get that is recorded stands before every change of its key that took effect.
    let plain_gets = ops.iter().filter(|(_, is_plain_get)| *is_plain_get);
    let saw_first = plain_gets.filter_map(|(position, _)| Some((batch.op(*position).key, saw(&find(position.index)?))));
    let mut holds: HashMap<&[u8], Holds<'_>> = saw_first.collect();
    let mut answered = vec![false; ops.len()];
    for (position, is_plain_get) in ops {
        let op = batch.op(position);
        let outcome = if is_plain_get { holds.get(op.key).map(read) } else { find(position.index) };
        let Some(outcome) = outcome else { continue };
        outcomes.set(position.index, outcome);
        answered[position.index as usize] = true;
        if !is_plain_get && let Some(outcome) = find(position.index).filter(tells) {
            holds.insert(op.key, behind(&op, &outcome));
        }
    }
    answered
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
