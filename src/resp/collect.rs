//! Outcomes on their way to replies: in any order in, in the order of the commands out.
//!
//! ```text
//!   outcome of the operation whose reply is next   --------------------> output
//!   any other   --value--> staging, until all before it are told ------> output
//! ```
//!
//! What is staged is bounded: past [`STAGED_BYTES_MAX`] the batch is full, and what is left of it does nothing, to be
//! executed again when what is here is told. So one value is there beyond the bound, at most.
//!
//! What another node owns waits for its answer, and with it all replies behind it.
#![forbid(unsafe_code)]

use super::host::Takes;
use super::ops::PlannedOp;
use super::output::{Lend, Output};
use super::render::{Answer, Failure, Plain, Tally};
use crate::op::{Outcome, Outcomes};
use std::cell::Cell;

/// Bytes of values that wait for replies before them, but for the last one's.
const STAGED_BYTES_MAX: usize = 1 << 20;

/// Bytes of a reply without its value, but for errors.
const REPLY_BYTES: usize = 32;

/// What became of an operation, its value staged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// Nothing yet.
    Not,
    /// Another node's is to say.
    Foreign,
    /// A value, in staging.
    Value { at: u32, bytes: u32 },
    /// Anything else.
    Plain(Plain),
}

/// Takes the outcomes of a batch.
#[derive(Debug)]
pub(super) struct Collect<'a, L: Lend> {
    pub(super) ops: &'a [PlannedOp],
    pub(super) told: &'a mut [Told],
    /// The operation whose reply is next.
    pub(super) next: usize,
    pub(super) staging: &'a mut Output<L>,
    pub(super) output: &'a mut Output<L>,
    pub(super) tally: &'a mut Tally,
    /// Bytes of replies past which the batch is full.
    pub(super) output_bytes_max: usize,
    /// Whether one operation is executed, the next to be told.
    pub(super) is_alone: bool,
    /// Whether outcomes are those of other nodes: what they do not own either is told so.
    pub(super) is_forwarded: bool,
    pub(super) is_full: &'a Cell<bool>,
    /// Whether the outcome that came last was taken.
    pub(super) has_taken: bool,
}

impl<L: Lend> Outcomes for Collect<'_, L> {
    #[inline]
    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        self.has_taken = !self.is_full.get() && self.take(index as usize, outcome);
    }

    fn has_room(&mut self, value_bytes: usize) -> bool {
        // Alone its reply is the next; among others it may have to wait.
        self.makes_room(if self.is_alone { 0 } else { value_bytes }, value_bytes)
    }
}

impl<L: Lend> Takes for Collect<'_, L> {
    #[inline]
    fn has_taken(&self) -> bool {
        self.has_taken
    }
}

impl<L: Lend> Collect<'_, L> {
    /// Takes an outcome; false where it is left, and the batch is full.
    #[inline]
    fn take(&mut self, at: usize, outcome: Outcome<'_>) -> bool {
        let is_taken = match Answer::of(outcome, self.ops[at].shape) {
            None if at == self.next && self.is_alone && self.output.waiting_bytes() == 0 => {
                self.tell_next(Answer::Plain(Plain::Failed(Failure::NoReplyMemory)))
            }
            None => false,
            Some(Answer::Plain(Plain::Failed(Failure::WrongNode))) if !self.is_forwarded => {
                self.told[at] = Told::Foreign;
                true
            }
            Some(answer) if at == self.next => self.tell_next(answer),
            Some(Answer::Plain(plain)) => {
                self.told[at] = Told::Plain(plain);
                true
            }
            Some(Answer::Value(value)) => self.stage(at, value),
        };
        if !is_taken {
            self.is_full.set(true);
        }
        is_taken
    }

    #[inline]
    fn tell_next(&mut self, answer: Answer<'_>) -> bool {
        let answer = match answer {
            Answer::Value(value) if !self.makes_room(0, value.len()) => {
                if self.output.waiting_bytes() > 0 {
                    // When those are written there is room again.
                    return false;
                }
                Answer::Plain(Plain::Failed(Failure::NoReplyMemory))
            }
            answer => answer,
        };
        self.tally.render(self.ops[self.next].shape, answer, self.output);
        self.next += 1;
        if self.output.waiting_bytes() > self.output_bytes_max {
            self.is_full.set(true);
        }
        true
    }

    #[inline]
    fn stage(&mut self, at: usize, value: &[u8]) -> bool {
        if !self.makes_room(value.len(), 0) {
            return false;
        }
        let begin = self.staging.keep(value);
        self.told[at] = Told::Value { at: begin as u32, bytes: value.len() as u32 };
        if self.staging.waiting_bytes() > STAGED_BYTES_MAX {
            self.is_full.set(true);
        }
        true
    }

    /// Whether a value can be staged, or told: there is room for it, and for all that is told in the end.
    #[inline]
    fn makes_room(&mut self, staged_bytes: usize, told_bytes: usize) -> bool {
        let staged = self.staging.waiting_bytes() + staged_bytes;
        let replies = (self.told.len() - self.next) * REPLY_BYTES;
        self.output.reserve(staged + told_bytes + replies) && self.staging.reserve(staged_bytes)
    }

    /// Tells what can be told in order, and gives the operation that is next.
    pub(super) fn tell_staged(self) -> usize {
        let Self { ops, told, mut next, staging, output, tally, .. } = self;
        while let Some(this) = told.get(next) {
            let answer = match *this {
                Told::Not | Told::Foreign => break,
                Told::Value { at, bytes } => Answer::Value(&staging.since(at as usize)[..bytes as usize]),
                Told::Plain(plain) => Answer::Plain(plain),
            };
            tally.render(ops[next].shape, answer, output);
            next += 1;
        }
        next
    }
}
