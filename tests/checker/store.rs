//! One record of the plainest store: what each operation does, on real bytes and real versions. It shares nothing
//! with the checker's model.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test target uses a part")]

use crate::support::history::{Bytes, OwnedOp, OwnedOutcome};
use freight::op::{Condition, Content, Edit, Edited, Expiry, Time, Version};
use std::num::NonZeroU64;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Record {
    pub(crate) value: Option<Bytes>,
    /// The version drawn last for this key: the record's own while there is one.
    pub(crate) drawn: Version,
    pub(crate) deadline: Option<Time>,
    /// When it was met expired, if it is absent since.
    pub(crate) expired_at: Option<Time>,
}

impl Record {
    pub(crate) fn version(&self) -> Version {
        if self.value.is_some() { self.drawn } else { 0 }
    }

    /// Carries out one operation at a time, which draws version `draw` if it writes, and shows every version it knows.
    pub(crate) fn execute(&mut self, op: &OwnedOp, draw: Version, now: Time) -> OwnedOutcome {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.remove();
            self.expired_at = Some(now);
        }
        match op {
            OwnedOp::Get => match &self.value {
                Some(value) => OwnedOutcome::Value { value: Bytes::clone(value), version: Some(self.drawn) },
                None => OwnedOutcome::NotFound,
            },
            OwnedOp::Put { value } => self.write(value, draw),
            OwnedOp::Delete if self.value.is_none() => OwnedOutcome::NotFound,
            OwnedOp::Delete => {
                self.remove();
                OwnedOutcome::Done { version: None }
            }
            OwnedOp::CompareAndSwap { expected, value } if *expected == self.version() => self.write(value, draw),
            OwnedOp::CompareAndSwap { .. } => OwnedOutcome::VersionMismatch { current: self.version() },
            OwnedOp::Add { delta } => self.add(*delta, draw),
            OwnedOp::Edit { edit, bytes } => self.edit(edit, bytes, draw, now),
        }
    }

    /// The record that is left where this one is evicted.
    pub(crate) fn evicted(&self) -> Self {
        let mut evicted = self.clone();
        evicted.remove();
        evicted
    }

    fn remove(&mut self) {
        (self.value, self.deadline) = (None, None);
    }

    fn write(&mut self, value: &[u8], draw: Version) -> OwnedOutcome {
        assert!(draw > self.drawn, "versions increase");
        *self = Self { value: Some(value.into()), drawn: draw, ..Self::default() };
        OwnedOutcome::Done { version: Some(draw) }
    }

    fn add(&mut self, delta: i64, draw: Version) -> OwnedOutcome {
        let text = self.value.as_deref().unwrap_or(b"0");
        let Some(number) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()) else {
            return OwnedOutcome::NotANumber;
        };
        let Some(value) = number.checked_add(delta) else { return OwnedOutcome::CounterOverflow };
        let deadline = self.deadline;
        self.write(value.to_string().as_bytes(), draw);
        self.deadline = deadline;
        OwnedOutcome::Counter { value, version: Some(draw) }
    }

    fn edit(&mut self, edit: &Edit<'_>, bytes: &[u8], draw: Version, now: Time) -> OwnedOutcome {
        let before = self.clone();
        let deadline = match edit.expiry() {
            Expiry::Keep => self.deadline,
            Expiry::Clear => None,
            Expiry::At(time) => Some(time),
            Expiry::After(ms) => Some(now + ms),
        };
        let is_done = self.meets(edit.condition(), deadline);
        let is_reached = deadline.is_some_and(|deadline| deadline <= now);
        match edit.content() {
            _ if !is_done => {}
            Content::Keep if before.value.is_none() => {}
            Content::Remove => self.remove(),
            _ if is_reached => self.remove(),
            Content::Keep if deadline == self.deadline => {}
            Content::Keep => (self.drawn, self.deadline) = (draw, deadline),
            Content::Write(_) | Content::Append(_) => {
                let kept = if matches!(edit.content(), Content::Append(_)) { self.value.as_deref() } else { None };
                let value = [kept.unwrap_or_default(), bytes].concat();
                self.write(&value, draw);
                self.deadline = deadline;
            }
        }
        let edited = Edited {
            is_done,
            was_there: before.value.is_some(),
            is_there: self.value.is_some(),
            value: None,
            value_bytes: self.value.as_ref().map_or(0, |value| value.len() as u32),
            deadline: self.deadline.and_then(NonZeroU64::new),
            version: NonZeroU64::new(self.version()),
        };
        OwnedOutcome::Edited { edited, value: before.value.filter(|_| edit.value_wanted()) }
    }

    /// Whether the record is as an edit expects that gives it this deadline.
    fn meets(&self, condition: Condition, deadline: Option<Time>) -> bool {
        let lasts_until = |deadline: Option<Time>| deadline.unwrap_or(Time::MAX);
        let (before, behind) = (lasts_until(self.deadline), lasts_until(deadline));
        let is_there = self.value.is_some();
        match condition {
            Condition::Always => true,
            Condition::IfAbsent => !is_there,
            Condition::IfPresent => is_there,
            Condition::IfLasting => is_there && self.deadline.is_none(),
            Condition::IfExpiring => is_there && self.deadline.is_some(),
            Condition::IfLater => is_there && behind > before,
            Condition::IfSooner => is_there && behind < before,
            Condition::IfExpiringSooner => is_there && self.deadline.is_some() && behind < before,
        }
    }
}

/// The outcome as a client sees it that did not ask for the version.
pub(crate) fn without_version(outcome: OwnedOutcome) -> OwnedOutcome {
    with_version(outcome, None)
}

/// The outcome with another version, where it may have one.
pub(crate) fn with_version(mut outcome: OwnedOutcome, shown: Option<Version>) -> OwnedOutcome {
    match &mut outcome {
        OwnedOutcome::Value { version, .. }
        | OwnedOutcome::Done { version }
        | OwnedOutcome::Counter { version, .. } => *version = shown,
        OwnedOutcome::Edited { edited, .. } if edited.is_there => edited.version = shown.and_then(NonZeroU64::new),
        _ => {}
    }
    outcome
}

/// The version that an outcome shows.
pub(crate) fn version(outcome: &OwnedOutcome) -> Option<Version> {
    match outcome {
        OwnedOutcome::Value { version, .. }
        | OwnedOutcome::Done { version }
        | OwnedOutcome::Counter { version, .. } => *version,
        OwnedOutcome::Edited { edited, .. } => edited.version.map(NonZeroU64::get),
        _ => None,
    }
}
