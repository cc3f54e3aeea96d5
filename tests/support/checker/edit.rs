//! Edits, seen and lost, on what is known of a record.
#![forbid(unsafe_code)]

use super::super::history::Span;
use super::model::{Content, Drawn, State};
use freight::op::{Condition, Expiry, Time, Version};

/// What an edit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LostEdit {
    pub(super) condition: Condition,
    pub(super) does: Does,
    pub(super) expiry: Expiry,
}

/// What it does to the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Keep,
    Write(Content),
    Remove,
}

/// An edit, and what was told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeenEdit {
    pub(super) edit: LostEdit,
    pub(super) is_done: bool,
    pub(super) was_there: bool,
    pub(super) is_there: bool,
    /// The content before, if it was told.
    pub(super) before: Option<Content>,
    pub(super) deadline: Option<Time>,
    pub(super) version: Option<Version>,
}

impl LostEdit {
    /// Each record that the edit can leave behind.
    pub(super) fn each_after(self, state: &State, mut end: impl FnMut(State)) {
        self.each_end(state, |ended| end(ended.state));
    }

    /// Each way in which the edit can end.
    fn each_end(self, state: &State, mut end: impl FnMut(Ended)) {
        let deadline = self.deadline(state);
        let (may_hold, may_fail) = self.may_hold(state, deadline);
        if may_fail {
            end(Ended { is_done: false, state: *state });
        }
        if may_hold {
            self.each_done(state, deadline, |state| end(Ended { is_done: true, state }));
        }
    }

    /// The deadline behind the edit, if there is a record then.
    fn deadline(&self, before: &State) -> Option<Span> {
        match self.expiry {
            Expiry::Keep => before.deadline,
            Expiry::Clear => None,
            Expiry::At(at) => Some(Span { min: at, max: at }),
            Expiry::After(ms) => {
                let Span { min, max } = before.time;
                Some(Span { min: min.saturating_add(ms), max: max.saturating_add(ms) })
            }
        }
    }

    /// Whether the condition can hold, and whether it can fail.
    fn may_hold(&self, before: &State, deadline: Option<Span>) -> (bool, bool) {
        let is = |holds: bool| (holds, !holds);
        let has_deadline = before.deadline.is_some();
        // What has no deadline lasts for ever.
        let lasts =
            |deadline: Option<Span>| deadline.map_or((u128::MAX, u128::MAX), |span| (span.min.into(), span.max.into()));
        let ((old_min, old_max), (new_min, new_max)) = (lasts(before.deadline), lasts(deadline));
        let sooner = (new_min < old_max, new_max >= old_min);
        let keeps = self.expiry == Expiry::Keep;
        match self.condition {
            Condition::Always => is(true),
            Condition::IfAbsent => is(before.is_absent()),
            _ if before.is_absent() => is(false),
            Condition::IfPresent => is(true),
            Condition::IfLasting => is(!has_deadline),
            Condition::IfExpiring => is(has_deadline),
            Condition::IfLater | Condition::IfSooner | Condition::IfExpiringSooner if keeps => is(false),
            Condition::IfLater => (new_max > old_min, new_min <= old_max),
            Condition::IfSooner => sooner,
            Condition::IfExpiringSooner if has_deadline => sooner,
            Condition::IfExpiringSooner => is(false),
        }
    }

    /// Each record that the edit can leave behind once its condition holds.
    fn each_done(&self, before: &State, deadline: Option<Span>, mut end: impl FnMut(State)) {
        let content = match self.does {
            Does::Remove if before.is_absent() => return end(*before),
            Does::Remove => return end(before.removed()),
            Does::Keep if before.is_absent() => return end(*before),
            Does::Keep => before.content,
            Does::Write(content) => content,
        };
        // One that keeps the deadline meets a record whose deadline is not reached.
        let is_kept = self.expiry == Expiry::Keep;
        if let Some(span) = deadline.filter(|_| !is_kept)
            && let Some(reached) = self.reached(before.time, span)
        {
            let gone = if before.is_absent() { *before } else { before.removed() };
            end(State { time: reached, ..gone });
        }
        let Some(time) =
            deadline.filter(|_| !is_kept).map_or(Some(before.time), |span| self.not_reached(before.time, span))
        else {
            return;
        };
        let may_be_same = self.does == Does::Keep && may_be_same(before.deadline, deadline);
        if may_be_same {
            end(State { time, deadline, ..*before });
        }
        let is_same = self.does == Does::Keep && (is_kept || is_exactly(before.deadline, deadline));
        if !is_same {
            let written = before.written(content, None).expect("it can have drawn some version");
            end(State { time, deadline, ..written });
        }
    }

    /// The times at which the deadline that the edit sets is reached already.
    fn reached(&self, time: Span, deadline: Span) -> Option<Span> {
        match self.expiry {
            Expiry::After(ms) => (ms == 0).then_some(time),
            _ => time.within(Span { min: deadline.min, max: Time::MAX }),
        }
    }

    /// The times at which it is not.
    fn not_reached(&self, time: Span, deadline: Span) -> Option<Span> {
        match self.expiry {
            Expiry::After(ms) => (ms > 0).then_some(time),
            _ => time.within(Span { min: 0, max: deadline.max.checked_sub(1)? }),
        }
    }
}

struct Ended {
    is_done: bool,
    state: State,
}

fn may_be_same(one: Option<Span>, other: Option<Span>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.within(other).is_some(),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn is_exactly(one: Option<Span>, other: Option<Span>) -> bool {
    one == other && one.is_none_or(|span| span.min == span.max)
}

impl SeenEdit {
    /// Whether it left every record as it was.
    pub(super) fn only_reads(&self) -> bool {
        !self.is_done || (self.edit.does == Does::Keep && self.edit.expiry == Expiry::Keep)
    }

    /// Each record that the edit can leave behind, if it can have met `state`.
    pub(super) fn each_after(&self, state: &State, mut end: impl FnMut(State)) {
        let fits = self.was_there != state.is_absent() && self.before.is_none_or(|before| before == state.content);
        if !fits {
            return;
        }
        self.edit.each_end(state, |Ended { is_done, state: ended }| {
            if is_done == self.is_done
                && self.is_there != ended.is_absent()
                && let Some(told) = self.told(state, ended)
            {
                end(told);
            }
        });
    }

    /// What is known of the record behind the edit once deadline and version are told.
    fn told(&self, before: &State, ended: State) -> Option<State> {
        if ended.is_absent() {
            return (self.deadline.is_none() && self.version.is_none()).then_some(ended);
        }
        let deadline = match (self.deadline, ended.deadline) {
            (None, None) => None,
            (Some(at), Some(span)) => Some(Span { min: at, max: at }.within(span)?),
            _ => return None,
        };
        let mut told = State { deadline, ..ended };
        if let (Expiry::After(ms), true, Some(at)) = (self.edit.expiry, self.is_done, self.deadline) {
            // The deadline tells the time of the call.
            let at = at.checked_sub(ms)?;
            told.time = told.time.within(Span { min: at, max: at })?;
        }
        let is_unchanged = ended.version == before.version && !before.is_absent();
        match self.version {
            None => Some(told),
            Some(version) if is_unchanged => told.seen(version),
            Some(version) => match told.version {
                Drawn::AtLeast(least) if version >= least => Some(State { version: Drawn::Exactly(version), ..told }),
                Drawn::Exactly(known) if version == known => Some(told),
                _ => None,
            },
        }
    }
}
