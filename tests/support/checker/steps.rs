//! A recorded call as steps of the model: values become small numbers, and outcomes become what they say.
#![forbid(unsafe_code)]

use super::super::history::{Bytes, Call, OwnedOp, OwnedOutcome, Shown, Span};
use super::edit::{Does, LostEdit, SeenEdit};
use super::model::{Change, Content, Drawn, State, Step};
use freight::op::{Content as EditContent, Edit, VERSION_ABSENT, Version};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::num::NonZeroU64;

/// Values of one key, each numbered once, so that states are small and equal contents are equal numbers.
///
/// Values that no read can tell apart count as equal: all texts that nobody found, and all numbers that nobody found
/// or counted from, not even after lost adds. That makes lost writes alike, and the search for them short.
#[derive(Default)]
pub(super) struct Values {
    ids: HashMap<Bytes, u32>,
    bytes: Vec<Bytes>,
    found: HashSet<Bytes>,
    /// Numbers that an answered operation met, sorted.
    met: Vec<i64>,
    /// How far lost adds may move a number.
    reach: u64,
    /// The number that stands for all that nobody meets.
    unread_number: Option<i64>,
}

/// The text that stands for all that nobody found.
const UNREAD_TEXT: u32 = u32::MAX;

impl Values {
    pub(super) fn of(calls: &[Call]) -> Self {
        let mut values = Self::default();
        for (op, outcome) in calls.iter().flat_map(|call| &call.steps) {
            match (op, outcome) {
                (_, OwnedOutcome::Value { value, .. }) => {
                    values.found.insert(Bytes::clone(value));
                    values.met.extend(number(value));
                }
                (_, OwnedOutcome::Edited { value: Some(value), .. }) => {
                    values.found.insert(Bytes::clone(value));
                    values.met.extend(number(value));
                }
                (OwnedOp::Add { delta }, OwnedOutcome::Counter { value, .. }) => {
                    values.met.push(value.wrapping_sub(*delta));
                }
                // Which numbers overflow is not worth knowing: any may.
                (_, OwnedOutcome::CounterOverflow) => values.reach = u64::MAX,
                (OwnedOp::Add { delta }, OwnedOutcome::Unknown) => {
                    values.reach = values.reach.saturating_add(delta.unsigned_abs());
                }
                _ => {}
            }
        }
        values.met.sort_unstable();
        values
    }

    /// The steps of a call, without those that certainly did nothing: refused, not sent, not executed, or lost reads.
    ///
    /// # Errors
    /// The index of a step whose operation cannot have its outcome.
    pub(super) fn steps(&mut self, call: &Call, memory_capped: bool) -> Result<Vec<Step>, usize> {
        // A call that was answered in part may have had its unseen steps refused; a lost one ran as a whole, up to
        // what the node's memory cap refused.
        let answered = !call.is_lost();
        let mut steps = Vec::with_capacity(call.steps.len());
        for (index, (op, outcome)) in call.steps.iter().enumerate() {
            match outcome {
                OwnedOutcome::NotSent => {}
                OwnedOutcome::ReplyFull if matches!(op, OwnedOp::Get | OwnedOp::Edit { .. }) => {}
                OwnedOutcome::OutOfMemory if needs_memory(op) => {}
                OwnedOutcome::Unknown => {
                    steps.extend(self.change(op).map(|change| Step::Unseen {
                        change,
                        refusable: answered || (memory_capped && needs_memory(op)),
                    }))
                }
                _ => steps.push(self.seen(op, outcome).ok_or(index)?),
            }
        }
        Ok(steps)
    }

    fn change(&mut self, op: &OwnedOp) -> Option<Change> {
        Some(match op {
            OwnedOp::Get => return None,
            OwnedOp::Put { value } => Change::Put { content: self.content(value) },
            OwnedOp::Delete => Change::Delete,
            OwnedOp::CompareAndSwap { expected, value } => {
                Change::Swap { expected: *expected, content: self.content(value) }
            }
            OwnedOp::Add { delta } => Change::Add { delta: *delta },
            OwnedOp::Edit { edit, .. } if edit.only_reads() => return None,
            OwnedOp::Edit { edit, bytes } => Change::Edit(self.edit(edit, bytes)),
        })
    }

    fn seen(&mut self, op: &OwnedOp, outcome: &OwnedOutcome) -> Option<Step> {
        Some(match (op, outcome) {
            (OwnedOp::Get, OwnedOutcome::Value { value, version }) => {
                Step::Found { content: self.content(value), version: present(*version)? }
            }
            (OwnedOp::Get | OwnedOp::Delete, OwnedOutcome::NotFound) => {
                Step::Found { content: Content::Absent, version: None }
            }
            (OwnedOp::Put { value }, OwnedOutcome::Done { version }) => {
                Step::Wrote { content: self.content(value), version: present(*version)? }
            }
            (OwnedOp::Delete, OwnedOutcome::Done { version: None }) => Step::Removed,
            (OwnedOp::CompareAndSwap { expected, value }, OwnedOutcome::Done { version }) => {
                Step::Swapped { expected: *expected, content: self.content(value), version: present(*version)? }
            }
            (OwnedOp::CompareAndSwap { expected, .. }, OwnedOutcome::VersionMismatch { current }) => {
                Step::Mismatched { expected: *expected, current: *current }
            }
            (OwnedOp::Add { delta }, OwnedOutcome::Counter { value, version }) => {
                Step::Counted { delta: *delta, value: *value, version: present(*version)? }
            }
            (OwnedOp::Edit { edit, bytes }, OwnedOutcome::Edited { edited, value }) => {
                let is_told = value.is_some() == (edit.value_wanted() && edited.was_there);
                is_told.then_some(Step::Edited(SeenEdit {
                    edit: self.edit(edit, bytes),
                    is_done: edited.is_done,
                    was_there: edited.was_there,
                    is_there: edited.is_there,
                    before: value.as_ref().map(|value| self.content(value)),
                    deadline: edited.deadline.map(NonZeroU64::get),
                    version: edited.version.map(NonZeroU64::get),
                }))?
            }
            (OwnedOp::Add { .. }, OwnedOutcome::NotANumber) => Step::NotANumber,
            (OwnedOp::Add { delta }, OwnedOutcome::CounterOverflow) => Step::Overflowed { delta: *delta },
            _ => return None,
        })
    }

    fn edit(&mut self, edit: &Edit<'_>, bytes: &Bytes) -> LostEdit {
        let does = match edit.content() {
            EditContent::Keep => Does::Keep,
            EditContent::Write(_) => Does::Write(self.content(bytes)),
            EditContent::Remove => Does::Remove,
            EditContent::Append(_) => panic!("nobody judges appends"),
        };
        LostEdit { condition: edit.condition(), does, expiry: edit.expiry() }
    }

    fn content(&mut self, value: &Bytes) -> Content {
        match number(value) {
            Some(number) if self.is_met(number) => Content::Number(number),
            Some(number) => Content::Number(*self.unread_number.get_or_insert(number)),
            None if self.found.contains(value) => Content::Text { id: self.id(value) },
            None => Content::Text { id: UNREAD_TEXT },
        }
    }

    /// Whether an answered operation met this number, or one that lost adds may have made of it.
    fn is_met(&self, number: i64) -> bool {
        let next = self.met.partition_point(|&met| met < number);
        let near = self.met[..next].last().into_iter().chain(self.met.get(next));
        // Lost adds wrap nowhere near the ends of the range: they would overflow and do nothing.
        near.into_iter().any(|met| met.abs_diff(number) <= self.reach) || self.reach == u64::MAX
    }

    fn id(&mut self, value: &Bytes) -> u32 {
        *self.ids.entry(Bytes::clone(value)).or_insert_with(|| {
            self.bytes.push(Bytes::clone(value));
            (self.bytes.len() - 1) as u32
        })
    }

    /// A state for people.
    pub(super) fn shown(&self, state: &State) -> String {
        let expiry = match state.deadline {
            Some(Span { min, max }) => format!(", expires at {min}..{max}, not before {} now", state.time.min),
            None => String::new(),
        };
        format!("{}{expiry}", self.shown_content(state))
    }

    fn shown_content(&self, state: &State) -> String {
        match state.content {
            Content::Absent => format!("absent, the next version {}", state.version),
            Content::Text { id: UNREAD_TEXT } => format!("a text that nobody found, version {}", state.version),
            Content::Number(number) if !self.is_met(number) => {
                format!("a number that nobody met, version {}", state.version)
            }
            Content::Number(number) => format!("\"{number}\", version {}", state.version),
            Content::Text { id } => format!("{}, version {}", Shown(&self.bytes[id as usize]), state.version),
        }
    }
}

/// The number of which `value` is the text that an add would write.
fn number(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(version) => write!(f, "#{version}"),
            Self::AtLeast(least) => write!(f, ">= #{least}"),
        }
    }
}

fn needs_memory(op: &OwnedOp) -> bool {
    match op {
        OwnedOp::Get | OwnedOp::Delete => false,
        OwnedOp::Edit { edit, .. } => !edit.only_reads(),
        _ => true,
    }
}

/// A version that a record may show; the one that stands for absent it may not.
fn present(version: Option<Version>) -> Option<Option<Version>> {
    (version != Some(VERSION_ABSENT)).then_some(version)
}
