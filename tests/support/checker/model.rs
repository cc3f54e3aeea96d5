//! The store as one key sees it: a record that takes one step at a time.
//!
//! A [`State`] stands for a set of records that the history so far cannot tell apart: one content, and a version
//! that is known, or known only to be large enough. Versions of a key's changes strictly increase, so each
//! unseen one is at least one more than the last. All sets that occur have this shape, so nothing is lost:
//!
//! ```text
//!   absent, next >= 1 --put "a"--> "a", version >= 1 --get "a" #7--> "a", version = 7
//!   --put "b"--> "b", version >= 8 --delete--> absent, next >= 9
//! ```
//!
//! Where the record has a deadline, time counts too: what lies within the span of a call and is not before that of the
//! call before it on the key. A call meets the record as it is, if its time may be before the deadline, or absent, if
//! it may be behind it, and then nobody may come with an earlier time until it is written again. Else times are not
//! held against each other; `edit.rs` has what sets deadlines.
//!
//! Where records are evicted, any step may meet the key absent, as if it had been deleted before: the record is gone,
//! and its version behind it.
#![forbid(unsafe_code)]

use super::super::history::Span;
use super::edit::{LostEdit, SeenEdit};
use freight::op::{Time, VERSION_ABSENT, Version};

/// What a key may hold at one point of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) content: Content,
    pub(super) version: Drawn,
    /// The deadline lies in here, if there is one.
    pub(super) deadline: Option<Span>,
    /// The time lies in here. Between calls, where there is no deadline and none was reached, any does.
    pub(super) time: Span,
    /// When the record was met expired that is absent since; 0 where that is not why.
    pub(super) expired_at: Time,
}

/// A record's content; equal contents are equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Absent,
    /// The text that an add writes for this number.
    Number(i64),
    /// Anything else, other spellings of numbers included.
    Text {
        id: u32,
    },
}

/// What is known of a record's version; of an absent record, of the next version to be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Drawn {
    Exactly(Version),
    AtLeast(Version),
}

/// One operation and what its outcome says of the record before and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Found this content, which may be absent.
    Found { content: Content, version: Option<Version> },
    /// Wrote this content, whatever was there.
    Wrote { content: Content, version: Option<Version> },
    /// Removed a record that was there.
    Removed,
    /// Found the version it expected and wrote.
    Swapped { expected: Version, content: Content, version: Option<Version> },
    /// Found another version than it expected.
    Mismatched { expected: Version, current: Version },
    /// Counted up to `value`.
    Counted { delta: i64, value: i64, version: Option<Version> },
    /// Found something that cannot be counted.
    NotANumber,
    /// Found a counter that has no room for `delta`.
    Overflowed { delta: i64 },
    /// Changed value and deadline, or read them.
    Edited(SeenEdit),
    /// Did what it does, unseen; `refusable` if it may also have done nothing.
    Unseen { change: Change, refusable: bool },
}

/// A change whose outcome nobody saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Put { content: Content },
    Delete,
    Swap { expected: Version, content: Content },
    Add { delta: i64 },
    Edit(LostEdit),
}

impl State {
    /// A key that nobody ever wrote.
    pub(super) const FRESH: Self = Self {
        content: Content::Absent,
        version: Drawn::AtLeast(VERSION_ABSENT + 1),
        deadline: None,
        time: Span::ANY,
        expired_at: 0,
    };

    /// Whether every record that `other` stands for is one of these too: then whatever can follow `other` can
    /// follow this.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let is_wider = |one: Span, other: Span| one.min <= other.min && one.max >= other.max;
        let deadline = match (self.deadline, other.deadline) {
            (Some(one), Some(other)) => is_wider(one, other),
            (one, other) => one == other,
        };
        let is_alike = self.content == other.content && self.version.includes(other.version);
        is_alike && deadline && is_wider(self.time, other.time) && self.expired_at <= other.expired_at
    }

    /// The record after a change to `content`, if it can have drawn `version`. It has no deadline.
    pub(super) fn written(&self, content: Content, version: Option<Version>) -> Option<Self> {
        let least = self.next_version_min();
        let version = match version {
            None => Drawn::AtLeast(least),
            Some(version) if version >= least => Drawn::Exactly(version),
            Some(_) => return None,
        };
        Some(Self { content, version, deadline: None, expired_at: 0, ..*self })
    }

    pub(super) fn removed(&self) -> Self {
        let version = Drawn::AtLeast(self.next_version_min());
        Self { content: Content::Absent, version, deadline: None, ..*self }
    }

    /// This record, which is present, if its version can be `version`.
    pub(super) fn seen(&self, version: Version) -> Option<Self> {
        let possible = match self.version {
            Drawn::Exactly(known) => known == version,
            Drawn::AtLeast(least) => least <= version,
        };
        possible.then_some(Self { version: Drawn::Exactly(version), ..*self })
    }

    /// This record, present or absent, if a compare-and-swap can find it at `version`.
    fn found_at(&self, version: Version) -> Option<Self> {
        match (self.is_absent(), version == VERSION_ABSENT) {
            (true, true) => Some(*self),
            (false, false) => self.seen(version),
            _ => None,
        }
    }

    /// The record as it may be before a step: as it is, or gone if it may be `evicted`.
    fn each_kept(self, evicted: bool, mut keep: impl FnMut(Self)) {
        keep(self);
        if evicted && !self.is_absent() {
            keep(self.removed());
        }
    }

    fn next_version_min(&self) -> Version {
        match self.version {
            Drawn::AtLeast(least) if self.is_absent() => least,
            Drawn::Exactly(version) | Drawn::AtLeast(version) => version.saturating_add(1),
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        self.content == Content::Absent
    }

    /// The record as a call of this time meets it: there, or expired, or either.
    fn met(&self, time: Span, mut meet: impl FnMut(Self)) {
        // Time never goes back on a key.
        let Some(time) = time.within(Span { min: self.time.min, max: Time::MAX }) else { return };
        let Some(deadline) = self.deadline else { return meet(Self { time, ..*self }) };
        if let Some(alive) = time.within(Span { min: 0, max: deadline.max - 1 }) {
            let deadline = Span { min: deadline.min.max(alive.min + 1), ..deadline };
            meet(Self { time: alive, deadline: Some(deadline), ..*self });
        }
        if let Some(behind) = time.within(Span { min: deadline.min, max: Time::MAX }) {
            meet(Self { time: behind, expired_at: behind.min, ..self.removed() });
        }
    }

    /// The record between calls.
    fn left(self) -> Self {
        let min = self.deadline.map_or(self.expired_at, |_| self.time.min);
        Self { time: Span { min, max: Time::MAX }, ..self }
    }
}

impl Drawn {
    pub(super) fn includes(self, other: Self) -> bool {
        match (self, other) {
            (Self::AtLeast(least), Self::AtLeast(version) | Self::Exactly(version)) => least <= version,
            (Self::Exactly(one), Self::Exactly(another)) => one == another,
            (Self::Exactly(_), Self::AtLeast(_)) => false,
        }
    }
}

impl Content {
    /// The number an add starts from, if there is one.
    fn number(self) -> Option<i64> {
        match self {
            Self::Absent => Some(0),
            Self::Number(number) => Some(number),
            Self::Text { .. } => None,
        }
    }
}

/// What a compound can leave behind: mostly one state, none where it cannot have run.
#[derive(Debug, Default)]
pub(super) struct Ends {
    one: Option<State>,
    more: Vec<State>,
}

impl Ends {
    pub(super) fn iter(&self) -> impl Iterator<Item = &State> {
        self.one.iter().chain(&self.more)
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = State> {
        self.one.into_iter().chain(self.more)
    }

    pub(super) fn include(&self, state: &State) -> bool {
        self.iter().any(|end| end.includes(state))
    }

    /// Whether there is this one and no other.
    pub(super) fn are_just(&self, state: &State) -> bool {
        self.one.as_ref() == Some(state) && self.more.is_empty()
    }

    fn push(&mut self, state: State) {
        if self.include(&state) {
            return;
        }
        self.more.retain(|other| !state.includes(other));
        match &mut self.one {
            Some(one) if !state.includes(one) => self.more.push(state),
            one => *one = Some(state),
        }
    }
}

/// Runs a compound, whose time lies in a span, on a record, which may be evicted before any step if the node is
/// `evicting`.
pub(super) fn run(steps: &[Step], time: Span, state: &State, evicting: bool) -> Ends {
    let mut ends = Ends::default();
    state.each_kept(evicting, |kept| kept.met(time, |met| ends.push(met)));
    for step in steps {
        let mut after = Ends::default();
        for state in ends.into_iter() {
            state.each_kept(evicting, |kept| step.each_after(&kept, |end| after.push(end)));
        }
        ends = after;
    }
    let mut left = Ends::default();
    ends.into_iter().for_each(|state| left.push(state.left()));
    left
}

impl Step {
    /// Whether the step left every record as it was.
    pub(super) fn only_reads(&self) -> bool {
        match self {
            Self::Edited(edit) => edit.only_reads(),
            Self::Found { .. } | Self::Mismatched { .. } | Self::NotANumber | Self::Overflowed { .. } => true,
            _ => false,
        }
    }

    /// Each record that the step can leave behind, if it can have met `state`.
    fn each_after(&self, state: &State, mut end: impl FnMut(State)) {
        match self {
            Self::Unseen { change, refusable } => change.each_after(*refusable, state, end),
            Self::Edited(edit) => edit.each_after(state, end),
            seen => _ = seen.answered(state).map(&mut end),
        }
    }

    /// The record after an answered step that is no edit, if the step can have met `state`.
    fn answered(&self, state: &State) -> Option<State> {
        match *self {
            Self::Found { content, .. } if content != state.content => None,
            Self::Found { version: Some(version), .. } => state.seen(version),
            Self::Found { version: None, .. } => Some(*state),
            Self::Wrote { content, version } => state.written(content, version),
            Self::Removed => (!state.is_absent()).then(|| state.removed()),
            Self::Swapped { expected, content, version } => state.found_at(expected)?.written(content, version),
            Self::Mismatched { expected, current } if expected == current => None,
            Self::Mismatched { current, .. } => state.found_at(current),
            Self::Counted { delta, value, version } => {
                let counted = state.content.number()?.checked_add(delta)?;
                (counted == value).then(|| state.counted(value, version))?
            }
            Self::NotANumber => state.content.number().is_none().then_some(*state),
            Self::Overflowed { delta } => state.content.number()?.checked_add(delta).is_none().then_some(*state),
            Self::Edited(_) | Self::Unseen { .. } => unreachable!("they may end in several states"),
        }
    }
}

impl State {
    /// The record after an add, which keeps the deadline.
    fn counted(&self, value: i64, version: Option<Version>) -> Option<Self> {
        let counted = self.written(Content::Number(value), version)?;
        Some(Self { deadline: self.deadline, ..counted })
    }
}

impl Change {
    /// An unseen compare-and-swap that did not match tells a version that the record did not have. That is
    /// forgotten, for no [`State`] can say it: here alone the model allows too much, never too little.
    fn each_after(self, refusable: bool, state: &State, mut end: impl FnMut(State)) {
        let number = state.content.number();
        let (changed, unchanged) = match self {
            Self::Put { content } => (state.written(content, None), false),
            Self::Delete => ((!state.is_absent()).then(|| state.removed()), state.is_absent()),
            Self::Swap { expected, content } => {
                let matched = state.found_at(expected);
                (matched.and_then(|found| found.written(content, None)), matched != Some(*state))
            }
            Self::Add { delta } => match number.and_then(|number| number.checked_add(delta)) {
                Some(value) => (state.counted(value, None), false),
                None => (None, true),
            },
            Self::Edit(edit) => {
                edit.each_after(state, &mut end);
                (None, false)
            }
        };
        changed.into_iter().chain((unchanged || refusable).then_some(*state)).for_each(end);
    }
}
