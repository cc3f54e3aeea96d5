//! Small lies about a history: often, but not always, no order explains it any more.
#![forbid(unsafe_code)]

use crate::store::version_mut;
use crate::support::history::{Call, History, OwnedOp, OwnedOutcome};
use freight::op::Version;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

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
            OwnedOp::Delete => OwnedOutcome::Unknown,
            _ if random.random() => OwnedOutcome::OutOfMemory,
            _ => OwnedOutcome::Unknown,
        };
        return;
    }
    if let Some(shown) = version_mut(outcome)
        && *op != OwnedOp::Delete
        && random.random()
    {
        *shown = random.random::<bool>().then_some(version);
        return;
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
