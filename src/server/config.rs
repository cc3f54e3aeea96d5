//! How a node runs, and what of that is wrong before it does.
#![forbid(unsafe_code)]

use super::clock::Clock;
use super::error::ServerError;
use super::identity::Identity;
use crate::auth::{Credentials, Users};
use crate::budget::Budget;
use crate::cores::{self, Placement};
use crate::limits;
use crate::shard::{Eviction, IndexKind};
use crate::transport::tls::SESSION_BYTES;
use crate::transport::{Endpoint, IDLE_BYTES_MAX, RedisEndpoint, Scheme, TransportOptions};
use std::net::SocketAddr;
use std::time::Duration;

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
    /// Whether a thread looks over TCP for the next frames, or Redis commands, of clients of this machine, for a moment
    /// and as far as that pays, before it sleeps. They are answered several times as fast, and a frame at least each 60
    /// microseconds keeps the thread on its processor, however little work it is.
    pub busy_polling: bool,
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
    /// Those of them that come from one client: from one host, or over shared memory one user of this machine.
    pub connections_per_client_max: Option<usize>,
    /// Those of one user, where the node has users.
    pub connections_per_user_max: Option<usize>,
    /// Bytes of long frames and of replies that a user, or without users a client, may have in flight on all of its
    /// connections; what is more is not read yet.
    pub bytes_in_flight_max: Option<u64>,
    /// Operations a second of a user, unless [`crate::auth::User`] says otherwise, or without users of a client;
    /// whoever asks for more is not read for a while.
    pub ops_per_second: Option<u32>,
    /// Requests a client may have in flight on one connection, at least one.
    pub frames_in_flight_max: u32,
    /// How long a client may take to say hello, and who it is.
    pub hello_wait: Duration,
    /// How long a client may be idle between two frames or commands, and a quarter more. Without it, as long as it
    /// likes: that costs the node 16 KiB, and its transport sees when it has vanished.
    pub idle_wait: Option<Duration>,
    /// How long a client may take over a frame that it has begun: over each 256 KiB of it, where it is longer.
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
    /// Whether each batch is looked through for gets that repeat another one, and not only where threads wait for each
    /// other. No outcome differs by it.
    pub find_repeats: bool,
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
            busy_polling: true,
            shards: None,
            index: IndexKind::default(),
            memory_bytes_max: None,
            eviction: Eviction::None,
            frame_bytes_max: limits::FRAME_BYTES_DEFAULT,
            connections_max: 10_000,
            connections_per_client_max: None,
            connections_per_user_max: None,
            bytes_in_flight_max: None,
            ops_per_second: None,
            frames_in_flight_max: 64,
            hello_wait: Duration::from_secs(5),
            idle_wait: None,
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
            find_repeats: false,
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
        if let Some(endpoint) = self.endpoint_of_tls().filter(|_| self.transport.tls.node.is_none()) {
            return Err(ServerError::NoCertificate { endpoint });
        }
        match self.memory_bytes_max {
            Some(got) if got < MEMORY_BYTES_MIN => Err(ServerError::MemoryCap { got, min: MEMORY_BYTES_MIN }),
            None if self.eviction != Eviction::None => Err(ServerError::NothingToEvictFor { eviction: self.eviction }),
            _ => Ok(()),
        }
    }

    /// One at which TLS is spoken, if there is any.
    fn endpoint_of_tls(&self) -> Option<String> {
        let mut frames =
            self.listen.iter().filter(|endpoint| endpoint.scheme() == Scheme::Tls).map(ToString::to_string);
        let mut redis = self.redis.iter().filter(|endpoint| endpoint.is_tls()).map(ToString::to_string);
        frames.next().or_else(|| redis.next())
    }

    /// The account of its memory.
    pub(super) fn budget(&self) -> Budget {
        match self.memory_bytes_max {
            None => Budget::new(u64::MAX),
            Some(bytes_max) => Budget::with_reserve(bytes_max, (bytes_max / 32).clamp(RESERVE_MIN, RESERVE_MAX)),
        }
    }

    /// As many of `wanted` connections as this node has room for: the other half of the reserve is for their frames.
    pub(super) fn connections_served_max(&self, wanted: usize, budget: &Budget) -> usize {
        let session = if self.endpoint_of_tls().is_some() { SESSION_BYTES } else { 0 };
        let each = IDLE_BYTES_MAX as u64 + session;
        let capped = usize::try_from(budget.bytes_reserved() / 2 / each).unwrap_or(usize::MAX);
        if self.memory_bytes_max.is_some() { wanted.min(capped) } else { wanted }
    }
}

/// The least memory cap, in bytes.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

/// Bytes of the cap kept for connections: room for a reply of maximal size and its request, at least.
const RESERVE_MIN: u64 = 24 << 20;
const RESERVE_MAX: u64 = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_connections_are_served_as_their_idle_memory_has_room_for() {
        let served = |endpoint: &str| {
            let listen = vec![endpoint.parse().expect("an endpoint")];
            let identity = Identity { incarnation: [1; 16], hash_secret: [2; 32] };
            let config = NodeConfig { memory_bytes_max: Some(256 << 20), ..NodeConfig::new(listen, identity) };
            config.connections_served_max(10_000, &config.budget())
        };
        assert_eq!(served("tcp://127.0.0.1:0"), (12 << 20) / (16 << 10));
        assert_eq!(served("tls://127.0.0.1:0"), (12 << 20) / ((16 + 96) << 10));
    }
}
