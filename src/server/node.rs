//! Starting, watching and draining a node.
#![forbid(unsafe_code)]

use super::acceptor::{self, Doors};
use super::clock::Clock;
use super::ended::Endings;
use super::error::ServerError;
use super::follow::{Bell, follow};
use super::identity::Identity;
use super::map::Taken;
use super::metrics_listener::MetricsListener;
use super::passwords::Passwords;
use super::profiler::Profiler;
use super::redis_clients::RedisClients;
use super::slow::SlowLog;
use super::sweeper::sweep;
use super::users::KnownUsers;
use super::worker::{self, Worker, WorkerThread};
use crate::auth::{Credentials, Users};
use crate::budget::Budget;
use crate::completions::{Completions, CompletionsConfig};
use crate::cores::{self, Placement};
use crate::hash::{Key, KeyHasher};
use crate::hot_keys::HotKeys;
use crate::limits::{self, SLOTS};
use crate::map::{Id, MapError, MapStore, ShardMap};
use crate::metrics::{Counters, NodeStats, StoreStats, ThreadStats};
use crate::session::{NodeFacts, Session};
use crate::shard::{Eviction, IndexKind, Ownership, Store, StoreConfig};
use crate::slots::SlotSet;
use crate::transport::tls::TlsFileError;
use crate::transport::{Endpoint, IDLE_BYTES_MAX, RedisEndpoint, Scheme, TransportOptions};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How a node runs. Every field has the default that `freight serve --help` shows.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where it listens for its own clients.
    pub listen: Vec<Endpoint>,
    /// Where it listens for Redis clients; at least one endpoint in all.
    pub redis: Vec<RedisEndpoint>,
    /// Its threads, at least one.
    pub threads: usize,
    /// The processor of each thread; empty where they are bound to none.
    pub cores: Vec<usize>,
    /// How connections are dealt to the threads.
    pub placement: Placement,
    /// Shards, a power of two; `None` for four a thread, or fewer where a cap is too small for so many that evict.
    pub shards: Option<u32>,
    /// The index of each shard.
    pub index: IndexKind,
    /// The memory cap in bytes, buffers of connections included; `None` for none.
    pub memory_bytes_max: Option<u64>,
    /// What becomes of records where the cap is reached; needs one, if they are to be evicted.
    pub eviction: Eviction,
    /// The longest frame taken and sent, in bytes.
    pub frame_bytes_max: u32,
    /// Connections served at a time; fewer where all of them, idle, would take more than half of what a memory cap
    /// reserves for connections.
    pub connections_max: usize,
    /// Requests a client may have in flight on one connection, at least one.
    pub frames_in_flight_max: u32,
    /// How long a client may take to say hello.
    pub hello_wait: Duration,
    /// How long a client may take over a frame that it has begun: over each 256 KiB of it, where it is longer. Nothing
    /// bounds how long it may be idle between two frames: that costs the node 16 KiB, and its transport sees when it
    /// has vanished.
    pub frame_wait: Duration,
    /// How long a client may leave a reply untaken: each 256 KiB of it, where it is longer.
    pub send_wait: Duration,
    /// How long frames that have arrived are still answered once the node drains.
    pub drain_wait: Duration,
    /// Who may use it; `None` for everybody who can connect.
    pub users: Option<Users>,
    /// Who it is for other nodes, which it asks on behalf of Redis clients.
    pub credentials: Option<Credentials>,
    /// Whether it may listen beyond this machine although it has no users.
    pub insecure: bool,
    /// Whether wire-limit frames are answered beyond this machine.
    pub allow_wire_limit: bool,
    /// Whether wire-limit replies are zeros. Without it they are what lent memory was last used for, bytes of other
    /// clients: for a node whose only client is its own process, so that zeroing is not measured.
    pub scrub_wire_limit: bool,
    /// Whether it works with a shard map: it then owns no slot until it is given one that names its incarnation.
    /// Without, every slot is its own.
    pub mapped: bool,
    /// How long slots that were given up for a move wait for the map that says so, before the node claims them again.
    pub frozen_wait: Duration,
    /// Where metrics are told over HTTP. A [`super::LocalNode`] tells none.
    pub metrics: Option<SocketAddr>,
    /// Batches that take so long in the store are logged.
    pub slow_batch: Option<Duration>,
    /// One operation in so many, on average, is looked at to find hot keys; 0 for none.
    pub hot_keys_every: u32,
    /// Whether whoever may administer the node may ask for profiles of its process.
    pub allow_profile: bool,
    /// What transports are told.
    pub transport: TransportOptions,
    /// Tells when records expire: the system's clock, or one of a test.
    pub clock: Clock,
    /// Incarnation and hash secret: drawn from the system, or from a seed in tests.
    pub identity: Identity,
}

impl NodeConfig {
    /// The defaults, listening at `listen`, on every processor of the process's affinity mask.
    #[must_use]
    pub fn new(listen: Vec<Endpoint>, identity: Identity) -> Self {
        let cores = cores::available();
        Self {
            listen,
            redis: Vec::new(),
            threads: cores.len(),
            cores,
            placement: Placement::default(),
            shards: None,
            index: IndexKind::default(),
            memory_bytes_max: None,
            eviction: Eviction::None,
            frame_bytes_max: limits::FRAME_BYTES_DEFAULT,
            connections_max: 10_000,
            frames_in_flight_max: 64,
            hello_wait: Duration::from_secs(5),
            frame_wait: Duration::from_secs(10),
            send_wait: Duration::from_secs(30),
            drain_wait: Duration::from_secs(5),
            users: None,
            credentials: None,
            insecure: false,
            allow_wire_limit: false,
            scrub_wire_limit: true,
            mapped: false,
            frozen_wait: Duration::from_secs(5),
            metrics: None,
            slow_batch: None,
            hot_keys_every: 1_024,
            allow_profile: false,
            transport: TransportOptions::default(),
            clock: Clock::system(),
            identity,
        }
    }

    /// What is wrong with it, as far as that can be known before a node starts.
    ///
    /// # Errors
    /// No endpoint, one of TLS without a certificate, or a limit out of range.
    pub fn check(&self) -> Result<(), ServerError> {
        let (min, max) = (limits::FRAME_BYTES_MIN, limits::FRAME_BYTES_MAX);
        if !(min..=max).contains(&self.frame_bytes_max) {
            return Err(ServerError::FrameLimit { got: self.frame_bytes_max, min, max });
        }
        if self.listen.is_empty() && self.redis.is_empty() {
            return Err(ServerError::NoEndpoint);
        }
        let of_tls = self.listen.iter().filter(|endpoint| endpoint.scheme() == Scheme::Tls).map(ToString::to_string);
        let of_tls =
            of_tls.chain(self.redis.iter().filter(|endpoint| endpoint.is_tls()).map(ToString::to_string)).next();
        if let Some(endpoint) = of_tls.filter(|_| self.transport.tls.node.is_none()) {
            return Err(ServerError::NoCertificate { endpoint });
        }
        match self.memory_bytes_max {
            Some(got) if got < MEMORY_BYTES_MIN => Err(ServerError::MemoryCap { got, min: MEMORY_BYTES_MIN }),
            None if self.eviction != Eviction::None => Err(ServerError::NothingToEvictFor { eviction: self.eviction }),
            _ => Ok(()),
        }
    }

    fn budget(&self) -> Budget {
        match self.memory_bytes_max {
            None => Budget::new(u64::MAX),
            Some(bytes_max) => Budget::with_reserve(bytes_max, (bytes_max / 32).clamp(RESERVE_MIN, RESERVE_MAX)),
        }
    }

    /// Connections that this node has room for: the other half of the reserve is for their frames.
    fn connections_served_max(&self, budget: &Budget) -> usize {
        let capped = usize::try_from(budget.bytes_reserved() / 2).unwrap_or(usize::MAX) / IDLE_BYTES_MAX;
        if self.memory_bytes_max.is_some() { self.connections_max.min(capped) } else { self.connections_max }
    }
}

/// The least memory cap, in bytes.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Bytes of the cap kept for connections: room for a reply of maximal size and its request, at least.
const RESERVE_MIN: u64 = 24 << 20;
const RESERVE_MAX: u64 = 512 << 20;

/// What all threads of a node share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) session: Session,
    pub(super) config: NodeConfig,
    pub(super) budget: Arc<Budget>,
    pub(super) connections: AtomicUsize,
    pub(super) draining: watch::Sender<bool>,
    pub(super) workers: Vec<Arc<Worker>>,
    pub(super) map: Taken,
    pub(super) bell: Bell,
    pub(super) redis_clients: RedisClients,
    pub(super) users: Option<KnownUsers>,
    pub(super) passwords: Option<Passwords>,
    pub(super) endings: Endings,
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
        config.connections_max = config.connections_served_max(&budget);
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
            Arc::new(Worker::new(config.cores.get(i).copied(), shards, (i, threads), &budget, sampler))
        };
        Ok(Arc::new(Self {
            session: Session::new(Arc::new(store), Arc::new(completions), facts),
            workers: (0..threads).map(worker).collect(),
            profiler: Profiler::new(config.allow_profile, &budget),
            hot_keys,
            budget,
            connections: AtomicUsize::new(0),
            draining: watch::Sender::new(false),
            map: Taken::new(Id(config.identity.incarnation)),
            bell: Bell::default(),
            redis_clients: RedisClients::default(),
            users: config.users.take().map(KnownUsers::new),
            passwords: passwords.map_err(|source| ServerError::Thread { source })?,
            endings: Endings::default(),
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
        if *self.draining.borrow() {
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

/// Returns when the node drains.
pub(super) async fn drained(draining: &mut watch::Receiver<bool>) {
    // A node that is gone drains too.
    let _gone_or_draining = draining.wait_for(|draining| *draining).await.map(drop);
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
        self.shared.draining.send_replace(true);
        for thread in &mut self.threads {
            thread.finish();
        }
    }
}
