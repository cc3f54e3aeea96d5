//! Which Redis clients are connected: for those who ask.
#![forbid(unsafe_code)]

use crate::resp::{ClientFacts, ClientLine};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;

/// Every Redis client of a node, by its number.
#[derive(Debug, Default)]
pub(super) struct RedisClients {
    last: AtomicU64,
    connected: Mutex<BTreeMap<u64, Connected>>,
}

#[derive(Debug)]
struct Connected {
    facts: ClientFacts,
    since: Instant,
}

impl RedisClients {
    /// Lists a client, under a number of its own, as long as what comes back lives.
    pub(super) fn add(&self, address: &str, local_address: &str) -> (ClientFacts, Listed<'_>) {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (address, local_address) = (address.to_owned(), local_address.to_owned());
        let facts = ClientFacts { id, address, local_address, ..ClientFacts::default() };
        self.connected().insert(id, Connected { facts: facts.clone(), since: Instant::now() });
        (facts, Listed { clients: self, id })
    }

    /// What is known of a client that is listed has changed.
    pub(super) fn change(&self, facts: &ClientFacts) {
        if let Some(connected) = self.connected().get_mut(&facts.id) {
            connected.facts = facts.clone();
        }
    }

    /// All of them.
    pub(super) fn lines(&self) -> Vec<ClientLine> {
        let line = |connected: &Connected| ClientLine {
            facts: connected.facts.clone(),
            age_seconds: connected.since.elapsed().as_secs(),
        };
        self.connected().values().map(line).collect()
    }

    fn connected(&self) -> MutexGuard<'_, BTreeMap<u64, Connected>> {
        // A panic elsewhere cannot leave a map half changed.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's place in the list.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    clients: &'a RedisClients,
    id: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.clients.connected().remove(&self.id);
    }
}
