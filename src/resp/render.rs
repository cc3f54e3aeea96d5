//! What became of operations, as replies.
#![forbid(unsafe_code)]

use super::names::Name;
use super::ops::{BadTime, Shape, Told};
use super::output::{Lend, Output, Protocol};
use super::problem::Problem;
use crate::op::{Edited, Outcome, Time};
use std::num::NonZeroU64;

/// What became of an operation, as far as a reply tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// This value was there.
    Value(&'a [u8]),
    /// Anything else.
    Plain(Plain),
}

/// An answer without a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plain {
    /// A value of so many bytes was there.
    There { bytes: u32 },
    /// It took effect.
    Done,
    /// There was no record.
    Absent,
    /// A counter is at this number.
    Counter(i64),
    /// What an edit found and left.
    Edited {
        is_done: bool,
        was_there: bool,
        value_bytes: u32,
        /// 0 for none.
        deadline: Time,
    },
    /// It did not take effect, or nobody knows.
    Failed(Failure),
}

impl Plain {
    fn is_done(self) -> bool {
        matches!(self, Self::Edited { is_done: true, .. })
    }

    fn was_there(self) -> bool {
        !matches!(self, Self::Absent | Self::Edited { was_there: false, .. })
    }
}

impl Told {
    /// A deadline as a number.
    fn number(self, deadline: Time, now: Time) -> i64 {
        let ms = if self.as_instant { deadline } else { deadline.saturating_sub(now) };
        // To the nearest second, as Redis tells it.
        let number = if self.in_seconds { (ms + 500) / 1_000 } else { ms };
        i64::try_from(number).unwrap_or(i64::MAX)
    }
}

/// Why an operation has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    NotANumber,
    Overflow,
    TooLong,
    OutOfMemory,
    /// There is no memory for the reply; nothing was changed.
    NoReplyMemory,
    WrongNode,
    NotReached,
    Unknown,
}

impl Failure {
    fn text(self) -> &'static str {
        match self {
            Self::NotANumber => "ERR value is not an integer or out of range",
            Self::Overflow => "ERR increment or decrement would overflow",
            Self::TooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Self::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Self::NoReplyMemory => "OOM no memory for the reply: nothing was changed",
            Self::WrongNode => "CLUSTERDOWN this node does not own the key's slot",
            Self::NotReached => "CLUSTERDOWN the node that owns the key's slot was not reached: nothing was changed",
            Self::Unknown => "UNKNOWN the connection to the node of the key was lost: it may have taken effect or not",
        }
    }
}

impl<'a> Answer<'a> {
    /// What an outcome is for a reply of this shape; `None` where the operation was not executed for want of room.
    #[inline]
    pub(super) fn of(outcome: Outcome<'a>, shape: Shape) -> Option<Self> {
        let failed = |failure| Some(Self::Plain(Plain::Failed(failure)));
        match outcome {
            Outcome::Value { value, .. } if shape.tells_value() => Some(Self::Value(value)),
            Outcome::Value { value, .. } => Some(Self::Plain(Plain::There { bytes: value.len() as u32 })),
            Outcome::Done { .. } => Some(Self::Plain(Plain::Done)),
            Outcome::NotFound => Some(Self::Plain(Plain::Absent)),
            Outcome::Counter { value, .. } => Some(Self::Plain(Plain::Counter(value))),
            Outcome::Edited(Edited { was_there: false, .. }) if shape.tells_value() => Some(Self::Plain(Plain::Absent)),
            Outcome::Edited(Edited { value: Some(value), .. }) => Some(Self::Value(value)),
            Outcome::Edited(Edited { is_done, was_there, value_bytes, deadline, .. }) => {
                let deadline = deadline.map_or(0, NonZeroU64::get);
                Some(Self::Plain(Plain::Edited { is_done, was_there, value_bytes, deadline }))
            }
            Outcome::ValueTooLong => failed(Failure::TooLong),
            Outcome::NotANumber => failed(Failure::NotANumber),
            Outcome::CounterOverflow => failed(Failure::Overflow),
            Outcome::OutOfMemory => failed(Failure::OutOfMemory),
            Outcome::WrongNode => failed(Failure::WrongNode),
            Outcome::NotSent => failed(Failure::NotReached),
            Outcome::Unknown | Outcome::VersionMismatch { .. } => failed(Failure::Unknown),
            Outcome::ReplyFull => None,
        }
    }
}

/// What a reply that several operations share has come to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) protocol: Protocol,
    /// The time of the batch.
    pub(super) now: Time,
    count: i64,
    failed: Option<Failure>,
}

impl Tally {
    /// Appends the reply of an operation, or notes what it adds to that of several.
    #[inline]
    pub(super) fn render<L: Lend>(&mut self, shape: Shape, answer: Answer<'_>, output: &mut Output<L>) {
        if let Shape::ValueOf { first_of: elements @ 1.. } = shape {
            output.array(elements as usize);
        }
        let plain = match answer {
            Answer::Value(value) => return output.bulk(value),
            Answer::Plain(Plain::Failed(failure)) => return self.fail(shape, failure, output),
            Answer::Plain(plain) => plain,
        };
        match shape {
            Shape::Value | Shape::ValueOf { .. } => output.null(self.protocol),
            Shape::Ok => output.put(b"+OK\r\n"),
            Shape::OkIfDone if plain.is_done() => output.put(b"+OK\r\n"),
            Shape::OkIfDone => output.null(self.protocol),
            Shape::IsDone => output.integer(plain.is_done().into()),
            Shape::IsDoneToRecord => output.integer((plain.is_done() && plain.was_there()).into()),
            Shape::Length => output.integer(match plain {
                Plain::There { bytes } | Plain::Edited { value_bytes: bytes, .. } => bytes.into(),
                _ => 0,
            }),
            Shape::Deadline(told) => output.integer(match plain {
                Plain::Edited { was_there: true, deadline: 0, .. } => -1,
                Plain::Edited { was_there: true, deadline, .. } => told.number(deadline, self.now),
                _ => -2,
            }),
            Shape::BadTime(_) if !plain.was_there() => output.null(self.protocol),
            Shape::BadTime(BadTime::NoInteger) => output.error(&Problem::NoInteger.to_string()),
            Shape::BadTime(BadTime::OutOfRange) => {
                output.error(&Problem::ExpireTime { command: Name::Getex }.to_string());
            }
            Shape::Type => output.simple(if plain.was_there() { "string" } else { "none" }),
            Shape::Counter => {
                let Plain::Counter(value) = plain else { unreachable!("an add counts: {plain:?}") };
                output.integer(value);
            }
            Shape::Count { is_last } => {
                self.count += i64::from(plain.was_there());
                self.end_of_several(shape, is_last, output);
            }
            Shape::OkOfAll { is_last } => self.end_of_several(shape, is_last, output),
        }
    }

    fn fail<L: Lend>(&mut self, shape: Shape, failure: Failure, output: &mut Output<L>) {
        match shape {
            Shape::Count { is_last } | Shape::OkOfAll { is_last } => {
                // The first one's: others are most often the same.
                self.failed = self.failed.or(Some(failure));
                self.end_of_several(shape, is_last, output);
            }
            _ => output.error(failure.text()),
        }
    }

    fn end_of_several<L: Lend>(&mut self, shape: Shape, is_last: bool, output: &mut Output<L>) {
        if !is_last {
            return;
        }
        let count = std::mem::take(&mut self.count);
        match (self.failed.take(), shape) {
            (Some(failure), _) => output.error(failure.text()),
            (None, Shape::Count { .. }) => output.integer(count),
            (None, _) => output.put(b"+OK\r\n"),
        }
    }
}
