//! The outcomes of one frame as bytes, in the order in which the shards came to them.
//!
//! ```text
//!   outcome   first index u16 | slot u16 | code u8, bit 7: a version follows | version u64 | the rest by code:
//!             value: value_bytes u32, value        counter: i64        others: nothing
//!             edited: flags u8, value_bytes u32 behind the edit, deadline u64 if flagged,
//!                     value_bytes u32 and value before it if flagged
//! ```
//!
//! Little-endian. A put that took effect takes 5 bytes. Records travel in this form from node to node.
#![forbid(unsafe_code)]

use super::account::Account;
use crate::limits::{SLOTS, VALUE_BYTES_MAX};
use crate::op::{Edited, Outcome, Version};
use std::num::NonZeroU64;

const VERSION: u8 = 0x80;

/// Bytes of an outcome without version, value or counter.
pub(super) const OUTCOME_BYTES_MIN: usize = 5;

/// The most that an outcome takes beyond those and its value: a version and an edit's numbers.
const FIXED_BYTES_MAX: usize = 8 + 1 + 4 + 8 + 4;

/// What an edit's flags say: three facts, and what follows.
const IS_DONE: u8 = 1;
const WAS_THERE: u8 = 2;
const IS_THERE: u8 = 4;
const DEADLINE: u8 = 8;
const VALUE: u8 = 16;

/// One recorded outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recorded<'a> {
    pub(super) index: u16,
    pub(super) slot: u16,
    pub(super) outcome: Outcome<'a>,
}

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Code, version and bytes of an outcome; `None` for one that is never recorded.
fn parts<'a>(outcome: &Outcome<'a>) -> Option<(u8, Option<Version>, &'a [u8])> {
    Some(match *outcome {
        Outcome::Value { value, version } => (1, version, value),
        Outcome::Done { version } => (2, version, &[]),
        Outcome::Counter { version, .. } => (3, version, &[]),
        Outcome::NotFound => (4, None, &[]),
        Outcome::VersionMismatch { current } => (5, Some(current), &[]),
        Outcome::NotANumber => (6, None, &[]),
        Outcome::CounterOverflow => (7, None, &[]),
        Outcome::OutOfMemory => (8, None, &[]),
        Outcome::Edited(Edited { version, value, .. }) => (9, version.map(NonZeroU64::get), value.unwrap_or_default()),
        Outcome::ValueTooLong => (10, None, &[]),
        Outcome::WrongNode | Outcome::ReplyFull | Outcome::Unknown | Outcome::NotSent => return None,
    })
}

/// Appends an outcome where it is one to be recorded, and room for it can be had.
fn append(bytes: &mut Vec<u8>, recorded: &Recorded<'_>, make_room: impl FnOnce(&mut Vec<u8>, usize) -> bool) -> bool {
    let Recorded { index, slot, outcome } = recorded;
    let Some((code, version, value)) = parts(outcome) else { return true };
    let needed = OUTCOME_BYTES_MIN + FIXED_BYTES_MAX + value.len();
    if bytes.capacity() - bytes.len() < needed && !make_room(bytes, needed) {
        return false;
    }
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&slot.to_le_bytes());
    bytes.push(code | if version.is_some() { VERSION } else { 0 });
    bytes.extend(version.into_iter().flat_map(u64::to_le_bytes));
    match outcome {
        Outcome::Value { .. } => append_value(bytes, value),
        Outcome::Edited(edited) => append_edited(bytes, edited),
        Outcome::Counter { value, .. } => bytes.extend_from_slice(&value.to_le_bytes()),
        _ => {}
    }
    true
}

fn append_value(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

fn append_edited(bytes: &mut Vec<u8>, edited: &Edited<'_>) {
    let Edited { is_done, was_there, is_there, value, value_bytes, deadline, version: _ } = *edited;
    let facts = [(is_done, IS_DONE), (was_there, WAS_THERE), (is_there, IS_THERE)];
    let parts = [(deadline.is_some(), DEADLINE), (value.is_some(), VALUE)];
    bytes.push(facts.into_iter().chain(parts).map(|(is_so, flag)| if is_so { flag } else { 0 }).sum());
    bytes.extend_from_slice(&value_bytes.to_le_bytes());
    bytes.extend(deadline.into_iter().flat_map(|deadline| deadline.get().to_le_bytes()));
    if let Some(value) = value {
        append_value(bytes, value);
    }
}

/// Reads outcomes; ends after the first that is malformed.
pub(super) fn outcomes(bytes: &[u8]) -> impl Iterator<Item = Result<(Recorded<'_>, &[u8]), Malformed>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let before = rest;
        let read = read(&mut rest).ok_or(Malformed);
        if read.is_err() {
            rest = &[];
        }
        Some(read.map(|recorded| (recorded, &before[..before.len() - rest.len()])))
    })
}

/// The outcomes of a record of ours.
pub(super) fn own_outcomes(bytes: &[u8]) -> impl Iterator<Item = Recorded<'_>> {
    outcomes(bytes).map(|read| read.expect("what was recorded can be read").0)
}

fn read<'a>(rest: &mut &'a [u8]) -> Option<Recorded<'a>> {
    let index = u16::from_le_bytes(take(rest)?);
    let slot = u16::from_le_bytes(take(rest)?);
    let [code] = take(rest)?;
    let version = if code & VERSION == 0 { None } else { Some(u64::from_le_bytes(take(rest)?)) };
    let outcome = match (code & !VERSION, version) {
        (1, version) => Outcome::Value { value: take_value(rest)?, version },
        (2, version) => Outcome::Done { version },
        (3, version) => Outcome::Counter { value: i64::from_le_bytes(take(rest)?), version },
        (4, None) => Outcome::NotFound,
        (5, Some(current)) => Outcome::VersionMismatch { current },
        (6, None) => Outcome::NotANumber,
        (7, None) => Outcome::CounterOverflow,
        (8, None) => Outcome::OutOfMemory,
        (9, version) => Outcome::Edited(take_edited(rest, version)?),
        (10, None) => Outcome::ValueTooLong,
        _ => return None,
    };
    (u32::from(slot) < SLOTS).then_some(Recorded { index, slot, outcome })
}

fn take_value<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let value_bytes = u32::from_le_bytes(take(rest)?);
    let (value, after) = rest.split_at_checked(value_bytes as usize)?;
    *rest = after;
    (value_bytes <= VALUE_BYTES_MAX).then_some(value)
}

fn take_edited<'a>(rest: &mut &'a [u8], version: Option<Version>) -> Option<Edited<'a>> {
    let [flags] = take(rest)?;
    let value_bytes = u32::from_le_bytes(take(rest)?);
    let has = |flag| flags & flag != 0;
    let deadline = if has(DEADLINE) { Some(NonZeroU64::new(u64::from_le_bytes(take(rest)?))?) } else { None };
    let value = if has(VALUE) { Some(take_value(rest)?) } else { None };
    let (is_done, was_there, is_there) = (has(IS_DONE), has(WAS_THERE), has(IS_THERE));
    let is_known = flags < 2 * VALUE && value_bytes <= VALUE_BYTES_MAX;
    let version = version.map(|version| NonZeroU64::new(version).ok_or(())).transpose().ok()?;
    is_known.then_some(Edited { is_done, was_there, is_there, value, value_bytes, deadline, version })
}

/// The bytes of a number off the front.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

/// A frame's record while it is made. Its memory is accounted before it is used; where there is none the record is
/// lost, and with it what the frame's sequence is known by.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    account: &'a Account,
    bytes: Vec<u8>,
    is_lost: bool,
}

impl<'a> Draft<'a> {
    /// Goes on with a record, or begins one in memory that is accounted.
    pub(super) fn on(account: &'a Account, bytes: Vec<u8>) -> Self {
        Self { account, bytes, is_lost: false }
    }

    /// What is recorded so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub(super) fn push(&mut self, recorded: &Recorded<'_>) {
        if !self.is_lost {
            let account = self.account;
            self.is_lost = !append(&mut self.bytes, recorded, |bytes, needed| make_room(account, bytes, needed));
        }
    }

    /// The record, its capacity accounted; `None` where it is lost.
    pub(super) fn finish(mut self) -> Option<Vec<u8>> {
        let bytes = std::mem::take(&mut self.bytes);
        if self.is_lost {
            self.account.give_back(bytes.capacity() as u64);
            return None;
        }
        Some(bytes)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // What a panic left behind.
        self.account.give_back(self.bytes.capacity() as u64);
    }
}

/// Makes room for `needed` bytes more: twice as much as there was, or at least a sixteenth more, so that a long record
/// is copied a few times and not once for each outcome.
#[cold]
fn make_room(account: &Account, bytes: &mut Vec<u8>, needed: usize) -> bool {
    let (old, length, max) = (bytes.capacity(), bytes.len(), account.record_bytes_max());
    let fits = |wanted: &usize| (length + needed..=max).contains(wanted) && account.take((wanted - old) as u64);
    let taken = [(2 * length + needed).min(max), length + length / 16 + needed].into_iter().find(fits);
    let Some(wanted) = taken else { return false };
    let mut grown = Vec::with_capacity(wanted);
    // The allocator may give more than was asked for.
    if grown.capacity() > wanted && !account.take((grown.capacity() - wanted) as u64) {
        account.give_back((wanted - old) as u64);
        return false;
    }
    grown.extend_from_slice(bytes);
    *bytes = grown;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use std::sync::Arc;

    fn all() -> Vec<Recorded<'static>> {
        let (value, deadline, version) = (Some(&b"before"[..]), Some(NonZeroU64::MAX), NonZeroU64::new(7));
        let edited =
            Edited { is_done: true, was_there: true, is_there: true, value, value_bytes: 9, deadline, version };
        let outcomes = [
            Outcome::Value { value: b"a value", version: None },
            Outcome::Value { value: b"", version: Some(7) },
            Outcome::Done { version: None },
            Outcome::Done { version: Some(u64::MAX) },
            Outcome::Counter { value: -1, version: None },
            Outcome::Counter { value: i64::MAX, version: Some(1) },
            Outcome::NotFound,
            Outcome::VersionMismatch { current: 0 },
            Outcome::NotANumber,
            Outcome::CounterOverflow,
            Outcome::OutOfMemory,
            Outcome::Edited(edited),
            Outcome::Edited(Edited { deadline: None, value: None, version: None, ..edited }),
            Outcome::ValueTooLong,
        ];
        let recorded = |(index, outcome)| Recorded { index, slot: index - 65_522 + 16_370, outcome };
        (65_522..=u16::MAX).zip(outcomes).map(recorded).collect()
    }

    #[test]
    fn what_is_recorded_is_read_back_and_accounted() {
        let account = Account::new(Arc::new(Budget::new(u64::MAX)), 1 << 20);
        let mut draft = Draft::on(&account, Vec::new());
        all().iter().for_each(|recorded| draft.push(recorded));
        let none = Recorded { index: 0, slot: 0, outcome: Outcome::WrongNode };
        draft.push(&none);
        let bytes = draft.finish().expect("room");
        assert_eq!(own_outcomes(&bytes).collect::<Vec<_>>(), all());
        assert_eq!(account.bytes_used(), bytes.capacity() as u64);
        let whole: usize = outcomes(&bytes).map(|read| read.expect("ours").1.len()).sum();
        assert_eq!(whole, bytes.len());
    }

    #[test]
    fn bytes_cut_or_changed_anywhere_are_read_or_refused() {
        let account = Account::new(Arc::new(Budget::new(u64::MAX)), 1 << 20);
        let mut draft = Draft::on(&account, Vec::new());
        all().iter().for_each(|recorded| draft.push(recorded));
        let bytes = draft.finish().expect("room");
        let (mut read, mut refused) = (0, 0);
        for length in 0..bytes.len() {
            for byte in [0, 1, 5, 0x7F, 0x80, 0xFF] {
                let mut changed = bytes[..length].to_vec();
                changed.push(byte);
                if outcomes(&changed).all(|read| read.is_ok()) { read += 1 } else { refused += 1 }
            }
        }
        assert!(read > 10 && refused > 100, "{read} read, {refused} refused");
    }

    #[test]
    fn a_long_record_is_copied_a_few_times() {
        let account = Account::new(Arc::new(Budget::new(u64::MAX)), 16 << 20);
        let mut draft = Draft::on(&account, Vec::new());
        let mut capacities = std::collections::BTreeSet::new();
        for index in 0..u16::MAX {
            draft.push(&Recorded { index, slot: 0, outcome: Outcome::Done { version: Some(7) } });
            capacities.insert(draft.bytes.capacity());
        }
        assert!(!draft.is_lost && draft.bytes().len() > (16 << 20) / 32, "more than half of what a record may take");
        assert!(capacities.len() < 40, "{} sizes", capacities.len());
    }

    #[test]
    fn a_record_that_finds_no_room_is_lost_and_gives_all_back() {
        let account = Account::new(Arc::new(Budget::new(u64::MAX)), 16 << 10);
        let mut draft = Draft::on(&account, Vec::new());
        for index in 0..1_000 {
            draft.push(&Recorded { index, slot: 0, outcome: Outcome::NotFound });
        }
        assert_eq!((draft.finish(), account.bytes_used()), (None, 0));
    }
}
