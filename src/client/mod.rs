//! The client: batches in, replies in request order, one or many nodes.
//!
//! ```text
//!   caller --Batch (a frame a node, built in place)--> link of each node --frame--> node
//!          <--Reply (the frames that came back)------/   writer and reader task, replies matched by number
//!   many callers --single operations--> queue of each node --a frame or two at a time--> the same link
//!   not owned, not reached: had no effect ---> a newer shard map, if there is one ---> its new owner's frame
//! ```
//!
//! A [`Client`] is cheap to clone and may be used from any thread. A connection's tasks run on the runtime that
//! connected it; should that end, the connection is lost, and the next call connects anew. The task that merges single
//! operations runs on the runtime of whoever issued the first of them; what waits for it when that ends is not sent.
//! The deadline of a single operation is kept by the runtime that it was issued on, and it ends with that.
//! Frames are built and checked by whoever issues the batch; dropping a future never harms a connection. After a lost
//! connection the next batch connects anew, and what was in flight is sent again: its node executes it once.
#![forbid(unsafe_code)]

mod again;
mod alarm;
mod answers;
mod backoff;
mod batch;
mod carried;
mod coalescer;
mod control;
mod denial;
mod edits;
mod error;
mod flight;
mod inspect;
mod keeper;
mod kept;
mod link;
mod node;
mod queue;
mod reply;
mod resend;
mod routing;
mod session;
mod share;
mod single;

pub use batch::Batch;
pub use control::{Control, MoveReply};
pub use edits::{EditReply, Lifetime};
pub use error::{ClientError, Loss, NoHello, Unsent};
pub use inspect::InspectError;
pub use reply::{Failure, Outcomes, Reply};

pub use crate::wire::BuildError as BatchError;

use crate::auth::Credentials;
use crate::budget::Budget;
use crate::limits::{self, SLOTS};
use crate::map::MapStore;
use crate::metrics::NodeStats;
use crate::transport::{Buffer, Endpoint, Frame, HeapPool, TransportOptions};
use node::NodeClient;
use routing::Router;
use session::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// How long a call may take, connecting included. What is not answered by then is `Unknown`; where no frame at all
    /// came from the node meanwhile, its connection is given up.
    pub deadline: Duration,
    /// Frames in flight on one connection; a node may announce fewer.
    pub frames_in_flight_max: u32,
    /// The longest frame taken from a node, in bytes.
    pub frame_bytes_max: u32,
    /// Bytes of values one batch may bring back; gets past that stay `ReplyFull`, and a failure says so.
    pub reply_bytes_max: u64,
    /// Whether what was in flight on a lost connection is sent again, to be executed once: to the same life of its
    /// node, until the deadline. Without it the outcome is `Unknown` at once.
    pub at_most_once: bool,
    /// Whether a thread looks over TCP for the answer of a node of this machine, at a loopback address, for a moment
    /// and as far as that pays, before it sleeps. Only on runtimes of one thread.
    pub busy_polling: bool,
    /// What the waits between two tries to connect are drawn from; `None` for the system's randomness.
    pub jitter_seed: Option<u64>,
    /// Who this client is: every node then has to ask for a proof, and to give one. `None` for nobody.
    pub credentials: Option<Credentials>,
    /// What transports are told.
    pub transport: TransportOptions,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            frames_in_flight_max: 64,
            frame_bytes_max: limits::FRAME_BYTES_DEFAULT,
            reply_bytes_max: 1 << 30,
            at_most_once: true,
            busy_polling: true,
            jitter_seed: None,
            credentials: None,
            transport: TransportOptions::default(),
        }
    }
}

impl ClientConfig {
    /// When a call that begins now has to be answered.
    fn deadline_from_now(&self) -> Instant {
        let now = Instant::now();
        // Endless patience: further than any clock counts.
        now.checked_add(self.deadline).unwrap_or(now + Duration::from_secs(30 * 365 * 24 * 3_600))
    }
}

/// A connection to all nodes of a store.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    router: Arc<Router>,
    config: ClientConfig,
}

impl Client {
    /// Connects to every node. Keys are dealt to them by slot: 16,384 slots, evenly, in the order of the list.
    ///
    /// # Errors
    /// Why a node cannot be reached or refuses; connecting is not tried again.
    pub async fn connect(endpoints: &[Endpoint], config: ClientConfig) -> Result<Self, ClientError> {
        if endpoints.is_empty() || endpoints.len() > SLOTS as usize {
            return Err(ClientError::BadNodeCount { got: endpoints.len(), max: SLOTS });
        }
        let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
        let session = Session::new(&config);
        let mut nodes = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            nodes.push(NodeClient::connect(endpoint.clone(), &config, &pool, session.as_ref()).await?);
        }
        let router = Arc::new(Router::even(nodes, config.clone(), pool));
        Ok(Self { inner: Arc::new(Inner { router, config }) })
    }

    /// Goes by a shard map: each key to the node that the map names for its slot. A node is connected to when it is
    /// first needed, and must be the incarnation that the map names: another one has lost what that one held, and its
    /// operations fail with [`ClientError::MemoryLost`].
    ///
    /// Where a node answers that it does not own a slot, or cannot be reached, the map is looked up anew, and what had
    /// no effect is sent to whom the newer one names, until the deadline.
    ///
    /// # Errors
    /// Why there is no map.
    pub async fn connect_mapped(store: Arc<dyn MapStore>, config: ClientConfig) -> Result<Self, ClientError> {
        Self::connect_mapped_in(HeapPool::new(Arc::new(Budget::new(u64::MAX))), store, config).await
    }

    /// As [`Client::connect_mapped`], with frames in the memory of a pool: an answer that finds none there is a
    /// failure, [`ClientError::NoReplyMemory`] over TCP.
    pub(crate) async fn connect_mapped_in(
        pool: Arc<HeapPool>,
        store: Arc<dyn MapStore>,
        config: ClientConfig,
    ) -> Result<Self, ClientError> {
        let router = Arc::new(Router::mapped(store, config.clone(), pool).await?);
        Ok(Self { inner: Arc::new(Inner { router, config }) })
    }

    fn nodes(&self) -> Vec<Arc<NodeClient>> {
        self.inner.router.routing().nodes.clone()
    }

    /// Where its nodes are reached: the first address of each.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.nodes().iter().map(|node| node.endpoint().clone()).collect()
    }

    /// The epoch of the shard map it goes by, 0 for a list of servers.
    #[must_use]
    pub fn map_epoch(&self) -> u64 {
        self.inner.router.routing().epoch()
    }

    /// An empty batch, with room for `ops_expected` operations; it may take more or fewer.
    #[must_use]
    pub fn batch(&self, ops_expected: u32) -> Batch {
        Batch::new(&self.inner.router, ops_expected)
    }

    /// Executes a batch: each operation is linearizable on its key, those on one key take effect in order, and
    /// nothing more is promised of the batch as a whole. A get that a full reply left out is asked again by itself
    /// when the rest of its batch has taken effect: it may see what came behind it.
    ///
    /// Where a node cannot be reached or the deadline passes, its operations' outcomes are
    /// [`NotSent`](crate::op::Outcome::NotSent) or [`Unknown`](crate::op::Outcome::Unknown) and
    /// [`Reply::failures`] says why; the others' outcomes stand. Dropping the future abandons the batch:
    /// operations already sent may still take effect.
    ///
    /// # Errors
    /// A node that sent what is no reply, or, without a map, that lost its memory: nothing can be said of the batch.
    pub async fn execute(&self, batch: Batch) -> Result<Reply, ClientError> {
        batch.execute(&self.inner.config).await
    }

    /// Statistics of every node, in their order.
    ///
    /// # Errors
    /// Why a node does not answer.
    pub async fn stats(&self) -> Result<Vec<NodeStats>, ClientError> {
        let nodes = self.nodes();
        let mut stats = Vec::with_capacity(nodes.len());
        for node in &nodes {
            stats.push(node.stats().await?);
        }
        Ok(stats)
    }

    /// Sends an empty batch to every node and waits for the replies.
    ///
    /// # Errors
    /// Why a node does not answer.
    pub async fn ping(&self) -> Result<(), ClientError> {
        for node in self.nodes() {
            node.ping().await?;
        }
        Ok(())
    }

    /// Sends one raw frame to a node, by its place in the list, and takes one back, without store, building or
    /// parsing: what the transport alone can carry. Both are held together, as a batch holds its own; the request
    /// is handed back, and its buffer lent again when it is dropped. No frame is shorter than its header.
    ///
    /// # Errors
    /// Why the node does not answer; it may forbid it. [`ClientError::Build`] where a frame is longer than it takes.
    ///
    /// # Panics
    /// Where there is no such node.
    pub async fn wire_limit(&self, node: usize, request_bytes: u32, reply_bytes: u32) -> Result<Frame, ClientError> {
        self.inner.router.routing().nodes[node].wire_limit(request_bytes, reply_bytes).await
    }

    /// A buffer of at least `bytes` bytes from a node's transport, by its place in the list: what its frames are
    /// built in.
    ///
    /// # Errors
    /// [`ClientError::Build`] where there is no memory for it.
    ///
    /// # Panics
    /// Where there is no such node.
    pub fn lend(&self, node: usize, bytes: usize) -> Result<Buffer, ClientError> {
        self.inner.router.routing().nodes[node].lend(bytes)
    }

    /// The first node that answers no wire-limit frames on its connection, if there is one.
    #[must_use]
    pub fn forbids_wire_limit(&self) -> Option<Endpoint> {
        self.nodes().iter().find(|node| !node.answers_wire_limit()).map(|node| node.endpoint().clone())
    }

    /// The frames that every node it has a connection to lets be in flight on it.
    #[must_use]
    pub fn frames_in_flight_max(&self) -> u32 {
        self.nodes().iter().filter_map(|node| node.frames_in_flight_max()).min().unwrap_or(u32::MAX)
    }

    /// The processor that serves each node's connection, where the node binds it to one.
    #[must_use]
    pub fn node_cpus(&self) -> Vec<Option<u16>> {
        self.nodes().iter().map(|node| node.cpu()).collect()
    }

    /// Goes on with a node that lost its memory: from here on its records are simply absent. With a map that is for
    /// the next map to say, and this does nothing.
    pub fn acknowledge_memory_loss(&self) {
        self.nodes().iter().for_each(|node| node.acknowledge_memory_loss());
    }
}
