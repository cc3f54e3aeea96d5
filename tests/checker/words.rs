//! Short words for calls, so that a history reads like its picture: `at(1, 5, put("a"))`, `lost(3, [put("b")])`.
#![forbid(unsafe_code)]

use crate::support::checker::{Checker, Violation};
use crate::support::history::{Call, History, OwnedOp, OwnedOutcome, Span};
use freight::op::{Content, Edit, Edited, Expiry, Time, Version};
use std::num::NonZeroU64;

pub(crate) type Step = (OwnedOp, OwnedOutcome);

/// A call from `invoke` to `ret`.
pub(crate) fn at(invoke: u64, ret: u64, steps: impl IntoSteps) -> Call {
    Call { client: 0, invoke, ret: Some(ret), time: Span::ANY, steps: steps.into_steps() }
}

/// A call whose answer never came; outcomes given are forgotten.
pub(crate) fn lost(invoke: u64, steps: impl IntoSteps) -> Call {
    let steps = steps.into_steps().into_iter().map(|(op, _)| (op, OwnedOutcome::Unknown)).collect();
    Call { client: 0, invoke, ret: None, time: Span::ANY, steps }
}

/// The call, executed by a time from `min` to `max`.
pub(crate) fn during(min: Time, max: Time, call: Call) -> Call {
    Call { time: Span { min, max }, ..call }
}

/// One step or several.
pub(crate) trait IntoSteps {
    fn into_steps(self) -> Vec<Step>;
}

impl IntoSteps for Step {
    fn into_steps(self) -> Vec<Step> {
        vec![self]
    }
}

impl<const N: usize> IntoSteps for [Step; N] {
    fn into_steps(self) -> Vec<Step> {
        self.into()
    }
}

/// The calls as the history of one key, each by a client of its own.
pub(crate) fn history(calls: impl IntoIterator<Item = Call>) -> History {
    let mut history = History::default();
    for (client, call) in (1..).zip(calls) {
        history.push(b"key", Call { client, ..call });
    }
    history
}

#[track_caller]
pub(crate) fn accepted(calls: impl IntoIterator<Item = Call>) {
    if let Err(violation) = Checker::default().check(&history(calls)) {
        panic!("a linearizable history was rejected: {violation}");
    }
}

#[track_caller]
pub(crate) fn rejected(calls: impl IntoIterator<Item = Call>) -> Violation {
    let violation = Checker::default().check(&history(calls)).expect_err("no order explains this");
    assert!(matches!(violation, Violation::NotLinearizable { .. }), "{violation}");
    violation
}

pub(crate) fn get(value: &str) -> Step {
    (OwnedOp::Get, OwnedOutcome::Value { value: value.as_bytes().into(), version: None })
}

pub(crate) fn get_at(value: &str, version: Version) -> Step {
    (OwnedOp::Get, OwnedOutcome::Value { value: value.as_bytes().into(), version: Some(version) })
}

pub(crate) fn get_nothing() -> Step {
    (OwnedOp::Get, OwnedOutcome::NotFound)
}

pub(crate) fn put(value: &str) -> Step {
    (put_op(value), OwnedOutcome::Done { version: None })
}

pub(crate) fn put_at(value: &str, version: Version) -> Step {
    (put_op(value), OwnedOutcome::Done { version: Some(version) })
}

fn put_op(value: &str) -> OwnedOp {
    OwnedOp::Put { value: value.as_bytes().into() }
}

pub(crate) fn delete() -> Step {
    (OwnedOp::Delete, OwnedOutcome::Done { version: None })
}

pub(crate) fn delete_nothing() -> Step {
    (OwnedOp::Delete, OwnedOutcome::NotFound)
}

pub(crate) fn swap(expected: Version, value: &str) -> Step {
    (swap_op(expected, value), OwnedOutcome::Done { version: None })
}

pub(crate) fn swap_at(expected: Version, value: &str, version: Version) -> Step {
    (swap_op(expected, value), OwnedOutcome::Done { version: Some(version) })
}

pub(crate) fn mismatch(expected: Version, current: Version) -> Step {
    (swap_op(expected, "never written"), OwnedOutcome::VersionMismatch { current })
}

fn swap_op(expected: Version, value: &str) -> OwnedOp {
    OwnedOp::CompareAndSwap { expected, value: value.as_bytes().into() }
}

pub(crate) fn add(delta: i64, value: i64) -> Step {
    (OwnedOp::Add { delta }, OwnedOutcome::Counter { value, version: None })
}

pub(crate) fn add_at(delta: i64, value: i64, version: Version) -> Step {
    (OwnedOp::Add { delta }, OwnedOutcome::Counter { value, version: Some(version) })
}

pub(crate) fn add_to_text(delta: i64) -> Step {
    (OwnedOp::Add { delta }, OwnedOutcome::NotANumber)
}

pub(crate) fn add_overflows(delta: i64) -> Step {
    (OwnedOp::Add { delta }, OwnedOutcome::CounterOverflow)
}

/// Writes a value with a deadline over a record that is there.
pub(crate) fn write_until(value: &str, deadline: Time) -> Step {
    let edit = Edit::new(Content::Write(&[]), Expiry::At(deadline));
    let deadline = NonZeroU64::new(deadline);
    let (is_done, was_there, is_there, value_bytes) = (true, true, true, value.len() as u32);
    let edited = Edited { is_done, was_there, is_there, value: None, value_bytes, deadline, version: None };
    (OwnedOp::Edit { edit, bytes: value.as_bytes().into() }, OwnedOutcome::Edited { edited, value: None })
}

/// The step with another outcome.
pub(crate) fn but(step: Step, outcome: OwnedOutcome) -> Step {
    (step.0, outcome)
}
