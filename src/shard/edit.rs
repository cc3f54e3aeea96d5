//! Edits: one change of value and deadline, made if the record is as a condition says.
#![forbid(unsafe_code)]

use super::index::Index;
use super::record::{Record, Slot, Written};
use super::shard::{Change, Changed, Shard};
use super::slab::Handle;
use crate::limits::{DEADLINE_MAX, VALUE_BYTES_MAX};
use crate::op::{Condition, Content, Edit, Edited, Expiry, Op, Outcome, Outcomes, Time};
use std::num::NonZeroU64;

impl<I: Index> Shard<I> {
    /// Makes an edit and hands its outcome over, or that there is no room for it.
    pub(super) fn edit(
        &mut self,
        op: &Op<'_>,
        edit: Edit<'_>,
        hash: u64,
        hint: Handle,
        index: u32,
        outcomes: &mut impl Outcomes,
    ) {
        let now = self.now();
        let mut begun = None;
        let changed = self.update(op.key, hash, hint, |found| {
            let found = found.map(Slot::record);
            let before = told(found, op, &edit);
            let outcome = match plan(&edit, found, now) {
                _ if before.value.is_some_and(|value| !outcomes.has_room(value.len())) => Outcome::ReplyFull,
                Plan::TooLong => Outcome::ValueTooLong,
                Plan::Refused => Outcome::Edited(Edited { is_done: false, ..before }),
                Plan::Change(Change::Keep) => Outcome::Edited(before),
                Plan::Change(change) => match copied(before.value) {
                    Some(value) => {
                        begun = Some((behind(&change, &before), value));
                        return change;
                    }
                    None => Outcome::OutOfMemory,
                },
            };
            outcomes.set(index, outcome);
            Change::Keep
        });
        let Some((edited, value)) = begun else { return };
        let version = match changed {
            Changed::OutOfMemory => return outcomes.set(index, Outcome::OutOfMemory),
            Changed::Written(version) => NonZeroU64::new(version).filter(|_| op.version_wanted),
            Changed::Removed | Changed::Kept => None,
        };
        outcomes.set(index, Outcome::Edited(Edited { value: value.as_deref(), version, ..edited }));
    }
}

/// What to do about an edit.
enum Plan<'a> {
    Change(Change<'a>),
    /// The condition does not hold.
    Refused,
    /// The value would be too long.
    TooLong,
}

/// What an edit does to the record that it finds.
fn plan<'a>(edit: &Edit<'a>, found: Option<Record<'_>>, now: Time) -> Plan<'a> {
    let before = found.and_then(|record| record.deadline);
    let deadline = match edit.expiry() {
        Expiry::Keep => before,
        Expiry::Clear => None,
        Expiry::At(time) => Some(time.min(DEADLINE_MAX)),
        Expiry::After(ms) => Some(now.saturating_add(ms).min(DEADLINE_MAX)),
    };
    if !holds(edit.condition(), found, deadline) {
        return Plan::Refused;
    }
    let bytes_before = found.map_or(0, |record| record.value.len());
    Plan::Change(match (edit.content(), found) {
        (Content::Append(bytes), _) if bytes_before + bytes.len() > VALUE_BYTES_MAX as usize => return Plan::TooLong,
        (Content::Remove, _) => Change::Remove,
        (Content::Keep, None) => Change::Keep,
        _ if deadline.is_some_and(|deadline| deadline <= now) => Change::Remove,
        (Content::Keep | Content::Append(&[]), Some(_)) if deadline == before => Change::Keep,
        (Content::Keep, Some(_)) => Change::Extend(Written { value: &[], deadline }),
        (Content::Append(value), Some(_)) => Change::Extend(Written { value, deadline }),
        (Content::Append(value), None) | (Content::Write(value), _) => Change::Write(Written { value, deadline }),
    })
}

/// Whether a record is as an edit expects that gives it this deadline.
fn holds(condition: Condition, found: Option<Record<'_>>, deadline: Option<Time>) -> bool {
    let Some(record) = found else { return matches!(condition, Condition::Always | Condition::IfAbsent) };
    // What has no deadline lasts longer than anything that has one.
    let lasts = |deadline: Option<Time>| deadline.map_or((1, 0), |deadline| (0, deadline));
    let is_sooner = lasts(deadline) < lasts(record.deadline);
    match condition {
        Condition::Always | Condition::IfPresent => true,
        Condition::IfAbsent => false,
        Condition::IfLasting => record.deadline.is_none(),
        Condition::IfExpiring => record.deadline.is_some(),
        Condition::IfLater => lasts(deadline) > lasts(record.deadline),
        Condition::IfSooner => is_sooner,
        Condition::IfExpiringSooner => record.deadline.is_some() && is_sooner,
    }
}

/// What is told of a record that stays as it is.
fn told<'r>(found: Option<Record<'r>>, op: &Op<'_>, edit: &Edit<'_>) -> Edited<'r> {
    Edited {
        is_done: true,
        was_there: found.is_some(),
        is_there: found.is_some(),
        value: found.filter(|_| edit.value_wanted()).map(|record| record.value),
        value_bytes: found.map_or(0, |record| record.value.len() as u32),
        deadline: found.and_then(|record| record.deadline).and_then(NonZeroU64::new),
        version: found.filter(|_| op.version_wanted).and_then(|record| NonZeroU64::new(record.version)),
    }
}

/// What is told of a change, but for value and version.
fn behind(change: &Change<'_>, before: &Edited<'_>) -> Edited<'static> {
    let (is_there, value_bytes, deadline) = match change {
        Change::Write(content) => (true, content.value.len() as u32, content.deadline),
        Change::Extend(content) => (true, before.value_bytes + content.value.len() as u32, content.deadline),
        Change::Keep | Change::Remove => (false, 0, None),
    };
    let (was_there, deadline) = (before.was_there, deadline.and_then(NonZeroU64::new));
    Edited { is_done: true, was_there, is_there, value: None, value_bytes, deadline, version: None }
}

/// A copy of a value that a change overwrites; `None` where there is no memory for one.
fn copied(value: Option<&[u8]>) -> Option<Option<Vec<u8>>> {
    let Some(value) = value else { return Some(None) };
    let mut copy = Vec::new();
    copy.try_reserve_exact(value.len()).ok()?;
    copy.extend_from_slice(value);
    Some(Some(copy))
}
