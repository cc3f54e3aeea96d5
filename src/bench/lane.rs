//! A lane: one batch in flight, over and over. The hot path of the client's side.
//!
//! ```text
//!   pool --walk--> Batch::get/put --execute--> reply --outcomes--> hits, misses, errors
//!                  values filled               lengths checked, with --verify every byte
//! ```
//!
//! A worker of depth 3 is three lanes. A lane owns all it needs (its pool, its counts, a buffer for one value), so
//! lanes share nothing but a connection, and run as plain tasks on the runtime of their thread.
#![forbid(unsafe_code)]

use super::caller::{Caller, Ops};
use super::measure::{Measure, Window};
use super::pace::Timer;
use super::pool::{Cursor, Pool, Step, Visit};
use super::talk::Talker;
use super::values::{self, Stamp};
use super::workload::Key;
use crate::client::{BatchError, Client, ClientError};
use crate::hash;
use crate::op::Outcome;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a lane pauses after a failed batch, so that a lost node isn't asked a million times a second.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// What every lane of a run has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneConfig {
    /// Operations a batch.
    pub(super) batch: u32,
    /// Bytes of a value.
    pub(super) value_bytes: u32,
    /// The seed of values.
    pub(super) seed: u64,
    /// Whether every byte of a value read is checked.
    pub(super) verify: bool,
    /// Whether operations go one by one through the client's single calls.
    pub(super) coalesced: bool,
}

/// One batch in flight, over and over.
#[derive(Debug)]
pub(super) struct Lane {
    caller: Caller,
    asker: Asker,
}

/// What a lane asks, and makes of the answers.
struct Asker {
    config: LaneConfig,
    pool: Pool,
    cursor: Cursor,
    stamp: Stamp,
    value: Vec<u8>,
    /// Operations answered on this thread, for the live line.
    live: Arc<AtomicU64>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").field("config", &self.config).field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// When a lane begins its batches.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// One after the other.
    Closed,
    /// On schedule, whether or not the one before is done.
    Open {
        /// The turn of the lane's first operation.
        first_turn: Instant,
        /// From one operation's turn to the next, in nanoseconds.
        spacing_ns: f64,
    },
}

impl Lane {
    /// A lane that issues the batches of `pool`; `writer` tells its values from those of other lanes.
    #[must_use]
    pub(super) fn new(config: LaneConfig, writer: u16, caller: Caller, pool: Pool, live: Arc<AtomicU64>) -> Self {
        let value = vec![0; config.value_bytes as usize];
        let (cursor, stamp) = (Cursor::default(), Stamp::of_writer(writer));
        Self { caller, asker: Asker { config, pool, cursor, stamp, value, live } }
    }

    /// The batches that it issues.
    pub(super) fn into_pool(self) -> Pool {
        self.asker.pool
    }

    /// Issues batches until the window ends, and waits for the last reply. Gives itself back for the next phase.
    pub(super) async fn run(mut self, window: Window, pace: Pace) -> (Self, Measure) {
        let open_loop = matches!(pace, Pace::Open { .. });
        let mut measure = Measure::new(window, open_loop);
        tokio::time::sleep_until(window.start.into()).await;
        match pace {
            Pace::Closed => self.run_closed(window, &mut measure).await,
            Pace::Open { first_turn, spacing_ns } => self.run_open(window, first_turn, spacing_ns, &mut measure).await,
        }
        (self, measure)
    }

    async fn run_closed(&mut self, window: Window, measure: &mut Measure) {
        let end = window.end();
        let mut begun = Instant::now();
        while begun < end {
            let (ops, answered) = self.issue(measure).await;
            measure.batch(ops, begun, answered);
            begun = Instant::now();
        }
    }

    async fn run_open(&mut self, window: Window, first_turn: Instant, spacing_ns: f64, measure: &mut Measure) {
        let end = window.end();
        let ops = self.asker.config.batch;
        let turn = |op: u64| first_turn + Duration::from_nanos((spacing_ns * op as f64) as u64);
        let Ok(mut timer) = Timer::new() else { return measure.failed("Timer", ops.into()) };
        let mut first_op = 0;
        while turn(first_op) < end && Instant::now() < end {
            let oldest = turn(first_op);
            // A batch is full, and may go, when its last operation's turn has come.
            if timer.wait_until(turn(first_op + u64::from(ops) - 1)).await.is_err() {
                return measure.failed("Timer", ops.into());
            }
            let (ops_answered, answered) = self.issue(measure).await;
            measure.batch(ops_answered, oldest, answered);
            measure.operations(ops_answered, oldest, spacing_ns, answered);
            first_op += u64::from(ops);
        }
    }

    /// Builds, sends and checks the next batch; returns how many operations didn't fail, and when its reply was there.
    async fn issue(&mut self, measure: &mut Measure) -> (u32, Instant) {
        let errors_before = measure.errors_total;
        let Self { caller, asker } = self;
        let answered = match caller {
            Caller::Resp(talker) => asker.issue_pipeline(talker, measure).await,
            Caller::Frames(client) if asker.config.coalesced => asker.issue_single(client, measure).await,
            Caller::Frames(client) => asker.issue_batch(client, measure).await,
        };
        let ops = u64::from(asker.config.batch).saturating_sub(measure.errors_total - errors_before);
        asker.live.fetch_add(ops, Ordering::Relaxed);
        (ops as u32, answered)
    }
}

impl Asker {
    async fn issue_batch(&mut self, client: &Client, measure: &mut Measure) -> Instant {
        let mut batch = client.batch(self.config.batch);
        let (from, written) = (self.cursor, self.stamp);
        match self.build(&mut batch) {
            Ok(after) => self.cursor = after,
            Err(error) => return self.failed(measure, build_error_kind(&error)).await,
        }
        let gets = batch.len() as u64 - self.stamp.since(written);
        let reply = match client.execute(batch).await {
            Ok(reply) => reply,
            Err(error) => return self.failed(measure, client_error_kind(&error)).await,
        };
        let answered = Instant::now();
        measure.frames += reply.frames();
        measure.bytes_sent += reply.bytes_sent();
        measure.bytes_received += reply.bytes_received();
        self.check(from, gets, reply.outcomes().map(Ok), measure);
        if reply.failures().next().is_some() {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
        answered
    }

    /// As a batch, in commands that stand behind each other.
    async fn issue_pipeline(&mut self, talker: &Talker, measure: &mut Measure) -> Instant {
        let mut talk = talker.talk().await;
        talk.begin();
        let (from, written) = (self.cursor, self.stamp);
        let Ok(after) = self.build(&mut *talk);
        self.cursor = after;
        let puts = self.stamp.since(written);
        if let Err(error) = talk.exchange().await {
            return self.failed(measure, error.kind()).await;
        }
        let answered = Instant::now();
        let (servers, sent, received) = talk.carried();
        measure.frames += servers;
        measure.bytes_sent += sent;
        measure.bytes_received += received;
        self.check(from, talk.ops() - puts, talk.outcomes(), measure);
        answered
    }

    #[inline]
    fn build<O: Ops>(&mut self, batch: &mut O) -> Result<Cursor, O::Error> {
        let Self { pool, cursor, stamp, value, config, .. } = self;
        pool.walk(*cursor, Build { batch, stamp, value, seed: config.seed })
    }

    /// Checks and counts the outcomes of the batch at `from`, which has so many gets.
    #[inline]
    fn check<'a>(
        &self,
        from: Cursor,
        gets: u64,
        outcomes: impl Iterator<Item = Result<Outcome<'a>, &'static str>>,
        measure: &mut Measure,
    ) {
        if self.config.verify { self.verify(from, outcomes, measure) } else { self.count(outcomes, gets, measure) }
    }

    /// Counts outcomes; in a batch without an error they are a get's or a put's, as many of each as were asked for.
    #[inline]
    fn count<'a>(
        &self,
        outcomes: impl Iterator<Item = Result<Outcome<'a>, &'static str>>,
        gets: u64,
        measure: &mut Measure,
    ) {
        let before = (measure.errors_total, measure.hits + measure.misses);
        count(outcomes, self.value.len(), measure);
        let gets_answered = measure.hits + measure.misses - before.1;
        if measure.errors_total == before.0 && gets_answered != gets {
            measure.failed(WRONG_OUTCOME, gets_answered.abs_diff(gets));
        }
    }

    /// Checks every byte read against its key; walks the batch a second time for the keys.
    fn verify<'a>(
        &self,
        from: Cursor,
        mut outcomes: impl Iterator<Item = Result<Outcome<'a>, &'static str>>,
        measure: &mut Measure,
    ) {
        let walked = self.pool.walk(from, |step: Step, key: hash::Key<'_>| {
            match (step, outcomes.next()) {
                (Step::Get, Some(Ok(Outcome::Value { value, .. }))) => self.check_value(&key, value, measure),
                (Step::Get, Some(Ok(Outcome::NotFound))) => self.missed(measure),
                (Step::Put, Some(Ok(Outcome::Done { .. }))) => {}
                (_, Some(Err(kind))) => measure.failed(kind, 1),
                (_, Some(Ok(other))) => measure.failed(outcome_kind(&other), 1),
                (_, None) => return Err(()),
            }
            Ok(())
        });
        if walked.is_err() {
            measure.failed("ReplyTooShort", 1);
        }
    }

    /// A workload reads only what was loaded, or written and acknowledged: who verifies takes no miss.
    fn missed(&self, measure: &mut Measure) {
        measure.misses += 1;
        if self.config.verify {
            measure.failed("MissingRecord", 1);
        }
    }

    fn check_value(&self, key: &[u8], value: &[u8], measure: &mut Measure) {
        measure.hits += 1;
        if value.len() != self.value.len() {
            return measure.failed(WRONG_LENGTH, 1);
        }
        if let Err(mismatch) = values::verify(key, self.config.seed, value) {
            measure.failed("WrongValue", 1);
            measure.first_mismatch.get_or_insert(mismatch);
        }
    }

    /// One operation through the client's single calls, two for a read-modify-write.
    async fn issue_single(&mut self, client: &Client, measure: &mut Measure) -> Instant {
        let (mut get, mut put) = (None, None);
        let walked = self.pool.walk(self.cursor, |step: Step, key: hash::Key<'_>| {
            let place = if step == Step::Get { &mut get } else { &mut put };
            *place = Some(Key::copied(&key));
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(after) = walked;
        self.cursor = after;
        let mut answered = None;
        if let Some(key) = get {
            let read = client.get(key.as_bytes()).await;
            answered = Some(Instant::now());
            match read {
                Ok(Some(value)) => self.check_single(key.as_bytes(), &value, measure),
                Ok(None) => self.missed(measure),
                Err(error) => return self.failed(measure, client_error_kind(&error)).await,
            }
        }
        if let Some(key) = put {
            self.stamp = self.stamp.next();
            values::fill(key.as_bytes(), self.stamp, self.config.seed, &mut self.value);
            let written = client.put(key.as_bytes(), &self.value).await;
            answered = Some(Instant::now());
            if let Err(error) = written {
                return self.failed(measure, client_error_kind(&error)).await;
            }
        }
        answered.unwrap_or_else(Instant::now)
    }

    fn check_single(&self, key: &[u8], value: &[u8], measure: &mut Measure) {
        if self.config.verify {
            return self.check_value(key, value, measure);
        }
        measure.hits += 1;
        if value.len() != self.value.len() {
            measure.failed(WRONG_LENGTH, 1);
        }
    }

    #[cold]
    async fn failed(&self, measure: &mut Measure, kind: &'static str) -> Instant {
        let answered = Instant::now();
        measure.failed(kind, self.config.batch.into());
        tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        answered
    }
}

/// Appends operations to a batch.
struct Build<'a, O> {
    batch: &'a mut O,
    stamp: &'a mut Stamp,
    value: &'a mut [u8],
    seed: u64,
}

impl<O: Ops> Visit<O::Error> for Build<'_, O> {
    #[inline(always)]
    fn visit(&mut self, step: Step, key: hash::Key<'_>) -> Result<(), O::Error> {
        match step {
            Step::Get => self.batch.get(key),
            Step::Put => {
                *self.stamp = self.stamp.next();
                values::fill(&key, *self.stamp, self.seed, self.value);
                self.batch.put(key, self.value)
            }
        }
    }
}

const WRONG_LENGTH: &str = "WrongLength";

const WRONG_OUTCOME: &str = "WrongOutcome";

/// Counts outcomes and checks lengths. Apart, so that it has its registers for itself.
#[inline(never)]
fn count<'a>(
    outcomes: impl Iterator<Item = Result<Outcome<'a>, &'static str>>,
    value_bytes: usize,
    measure: &mut Measure,
) {
    let (mut hits, mut misses, mut wrong) = (0, 0, 0);
    outcomes.for_each(|outcome| match outcome {
        Ok(Outcome::Value { value, .. }) => {
            hits += 1;
            wrong += u64::from(value.len() != value_bytes);
        }
        Ok(Outcome::Done { .. }) => {}
        Ok(Outcome::NotFound) => misses += 1,
        Ok(other) => measure.failed(outcome_kind(&other), 1),
        Err(kind) => measure.failed(kind, 1),
    });
    measure.hits += hits;
    measure.misses += misses;
    if wrong > 0 {
        measure.failed(WRONG_LENGTH, wrong);
    }
}

#[cold]
pub(super) fn outcome_kind(outcome: &Outcome<'_>) -> &'static str {
    match outcome {
        Outcome::Value { .. } | Outcome::Done { .. } | Outcome::Counter { .. } | Outcome::Edited(_) => WRONG_OUTCOME,
        Outcome::ValueTooLong => "ValueTooLong",
        Outcome::NotFound => "NotFound",
        Outcome::VersionMismatch { .. } => "VersionMismatch",
        Outcome::NotANumber => "NotANumber",
        Outcome::CounterOverflow => "CounterOverflow",
        Outcome::OutOfMemory => "OutOfMemory",
        Outcome::ReplyFull => "ReplyFull",
        Outcome::WrongNode => "WrongNode",
        Outcome::Unknown => "Unknown",
        Outcome::NotSent => "NotSent",
    }
}

/// The report's name of a client error.
#[cold]
pub(super) fn client_error_kind(error: &ClientError) -> &'static str {
    match error {
        ClientError::BadNodeCount { .. } => "BadNodeCount",
        ClientError::Connect(_) => "Connect",
        ClientError::Unreachable(_) => "Unreachable",
        ClientError::Hello { .. } => "Hello",
        ClientError::Refused { .. } => "Refused",
        ClientError::Denied { .. } => "Denied",
        ClientError::MemoryLost { .. } => "MemoryLost",
        ClientError::Lost { .. } => "Lost",
        ClientError::Deadline { .. } => "Deadline",
        ClientError::Forgotten { .. } => "Forgotten",
        ClientError::NoReplyMemory { .. } => "NoReplyMemory",
        ClientError::NotSent { .. } => "NotSent",
        ClientError::WrongNode { .. } => "WrongNode",
        ClientError::NoNewerMap { .. } => "NoNewerMap",
        ClientError::NoOwner { .. } => "NoOwner",
        ClientError::Map(_) => "Map",
        ClientError::MapLate { .. } => "MapLate",
        ClientError::NoMap => "NoMap",
        ClientError::Malformed { .. } => "Malformed",
        ClientError::WrongOutcome { .. } => WRONG_OUTCOME,
        ClientError::Build(error) => build_error_kind(error),
        ClientError::OutOfMemory => "OutOfMemory",
        ClientError::ReplyTooLarge { .. } => "ReplyTooLarge",
        ClientError::ReplyFull => "ReplyFull",
        ClientError::ValueTooLong => "ValueTooLong",
        ClientError::NotANumber => "NotANumber",
        ClientError::CounterOverflow => "CounterOverflow",
    }
}

#[cold]
pub(super) fn build_error_kind(error: &BatchError) -> &'static str {
    match error {
        BatchError::KeyTooLong { .. } => "KeyTooLong",
        BatchError::ValueTooLong { .. } => "ValueTooLong",
        BatchError::TooManyOps { .. } => "TooManyOps",
        BatchError::FrameFull { .. } => "FrameFull",
        BatchError::OutOfMemory { .. } => "NoBuffer",
    }
}
