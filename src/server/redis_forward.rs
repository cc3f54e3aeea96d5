//! What a Redis client asks of other nodes, by way of the node that it is connected to.
//!
//! ```text
//!   batch --executed here--> outcomes here
//!     `-----another node's---> a batch of the thread's client, by the node's map --> a frame to each owner, at once
//!   replies, in the order of the commands <-- both
//! ```
//!
//! A connection waits for its own batch alone. The next begins when it is answered, so that commands on one key take
//! effect in order wherever it is.
#![forbid(unsafe_code)]

use super::node::Shared;
use super::redis_host::Lent;
use super::seldom::Seldom;
use super::worker::Worker;
use crate::client::{Client, ClientConfig, ClientError, Failure, Reply};
use crate::map::{MapStore, Pending, ShardMap};
use crate::op::{Op, Outcome};
use crate::resp::Desk;
use crate::transport::HeapPool;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long other nodes may take over a batch.
const FORWARD_WAIT: Duration = Duration::from_secs(5);

/// Asks other nodes for the connections of one thread: a client by the node's map, made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    client: OnceCell<Client>,
}

impl Forwarder {
    /// Its frames are in the memory of the thread's connections, and count as that.
    async fn client(&self, shared: &Shared, pool: &Arc<HeapPool>) -> Result<&Client, ClientError> {
        self.client
            .get_or_try_init(async || {
                let (first, keeper) = (shared.map.map(), shared.keeper().ok_or(ClientError::NoMap)?);
                let store = NodeMap { first: Mutex::new(first.map(Arc::new)), keeper: Arc::clone(keeper) };
                let config = ClientConfig {
                    deadline: FORWARD_WAIT,
                    frame_bytes_max: shared.config.frame_bytes_max,
                    reply_bytes_max: shared.config.frame_bytes_max.into(),
                    busy_polling: shared.config.busy_polling,
                    credentials: shared.config.credentials.clone(),
                    transport: shared.config.transport.clone(),
                    ..ClientConfig::default()
                };
                Client::connect_mapped_in(Arc::clone(pool), Arc::new(store), config).await
            })
            .await
    }
}

/// The map that the node works with, for a client's first look; from then on what the map's keeper has.
#[derive(Debug)]
struct NodeMap {
    first: Mutex<Option<Arc<ShardMap>>>,
    keeper: Arc<dyn MapStore>,
}

impl MapStore for NodeMap {
    fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            Some(map) => Box::pin(async { Ok(Some(map)) }),
            None => self.keeper.load(),
        }
    }

    fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>> {
        self.keeper.newer_than(epoch)
    }

    fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()> {
        self.keeper.replace(expected, map)
    }
}

/// What other nodes answered to the batch of a connection, until it is told.
#[derive(Debug, Default)]
pub(super) struct Forwarded {
    answers: Vec<Answered>,
}

/// An answer to some operations of a batch.
#[derive(Debug)]
struct Answered {
    /// Their places in the batch, in order.
    indices: Vec<u32>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// One outcome each.
    Reply {
        reply: Box<Reply>,
        /// Those that changed nothing, and whose answer found no memory.
        unread: Vec<u32>,
    },
    /// The same for all of them.
    All(Outcome<'static>),
}

impl Forwarded {
    /// The outcome of an operation; `None` where it was not asked for, or had no room among others.
    pub(super) fn outcome(&self, index: u32) -> Option<Outcome<'_>> {
        let found = self.answers.iter().rev().find_map(|answered| Some((answered, answered.place(index)?)));
        let (answered, place) = found?;
        match &answered.answer {
            Answer::All(outcome) => Some(*outcome),
            Answer::Reply { reply, unread } => match reply.outcome(place) {
                Outcome::Unknown if unread.contains(&index) => Some(Outcome::OutOfMemory),
                Outcome::ReplyFull if answered.indices.len() > 1 => None,
                // Not even alone.
                Outcome::ReplyFull => Some(Outcome::OutOfMemory),
                outcome => Some(outcome),
            },
        }
    }

    /// The batch is told.
    pub(super) fn clear(&mut self) {
        self.answers.clear();
    }

    /// Asks for what is another node's, and was not answered. Afterwards the first of it has an outcome.
    pub(super) async fn ask(&mut self, shared: &Shared, worker: &Worker, desk: &Desk<Lent>, input: &[u8]) {
        let answered = match worker.forwarder.client(shared, &worker.pool).await {
            Ok(client) => self.asking(desk, input).by(client, &shared.peer_log).await,
            Err(error) => {
                let indices = self.asking(desk, input).indices();
                if let Some(others) = shared.peer_log.line() {
                    tracing::warn!("no client to ask other nodes by: {error}{others}");
                }
                let outcome = if matches!(error, ClientError::NoMap) { Outcome::WrongNode } else { Outcome::NotSent };
                Answered::alike(indices, outcome)
            }
        };
        let first = answered.indices.first().copied();
        self.answers.retain(|before| before.indices.last().copied() > first);
        self.answers.push(answered);
    }

    /// What is to be asked.
    fn asking<'a>(&self, desk: &'a Desk<Lent>, input: &'a [u8]) -> Asking<'a> {
        let mut foreign: Vec<_> = desk.foreign(input).filter(|(index, _)| self.outcome(*index).is_none()).collect();
        let had_no_room = |index| self.answers.iter().any(|answered| answered.place(index).is_some());
        if foreign.first().is_some_and(|(first, _)| had_no_room(*first)) {
            // Among others: now it is alone.
            foreign.truncate(1);
        }
        Asking { foreign }
    }
}

impl Answered {
    fn alike(indices: Vec<u32>, outcome: Outcome<'static>) -> Self {
        Self { indices, answer: Answer::All(outcome) }
    }

    fn place(&self, index: u32) -> Option<usize> {
        self.indices.binary_search(&index).ok()
    }
}

/// Operations that other nodes are to be asked about, and their places in the batch.
struct Asking<'a> {
    foreign: Vec<(u32, Op<'a>)>,
}

impl Asking<'_> {
    fn indices(&self) -> Vec<u32> {
        self.foreign.iter().map(|(index, _)| *index).collect()
    }

    /// Asks for as many as fit into a frame a node, the first of them at least. What does not fit goes with the next.
    async fn by(mut self, client: &Client, log: &Seldom) -> Answered {
        let (first, mut order, mut is_full) = (self.foreign[0].0, Order::default(), false);
        let mut batch = client.batch(self.foreign.len() as u32);
        self.foreign.retain(|(_, op)| {
            let is_next = !is_full && order.admits(op);
            is_full = is_full || is_next && batch.push(op).is_err();
            is_next && !is_full
        });
        let indices = self.indices();
        if indices.is_empty() {
            return Answered::alike(vec![first], Outcome::OutOfMemory);
        }
        match client.execute(batch).await {
            Ok(reply) => {
                let had_no_memory = reply.failures().any(Failure::is_for_memory);
                if let Some(Failure { endpoint: Some(endpoint), error }) = reply.failures().next()
                    && let Some(others) = log.line()
                {
                    tracing::warn!("{endpoint} did not answer what a Redis client asked of it: {error}{others}");
                }
                let reads = self.foreign.iter().filter(|(_, op)| had_no_memory && op.action.only_reads());
                let unread = reads.map(|(index, _)| *index).collect();
                Answered { indices, answer: Answer::Reply { reply: Box::new(reply), unread } }
            }
            Err(error) => {
                if let Some(others) = log.line() {
                    tracing::warn!("another node's answer cannot be read: {error}{others}");
                }
                Answered::alike(indices, Outcome::Unknown)
            }
        }
    }
}

/// Which operations may go with those before them: a value that finds no room in a reply is asked for again, and must
/// not meet then what came behind it.
#[derive(Debug, Default)]
struct Order<'a> {
    /// Keys whose value is wanted, and whether the operation that wants it changes it too: then it was not executed.
    wanted: HashMap<&'a [u8], bool>,
    /// Keys with an operation that waits, and with it all behind it.
    deferred: HashSet<&'a [u8]>,
}

impl<'a> Order<'a> {
    fn admits(&mut self, op: &Op<'a>) -> bool {
        let (is_change, wanted) = (!op.action.only_reads(), self.wanted.get(op.key));
        let is_behind = wanted.is_some_and(|was_change| is_change || *was_change);
        if is_behind || self.deferred.contains(op.key) {
            self.deferred.insert(op.key);
            return false;
        }
        if op.action.wants_value() {
            self.wanted.insert(op.key, is_change);
        }
        true
    }
}
