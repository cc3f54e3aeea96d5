//! What became of the operations that Redis commands are: counted as their outcomes are taken. One that is left comes
//! again.
#![forbid(unsafe_code)]

use crate::metrics::OutcomeCounts;
use crate::op::{Action, Batch, Outcome, Outcomes};
use crate::resp::Takes;
use crate::wire::{OpCode, Status};
use smallvec::SmallVec;

/// Counts each outcome on its way to whom it is for.
#[derive(Debug)]
pub(super) struct Counted<'a, O> {
    /// What each operation is, from `first` on.
    kinds: SmallVec<[OpCode; 128]>,
    first: u32,
    outcomes: &'a mut O,
    counts: &'a OutcomeCounts,
}

impl<'a, O> Counted<'a, O> {
    pub(super) fn new(batch: &impl Batch, outcomes: &'a mut O, counts: &'a OutcomeCounts) -> Self {
        let (mut kinds, mut first) = (SmallVec::with_capacity(batch.op_count() as usize), None);
        batch.for_each_key(|position, _, is_plain_get| {
            first.get_or_insert(position.index);
            kinds.push(if is_plain_get { OpCode::Get } else { kind(&batch.op(position).action) });
        });
        Self { kinds, first: first.unwrap_or_default(), outcomes, counts }
    }
}

impl<O: Takes> Outcomes for Counted<'_, O> {
    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        self.outcomes.set(index, outcome);
        if self.outcomes.has_taken() {
            self.counts.add(self.kinds[(index - self.first) as usize] as u8, status(&outcome) as u8, 1);
        }
    }

    fn has_room(&mut self, value_bytes: usize) -> bool {
        self.outcomes.has_room(value_bytes)
    }
}

fn kind(action: &Action<'_>) -> OpCode {
    match action {
        Action::Get => OpCode::Get,
        Action::Put { .. } => OpCode::Put,
        Action::Delete => OpCode::Delete,
        Action::CompareAndSwap { .. } => OpCode::CompareAndSwap,
        Action::Add { .. } => OpCode::Add,
        Action::Edit(_) => OpCode::Edit,
    }
}

fn status(outcome: &Outcome<'_>) -> Status {
    match outcome {
        Outcome::Value { .. } => Status::Value,
        Outcome::Done { .. } => Status::Done,
        Outcome::Counter { .. } => Status::Counter,
        Outcome::NotFound => Status::NotFound,
        Outcome::VersionMismatch { .. } => Status::VersionMismatch,
        Outcome::Edited(edited) if edited.value.is_some() => Status::EditedBefore,
        Outcome::Edited(_) => Status::Edited,
        Outcome::ValueTooLong => Status::ValueTooLong,
        Outcome::NotANumber => Status::NotANumber,
        Outcome::CounterOverflow => Status::CounterOverflow,
        Outcome::OutOfMemory => Status::OutOfMemory,
        Outcome::ReplyFull => Status::ReplyFull,
        Outcome::WrongNode => Status::WrongNode,
        // A store gives the first no more than the second.
        Outcome::Unknown | Outcome::NotSent => Status::Unknown,
    }
}
