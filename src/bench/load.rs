//! The load phase: every record is put once, before anything is measured.
//!
//! Loaders take ranges of records from one counter until none is left. The index grows from nothing to its full size
//! here, so the slowest batch of this phase shows what growth costs at worst.
#![forbid(unsafe_code)]

use super::caller::{Caller, Ops};
use super::lane::{build_error_kind, client_error_kind, outcome_kind};
use super::measure::{Measure, Window};
use super::talk::Talker;
use super::values::{self, Stamp};
use super::workload::{Key, KeyNames};
use crate::client::Client;
use crate::op::Outcome;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of values in a batch, about, so that large values don't make frames that no node takes.
const BATCH_BYTES: u64 = 1 << 20;

/// Most records in a batch.
const BATCH_RECORDS_MAX: u64 = 10_000;

/// What to load.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadSpec {
    /// Records in all.
    pub(super) records: u64,
    /// How keys are written.
    pub(super) keys: KeyNames,
    /// Bytes of a value.
    pub(super) value_bytes: u32,
    /// The seed of values.
    pub(super) seed: u64,
}

/// Records loaded and to be loaded, shared by all loaders.
#[derive(Debug, Default)]
pub(super) struct LoadProgress {
    next: AtomicU64,
    done: AtomicU64,
}

impl LoadProgress {
    /// Records that are in the store.
    #[must_use]
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// A record could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("loading stopped after {loaded} records: {kind}")]
pub struct LoadError {
    /// Records loaded before.
    pub loaded: u64,
    /// The kind of failure, as in the report.
    pub kind: &'static str,
}

/// Loads records until none is left, one batch in flight.
///
/// # Errors
/// The first put that failed.
pub(super) async fn load(caller: Caller, spec: LoadSpec, progress: Arc<LoadProgress>) -> Result<Measure, LoadError> {
    let started = Instant::now();
    let mut measure = Measure::new(Window::new(started, Duration::from_secs(1)), false);
    let batch_records = (BATCH_BYTES / u64::from(spec.value_bytes.max(1))).clamp(1, BATCH_RECORDS_MAX);
    let mut value = vec![0; spec.value_bytes as usize];
    loop {
        let first = progress.next.fetch_add(batch_records, Ordering::Relaxed);
        let records = first..(first + batch_records).min(spec.records);
        if records.is_empty() {
            return Ok(measure);
        }
        let begun = Instant::now();
        let loaded = records.end - records.start;
        let put = match &caller {
            Caller::Frames(client) => put(client, spec, records, &mut value).await,
            Caller::Resp(talker) => put_by_commands(talker, spec, records, &mut value).await,
        };
        let answered = put.map_err(|kind| LoadError { loaded: progress.done(), kind })?;
        measure.batch(loaded as u32, begun, answered);
        progress.done.fetch_add(loaded, Ordering::Relaxed);
    }
}

/// Puts records, and says when they were answered; else why one was not put.
async fn put(client: &Client, spec: LoadSpec, records: Range<u64>, value: &mut [u8]) -> Result<Instant, &'static str> {
    let mut batch = client.batch((records.end - records.start) as u32);
    build(&mut batch, spec, records, value).map_err(|error| build_error_kind(&error))?;
    let reply = client.execute(batch).await.map_err(|error| client_error_kind(&error))?;
    let answered = Instant::now();
    all_done(reply.outcomes().map(Ok)).map(|()| answered)
}

async fn put_by_commands(
    talker: &Talker,
    spec: LoadSpec,
    records: Range<u64>,
    value: &mut [u8],
) -> Result<Instant, &'static str> {
    let mut talk = talker.talk().await;
    talk.begin();
    let Ok(()) = build(&mut *talk, spec, records, value);
    talk.exchange().await.map_err(|error| error.kind())?;
    let answered = Instant::now();
    all_done(talk.outcomes()).map(|()| answered)
}

fn all_done<'a>(mut outcomes: impl Iterator<Item = Result<Outcome<'a>, &'static str>>) -> Result<(), &'static str> {
    outcomes.try_for_each(|outcome| match outcome? {
        Outcome::Done { .. } => Ok(()),
        other => Err(outcome_kind(&other)),
    })
}

fn build<O: Ops>(batch: &mut O, spec: LoadSpec, records: Range<u64>, value: &mut [u8]) -> Result<(), O::Error> {
    for record in records {
        let key = Key::of(spec.keys, record);
        values::fill(key.as_bytes(), Stamp::LOADED, spec.seed, value);
        batch.put(key.as_bytes().into(), value)?;
    }
    Ok(())
}
