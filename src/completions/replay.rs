//! Answers a frame that comes again by what is recorded of it.
//!
//! Recorded is the outcome of each change, and of the gets on its key up to the first operation that tells what the key
//! holds. What the other gets on the key saw follows from that: the operations of a batch on one key take effect at one
//! instant, so that nothing expires between them, and what its changes wrote comes with the frame once more.
//!
//! Where records are evicted one may go between two of them, and others may write while a bin waits for memory. There
//! every get on a changed key is recorded. One that is not was not executed here, or on a node that does not evict: it
//! may see what the operation right before it left, where that follows from that one's outcome alone.
#![forbid(unsafe_code)]

use super::record::own_outcomes;
use crate::op::{Action, Batch, Content, Edit, Edited, Op, Outcome, Outcomes};
use std::borrow::Cow;
use std::collections::HashMap;

/// What a key holds.
type Holds<'a> = Option<Cow<'a, [u8]>>;

/// Whether it follows from an outcome what the key holds behind the operation.
pub(super) fn tells(op: &Op<'_>, outcome: &Outcome<'_>) -> bool {
    match (op.action, outcome) {
        (Action::Edit(edit), Outcome::Edited(edited)) => held(&edit, edited).is_some(),
        _ => matches!(
            outcome,
            Outcome::Value { .. } | Outcome::Done { .. } | Outcome::Counter { .. } | Outcome::NotFound
        ),
    }
}

/// Hands over the outcomes that a record tells of a batch; which operations have theirs now. Of a part of the frame
/// that came first, gets without the changes of their key are not told, unless they are recorded. The record is gone
/// through once, however few of its operations come again. `evicts` says whether the store does.
pub(super) fn replay(batch: &impl Batch, record: &[u8], evicts: bool, outcomes: &mut impl Outcomes) -> Vec<bool> {
    let mut recorded = vec![None; batch.op_count() as usize];
    for there in own_outcomes(record) {
        if let Some(index) = index_of(batch, there.index.into()) {
            recorded[index as usize] = Some(there.outcome);
        }
    }
    let mut ops = Vec::with_capacity(recorded.len());
    batch.for_each_key(|position, _, is_plain_get| ops.push((position, is_plain_get)));
    let mut holds: HashMap<&[u8], Holds<'_>> = HashMap::new();
    let mut answered = vec![false; ops.len()];
    for (position, is_plain_get) in ops {
        let (op, told) = (batch.op(position), recorded[position.index as usize]);
        let read = holds.get(op.key).filter(|_| is_plain_get).map(read);
        let Some(outcome) = told.or(read) else { continue };
        outcomes.set(position.index, outcome);
        answered[position.index as usize] = true;
        let Some(outcome) = told else { continue };
        match behind(&op, &outcome, holds.get(op.key).filter(|_| !evicts)) {
            Some(behind) => _ = holds.insert(op.key, behind),
            None => _ = holds.remove(op.key),
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

/// What a key holds behind an operation, where that follows from its outcome and from what the key held before.
fn behind<'a>(op: &Op<'a>, outcome: &Outcome<'a>, before: Option<&Holds<'a>>) -> Option<Holds<'a>> {
    let behind = match (op.action, outcome) {
        (Action::Get, Outcome::Value { value, .. }) => Some(Cow::Borrowed(*value)),
        (Action::Put { value } | Action::CompareAndSwap { value, .. }, Outcome::Done { .. }) => Some(value.into()),
        (Action::Add { .. }, Outcome::Counter { value, .. }) => Some(value.to_string().into_bytes().into()),
        (Action::Get, Outcome::NotFound) | (Action::Delete, Outcome::Done { .. } | Outcome::NotFound) => None,
        (Action::Edit(edit), Outcome::Edited(edited)) => match (held(&edit, edited), edit.content()) {
            (Some(held), _) => held.map(Cow::Borrowed),
            (None, Content::Append(bytes)) if edited.is_done => {
                let before = if edited.was_there { before?.as_deref().unwrap_or_default() } else { &[] };
                Some([before, bytes].concat().into())
            }
            _ => return before.cloned(),
        },
        _ => return before.cloned(),
    };
    Some(behind)
}

/// What a key holds behind an edit, where that follows from its outcome alone.
fn held<'a>(edit: &Edit<'a>, edited: &Edited<'a>) -> Option<Option<&'a [u8]>> {
    match edit.content() {
        _ if !edited.is_there => Some(None),
        Content::Write(value) if edited.is_done => Some(Some(value)),
        Content::Append(_) if edited.is_done => None,
        _ => edited.value.map(Some),
    }
}
