//! Profiles of a running node, one at a time, for whoever asks with leave.
//!
//! ```text
//!   connection --begin--> Profiler --thread: sample ... look functions up--> bytes --take, take--> connection
//!                             ^---- the connection ends: the thread is woken, and nothing is kept ----'
//! ```
//!
//! The node serves meanwhile: sampling is a signal, and what takes long is done by a thread of its own that gives way.
#![forbid(unsafe_code)]

use crate::budget::Budget;
use crate::limits::{PROFILE_BYTES_MAX, PROFILE_CHUNK_BYTES};
use crate::profile::{ProfileError, Recording};
use crate::wire::Inspected;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Who takes profiles of the process. Dropped, it waits for the thread that does.
#[derive(Debug)]
pub(super) struct Profiler {
    is_allowed: bool,
    state: Arc<Mutex<State>>,
    budget: Arc<Budget>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers the profiles.
    last: u64,
    phase: Phase,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// A thread samples, or looks functions up; it is woken where this is dropped.
    Recording { _wake: Sender<()> },
    /// It does so for nobody.
    Ending,
    /// It is over, and may be taken.
    Over(Result<Charged, NotProfiled>),
}

/// A profile, charged as long as it is kept.
#[derive(Debug)]
struct Charged {
    bytes: Vec<u8>,
    budget: Arc<Budget>,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotProfiled {
    #[error("this node was started without --allow-profile")]
    Forbidden,
    #[error("another profile of this node is under way: ask again when it is over")]
    Busy,
    #[error("{0}")]
    Failed(String),
}

impl NotProfiled {
    /// As the wire has it, to whoever shows it.
    pub(super) fn show<T>(&self, show: impl FnOnce(Inspected<'_>) -> T) -> T {
        let line = self.to_string();
        show(match self {
            Self::Forbidden => Inspected::Forbidden(&line),
            Self::Busy => Inspected::Busy(&line),
            Self::Failed(_) => Inspected::Failed(&line),
        })
    }
}

impl Profiler {
    pub(super) fn new(is_allowed: bool, budget: &Arc<Budget>) -> Self {
        Self { is_allowed, state: Arc::default(), budget: Arc::clone(budget) }
    }

    /// Begins a profile. One that is over and not taken makes room.
    pub(super) fn begin(&self, length: Duration) -> Result<Begun<'_>, NotProfiled> {
        if !self.is_allowed {
            return Err(NotProfiled::Forbidden);
        }
        let mut state = locked(&self.state);
        if matches!(state.phase, Phase::Recording { .. } | Phase::Ending) {
            return Err(NotProfiled::Busy);
        }
        let (wake, woken) = channel();
        let (shared, budget) = (Arc::clone(&self.state), Arc::clone(&self.budget));
        let record = move || {
            let samples = catch_unwind(AssertUnwindSafe(|| record(length, &woken)));
            let samples = samples.unwrap_or_else(|_| Err(NotProfiled::Failed("the profiler panicked".to_owned())));
            locked(&shared).over(samples, budget);
        };
        let thread = thread::Builder::new().name("profiler".to_owned()).spawn(record);
        // The one before has ended, or is about to.
        state.thread = Some(thread.map_err(|error| NotProfiled::Failed(error.to_string()))?);
        state.phase = Phase::Recording { _wake: wake };
        state.last += 1;
        tracing::info!("a profile of {length:?} was asked for");
        Ok(Begun { profiler: self, number: state.last })
    }

    /// Whether one is under way.
    pub(super) fn is_busy(&self) -> bool {
        matches!(locked(&self.state).phase, Phase::Recording { .. } | Phase::Ending)
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        let mut state = locked(&self.state);
        state.give_up();
        let thread = state.thread.take();
        drop(state);
        // What it panicked with was logged.
        let _ended = thread.map(JoinHandle::join);
    }
}

/// A profile that a connection began; dropped, it is given up.
#[derive(Debug)]
pub(super) struct Begun<'a> {
    profiler: &'a Profiler,
    number: u64,
}

impl Begun<'_> {
    /// Shows what there is from `offset` on.
    pub(super) fn take<T>(&self, offset: u64, show: impl FnOnce(Inspected<'_>) -> T) -> T {
        let state = locked(&self.profiler.state);
        match &state.phase {
            _ if state.last != self.number => show(Inspected::Nothing("another profile took the place of this one")),
            Phase::Recording { .. } | Phase::Ending => show(Inspected::NotYet),
            Phase::Over(Ok(Charged { bytes, .. })) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
                let part = &rest[..rest.len().min(PROFILE_CHUNK_BYTES as usize)];
                show(Inspected::Here { bytes_total: bytes.len() as u64, bytes: part })
            }
            Phase::Over(Err(why)) => why.show(show),
            Phase::Idle => show(Inspected::Nothing("the profile was given up")),
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.profiler.state);
        if state.last == self.number {
            state.give_up();
        }
    }
}

impl State {
    /// Nobody wants what is there, or comes.
    fn give_up(&mut self) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Recording { .. } | Phase::Ending => Phase::Ending,
            Phase::Idle | Phase::Over(_) => Phase::Idle,
        };
    }

    /// The thread is done.
    fn over(&mut self, samples: Result<Vec<u8>, NotProfiled>, budget: Arc<Budget>) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Recording { .. } => Phase::Over(samples.and_then(|bytes| Charged::new(bytes, budget))),
            Phase::Ending | Phase::Idle | Phase::Over(_) => Phase::Idle,
        };
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Each change is one assignment: a panic leaves none half done.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Samples for so long, or until nobody wants it any more.
fn record(length: Duration, woken: &Receiver<()>) -> Result<Vec<u8>, NotProfiled> {
    // One that may not give way looks functions up all the same.
    let _ = rustix::process::nice(NICE);
    // Here, not where the connection is served: the first one reads what the binary says of its functions.
    let recording = Recording::start()?;
    if woken.recv_timeout(length) == Err(RecvTimeoutError::Disconnected) {
        return Err(NotProfiled::Failed("nobody wants it".to_owned()));
    }
    Ok(recording.samples()?)
}

impl From<ProfileError> for NotProfiled {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::Running => Self::Busy,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// How far the thread gives way to those that serve.
const NICE: i32 = 5;

impl Charged {
    fn new(bytes: Vec<u8>, budget: Arc<Budget>) -> Result<Self, NotProfiled> {
        let got = bytes.len() as u64;
        if got > PROFILE_BYTES_MAX {
            let why = format!("a profile of {got} bytes, at most {PROFILE_BYTES_MAX} are told: ask for fewer seconds");
            return Err(NotProfiled::Failed(why));
        }
        if !budget.charge_connection(got) {
            return Err(NotProfiled::Failed(format!("no memory for a profile of {got} bytes")));
        }
        Ok(Self { bytes, budget })
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.budget.credit_connection(self.bytes.len() as u64);
    }
}
