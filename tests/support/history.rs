//! What clients asked and were told, and when: the evidence that the checker judges.
//!
//! ```text
//!   client 1   begin ---- batch in flight ---- finish            one call a key and batch:
//!   client 2         begin ------------ lost  ...  for ever        its operations in order, at one instant
//!                                                                  somewhere between begin and finish
//! ```
//!
//! A node executes a frame's operations on one key under one lock, so they are one compound: in order, and nothing
//! in between. (A client that spreads one key's operations over several frames records several calls.) A call
//! whose answer was lost took effect at any instant after its invocation, or never.
//!
//! Where records expire a recorder reads the nodes' clocks too: the time of a call, by which its node judged, lies
//! between what they said before it was sent and after it was answered.
#![forbid(unsafe_code)]

use freight::op::{Action, Edit, Edited, Op, Outcome, Time, Version};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a key or value, shared by all who mention them.
pub(crate) type Bytes = Arc<[u8]>;

/// The calls on each key, in no particular order.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) calls: BTreeMap<Bytes, Vec<Call>>,
}

impl History {
    pub(crate) fn push(&mut self, key: &[u8], call: Call) {
        match self.calls.get_mut(key) {
            Some(calls) => calls.push(call),
            None => {
                self.calls.insert(key.into(), vec![call]);
            }
        }
    }

    /// Number of operations on all keys.
    pub(crate) fn op_count(&self) -> usize {
        self.calls.values().flatten().map(|call| call.steps.len()).sum()
    }
}

/// One batch's operations on one key, and what the client was told of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) client: u32,
    /// The instant before the client asked.
    pub(crate) invoke: u64,
    /// The instant after the client was answered; `None` if it never was, and then every outcome is `Unknown`.
    pub(crate) ret: Option<u64>,
    /// The time by which it was executed lies in here.
    pub(crate) time: Span,
    pub(crate) steps: Vec<(OwnedOp, OwnedOutcome)>,
}

/// From this time to that, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) min: Time,
    pub(crate) max: Time,
}

impl Span {
    /// Any time.
    pub(crate) const ANY: Self = Self { min: 0, max: Time::MAX };

    /// What is in both; `None` where nothing is.
    pub(crate) fn within(self, other: Self) -> Option<Self> {
        let span = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (span.min <= span.max).then_some(span)
    }
}

impl Call {
    /// Whether nothing is known of what became of it: then it took effect at any instant after `invoke`, or never.
    pub(crate) fn is_lost(&self) -> bool {
        self.steps.iter().all(|(_, outcome)| matches!(outcome, OwnedOutcome::Unknown | OwnedOutcome::NotSent))
    }
}

/// [`Action`] that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnedOp {
    Get,
    Put {
        value: Bytes,
    },
    Delete,
    CompareAndSwap {
        expected: Version,
        value: Bytes,
    },
    Add {
        delta: i64,
    },
    /// The bytes that it writes or appends stand apart.
    Edit {
        edit: Edit<'static>,
        bytes: Bytes,
    },
}

impl OwnedOp {
    pub(crate) fn new(action: Action<'_>, mut own: impl FnMut(&[u8]) -> Bytes) -> Self {
        match action {
            Action::Get => Self::Get,
            Action::Put { value } => Self::Put { value: own(value) },
            Action::Delete => Self::Delete,
            Action::CompareAndSwap { expected, value } => Self::CompareAndSwap { expected, value: own(value) },
            Action::Add { delta } => Self::Add { delta },
            Action::Edit(edit) => Self::Edit { edit: edit.with_bytes(&[]), bytes: own(edit.bytes()) },
        }
    }
}

/// [`Outcome`] that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnedOutcome {
    Value {
        value: Bytes,
        version: Option<Version>,
    },
    Done {
        version: Option<Version>,
    },
    Counter {
        value: i64,
        version: Option<Version>,
    },
    NotFound,
    VersionMismatch {
        current: Version,
    },
    NotANumber,
    CounterOverflow,
    /// The value stands apart.
    Edited {
        edited: Edited<'static>,
        value: Option<Bytes>,
    },
    ValueTooLong,
    OutOfMemory,
    ReplyFull,
    NotSent,
    Unknown,
}

impl OwnedOutcome {
    pub(crate) fn outcome(&self) -> Outcome<'_> {
        match self {
            Self::Value { value, version } => Outcome::Value { value, version: *version },
            Self::Done { version } => Outcome::Done { version: *version },
            Self::Counter { value, version } => Outcome::Counter { value: *value, version: *version },
            Self::NotFound => Outcome::NotFound,
            Self::VersionMismatch { current } => Outcome::VersionMismatch { current: *current },
            Self::NotANumber => Outcome::NotANumber,
            Self::CounterOverflow => Outcome::CounterOverflow,
            Self::Edited { edited, value } => Outcome::Edited(Edited { value: value.as_deref(), ..*edited }),
            Self::ValueTooLong => Outcome::ValueTooLong,
            Self::OutOfMemory => Outcome::OutOfMemory,
            Self::ReplyFull => Outcome::ReplyFull,
            Self::NotSent => Outcome::NotSent,
            Self::Unknown => Outcome::Unknown,
        }
    }
}

/// Takes down what clients do, from any thread. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The earliest and the latest that any node's clock may show at this instant.
    time: Box<dyn Fn() -> Span + Send + Sync>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    history: History,
    /// One copy of each key and value ever seen.
    bytes: HashSet<Bytes>,
}

impl Recorder {
    /// A recorder with a logical clock: each instant is one more than the last.
    pub(crate) fn new() -> Self {
        let now = AtomicU64::new(0);
        // One total order of all instants; SeqCst as every reader of the clock is its own partner.
        Self::with_clock(move || now.fetch_add(1, Ordering::SeqCst))
    }

    /// A recorder whose instants come from `clock`, which must never go back, seen from any thread.
    pub(crate) fn with_clock(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self::with_clocks(clock, || Span::ANY)
    }

    /// A recorder with a logical clock that takes down what the nodes' clocks show too: `time` gives the earliest and
    /// the latest of them. They may be set back, but no further than the earliest says.
    pub(crate) fn timed(time: impl Fn() -> Span + Send + Sync + 'static) -> Self {
        let now = AtomicU64::new(0);
        Self::with_clocks(move || now.fetch_add(1, Ordering::SeqCst), time)
    }

    fn with_clocks(
        clock: impl Fn() -> u64 + Send + Sync + 'static,
        time: impl Fn() -> Span + Send + Sync + 'static,
    ) -> Self {
        Self { shared: Arc::new(Shared { clock: Box::new(clock), time: Box::new(time), book: Mutex::default() }) }
    }

    /// Takes down that `client` is about to send a batch. Call it before the batch is sent.
    pub(crate) fn begin(&self, client: u32, ops: &[Op<'_>]) -> Token {
        let mut book = self.shared.book();
        let ops = ops.iter().map(|op| (book.intern(op.key), book.op(op.action))).collect();
        drop(book);
        let (invoke, time) = ((self.shared.clock)(), (self.shared.time)());
        Token { shared: Arc::clone(&self.shared), client, invoke, time, ops }
    }

    /// The history so far. Calls that are still in flight are not in it: finish them, or drop their tokens.
    pub(crate) fn history(&self) -> History {
        self.shared.book().history.clone()
    }
}

/// A batch in flight. Dropped without an answer, it counts as lost: so a cancelled future is recorded rightly.
#[must_use = "a token that is dropped records a lost batch"]
pub(crate) struct Token {
    shared: Arc<Shared>,
    client: u32,
    invoke: u64,
    /// What the nodes' clocks showed then.
    time: Span,
    ops: Vec<(Bytes, OwnedOp)>,
}

impl Token {
    /// Takes down the outcomes, in request order. Call it after the reply has arrived.
    ///
    /// A get that a full reply left out, and that was asked again, ran apart from its batch. Where that can happen,
    /// give each key one operation a batch, or pass `ReplyFull` here and record the second asking as a call.
    pub(crate) fn finish<'a>(mut self, outcomes: impl IntoIterator<Item = Outcome<'a>>) {
        let (ret, now) = ((self.shared.clock)(), (self.shared.time)());
        let time = Span { min: self.time.min.min(now.min), max: now.max };
        let ops = std::mem::take(&mut self.ops);
        let mut book = self.shared.book();
        let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| book.outcome(outcome)).collect();
        assert_eq!(ops.len(), outcomes.len(), "one outcome for each operation");
        book.record(self.client, (self.invoke, Some(ret)), time, ops.into_iter().zip(outcomes));
    }

    /// Takes down that the answer never came.
    pub(crate) fn lost(self) {
        drop(self);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let ops = std::mem::take(&mut self.ops).into_iter().map(|op| (op, OwnedOutcome::Unknown));
        let time = Span { max: Time::MAX, ..self.time };
        self.shared.book().record(self.client, (self.invoke, None), time, ops);
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        // A test that panicked elsewhere leaves a whole book: each entry is written under one lock.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn record(
        &mut self,
        client: u32,
        (invoke, ret): (u64, Option<u64>),
        time: Span,
        ops: impl Iterator<Item = ((Bytes, OwnedOp), OwnedOutcome)>,
    ) {
        let mut compounds = BTreeMap::<Bytes, Vec<_>>::new();
        for ((key, op), outcome) in ops {
            compounds.entry(key).or_default().push((op, outcome));
        }
        for (key, steps) in compounds {
            let mut call = Call { client, invoke, ret, time, steps };
            if call.is_lost() {
                (call.ret, call.time.max) = (None, Time::MAX);
            }
            self.history.calls.entry(key).or_default().push(call);
        }
    }

    fn intern(&mut self, bytes: &[u8]) -> Bytes {
        if let Some(known) = self.bytes.get(bytes) {
            return Arc::clone(known);
        }
        let bytes = Bytes::from(bytes);
        self.bytes.insert(Arc::clone(&bytes));
        bytes
    }

    fn op(&mut self, action: Action<'_>) -> OwnedOp {
        OwnedOp::new(action, |bytes| self.intern(bytes))
    }

    fn outcome(&mut self, outcome: Outcome<'_>) -> OwnedOutcome {
        match outcome {
            Outcome::Value { value, version } => OwnedOutcome::Value { value: self.intern(value), version },
            Outcome::Done { version } => OwnedOutcome::Done { version },
            Outcome::Counter { value, version } => OwnedOutcome::Counter { value, version },
            Outcome::NotFound => OwnedOutcome::NotFound,
            Outcome::VersionMismatch { current } => OwnedOutcome::VersionMismatch { current },
            Outcome::NotANumber => OwnedOutcome::NotANumber,
            Outcome::Edited(edited) => OwnedOutcome::Edited {
                edited: Edited { value: None, ..edited },
                value: edited.value.map(|value| self.intern(value)),
            },
            Outcome::ValueTooLong => OwnedOutcome::ValueTooLong,
            Outcome::CounterOverflow => OwnedOutcome::CounterOverflow,
            Outcome::OutOfMemory => OwnedOutcome::OutOfMemory,
            // Neither was executed.
            Outcome::ReplyFull => OwnedOutcome::ReplyFull,
            Outcome::NotSent | Outcome::WrongNode => OwnedOutcome::NotSent,
            Outcome::Unknown => OwnedOutcome::Unknown,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ret {
            Some(ret) => write!(f, "client {} [{}..{ret}]", self.client, self.invoke)?,
            None => write!(f, "client {} [{}.. lost]", self.client, self.invoke)?,
        }
        if self.time != Span::ANY {
            write!(f, " at {}..{}", self.time.min, self.time.max)?;
        }
        for (index, (op, outcome)) in self.steps.iter().enumerate() {
            write!(f, "{} {op} -> {outcome}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for OwnedOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get"),
            Self::Put { value } => write!(f, "put {}", Shown(value)),
            Self::Delete => f.write_str("delete"),
            Self::CompareAndSwap { expected, value } => write!(f, "swap #{expected} for {}", Shown(value)),
            Self::Add { delta } => write!(f, "add {delta}"),
            Self::Edit { edit, bytes } => {
                write!(f, "edit {:?} {} {:?}", edit.condition(), Shown(bytes), edit.expiry())
            }
        }
    }
}

impl fmt::Display for OwnedOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut with = |what: fmt::Arguments<'_>, version: Option<Version>| match version {
            Some(version) => write!(f, "{what} #{version}"),
            None => f.write_fmt(what),
        };
        match self {
            Self::Value { value, version } => with(format_args!("{}", Shown(value)), *version),
            Self::Done { version } => with(format_args!("done"), *version),
            Self::Counter { value, version } => with(format_args!("{value}"), *version),
            Self::NotFound => f.write_str("not found"),
            Self::VersionMismatch { current } => write!(f, "mismatch, is #{current}"),
            Self::Edited { edited, value } => {
                let Edited { is_done, was_there, is_there, deadline, version, .. } = edited;
                write!(f, "{} {was_there} -> {is_there}", if *is_done { "done" } else { "not done" })?;
                value.iter().try_for_each(|value| write!(f, ", was {}", Shown(value)))?;
                deadline.iter().try_for_each(|deadline| write!(f, ", until {deadline}"))?;
                version.iter().try_for_each(|version| write!(f, " #{version}"))
            }
            Self::ValueTooLong => f.write_str("value too long"),
            Self::NotANumber => f.write_str("not a number"),
            Self::CounterOverflow => f.write_str("counter overflow"),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::ReplyFull => f.write_str("reply full"),
            Self::NotSent => f.write_str("not sent"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Bytes for people: quoted, escaped, long ones cut.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES_MAX: usize = 40;
        match self.0 {
            bytes if bytes.len() <= SHOWN_BYTES_MAX => write!(f, "\"{}\"", bytes.escape_ascii()),
            bytes => write!(f, "\"{}\"... {} bytes", bytes[..SHOWN_BYTES_MAX].escape_ascii(), bytes.len()),
        }
    }
}
