//! Commands on keys, taken apart into operations.
#![forbid(unsafe_code)]

use super::deadlines::{self, Options, Unit};
use super::names::Name;
use super::ops::{BadTime, PlannedContent, PlannedOp, Shape, Told, Verb};
use super::parse::Span;
use super::problem::Problem;
use crate::decimal;
use crate::limits::KEY_BYTES_MAX;
use crate::op::{Condition, Expiry, Time};

/// The words of one command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) input: &'a [u8],
    pub(super) spans: &'a [Span],
}

impl<'a> Words<'a> {
    /// How many there are, the command's name too.
    #[inline]
    pub(super) fn len(self) -> usize {
        self.spans.len()
    }

    /// One of them.
    #[inline]
    pub(super) fn get(self, at: usize) -> &'a [u8] {
        self.spans[at].of(self.input)
    }

    /// Whether one of them is this, in any case.
    pub(super) fn is(self, at: usize, word: &str) -> bool {
        self.get(at).eq_ignore_ascii_case(word.as_bytes())
    }

    /// One of them as a number.
    pub(super) fn integer(self, at: usize) -> Result<i64, Problem> {
        decimal::parse(self.get(at)).ok_or(Problem::NoInteger)
    }
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Operations, all of them.
    Whole,
    /// Operations, and some are left that have no room in the batch.
    Some(Midway),
    /// Nothing: it is none on keys.
    None,
}

/// A command on several keys, of whose operations the first are planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Midway {
    pub(super) name: Name,
    /// The word of the next key.
    pub(super) word: usize,
    /// How many words there are.
    count: usize,
}

/// Appends a command's operations, or none where the command is none on keys.
#[inline]
pub(super) fn plan(
    name: Name,
    words: Words<'_>,
    room: usize,
    now: Time,
    ops: &mut Vec<PlannedOp>,
) -> Result<Plan, Problem> {
    let (verb, shape) = match name {
        Name::Get => (Verb::Get, Shape::Value),
        Name::Set if words.len() == 3 => (Verb::Put { value: words.spans[2] }, Shape::Ok),
        Name::Mget | Name::Mset | Name::Del | Name::Unlink | Name::Exists => {
            return several(name, words, room, ops);
        }
        _ => match single(name, words, now)? {
            Some(planned) => planned,
            None => return Ok(Plan::None),
        },
    };
    ops.push(PlannedOp { key: key(words, 1)?, verb, shape, name });
    Ok(Plan::Whole)
}

/// A command on one key; none where it is another one.
fn single(name: Name, words: Words<'_>, now: Time) -> Result<Option<(Verb, Shape)>, Problem> {
    let edit = |content, expiry, condition| Verb::Edit { content, expiry, condition };
    let always = |content, expiry| edit(content, expiry, Condition::Always);
    let unit = |seconds, instant| Unit { seconds, instant };
    let told = |in_seconds, as_instant| Shape::Deadline(Told { in_seconds, as_instant });
    let read = always(PlannedContent::Keep, Expiry::Keep);
    let expire = |unit| {
        let (condition, expiry) = deadlines::expire(name, words, unit, now)?;
        Ok((edit(PlannedContent::Keep, expiry, condition), Shape::IsDoneToRecord))
    };
    let set_with_time = |unit| {
        let expiry = deadlines::from_now_on(name, words, 2, unit, now)?;
        Ok((always(PlannedContent::Write(words.spans[3]), expiry), Shape::Ok))
    };
    Ok(Some(match name {
        Name::Set => {
            let Options { condition, expiry, value_wanted } = deadlines::set_options(words, now)?;
            let shape = if value_wanted { Shape::Value } else { Shape::OkIfDone };
            (edit(PlannedContent::Write(words.spans[2]), expiry, condition), shape)
        }
        Name::Setnx => {
            let write = PlannedContent::Write(words.spans[2]);
            (edit(write, Expiry::Clear, Condition::IfAbsent), Shape::IsDone)
        }
        Name::Setex => set_with_time(unit(true, false))?,
        Name::Psetex => set_with_time(unit(false, false))?,
        Name::Getset => (always(PlannedContent::Write(words.spans[2]), Expiry::Clear), Shape::Value),
        Name::Getdel => (always(PlannedContent::Remove, Expiry::Keep), Shape::Value),
        Name::Getex => match deadlines::getex_expiry(words, now) {
            Ok(Expiry::Keep) => (Verb::Get, Shape::Value),
            Ok(expiry) => (always(PlannedContent::Keep, expiry), Shape::Value),
            // As in Redis the time is looked at when there is something to give it.
            Err(Problem::NoInteger) => (Verb::Look, Shape::BadTime(BadTime::NoInteger)),
            Err(Problem::ExpireTime { .. }) => (Verb::Look, Shape::BadTime(BadTime::OutOfRange)),
            Err(problem) => return Err(problem),
        },
        Name::Append => (always(PlannedContent::Append(words.spans[2]), Expiry::Keep), Shape::Length),
        Name::Strlen => (Verb::Look, Shape::Length),
        Name::Type => (Verb::Look, Shape::Type),
        Name::Incr => (Verb::Add { delta: 1 }, Shape::Counter),
        Name::Decr => (Verb::Add { delta: -1 }, Shape::Counter),
        Name::Incrby => (Verb::Add { delta: words.integer(2)? }, Shape::Counter),
        Name::Decrby => {
            let delta = words.integer(2)?.checked_neg().ok_or(Problem::DecrementOverflow)?;
            (Verb::Add { delta }, Shape::Counter)
        }
        Name::Expire => expire(unit(true, false))?,
        Name::Pexpire => expire(unit(false, false))?,
        Name::Expireat => expire(unit(true, true))?,
        Name::Pexpireat => expire(unit(false, true))?,
        Name::Persist => (edit(PlannedContent::Keep, Expiry::Clear, Condition::IfExpiring), Shape::IsDone),
        Name::Ttl => (read, told(true, false)),
        Name::Pttl => (read, told(false, false)),
        Name::Expiretime => (read, told(true, true)),
        Name::Pexpiretime => (read, told(false, true)),
        _ => return Ok(None),
    }))
}

/// A command on several keys.
fn several(name: Name, words: Words<'_>, room: usize, ops: &mut Vec<PlannedOp>) -> Result<Plan, Problem> {
    let all = Midway { name, word: 1, count: words.len() };
    if !(words.len() - 1).is_multiple_of(all.step()) {
        return Err(Problem::WordCount { command: name });
    }
    // All or nothing: a key that is none keeps the others from being touched.
    (1..words.len()).step_by(all.step()).try_for_each(|at| key(words, at).map(drop))?;
    Ok(all.plan(&words.spans[1..], room, ops).map_or(Plan::Whole, Plan::Some))
}

impl Midway {
    /// Words of one operation.
    fn step(self) -> usize {
        if self.name == Name::Mset { 2 } else { 1 }
    }

    /// How many words the next operations have, as many as there is room for.
    pub(super) fn words(self, room: usize) -> usize {
        (self.count - self.word).min(room * self.step())
    }

    /// Appends the next operations, whose words these begin with, and gives what is left.
    pub(super) fn plan(self, spans: &[Span], room: usize, ops: &mut Vec<PlannedOp>) -> Option<Self> {
        let Self { name, word, count } = self;
        let end = word + self.words(room);
        for at in (word..end).step_by(self.step()) {
            let is_last = at + self.step() == count;
            let (verb, shape) = match name {
                Name::Mget => {
                    let first_of = if at == 1 { count as u32 - 1 } else { 0 };
                    (Verb::Get, Shape::ValueOf { first_of })
                }
                Name::Mset => (Verb::Put { value: spans[at - word + 1] }, Shape::OkOfAll { is_last }),
                Name::Exists => (Verb::Look, Shape::Count { is_last }),
                _ => (Verb::Delete, Shape::Count { is_last }),
            };
            ops.push(PlannedOp { key: spans[at - word], verb, shape, name });
        }
        (end < count).then_some(Self { word: end, ..self })
    }
}

/// The key at a word.
#[inline]
fn key(words: Words<'_>, at: usize) -> Result<Span, Problem> {
    let key = words.spans[at];
    if key.bytes > KEY_BYTES_MAX { Err(Problem::KeyTooLong { bytes: key.bytes }) } else { Ok(key) }
}
