//! Small lies about a history: often, but not always, no order explains it any more.
#![forbid(unsafe_code)]

use crate::execution::MS_MAX;
use crate::store::with_version;
use crate::support::history::{Call, History, OwnedOp, OwnedOutcome};
use freight::op::{Edited, Version};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::num::NonZeroU64;

/// Changes one call, if the history has any.
pub(crate) fn mutate(history: &mut History, random: &mut ChaCha8Rng) {
    let key = random.random_range(0..history.calls.len().max(1));
    let Some(calls) = history.calls.values_mut().nth(key) else { return };
    let other = calls[random.random_range(0..calls.len())].clone();
    let index = random.random_range(0..calls.len());
    let call = &mut calls[index];
    match random.random_range(0..6) {
        0 => hurry(call, random),
        1 => call.steps.rotate_left(1),
        _ if call.ret.is_none() => {}
        _ => {
            let step = random.random_range(0..call.steps.len());
            let (op, outcome) = &mut call.steps[step];
            lie(op, outcome, &other, random);
        }
    }
}

/// Moves the begin or the end of a call towards the other.
fn hurry(call: &mut Call, random: &mut ChaCha8Rng) {
    match call.ret {
        Some(ret) if random.random() => call.invoke = random.random_range(call.invoke..=ret),
        Some(ret) => call.ret = Some(random.random_range(call.invoke..=ret)),
        None => call.invoke += random.random_range(0..10),
    }
}

/// Another outcome that the operation can have, with a value and version of `other` where it has any.
fn lie(op: &OwnedOp, outcome: &mut OwnedOutcome, other: &Call, random: &mut ChaCha8Rng) {
    let version: Version = random.random_range(1..20);
    if random.random_range(0..8) == 0 {
        *outcome = match op {
            OwnedOp::Get => OwnedOutcome::ReplyFull,
            OwnedOp::Edit { edit, .. } if edit.only_reads() => OwnedOutcome::ReplyFull,
            OwnedOp::Delete => OwnedOutcome::Unknown,
            _ if random.random() => OwnedOutcome::OutOfMemory,
            _ => OwnedOutcome::Unknown,
        };
        return;
    }
    let may_show = !matches!(op, OwnedOp::Delete) && random.random();
    let other_version = with_version(outcome.clone(), random.random::<bool>().then_some(version));
    if may_show && other_version != *outcome {
        *outcome = other_version;
        return;
    }
    if let OwnedOutcome::Edited { edited, .. } = outcome {
        return lie_of_edit(edited, random);
    }
    let value = other.steps.iter().find_map(|(op, outcome)| match (op, outcome) {
        (OwnedOp::Put { value } | OwnedOp::CompareAndSwap { value, .. }, _)
        | (_, OwnedOutcome::Value { value, .. }) => Some(value.clone()),
        _ => None,
    });
    *outcome = match (op, &*outcome) {
        (OwnedOp::Get, OwnedOutcome::Value { .. }) if random.random() => OwnedOutcome::NotFound,
        (OwnedOp::Get, _) => OwnedOutcome::Value { value: value.unwrap_or_else(|| (*b"0").into()), version: None },
        (OwnedOp::Delete, OwnedOutcome::Done { .. }) => OwnedOutcome::NotFound,
        (OwnedOp::Delete, _) => OwnedOutcome::Done { version: None },
        (OwnedOp::CompareAndSwap { .. }, OwnedOutcome::Done { .. }) => {
            OwnedOutcome::VersionMismatch { current: version * Version::from(random.random::<bool>()) }
        }
        (OwnedOp::CompareAndSwap { .. }, OwnedOutcome::VersionMismatch { .. }) => OwnedOutcome::Done { version: None },
        (OwnedOp::Add { .. }, _) if random.random() => OwnedOutcome::NotANumber,
        (OwnedOp::Add { .. }, _) => OwnedOutcome::Counter { value: random.random_range(-2..3), version: None },
        (_, outcome) => outcome.clone(),
    };
}

/// Another outcome of an edit.
fn lie_of_edit(edited: &mut Edited<'_>, random: &mut ChaCha8Rng) {
    let deadline = edited.deadline.map_or(MS_MAX, NonZeroU64::get) + random.random_range(0..4);
    match random.random_range(0..5) {
        0 => edited.is_done = !edited.is_done,
        1 => edited.was_there = !edited.was_there,
        2 => edited.is_there = !edited.is_there,
        3 if edited.deadline.is_some() && random.random() => edited.deadline = None,
        _ => edited.deadline = NonZeroU64::new(deadline - 2),
    }
}
