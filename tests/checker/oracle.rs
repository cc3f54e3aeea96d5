//! Brute force: every order of the calls, every choice of lost ones, every version a write may have drawn.
#![forbid(unsafe_code)]

use crate::store::{Record, version_mut, without_version};
use crate::support::history::{Call, OwnedOp, OwnedOutcome};
use freight::op::Version;
use std::collections::HashSet;

/// Whether some order explains one key's calls, of which there are few. A node with a memory cap may have refused
/// any unseen write.
pub(crate) fn linearizable(calls: &[Call], memory_capped: bool) -> bool {
    assert!(calls.len() <= 16, "brute force is for small histories");
    let writes: usize = calls.iter().map(|call| call.steps.len()).sum();
    // Above every version that is mentioned there is room for each write to draw one more.
    let draw_max = versions_mentioned(calls).max().unwrap_or(0) + writes as Version;
    let mut oracle = Oracle { calls, memory_capped, draw_max, dead_ends: HashSet::new() };
    oracle.can_finish((1 << calls.len()) - 1, Record::default())
}

struct Oracle<'a> {
    calls: &'a [Call],
    memory_capped: bool,
    draw_max: Version,
    dead_ends: HashSet<(u32, Record)>,
}

impl Oracle<'_> {
    /// Whether the calls in `left`, a bit each, can follow on `record`.
    fn can_finish(&mut self, left: u32, record: Record) -> bool {
        let calls = self.calls;
        let waiting = || calls.iter().enumerate().filter(move |(index, _)| left & (1 << index) != 0);
        if waiting().all(|(_, call)| call.is_lost()) {
            return true;
        }
        if !self.dead_ends.insert((left, record.clone())) {
            return false;
        }
        for (index, call) in waiting() {
            let too_early = waiting().any(|(_, other)| !other.is_lost() && other.ret < Some(call.invoke));
            if !too_early
                && self.after(call, &record).into_iter().any(|after| self.can_finish(left & !(1 << index), after))
            {
                return true;
            }
        }
        false
    }

    /// Every record that the call can leave, all its outcomes as recorded.
    fn after(&self, call: &Call, record: &Record) -> HashSet<Record> {
        let mut records = HashSet::from([record.clone()]);
        for (op, outcome) in &call.steps {
            if matches!(outcome, OwnedOutcome::OutOfMemory | OwnedOutcome::ReplyFull | OwnedOutcome::NotSent) {
                continue;
            }
            let refused = self.memory_capped && !matches!(op, OwnedOp::Get | OwnedOp::Delete);
            let mut after = HashSet::new();
            for record in records {
                for draw in record.drawn + 1..=self.draw_max {
                    let mut changed = record.clone();
                    if agrees(outcome, changed.execute(op, draw)) {
                        after.insert(changed);
                    }
                }
                // Of an answered batch, an operation without an outcome may not have been carried out.
                if *outcome == OwnedOutcome::Unknown && (refused || !call.is_lost()) {
                    after.insert(record);
                }
            }
            records = after;
        }
        records
    }
}

fn agrees(recorded: &OwnedOutcome, real: OwnedOutcome) -> bool {
    *recorded == OwnedOutcome::Unknown || *recorded == real || *recorded == without_version(real)
}

fn versions_mentioned(calls: &[Call]) -> impl Iterator<Item = Version> {
    calls.iter().flat_map(|call| &call.steps).flat_map(|(op, outcome)| {
        let expected = match op {
            OwnedOp::CompareAndSwap { expected, .. } => Some(*expected),
            _ => None,
        };
        let shown = match outcome {
            OwnedOutcome::VersionMismatch { current } => Some(*current),
            outcome => version_mut(&mut outcome.clone()).and_then(|version| *version),
        };
        [expected, shown].into_iter().flatten()
    })
}
