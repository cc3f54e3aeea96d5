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
use crate::budget::Budget;
use crate::client::{Client, ClientConfig, ClientError, Reply};
use crate::map::{MapStore, Pending, ShardMap};
use crate::op::{Action, Op, Outcome};
use crate::resp::Desk;
use std::collections::HashSet;
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
    async fn client(&self, shared: &Shared) -> Result<&Client, ClientError> {
        self.client
            .get_or_try_init(async || {
                let (first, keeper) = (shared.map.map(), shared.keeper().ok_or(ClientError::NoMap)?);
                let store = NodeMap { first: Mutex::new(first.map(Arc::new)), keeper: Arc::clone(keeper) };
                let config = ClientConfig {
                    deadline: FORWARD_WAIT,
                    frame_bytes_max: shared.config.frame_bytes_max,
                    reply_bytes_max: shared.config.frame_bytes_max.into(),
                    credentials: shared.config.credentials.clone(),
                    transport: shared.config.transport.clone(),
                    ..ClientConfig::default()
                };
                Client::connect_mapped(Arc::new(store), config).await
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
    /// What its reply takes, counted as the connection's.
    _memory: Option<Charged>,
}

#[derive(Debug)]
enum Answer {
    /// One outcome each.
    Reply(Box<Reply>),
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
            Answer::Reply(reply) => match reply.outcome(place) {
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
    pub(super) async fn ask(&mut self, shared: &Shared, forwarder: &Forwarder, desk: &Desk<Lent>, input: &[u8]) {
        let answered = match forwarder.client(shared).await {
            Ok(client) => self.asking(desk, input).by(client, &shared.budget).await,
            Err(error) => {
                let indices = self.asking(desk, input).indices();
                tracing::warn!("no client to ask other nodes by: {error}");
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
        Self { indices, answer: Answer::All(outcome), _memory: None }
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

    /// Asks for as many as fit into a frame a node, the first of them at least.
    async fn by(mut self, client: &Client, budget: &Arc<Budget>) -> Answered {
        let mut batch = client.batch(self.foreign.len() as u32);
        // What does not fit goes with the next, and what changes a key whose value was wanted before: where that value
        // finds no room it is asked for again, and must not meet the change then.
        let mut wanted = HashSet::new();
        let mut keeps_order = |op: &Op<'_>| {
            let is_behind = changes(op) && wanted.contains(op.key);
            if wants_value(op) {
                wanted.insert(op.key.to_vec());
            }
            !is_behind
        };
        let fitting = self.foreign.iter().take_while(|(_, op)| keeps_order(op) && batch.push(op).is_ok()).count();
        self.foreign.truncate(fitting.max(1));
        let (indices, bytes) = (self.indices(), self.foreign.iter().map(|(_, op)| bytes_of(op)).sum());
        let sending = Charged::take(budget, bytes);
        if fitting == 0 || sending.is_none() {
            return Answered::alike(indices, Outcome::OutOfMemory);
        }
        match client.execute(batch).await {
            Ok(reply) => {
                // Where there is no account for it: what has taken effect is told all the same.
                let memory = Charged::take(budget, reply.bytes_received());
                Answered { indices, answer: Answer::Reply(Box::new(reply)), _memory: memory }
            }
            Err(error) => {
                tracing::warn!("another node's answer cannot be read: {error}");
                Answered::alike(indices, Outcome::Unknown)
            }
        }
    }
}

/// Whether an operation may be left out for want of room for a value.
fn wants_value(op: &Op<'_>) -> bool {
    match op.action {
        Action::Get => true,
        Action::Edit(edit) => edit.value_wanted(),
        _ => false,
    }
}

fn changes(op: &Op<'_>) -> bool {
    match op.action {
        Action::Get => false,
        Action::Edit(edit) => !edit.only_reads(),
        _ => true,
    }
}

/// Bytes of an operation in a frame, about.
fn bytes_of(op: &Op<'_>) -> u64 {
    let value = match op.action {
        Action::Put { value } | Action::CompareAndSwap { value, .. } => value,
        Action::Edit(edit) => edit.bytes(),
        Action::Get | Action::Delete | Action::Add { .. } => &[],
    };
    (op.key.len() + value.len() + 16) as u64
}

/// Memory on the node's account, until it is dropped.
#[derive(Debug)]
struct Charged {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charged {
    fn take(budget: &Arc<Budget>, bytes: u64) -> Option<Self> {
        budget.charge_connection(bytes).then(|| Self { budget: Arc::clone(budget), bytes })
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.budget.credit_connection(self.bytes);
    }
}
