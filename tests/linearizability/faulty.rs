//! A node for tests with a bug to order: it speaks the wire format over the simulated network, from a store of its
//! own. Without a bug it is a correct one.
#![forbid(unsafe_code)]

use crate::store::{Record, without_version};
use crate::support::history::{Bytes, OwnedOp, OwnedOutcome};
use crate::support::scripted::well_behaved;
use freight::budget::Budget;
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Batch as _, Op, Outcomes, Time, Version};
use freight::server::Clock;
use freight::transport::sim::{Sim, SimListener};
use freight::transport::{
    Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, HeapPool, Incoming, Listener, Transport,
};
use freight::wire::{ReplyBuilder, RequestView, hello_reply};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Ways to break the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A change is worked out on what was read a while ago: what others wrote meanwhile is overwritten.
    LostUpdate,
    /// Gets read a copy that lags behind.
    StaleRead,
    /// The operations of a batch are carried out last first.
    OrderBroken,
    /// Other clients' operations come between those of a batch on one key.
    BatchTorn,
    /// Once in a while a put is answered and not done.
    PutForgotten,
    /// A delete is answered, and a later change finds the record again.
    Undeleted,
    /// What is sent again is executed again: a retried add counts twice.
    RetriedTwice,
    /// Of what is sent again the changes alone are known: a retried get sees the put behind it.
    RetriedGetSeesPut,
    /// The clock is taken at its word: set back, it brings back to gets what was seen gone.
    TimeGoesBack,
    /// A get finds what is expired, until something else meets it.
    ExpiredRead,
    /// A record that was evicted is there again.
    EvictedComesBack,
    /// A key that was evicted begins again with the versions that it had.
    EvictedVersionsReused,
}

impl Bug {
    pub(crate) const ALL: [Self; 6] =
        [Self::LostUpdate, Self::StaleRead, Self::OrderBroken, Self::BatchTorn, Self::PutForgotten, Self::Undeleted];

    /// Those that only what is sent again shows.
    pub(crate) const OF_RETRIES: [Self; 2] = [Self::RetriedTwice, Self::RetriedGetSeesPut];

    /// Those that only records with deadlines show.
    pub(crate) const OF_EXPIRY: [Self; 2] = [Self::TimeGoesBack, Self::ExpiredRead];

    /// Those that only a node shows that evicts.
    pub(crate) const OF_EVICTION: [Self; 2] = [Self::EvictedComesBack, Self::EvictedVersionsReused];
}

pub(crate) struct FaultyNode {
    bug: Option<Bug>,
    /// Before so many of a hundred operations their record is evicted.
    evicted_percent: u32,
    random: RefCell<ChaCha8Rng>,
    store: RefCell<HashMap<Vec<u8>, Record>>,
    /// What the store was a while ago.
    copy: RefCell<HashMap<Vec<u8>, Record>>,
    /// What was evicted last of each key.
    evicted: RefCell<HashMap<Vec<u8>, Record>>,
    drawn: RefCell<Version>,
    clock: Clock,
    /// The latest time that the clock showed.
    latest: RefCell<Time>,
    /// What became of each operation of a frame with changes, by session, sequence and first index.
    known: RefCell<HashMap<(u64, u64, u32), OwnedOutcome>>,
}

impl FaultyNode {
    /// Serves at an endpoint until the local task set ends.
    pub(crate) async fn start(endpoint: &Endpoint, bug: Option<Bug>, evicted_percent: u32, clock: Clock, seed: u64) {
        let listener = Sim.listen(endpoint).await.expect("the endpoint is free");
        let node = Rc::new(Self {
            bug,
            evicted_percent,
            random: RefCell::new(ChaCha8Rng::seed_from_u64(seed)),
            store: RefCell::default(),
            copy: RefCell::default(),
            evicted: RefCell::default(),
            drawn: RefCell::default(),
            clock,
            latest: RefCell::default(),
            known: RefCell::default(),
        });
        tokio::task::spawn_local(node.clone().accept(listener));
        tokio::task::spawn_local(node.copy_now_and_then());
    }

    async fn accept(self: Rc<Self>, mut listener: SimListener) {
        while let Ok(incoming) = listener.accept().await {
            let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
            let config = ConnectionConfig::of_client(pool, FRAME_BYTES_DEFAULT);
            let connection = incoming.attach(&config).expect("no cap");
            tokio::task::spawn_local(Rc::clone(&self).serve(connection));
        }
    }

    async fn serve(self: Rc<Self>, connection: impl Connection) {
        let (mut sender, mut receiver) = connection.split();
        let mut greeted = false;
        while let Ok(Some(frame)) = receiver.receive().await {
            let answer = if greeted { self.execute(&frame).await } else { hello_reply(&well_behaved()) };
            greeted = true;
            let mut buffer = sender.lender().lend(answer.len()).expect("no cap");
            buffer[..answer.len()].copy_from_slice(&answer);
            if sender.send(Frame::new(buffer, answer.len() as u32)).await.is_err() {
                return;
            }
        }
    }

    async fn copy_now_and_then(self: Rc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.copy.replace(self.store.borrow().clone());
        }
    }

    async fn execute(&self, frame: &[u8]) -> Vec<u8> {
        let request = RequestView::parse(frame).expect("a client sends requests");
        let mut ops: Vec<(u32, Op<'_>)> = (0..).zip(request.ops()).collect();
        let mut reply = ReplyBuilder::new(Vec::new(), ops.len() as u32, FRAME_BYTES_DEFAULT).expect("room");
        if self.bug == Some(Bug::OrderBroken) {
            ops.reverse();
        }
        let origin = request.header().origin();
        let now = self.now();
        let changed: Vec<&[u8]> = request.ops().filter(|op| op.action != Action::Get).map(|op| op.key).collect();
        for (index, op) in &ops {
            let identity = (origin.session, origin.sequence, request.first_index(*index));
            let is_recorded = match self.bug {
                Some(Bug::RetriedTwice) => false,
                Some(Bug::RetriedGetSeesPut) => op.action != Action::Get,
                _ => changed.contains(&op.key),
            };
            let known = self.known.borrow().get(&identity).cloned();
            if let Some(known) = known.filter(|_| is_recorded && origin.session != 0) {
                reply.set(*index, known.outcome());
                continue;
            }
            if self.bug == Some(Bug::BatchTorn) {
                self.pause().await;
            }
            self.evict_now_and_then(op.key);
            let before = self.record(op).await;
            let mut after = before.clone();
            let outcome = self.carry_out(op, &mut after, now);
            reply.set(*index, outcome.outcome());
            self.known.borrow_mut().insert(identity, outcome);
            if after != before && !self.forgets(op) {
                self.store.borrow_mut().insert(op.key.to_vec(), after);
            }
        }
        let (mut bytes, length) = reply.finish(request.header().origin());
        bytes.truncate(length as usize);
        bytes
    }

    /// The record that an operation finds.
    async fn record(&self, op: &Op<'_>) -> Record {
        let stale = self.bug == Some(Bug::StaleRead) && op.action == Action::Get;
        let store = if stale { &self.copy } else { &self.store };
        let record = store.borrow().get(op.key).cloned().unwrap_or_default();
        if self.bug == Some(Bug::LostUpdate) && op.action != Action::Get {
            self.pause().await;
        }
        record
    }

    /// Evicts a record, once in a while.
    fn evict_now_and_then(&self, key: &[u8]) {
        let this_time = self.random.borrow_mut().random_range(0..100) < self.evicted_percent;
        let (mut store, mut evicted) = (self.store.borrow_mut(), self.evicted.borrow_mut());
        match store.get_mut(key) {
            Some(record) if record.value.is_some() && this_time => {
                evicted.insert(key.to_vec(), record.clone());
                *record =
                    if self.bug == Some(Bug::EvictedVersionsReused) { Record::default() } else { record.evicted() };
            }
            Some(record) if record.value.is_none() && this_time && self.bug == Some(Bug::EvictedComesBack) => {
                *record = evicted.remove(key).unwrap_or_default();
            }
            _ => {}
        }
    }

    async fn pause(&self) {
        let pause = self.random.borrow_mut().random_range(0..3);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn forgets(&self, op: &Op<'_>) -> bool {
        let this_time = self.random.borrow_mut().random_range(0..5) == 0;
        match op.action {
            Action::Put { .. } => self.bug == Some(Bug::PutForgotten) && this_time,
            Action::Delete => self.bug == Some(Bug::Undeleted) && this_time,
            Action::Get => self.bug == Some(Bug::TimeGoesBack),
            _ => false,
        }
    }

    fn carry_out(&self, op: &Op<'_>, record: &mut Record, now: Time) -> OwnedOutcome {
        *self.drawn.borrow_mut() += 1;
        let finds_expired = self.bug == Some(Bug::ExpiredRead) && op.action == Action::Get;
        let now = if finds_expired { 0 } else { now };
        let op_owned = OwnedOp::new(op.action, |bytes| Bytes::from(bytes));
        let drawn = if self.bug == Some(Bug::EvictedVersionsReused) { record.drawn + 1 } else { *self.drawn.borrow() };
        let outcome = record.execute(&op_owned, drawn, now);
        if op.version_wanted { outcome } else { without_version(outcome) }
    }

    /// The time of a frame.
    fn now(&self) -> Time {
        let (shown, mut latest) = (self.clock.now(), self.latest.borrow_mut());
        *latest = shown.max(*latest);
        if self.bug == Some(Bug::TimeGoesBack) { shown } else { *latest }
    }
}
