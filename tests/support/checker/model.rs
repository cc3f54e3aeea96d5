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
#![forbid(unsafe_code)]

use freight::op::{VERSION_ABSENT, Version};

/// What a key may hold at one point of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) content: Content,
    pub(super) version: Drawn,
}

/// A record's content; equal contents are equal bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl State {
    /// A key that nobody ever wrote.
    pub(super) const FRESH: Self = Self { content: Content::Absent, version: Drawn::AtLeast(VERSION_ABSENT + 1) };

    /// Whether every record that `other` stands for is one of these too: then whatever can follow `other` can
    /// follow this.
    pub(super) fn includes(&self, other: &Self) -> bool {
        self.content == other.content && self.version.includes(other.version)
    }

    /// The record after a change to `content`, if it can have drawn `version`.
    fn written(&self, content: Content, version: Option<Version>) -> Option<Self> {
        let least = self.next_version_min();
        match version {
            None => Some(Self { content, version: Drawn::AtLeast(least) }),
            Some(version) if version >= least => Some(Self { content, version: Drawn::Exactly(version) }),
            Some(_) => None,
        }
    }

    fn removed(&self) -> Self {
        Self { content: Content::Absent, version: Drawn::AtLeast(self.next_version_min()) }
    }

    /// This record, which is present, if its version can be `version`.
    fn seen(&self, version: Version) -> Option<Self> {
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

    fn next_version_min(&self) -> Version {
        match self.version {
            Drawn::AtLeast(least) if self.is_absent() => least,
            Drawn::Exactly(version) | Drawn::AtLeast(version) => version.saturating_add(1),
        }
    }

    fn is_absent(&self) -> bool {
        self.content == Content::Absent
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

impl Step {
    /// Whether the step left every record as it was.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self, Self::Found { .. } | Self::Mismatched { .. } | Self::NotANumber | Self::Overflowed { .. })
    }

    /// The record after an answered step, if the step can have met `state`.
    pub(super) fn answered(&self, state: &State) -> Option<State> {
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
                (counted == value).then(|| state.written(Content::Number(value), version))?
            }
            Self::NotANumber => state.content.number().is_none().then_some(*state),
            Self::Overflowed { delta } => state.content.number()?.checked_add(delta).is_none().then_some(*state),
            Self::Unseen { .. } => unreachable!("an unseen step may end in several states"),
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
}

/// Runs a compound on a record.
pub(super) fn run(steps: &[Step], state: &State) -> Ends {
    let mut state = *state;
    for (index, step) in steps.iter().enumerate() {
        let only = match step.after(&state) {
            (Some(_), Some(_)) => return Ends { one: None, more: run_branching(&steps[index..], state) },
            (changed, unchanged) => changed.or(unchanged),
        };
        let Some(only) = only else { return Ends::default() };
        state = only;
    }
    Ends { one: Some(state), more: Vec::new() }
}

fn run_branching(steps: &[Step], state: State) -> Vec<State> {
    let mut states = vec![state];
    for step in steps {
        let mut ends: Vec<State> = Vec::new();
        for (changed, unchanged) in states.iter().map(|state| step.after(state)) {
            for end in [changed, unchanged].into_iter().flatten() {
                if !ends.iter().any(|other| other.includes(&end)) {
                    ends.retain(|other| !end.includes(other));
                    ends.push(end);
                }
            }
        }
        states = ends;
    }
    states
}

impl Step {
    /// The record with the step's change made and the record as it was, each if it is possible.
    fn after(&self, state: &State) -> (Option<State>, Option<State>) {
        match self {
            Self::Unseen { change, refusable } => change.after(*refusable, state),
            seen => (seen.answered(state), None),
        }
    }
}

impl Change {
    /// An unseen compare-and-swap that did not match tells a version that the record did not have. That is
    /// forgotten, for no [`State`] can say it: here alone the model allows too much, never too little.
    fn after(self, refusable: bool, state: &State) -> (Option<State>, Option<State>) {
        let number = state.content.number();
        let (changed, unchanged) = match self {
            Self::Put { content } => (state.written(content, None), false),
            Self::Delete => ((!state.is_absent()).then(|| state.removed()), state.is_absent()),
            Self::Swap { expected, content } => {
                let matched = state.found_at(expected);
                (matched.and_then(|found| found.written(content, None)), matched != Some(*state))
            }
            Self::Add { delta } => match number.and_then(|number| number.checked_add(delta)) {
                Some(value) => (state.written(Content::Number(value), None), false),
                None => (None, true),
            },
        };
        (changed, (unchanged || refusable).then_some(*state))
    }
}
