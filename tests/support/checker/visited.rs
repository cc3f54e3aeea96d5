//! The configurations a search has been to, so that it enters none twice, and none that one of them includes.
//!
//! A configuration includes another if it has ordered the same answered calls and no lost ones beyond the other's,
//! and its state includes the other's: whatever can follow the other can follow it. Where no call is lost, 16 bytes
//! a configuration tell whether it is new; elsewhere the lost calls of each are kept beside its fingerprint.
#![forbid(unsafe_code)]

use super::super::history::Span;
use super::model::{Content, Drawn, State};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_128;

#[derive(Default)]
pub(super) struct Visited {
    exact: HashSet<u128, BuildHasherDefault<Fingerprints>>,
    /// By answered calls and content: lost calls and state of configurations that do not include each other.
    with_lost: HashMap<u128, Vec<(CallSet, State)>, BuildHasherDefault<Fingerprints>>,
    count: usize,
}

/// Lost calls, a bit each.
pub(super) type CallSet = Box<[u64]>;

impl Visited {
    /// Configurations entered so far.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Enters the configuration of the answered calls behind `answered` and these lost ones, unless one that was
    /// entered before includes it.
    pub(super) fn enter(&mut self, answered: u128, lost: &[u64], state: &State) -> bool {
        let new = if lost.is_empty() {
            self.exact.insert(fingerprint(answered, state.content, Some(state)))
        } else {
            let others = self.with_lost.entry(fingerprint(answered, state.content, None)).or_default();
            let includes = |one: (&[u64], &State), other: (&[u64], &State)| {
                one.1.includes(other.1) && one.0.iter().zip(other.0).all(|(one, other)| one & !other == 0)
            };
            let this = (lost, state);
            let new = !others.iter().any(|(lost, state)| includes((lost, state), this));
            if new {
                others.retain(|(lost, state)| !includes(this, (lost, state)));
                others.push((lost.into(), *state));
            }
            new
        };
        self.count += usize::from(new);
        new
    }
}

/// 128 bits: a billion configurations are all told apart but for a chance of 10^-20.
fn fingerprint(answered: u128, content: Content, state: Option<&State>) -> u128 {
    let (kind, id, number) = match content {
        Content::Absent => (0_u64, 0, 0),
        Content::Number(number) => (1, 0, number),
        Content::Text { id } => (2, id, 0),
    };
    let (precision, version) = match state.map(|state| state.version) {
        None => (0_u64, 0),
        Some(Drawn::AtLeast(version)) => (1, version),
        Some(Drawn::Exactly(version)) => (2, version),
    };
    // Between calls a state's time has no end. Its begin counts without a deadline too: one may have been reached then.
    let times = state.map_or([0; 3], |state| {
        let Span { min, max } = state.deadline.unwrap_or(Span { min: 0, max: 0 });
        [min, max, state.time.min]
    });
    let mut bytes = [0; 64];
    bytes[..16].copy_from_slice(&answered.to_le_bytes());
    bytes[16..24].copy_from_slice(&(kind | precision << 8 | u64::from(id) << 32).to_le_bytes());
    bytes[24..32].copy_from_slice(&number.to_le_bytes());
    bytes[32..40].copy_from_slice(&version.to_le_bytes());
    for (bytes, time) in bytes[40..].chunks_exact_mut(8).zip(times) {
        bytes.copy_from_slice(&time.to_le_bytes());
    }
    xxh3_128(&bytes)
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct Fingerprints(u64);

impl Hasher for Fingerprints {
    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are hashed as one u128");
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = fingerprint as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
