//! Starting, watching and draining a node.
#![forbid(unsafe_code)]

use super::acceptor::{self, Doors};
use super::accounts::Accounts;
use super::config::NodeConfig;
use super::drain::Drain;
use super::ended::Endings;
use super::error::ServerError;
use super::follow::{Bell, follow};
use super::limits::Limits;
use super::map::Taken;
use super::metrics_listener::MetricsListener;
use super::passwords::Passwords;
use super::profiler::Profiler;
use super::redis_clients::RedisClients;
use super::seldom::Seldom;
use super::slow::SlowLog;
use super::sweeper::sweep;
use super::users::KnownUsers;
use super::worker::{self, Worker, WorkerThread};

use crate::budget::Budget;
use crate::completions::{Completions, CompletionsConfig};
use crate::hash::{Key, KeyHasher};
use crate::hot_keys::HotKeys;
use crate::limits::{self, SLOTS};
use crate::map::{Id, MapError, MapStore, ShardMap};
use crate::metrics::{Counters, NodeStats, StoreStats, ThreadStats};
use crate::session::{NodeFacts, Session};
use crate::shard::{Eviction, Ownership, Scratch, Store, StoreConfig};
use crate::slots::SlotSet;
use crate::transport::tls::TlsFileError;
use crate::transport::{Endpoint, RedisEndpoint};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What all threads of a node share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) session: Session,
    pub(super) config: NodeConfig,
    pub(super) budget: Arc<Budget>,
    pub(super) connections: AtomicUsize,
    pub(super) drain: Drain,
    pub(super) workers: Vec<Arc<Worker>>,
    pub(super) map: Taken,
    pub(super) bell: Bell,
    pub(super) redis_clients: RedisClients,
    pub(super) users: Option<KnownUsers>,
    pub(super) passwords: Option<Passwords>,
    pub(super) limits: RwLock<Limits>,
    pub(super) accounts: Accounts,
    pub(super) endings: Endings,
    /// Lines about peers, who decide how many there would be.
    pub(super) peer_log: Seldom,
    pub(super) slow: SlowLog,
    pub(super) hot_keys: Option<Arc<HotKeys>>,
    pub(super) profiler: Profiler,
    /// Whom it follows.
    keeper: OnceLock<Arc<dyn MapStore>>,
    started: Instant,
    /// What the store said of itself when it was last asked for a client.
    store_told: Mutex<Option<(tokio::time::Instant, StoreStats)>>,
}

/// How old the store's statistics may be that a client is told: each reading locks every shard.
const STATS_AGE_MAX: Duration = Duration::from_millis(100);

impl Shared {
    pub(super) fn new(mut config: NodeConfig) -> Result<Arc<Self>, ServerError> {
        config.check()?;
        let threads = config.threads.max(1);
        let budget = Arc::new(config.budget());
        config.connections_max = config.connections_served_max(config.connections_max, &budget);
        let shards = config.shards.unwrap_or_else(|| {
            let shards = (threads as u32 * 4).next_power_of_two().min(limits::SHARDS_MAX);
            let evicting_max = Store::evicting_shards_max(&budget);
            if config.eviction == Eviction::None { shards } else { shards.min(1 << evicting_max.ilog2()) }
        });
        let store = Store::new(StoreConfig {
            shards,
            index: config.index,
            hash_secret: config.identity.hash_secret,
            budget: Arc::clone(&budget),
            eviction: config.eviction,
        })?;
        if config.mapped {
            store.set_ownership(Ownership { epoch: 0, slots: SlotSet::NONE });
        }
        let facts = NodeFacts {
            incarnation: config.identity.incarnation,
            frame_bytes_max: config.frame_bytes_max,
            frames_in_flight_max: config.frames_in_flight_max.max(1),
        };
        let takes_passwords = config.users.is_some() && !config.redis.is_empty();
        let passwords = takes_passwords.then(Passwords::start).transpose();
        let completions = Completions::new(CompletionsConfig::new(Arc::clone(&budget)));
        let hot_keys = HotKeys::new(config.hot_keys_every, threads, &budget);
        if hot_keys.is_none() && config.hot_keys_every > 0 {
            tracing::warn!("no memory to look for hot keys with {threads} threads");
        }
        let worker = |i: usize| {
            // Nobody outside knows which operations are sampled.
            let seed = KeyHasher::new(config.identity.hash_secret).index_hash(Key::from(&i.to_le_bytes()[..]));
            let sampler = hot_keys.as_ref().map(|hot_keys| hot_keys.sampler(i, seed));
            let scratch = |first_shard| {
                let scratch = Scratch::new(first_shard).sampled_by(sampler);
                if config.find_repeats { scratch.finding_repeats() } else { scratch }
            };
            Arc::new(Worker::new(config.cores.get(i).copied(), shards, (i, threads), &budget, scratch))
        };
        Ok(Arc::new(Self {
            session: Session::new(Arc::new(store), Arc::new(completions), facts),
            workers: (0..threads).map(worker).collect(),
            profiler: Profiler::new(config.allow_profile, &budget),
            hot_keys,
            budget,
            connections: AtomicUsize::new(0),
            drain: Drain::default(),
            map: Taken::new(Id(config.identity.incarnation)),
            bell: Bell::default(),
            redis_clients: RedisClients::default(),
            users: config.users.take().map(KnownUsers::new),
            passwords: passwords.map_err(|source| ServerError::Thread { source })?,
            limits: RwLock::new(config.limits()),
            accounts: Accounts::new(),
            endings: Endings::default(),
            peer_log: Seldom::default(),
            slow: SlowLog::new(config.slow_batch),
            keeper: OnceLock::new(),
            started: Instant::now(),
            store_told: Mutex::default(),
            config,
        }))
    }

    fn incarnation(&self) -> Id {
        Id(self.config.identity.incarnation)
    }

    pub(super) fn take_map(&self, map: &ShardMap) -> Result<(), MapError> {
        assert!(self.config.mapped, "a node without a map owns every slot");
        self.map.take(map, self.session.store())
    }

    pub(super) fn follow(self: &Arc<Self>, store: Arc<dyn MapStore>) {
        assert!(self.config.mapped, "a node without a map owns every slot");
        let is_first = self.keeper.set(Arc::clone(&store)).is_ok();
        assert!(is_first, "a node follows one keeper");
        self.workers[0].spawn(follow(Arc::clone(self), store));
    }

    /// Lets every thread forget what expires; all of them run.
    pub(super) fn sweep(self: &Arc<Self>) {
        for (thread, worker) in self.workers.iter().enumerate() {
            worker.spawn(sweep(Arc::clone(self), thread, self.workers.len()));
        }
    }

    /// Why the node cannot be used, where it cannot.
    pub(super) fn readiness(&self) -> Result<(), &'static str> {
        if self.drain.has_begun() {
            return Err("it is draining");
        }
        if self.config.mapped && self.map.told().slots.is_none() {
            return Err("it has no shard map yet");
        }
        Ok(())
    }

    /// Whether somebody takes newer maps, and ends moves that were left alone.
    pub(super) fn is_following(&self) -> bool {
        self.keeper.get().is_some()
    }

    /// Whom it follows.
    pub(super) fn keeper(&self) -> Option<&Arc<dyn MapStore>> {
        self.keeper.get()
    }

    /// The node's statistics now.
    pub(super) fn stats(&self) -> NodeStats {
        self.stats_with(self.session.store().stats())
    }

    /// The node's statistics for a client, those of the store from a moment ago.
    pub(super) fn stats_told(&self) -> NodeStats {
        let mut told = self.store_told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = tokio::time::Instant::now();
        let store = match &*told {
            Some((at, store)) if now - *at < STATS_AGE_MAX => store.clone(),
            _ => told.insert((now, self.session.store().stats())).1.clone(),
        };
        drop(told);
        self.stats_with(store)
    }

    fn stats_with(&self, store: StoreStats) -> NodeStats {
        let sum = |pick: fn(&Counters) -> &std::sync::atomic::AtomicU64| -> u64 {
            self.workers.iter().map(|worker| pick(&worker.counters).load(Ordering::Relaxed)).sum()
        };
        let threads: Vec<_> =
            self.workers.iter().map(|worker| ThreadStats { core: worker.core, cpu_ns: worker.cpu_ns() }).collect();
        let map = self.map.told();
        NodeStats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            incarnation: self.incarnation().to_string(),
            cluster: map.cluster,
            map_epoch: map.epoch,
            moves: map.moves,
            slots: map.slots.unwrap_or(if self.config.mapped { 0 } else { SLOTS }),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            cpu_ns: threads.iter().map(|thread| thread.cpu_ns).sum(),
            threads,
            connections: self.connections.load(Ordering::Relaxed) as u64,
            operations: sum(|counters| &counters.operations),
            frames: sum(|counters| &counters.frames),
            bytes_received: sum(|counters| &counters.bytes_received),
            bytes_sent: sum(|counters| &counters.bytes_sent),
            refusals: sum(|counters| &counters.refusals),
            memory_bytes_used: self.budget.bytes_used(),
            memory_bytes_max: self.config.memory_bytes_max,
            eviction: self.config.eviction.to_string(),
            store,
        }
    }
}

/// A running node with its own threads. Dropping it stops it at once; [`Node::drain`] lets it finish.
#[derive(Debug)]
pub struct Node {
    pub(super) shared: Arc<Shared>,
    doors: Doors,
    threads: Vec<WorkerThread>,
    /// The last to end: that the node drains is told too.
    metrics: Option<MetricsListener>,
}

impl Node {
    /// Starts a node: its threads run, its endpoints listen.
    ///
    /// # Errors
    /// Why it cannot start; nothing is left running.
    pub fn start(config: NodeConfig) -> Result<Self, ServerError> {
        let shared = Shared::new(config)?;
        let started = shared.workers.iter().map(worker::start);
        let threads = started.collect::<io::Result<Vec<_>>>().map_err(|source| ServerError::Thread { source })?;
        let listening = threads[0].call({
            let shared = Arc::clone(&shared);
            move || acceptor::listen(shared)
        });
        let doors = listening?;
        shared.sweep();
        let metrics = shared.config.metrics.map(|address| {
            let started = MetricsListener::start(address, Arc::clone(&shared));
            started.map_err(|source| ServerError::Metrics { address, source })
        });
        Ok(Self { metrics: metrics.transpose()?, shared, doors, threads })
    }

    /// Where metrics are told, with the port it really has.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsListener::address)
    }

    /// Logs batches that take so long in the store, from now on.
    pub fn set_slow_batch(&self, from: Option<Duration>) {
        self.shared.slow.set(from);
    }

    /// Reads the files of its certificates again. Connections that come from here on go by them, open ones stay.
    ///
    /// # Errors
    /// Why one of them cannot be used; then all stays as it was.
    pub fn reload_tls(&self) -> Result<(), TlsFileError> {
        self.shared.config.transport.tls.reload()
    }

    /// Where it listens, with the ports it really has.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.doors.endpoints
    }

    /// Where it listens for Redis clients, likewise.
    #[must_use]
    pub fn redis_endpoints(&self) -> &[RedisEndpoint] {
        &self.doors.redis_endpoints
    }

    /// Takes a shard map. When this returns, no operation is executed any more on a slot that the map does not give to
    /// this node's incarnation, and the records of what it gave up are gone. Blocks until each shard was free for a
    /// moment, or for several where slots are given up.
    ///
    /// # Errors
    /// A map of another cluster or an older epoch, or another one of the same epoch: the one before stays.
    ///
    /// # Panics
    /// On a node whose configuration is not [`NodeConfig::mapped`].
    pub fn take_map(&self, map: &ShardMap) -> Result<(), MapError> {
        self.shared.take_map(map)
    }

    /// Follows a keeper: the node takes its newer maps when a mover says that there is one, and takes part in moves.
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

    /// Stops accepting, answers what has arrived, closes every connection, and ends the threads.
    pub fn drain(mut self) {
        self.shared.drain.begin();
        for thread in &mut self.threads {
            thread.finish();
        }
    }
}
