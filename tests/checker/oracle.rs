//! Brute force: every order of the calls, every choice of lost ones, every version a write may have drawn, every time
//! by which a call may have been executed.
#![forbid(unsafe_code)]

use crate::execution::MS_MAX;
use crate::store::{Record, version, without_version};
use crate::support::checker::Checker;
use crate::support::history::{Call, OwnedOp, OwnedOutcome};
use freight::op::{Time, Version};
use std::collections::HashSet;

/// Whether some order explains one key's calls, of which there are few. A node with a memory cap may have refused
/// any unseen write, one that evicts may have evicted the record before any operation.
pub(crate) fn linearizable(calls: &[Call], rules: &Checker) -> bool {
    assert!(calls.len() <= 16, "brute force is for small histories");
    let writes: usize = calls.iter().map(|call| call.steps.len()).sum();
    // Above every version that is mentioned there is room for each write to draw one more.
    let draw_max = versions_mentioned(calls).max().unwrap_or(0) + writes as Version;
    // Behind every deadline all times are alike.
    let latest = calls.iter().flat_map(|call| [call.time.min, call.time.max]).filter(|time| *time != Time::MAX);
    let time_max = latest.max().unwrap_or(0) + MS_MAX;
    let mut oracle = Oracle { calls, rules, draw_max, time_max, dead_ends: HashSet::new() };
    oracle.can_finish((1 << calls.len()) - 1, Point { record: Record::default(), time: 0 })
}

struct Oracle<'a> {
    calls: &'a [Call],
    rules: &'a Checker,
    draw_max: Version,
    time_max: Time,
    dead_ends: HashSet<(u32, Point)>,
}

/// Between two calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Point {
    record: Record,
    /// No call behind has an earlier time: kept, as by the checker, where there is a deadline or one was reached.
    time: Time,
}

impl Oracle<'_> {
    /// Whether the calls in `left`, a bit each, can follow.
    fn can_finish(&mut self, left: u32, point: Point) -> bool {
        let calls = self.calls;
        let waiting = || calls.iter().enumerate().filter(move |(index, _)| left & (1 << index) != 0);
        if waiting().all(|(_, call)| call.is_lost()) {
            return true;
        }
        if !self.dead_ends.insert((left, point.clone())) {
            return false;
        }
        for (index, call) in waiting() {
            let too_early = waiting().any(|(_, other)| !other.is_lost() && other.ret < Some(call.invoke));
            if !too_early
                && self.after(call, &point).into_iter().any(|after| self.can_finish(left & !(1 << index), after))
            {
                return true;
            }
        }
        false
    }

    /// Every point that the call can lead to, all its outcomes as recorded.
    fn after(&self, call: &Call, point: &Point) -> HashSet<Point> {
        let has_edits = call.steps.iter().any(|(op, _)| matches!(op, OwnedOp::Edit { .. }));
        let (first, mut last) = (point.time.max(call.time.min), call.time.max.min(self.time_max));
        if point.record.deadline.is_none() && !has_edits {
            // All times are alike.
            last = last.min(first);
        }
        let at = |now| {
            let records = self.records_after(call, &point.record, now).into_iter();
            records.map(move |record| Point { time: floor(&record, now), record })
        };
        (first..=last).flat_map(at).collect()
    }

    /// Every record that the call can leave at this time.
    fn records_after(&self, call: &Call, record: &Record, now: Time) -> HashSet<Record> {
        let mut records = HashSet::from([record.clone()]);
        for (op, outcome) in &call.steps {
            if matches!(outcome, OwnedOutcome::OutOfMemory | OwnedOutcome::ReplyFull | OwnedOutcome::NotSent) {
                continue;
            }
            let refused = self.rules.memory_capped && !matches!(op, OwnedOp::Get | OwnedOp::Delete);
            let mut after = HashSet::new();
            let evicted = records.iter().filter(|_| self.rules.evicting).map(Record::evicted).collect();
            for record in records.union(&evicted).cloned() {
                for draw in record.drawn + 1..=self.draw_max {
                    let mut changed = record.clone();
                    if agrees(outcome, changed.execute(op, draw, now)) {
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

/// What the time is not before behind a call of this time.
fn floor(record: &Record, now: Time) -> Time {
    record.deadline.map_or(record.expired_at.unwrap_or_default(), |_| now)
}

fn agrees(recorded: &OwnedOutcome, mut real: OwnedOutcome) -> bool {
    // Lengths are not judged.
    if let (OwnedOutcome::Edited { edited: recorded, .. }, OwnedOutcome::Edited { edited, .. }) = (recorded, &mut real)
    {
        edited.value_bytes = recorded.value_bytes;
    }
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
            outcome => version(outcome),
        };
        [expected, shown].into_iter().flatten()
    })
}
