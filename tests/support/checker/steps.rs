//! A recorded call as steps of the model: values become small numbers, and outcomes become what they say.
#![forbid(unsafe_code)]

use super::super::history::{Bytes, Call, OwnedOp, OwnedOutcome, Shown};
use super::model::{Change, Content, Drawn, State, Step};
use freight::op::{VERSION_ABSENT, Version};
use std::collections::HashMap;
use std::fmt;

/// Values of one key, each numbered once, so that states are small and equal contents are equal numbers.
#[derive(Default)]
pub(super) struct Values {
    ids: HashMap<Bytes, u32>,
    bytes: Vec<Bytes>,
}

impl Values {
    /// The steps of a call, without those that certainly did nothing: refused, not executed, or lost reads.
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
                OwnedOutcome::ReplyFull if *op == OwnedOp::Get => {}
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
            (OwnedOp::Add { .. }, OwnedOutcome::NotANumber) => Step::NotANumber,
            (OwnedOp::Add { delta }, OwnedOutcome::CounterOverflow) => Step::Overflowed { delta: *delta },
            _ => return None,
        })
    }

    fn content(&mut self, value: &Bytes) -> Content {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
        match number {
            Some(number) if number.to_string().as_bytes() == &**value => Content::Number(number),
            Some(number) => Content::Spelled { number, id: self.id(value) },
            None => Content::Text { id: self.id(value) },
        }
    }

    fn id(&mut self, value: &Bytes) -> u32 {
        *self.ids.entry(Bytes::clone(value)).or_insert_with(|| {
            self.bytes.push(Bytes::clone(value));
            (self.bytes.len() - 1) as u32
        })
    }

    /// A state for people.
    pub(super) fn shown(&self, state: &State) -> String {
        match state.content {
            Content::Absent => format!("absent, the next version {}", state.version),
            Content::Number(number) => format!("\"{number}\", version {}", state.version),
            Content::Text { id } | Content::Spelled { id, .. } => {
                format!("{}, version {}", Shown(&self.bytes[id as usize]), state.version)
            }
        }
    }
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
    !matches!(op, OwnedOp::Get | OwnedOp::Delete)
}

/// A version that a record may show; the one that stands for absent it may not.
fn present(version: Option<Version>) -> Option<Option<Version>> {
    (version != Some(VERSION_ABSENT)).then_some(version)
}
