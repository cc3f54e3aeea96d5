//! The configurations a search has been to, so that it enters none twice, and none that one of them includes.
//!
//! A configuration includes another if it has ordered the same answered calls and no lost ones beyond the other's,
//! and its state includes the other's: whatever can follow the other can follow it. Where no call is lost, 16 bytes
//! a configuration tell whether it is new; elsewhere the lost calls of each are kept beside its fingerprint.
#![forbid(unsafe_code)]

use super::model::State;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use xxhash_rust::xxh3::Xxh3Default;

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
            self.exact.insert(fingerprint(answered, state))
        } else {
            let others = self.with_lost.entry(fingerprint(answered, state.content)).or_default();
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
fn fingerprint(answered: u128, left: impl Hash) -> u128 {
    let mut hasher = Xxh3Default::new();
    (answered, left).hash(&mut hasher);
    hasher.digest128()
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
