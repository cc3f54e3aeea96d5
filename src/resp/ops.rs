//! Commands as operations: what a batch of the store sees of them.
#![forbid(unsafe_code)]

use super::host::Commands;
use super::names::Name;
use super::parse::Span;
use crate::hash::Key;
use crate::op::{Action, Batch, Condition, Content, Edit, Expiry, Op, Position};
use std::cell::Cell;
use std::ops::Range;

/// One operation of a command, and what its outcome becomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedOp {
    pub(super) key: Span,
    pub(super) verb: Verb,
    pub(super) shape: Shape,
    /// The command that it is of.
    pub(super) name: Name,
}

/// What it does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    /// Reads the value.
    Get,
    /// Looks whether there is one.
    Look,
    Put {
        value: Span,
    },
    Delete,
    Add {
        delta: i64,
    },
    /// Anything else.
    Edit {
        content: PlannedContent,
        expiry: Expiry,
        condition: Condition,
    },
}

/// What an edit does to the value.
#[derive(Debug, Clone, Copy)]
pub(super) enum PlannedContent {
    Keep,
    Write(Span),
    Append(Span),
    Remove,
}

/// What its outcome becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A value, or that there is none.
    Value,
    /// A value of several, behind their number where it is the first.
    ValueOf { first_of: u32 },
    /// `+OK`
    Ok,
    /// `+OK`, or that there is nothing where the condition did not hold.
    OkIfDone,
    /// `+OK` behind the last of several.
    OkOfAll { is_last: bool },
    /// The number that a counter is at.
    Counter,
    /// Length of the value, 0 for none.
    Length,
    /// How many of several had a record, behind the last.
    Count { is_last: bool },
    /// The type of the value.
    Type,
    /// 1 where the condition held, else 0.
    IsDone,
    /// 1 where it held for a record, else 0.
    IsDoneToRecord,
    /// When the record expires, or in how long.
    Deadline(Told),
    /// That GETEX's time is none, where there is a record to give it.
    BadTime(BadTime),
}

/// Why a time is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadTime {
    NoInteger,
    OutOfRange,
}

/// How a deadline is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// In seconds, not in milliseconds.
    pub(super) in_seconds: bool,
    /// As an instant, not as the time from then on.
    pub(super) as_instant: bool,
}

impl Shape {
    /// Whether the reply has the value in it.
    #[inline]
    pub(super) fn tells_value(self) -> bool {
        matches!(self, Self::Value | Self::ValueOf { .. })
    }
}

/// Commands that have become operations, as a batch.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) ops: &'a [PlannedOp],
    /// Those that are to be executed; the index of each counts from the first of all.
    pub(super) range: Range<usize>,
    pub(super) input: &'a [u8],
    /// Once the replies are full nothing is changed any more: operations that are left do nothing.
    pub(super) is_full: &'a Cell<bool>,
}

impl Batch for Planned<'_> {
    fn op_count(&self) -> u32 {
        self.range.len() as u32
    }

    #[inline]
    fn for_each_key<'a>(&'a self, mut visit: impl FnMut(Position, Key<'a>, bool)) {
        for (index, op) in (self.range.start as u32..).zip(&self.ops[self.range.clone()]) {
            let is_plain_get = matches!(op.verb, Verb::Get | Verb::Look);
            let key = Key::at_front(op.key.onwards(self.input), op.key.bytes as usize);
            visit(Position { index, offset: 0 }, key, is_plain_get);
        }
    }

    #[inline]
    fn op(&self, position: Position) -> Op<'_> {
        let op = &self.ops[position.index as usize];
        if self.is_full.get() {
            return Op { key: op.key.of(self.input), action: Action::Get, version_wanted: false };
        }
        op.of(self.input)
    }

    #[inline]
    fn plain_get(&self, position: Position) -> &[u8] {
        self.ops[position.index as usize].key.of(self.input)
    }
}

impl Commands for Planned<'_> {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.ops[self.range.clone()].iter().map(|op| op.name.row().name)
    }
}

impl PlannedOp {
    /// The operation, its bytes those of the input.
    #[inline]
    pub(super) fn of<'a>(&self, input: &'a [u8]) -> Op<'a> {
        let action = match self.verb {
            Verb::Get | Verb::Look => Action::Get,
            Verb::Put { value } => Action::Put { value: value.of(input) },
            Verb::Delete => Action::Delete,
            Verb::Add { delta } => Action::Add { delta },
            Verb::Edit { content, expiry, condition } => {
                let content = match content {
                    PlannedContent::Keep => Content::Keep,
                    PlannedContent::Write(value) => Content::Write(value.of(input)),
                    PlannedContent::Append(value) => Content::Append(value.of(input)),
                    PlannedContent::Remove => Content::Remove,
                };
                let edit = Edit::new(content, expiry).on(condition);
                Action::Edit(if self.shape.tells_value() { edit.wanting_value() } else { edit })
            }
        };
        Op { key: self.key.of(input), action, version_wanted: false }
    }
}
