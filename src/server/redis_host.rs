//! The node, as sessions of Redis clients ask of it.
#![forbid(unsafe_code)]

use super::node::Shared;
use super::redis_counting::Counted;
use super::redis_forward::Forwarded;
use super::worker::Worker;
use crate::metrics::Counters;
use crate::op::{Outcome, Time};
use crate::resp::{Admission, ClientFacts, ClientLine, Commands, Denied, Host, Lend, NodeFacts, Takes};
use crate::shard::Scratch;
use crate::transport::{Buffer, HeapPool, Lender};
use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

/// Lends the memory of a thread's connections.
#[derive(Debug, Clone)]
pub(super) struct Lent(Arc<HeapPool>);

impl Lent {
    pub(super) fn by(pool: &Arc<HeapPool>) -> Self {
        Self(Arc::clone(pool))
    }
}

impl Lend for Lent {
    type Buffer = Buffer;

    fn lend(&self, bytes: usize) -> Option<Buffer> {
        Arc::clone(&self.0).lend(bytes)
    }
}

/// A node, while one of its threads serves a Redis client.
#[derive(Debug)]
pub(super) struct NodeHost<'a> {
    shared: &'a Shared,
    peer: &'a str,
    scratch: MutexGuard<'a, Scratch>,
    counters: &'a Counters,
    forwarded: &'a Forwarded,
}

impl<'a> NodeHost<'a> {
    pub(super) fn new(shared: &'a Shared, worker: &'a Worker, peer: &'a str, forwarded: &'a Forwarded) -> Self {
        Self { shared, peer, scratch: worker.scratch(), counters: &worker.counters, forwarded }
    }

    /// Does what goes through a part of the store, and tells of it where it was slow.
    fn timed<T>(&self, what: &str, part: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = part();
        self.shared.slow.note(began.elapsed(), || format!("a part of a {what}, from resp://{}", self.peer));
        done
    }
}

impl Host for NodeHost<'_> {
    fn execute(&mut self, batch: &impl Commands, now: Time, outcomes: &mut impl Takes) {
        let began = Instant::now();
        let mut counted = Counted::new(batch, outcomes, &self.counters.outcomes);
        self.shared.session.store().execute(batch, now, &mut counted, &mut self.scratch);
        let time = began.elapsed();
        self.counters.batch_times.add(time);
        let what = || format!("{} operations ({}), from resp://{}", batch.op_count(), listed(batch.names()), self.peer);
        self.shared.slow.note(time, what);
    }

    fn forwarded(&self, index: u32) -> Option<Outcome<'_>> {
        self.forwarded.outcome(index)
    }

    fn now(&self) -> Time {
        self.shared.config.clock.now()
    }

    fn records(&self) -> u64 {
        self.shared.session.store().stats().records
    }

    fn scan(&mut self, cursor: u64, visit: &mut dyn FnMut(&[u8])) -> u64 {
        self.timed("scan", || self.shared.session.store().scan(cursor, self.now(), visit))
    }

    fn flush(&mut self, cursor: u64) -> u64 {
        self.timed("flush", || self.shared.session.store().flush(cursor, self.now()))
    }

    fn facts(&self) -> NodeFacts {
        let port = self.shared.config.redis.first().and_then(|endpoint| Some(endpoint.host_port()?.1));
        NodeFacts {
            stats: self.shared.stats_told(),
            process: std::process::id(),
            port: port.unwrap_or(0),
            connections_max: self.shared.limits().connections_max,
            is_mapped: self.shared.config.mapped,
        }
    }

    fn clients(&self) -> Vec<ClientLine> {
        self.shared.redis_clients.lines()
    }

    fn client_changed(&mut self, client: &ClientFacts) {
        self.shared.redis_clients.change(client);
    }

    /// Without users nobody has to say who they are, as in a Redis without a password.
    fn authenticate(&mut self, name: Option<&[u8]>, _: &[u8]) -> Admission {
        match name {
            _ if self.shared.users.is_some() => Admission::Later,
            None => Admission::Denied(Denied::NoPasswordNeeded),
            Some(b"default") => Admission::Granted,
            Some(_) => Admission::Denied(Denied::WrongPassword),
        }
    }
}

/// Names and how often each is there, the most frequent first.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut counts = BTreeMap::<_, u32>::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
