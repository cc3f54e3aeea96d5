//! Judges recorded histories: is there one order of each key's calls that explains every outcome?
//!
//! ```text
//!   History --a key--> Values::steps --Steps--> Search over States --> an order, or a Violation with its evidence
//!                      (steps)                  (search)    (model)
//! ```
//!
//! Where records expire, an order is one of the times too, by which their nodes judged: on a key they never go back.
//! Where they are evicted, a key may vanish before any operation, and its versions are never drawn again.
//!
//! Linearizability is local: a history is linearizable if each key's part of it is. Keys start absent; a history
//! that begins on a filled store records the filling.
#![forbid(unsafe_code)]

mod edit;
mod model;
mod search;
mod steps;
mod visited;

use super::history::{Bytes, Call, History, Shown};
use search::{Candidate, Deadlock, End, Search};
use std::fmt::Write as _;
use steps::Values;
use thiserror::Error;

/// What the checker takes for granted of the store, and how far it searches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checker {
    /// The node may refuse writes for lack of memory, so that a lost batch may have been done in part.
    pub(crate) memory_capped: bool,
    /// The node may evict any record at any instant: then it is absent, as if somebody had deleted it.
    pub(crate) evicting: bool,
    /// Configurations of one key's search before it is given up. Each costs about 40 bytes, more with lost calls.
    pub(crate) configurations_max: usize,
}

impl Checker {
    /// A store that refuses nothing and evicts nothing.
    pub(crate) const DEFAULT: Self = Self { memory_capped: false, evicting: false, configurations_max: 4_000_000 };
}

impl Default for Checker {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a history was not found linearizable.
#[derive(Debug, Error)]
pub(crate) enum Violation {
    #[error("key {key} is not linearizable: {evidence}", key = Shown(key))]
    NotLinearizable {
        key: Bytes,
        /// Calls begun by the instant that no order gets past: already these cannot be ordered.
        prefix_calls: usize,
        evidence: String,
    },
    #[error("key {key}: operation {step} has an outcome that it cannot have: {call}", key = Shown(key))]
    ImpossibleOutcome { key: Bytes, step: usize, call: Box<Call> },
    #[error("key {key} is undecided after {configurations} configurations: so far {evidence}", key = Shown(key))]
    GaveUp { key: Bytes, configurations: usize, evidence: String },
}

/// Judges with the defaults, and panics with the evidence.
pub(crate) fn assert_linearizable(history: &History) {
    if let Err(violation) = Checker::default().check(history) {
        panic!("{violation}");
    }
}

impl Checker {
    /// Judges every key, in order of keys, up to the first that fails.
    pub(crate) fn check(&self, history: &History) -> Result<(), Violation> {
        history.calls.iter().try_for_each(|(key, calls)| self.check_key(key, calls))
    }

    fn check_key(&self, key: &Bytes, calls: &[Call]) -> Result<(), Violation> {
        let mut values = Values::of(calls);
        let (mut answered, mut lost) = (Vec::new(), Vec::new());
        for (index, call) in calls.iter().enumerate() {
            let steps = values.steps(call, self.memory_capped).map_err(|step| Violation::ImpossibleOutcome {
                key: Bytes::clone(key),
                step,
                call: Box::new(call.clone()),
            })?;
            let ret = call.ret.unwrap_or(u64::MAX);
            assert!(call.invoke <= ret, "a call that returned before it was invoked: {call}");
            assert!(call.is_lost() || call.ret.is_some(), "a lost call with an outcome: {call}");
            if !steps.is_empty() {
                let pile = if call.is_lost() { &mut lost } else { &mut answered };
                pile.push(Candidate { call: index, invoke: call.invoke, ret, time: call.time, steps });
            }
        }
        let lost_count = lost.len();
        match Search::new(answered, lost, self).run() {
            End::Ordered => Ok(()),
            End::Stuck(deadlock) => Err(Violation::NotLinearizable {
                key: Bytes::clone(key),
                prefix_calls: prefix(calls, &deadlock).count(),
                evidence: evidence(calls, &deadlock, &values, lost_count),
            }),
            End::GaveUp(deadlock) => Err(Violation::GaveUp {
                key: Bytes::clone(key),
                configurations: self.configurations_max,
                evidence: evidence(calls, &deadlock, &values, lost_count),
            }),
        }
    }
}

/// The calls begun by the instant that no order gets past.
fn prefix<'a>(calls: &'a [Call], deadlock: &Deadlock) -> impl Iterator<Item = &'a Call> {
    calls.iter().filter(|call| call.invoke <= deadlock.ret)
}

fn evidence(calls: &[Call], deadlock: &Deadlock, values: &Values, lost_count: usize) -> String {
    let mut text = format!(
        "no order explains the {} of its {} calls that began by {}.\n",
        prefix(calls, deadlock).count(),
        calls.len(),
        deadlock.ret,
    );
    let mut line = |what: std::fmt::Arguments<'_>| writeln!(text, "{what}").expect("a string takes any text");
    line(format_args!("the order that gets furthest takes {} calls, the last of them:", deadlock.ordered));
    for &call in &deadlock.last {
        line(format_args!("    {}", calls[call]));
    }
    line(format_args!("that leaves the record {}", values.shown(&deadlock.state)));
    line(format_args!("next must come one of these, and none leads past {}:", deadlock.ret));
    for &call in &deadlock.next {
        let urgent = if calls[call].ret == Some(deadlock.ret) { "  <- at the latest now" } else { "" };
        line(format_args!("    {}{urgent}", calls[call]));
    }
    if lost_count > 0 {
        line(format_args!("(or one of {lost_count} lost calls before it, which does not help)"));
    }
    text
}
