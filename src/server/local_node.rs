//! A whole node on one thread, for simulations.
#![forbid(unsafe_code)]

use super::acceptor::{self, Doors};
use super::config::NodeConfig;
use super::error::ServerError;
use super::node::Shared;
use crate::map::{MapError, MapStore, ShardMap};
use crate::metrics::NodeStats;
use crate::transport::{Endpoint, RedisEndpoint};
use std::sync::Arc;

/// A node on the calling thread's runtime: for simulations, where one thread runs a whole cluster.
#[derive(Debug)]
pub struct LocalNode {
    shared: Arc<Shared>,
    doors: Doors,
}

impl LocalNode {
    /// Starts a node on the current runtime; it runs until it is drained or the runtime ends.
    ///
    /// # Errors
    /// Why it cannot start.
    pub async fn start(config: NodeConfig) -> Result<Self, ServerError> {
        let config = NodeConfig { threads: 1, cores: Vec::new(), ..config };
        let shared = Shared::new(config)?;
        shared.workers[0].run_here();
        let doors = acceptor::listen(Arc::clone(&shared)).await?;
        shared.sweep();
        Ok(Self { shared, doors })
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.doors.endpoints
    }

    /// Where it listens for Redis clients, likewise.
    #[must_use]
    pub fn redis_endpoints(&self) -> &[RedisEndpoint] {
        &self.doors.redis_endpoints
    }

    /// As [`Node::take_map`](super::Node::take_map).
    ///
    /// # Errors
    /// A map of another cluster or an older epoch, or another one of the same epoch: the one before stays.
    ///
    /// # Panics
    /// On a node whose configuration is not [`NodeConfig::mapped`].
    pub fn take_map(&self, map: &ShardMap) -> Result<(), MapError> {
        self.shared.take_map(map)
    }

    /// As [`Node::follow`](super::Node::follow).
    ///
    /// # Panics
    /// On a node that follows one already, or whose configuration is not [`NodeConfig::mapped`].
    pub fn follow(&self, store: Arc<dyn MapStore>) {
        self.shared.follow(store);
    }

    /// Its statistics now.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        self.shared.stats()
    }

    /// Takes all memory that connections could still be lent.
    #[cfg(test)]
    pub(super) fn exhaust_memory(&self) {
        for bytes in (0..30).rev().map(|bits| 1 << bits) {
            while self.shared.budget.charge_connection(bytes) {}
        }
    }

    /// Stops accepting and closes every connection when what has arrived is answered; returns when that is done.
    pub async fn drain(self) {
        self.shared.drain.begin();
        self.shared.workers[0].tasks_ended().await;
    }
}
