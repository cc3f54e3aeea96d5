//! One record of the plainest store: what each operation does, on real bytes and real versions. It shares nothing
//! with the checker's model.
#![forbid(unsafe_code)]

use crate::support::history::{OwnedOp, OwnedOutcome};
use freight::op::Version;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Record {
    pub(crate) value: Option<Arc<[u8]>>,
    /// The version drawn last for this key: the record's own while there is one.
    pub(crate) drawn: Version,
}

impl Record {
    pub(crate) fn version(&self) -> Version {
        if self.value.is_some() { self.drawn } else { 0 }
    }

    /// Carries out one operation, which draws version `draw` if it writes, and shows every version it knows.
    pub(crate) fn execute(&mut self, op: &OwnedOp, draw: Version) -> OwnedOutcome {
        match op {
            OwnedOp::Get => match &self.value {
                Some(value) => OwnedOutcome::Value { value: Arc::clone(value), version: Some(self.drawn) },
                None => OwnedOutcome::NotFound,
            },
            OwnedOp::Put { value } => self.write(value, draw),
            OwnedOp::Delete => match self.value.take() {
                Some(_) => OwnedOutcome::Done { version: None },
                None => OwnedOutcome::NotFound,
            },
            OwnedOp::CompareAndSwap { expected, value } if *expected == self.version() => self.write(value, draw),
            OwnedOp::CompareAndSwap { .. } => OwnedOutcome::VersionMismatch { current: self.version() },
            OwnedOp::Add { delta } => self.add(*delta, draw),
            OwnedOp::Edit { .. } => unreachable!("nobody draws edits here"),
        }
    }

    fn write(&mut self, value: &[u8], draw: Version) -> OwnedOutcome {
        assert!(draw > self.drawn, "versions increase");
        *self = Self { value: Some(value.into()), drawn: draw };
        OwnedOutcome::Done { version: Some(draw) }
    }

    fn add(&mut self, delta: i64, draw: Version) -> OwnedOutcome {
        let text = self.value.as_deref().unwrap_or(b"0");
        let Some(number) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()) else {
            return OwnedOutcome::NotANumber;
        };
        let Some(value) = number.checked_add(delta) else { return OwnedOutcome::CounterOverflow };
        self.write(value.to_string().as_bytes(), draw);
        OwnedOutcome::Counter { value, version: Some(draw) }
    }
}

/// The outcome as a client sees it that did not ask for the version.
pub(crate) fn without_version(mut outcome: OwnedOutcome) -> OwnedOutcome {
    if let Some(version) = version_mut(&mut outcome) {
        *version = None;
    }
    outcome
}

/// The version in an outcome that may have one or not.
pub(crate) fn version_mut(outcome: &mut OwnedOutcome) -> Option<&mut Option<Version>> {
    match outcome {
        OwnedOutcome::Value { version, .. }
        | OwnedOutcome::Done { version }
        | OwnedOutcome::Counter { version, .. } => Some(version),
        _ => None,
    }
}
