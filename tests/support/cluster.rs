//! Nodes to test against, and the client to test them with.
//!
//! ```text
//!   Wire::Tcp   each node with threads of its own, on loopback; the test's client on the test's runtime
//!   Wire::Shm   the same over shared memory, sockets in a scratch folder
//!   Wire::Rdma  the same at addresses that an RDMA device owns, for tests that are ignored where there is none
//!   Wire::Sim   nodes, network and client on one thread, in simulated time: a seed replays it all
//! ```
#![forbid(unsafe_code)]

use freight::client::{Client, ClientConfig};
use freight::limits::SLOTS;
use freight::map::{Id, MapNode, MapStore, ShardMap};
use freight::metrics::NodeStats;
use freight::server::{Identity, LocalNode, Node, NodeConfig};
use freight::transport::Endpoint;
use freight::transport::sim::{Network, NetworkConfig};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// What carries the frames of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Tcp,
    Shm,
    Rdma,
    Sim,
}

impl Wire {
    /// Those that every machine has.
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Shm, Self::Sim];

    pub(crate) fn runtime(self) -> Runtime {
        Builder::new_current_thread().enable_all().start_paused(self == Self::Sim).build().expect("a runtime")
    }
}

/// What a cluster is made of.
pub(crate) struct Plan {
    pub(crate) wire: Wire,
    pub(crate) nodes: usize,
    /// What hash secrets and incarnations come from.
    pub(crate) seed: u64,
    /// Only for [`Wire::Sim`].
    pub(crate) network: NetworkConfig,
    /// Changes each node's configuration.
    pub(crate) node: Box<dyn Fn(&mut NodeConfig)>,
}

impl Plan {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire, nodes: 1, seed: 1, network: NetworkConfig::calm(1), node: Box::new(|_| {}) }
    }

    pub(crate) fn node(self, change: impl Fn(&mut NodeConfig) + 'static) -> Self {
        Self { node: Box::new(change), ..self }
    }

    /// Starts the cluster, runs the test, and drains the cluster.
    pub(crate) fn run(self, test: impl AsyncFnOnce(&mut Cluster)) {
        self.wire.runtime().block_on(self.run_here(test));
    }

    /// The same on the runtime of whoever waits for it.
    pub(crate) async fn run_here(self, test: impl AsyncFnOnce(&mut Cluster)) {
        let mut cluster = Cluster::start(self).await;
        test(&mut cluster).await;
        for index in 0..cluster.nodes.len() {
            cluster.stop(index).await;
        }
    }
}

/// Runs a test on a cluster of one node on each wire.
pub(crate) fn on_each_wire(test: impl AsyncFn(&mut Cluster)) {
    for wire in Wire::ALL {
        println!("{wire:?}");
        Plan::new(wire).run(&test);
    }
}

/// Running nodes.
pub(crate) struct Cluster {
    plan: Plan,
    network: Option<Arc<Network>>,
    /// Where sockets are.
    folder: TempDir,
    nodes: Vec<RunningNode>,
    lives: u64,
}

struct RunningNode {
    endpoint: Endpoint,
    node: Option<Running>,
}

enum Running {
    Threads(Node),
    Here(LocalNode),
}

static CLUSTERS: AtomicU64 = AtomicU64::new(0);

impl Cluster {
    async fn start(plan: Plan) -> Self {
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let network = match plan.wire {
            Wire::Tcp | Wire::Shm | Wire::Rdma => None,
            Wire::Sim => Some(Network::create(&format!("cluster-{number}"), plan.network.clone())),
        };
        let folder = tempfile::tempdir().expect("a scratch folder");
        let mut cluster = Self { plan, network, folder, nodes: Vec::new(), lives: 0 };
        for index in 0..cluster.plan.nodes {
            let endpoint = match cluster.plan.wire {
                // Each process and cluster has a loopback address of its own, so that a port stays free for its
                // node to come back to.
                Wire::Tcp => format!("tcp://127.{}.{}.1:0", std::process::id() % 251 + 1, number % 250 + 1),
                Wire::Shm => format!("shm://{}/{index}.sock", cluster.folder.path().display()),
                Wire::Rdma => rdma_endpoint(),
                Wire::Sim => format!("sim://{}/{index}", cluster.network().name()),
            };
            cluster.nodes.push(RunningNode { endpoint: endpoint.parse().expect("an endpoint"), node: None });
            cluster.start_node(index).await;
        }
        cluster
    }

    /// Starts a node that is not running, with an incarnation that no other had.
    pub(crate) async fn start_node(&mut self, index: usize) {
        self.lives += 1;
        let listen = vec![self.nodes[index].endpoint.clone()];
        let mut config = NodeConfig::new(listen, identity(self.plan.seed, self.lives));
        (config.threads, config.cores) = (2, Vec::new());
        // Otherwise it is for chance whether threads wait for each other.
        config.find_repeats = self.plan.seed.is_multiple_of(2);
        // No RDMA device need own a loopback address.
        config.insecure = self.plan.wire == Wire::Rdma;
        (self.plan.node)(&mut config);
        let running = match self.plan.wire {
            Wire::Tcp | Wire::Shm | Wire::Rdma => {
                Running::Threads(Node::start(config).expect("a node on this machine"))
            }
            Wire::Sim => Running::Here(LocalNode::start(config).await.expect("a simulated node")),
        };
        self.nodes[index] = RunningNode { endpoint: running.endpoints()[0].clone(), node: Some(running) };
    }

    /// Drains a node; its endpoint stays its own.
    pub(crate) async fn stop(&mut self, index: usize) {
        match self.nodes[index].node.take() {
            Some(Running::Threads(node)) => {
                let drained = tokio::task::spawn_blocking(|| node.drain());
                drained.await.expect("a node drains");
            }
            Some(Running::Here(node)) => node.drain().await,
            None => {}
        }
    }

    /// Kills a simulated node: what is under way to it and from it is lost, and it answers nothing any more.
    pub(crate) async fn kill(&mut self, index: usize) {
        self.network().cut_node(&self.nodes[index].endpoint);
        self.stop(index).await;
    }

    /// Stops a node and starts it again, with an empty memory.
    pub(crate) async fn restart(&mut self, index: usize) {
        self.stop(index).await;
        self.start_node(index).await;
    }

    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    /// Everywhere that a running node listens, first where its clients go.
    pub(crate) fn endpoints_of(&self, index: usize) -> &[Endpoint] {
        self.nodes[index].node.as_ref().expect("a running node").endpoints()
    }

    pub(crate) fn wire(&self) -> Wire {
        self.plan.wire
    }

    /// Where a running node listens for Redis clients, as `host:port`.
    pub(crate) fn redis_address(&self, index: usize) -> String {
        let endpoints = match self.nodes[index].node.as_ref().expect("a running node") {
            Running::Threads(node) => node.redis_endpoints(),
            Running::Here(node) => node.redis_endpoints(),
        };
        let (host, port) = endpoints[0].host_port().expect("an address");
        format!("{host}:{port}")
    }

    /// The simulated network.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("a simulated cluster")
    }

    pub(crate) fn stats(&self, index: usize) -> NodeStats {
        match self.nodes[index].node.as_ref().expect("a running node") {
            Running::Threads(node) => node.stats(),
            Running::Here(node) => node.stats(),
        }
    }

    /// Gives a shard map to a running node.
    pub(crate) fn take_map(&self, index: usize, map: &ShardMap) {
        let taken = match self.nodes[index].node.as_ref().expect("a running node") {
            Running::Threads(node) => node.take_map(map),
            Running::Here(node) => node.take_map(map),
        };
        taken.expect("a newer map of the same cluster");
    }

    /// Lets a running node follow a keeper.
    pub(crate) fn follow(&self, index: usize, store: Arc<dyn MapStore>) {
        match self.nodes[index].node.as_ref().expect("a running node") {
            Running::Threads(node) => node.follow(store),
            Running::Here(node) => node.follow(store),
        }
    }

    /// A node as a map names it.
    pub(crate) fn named(&self, index: usize) -> MapNode {
        let incarnation = self.stats(index).incarnation.parse().expect("an incarnation");
        MapNode { addresses: vec![self.nodes[index].endpoint.clone()], incarnation }
    }

    /// A map of all nodes, whose slots are dealt by a function.
    pub(crate) fn map(&self, epoch: u64, owner: impl Fn(u16) -> Option<usize>) -> ShardMap {
        let slots = |index| (0..SLOTS as u16).filter(|slot| owner(*slot) == Some(index)).collect();
        let nodes = (0..self.nodes.len()).map(|index| (self.named(index), slots(index))).collect();
        ShardMap::new(Id([7; 16]), epoch, nodes).expect("a map")
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(ClientConfig::default()).await
    }

    pub(crate) async fn client_with(&self, config: ClientConfig) -> Client {
        Client::connect(&self.endpoints(), config).await.expect("the nodes run")
    }
}

impl Running {
    fn endpoints(&self) -> &[Endpoint] {
        match self {
            Self::Threads(node) => node.endpoints(),
            Self::Here(node) => node.endpoints(),
        }
    }
}

/// An address that an RDMA device owns: `FREIGHT_RDMA_ADDRESS`, where it is not the loopback one.
pub(crate) fn rdma_address() -> String {
    std::env::var("FREIGHT_RDMA_ADDRESS").unwrap_or_else(|_| "127.0.0.1".to_owned())
}

pub(crate) fn rdma_endpoint() -> String {
    format!("rdma://{}:0", rdma_address())
}

/// Random bits of a node's life, from a seed.
pub(crate) fn identity(seed: u64, life: u64) -> Identity {
    let bits =
        |salt: u64| freight::hash::routing_hash(&[seed.to_le_bytes(), (life << 8 | salt).to_le_bytes()].concat());
    let byte = |index: usize| (bits(index as u64 / 8) >> (index % 8 * 8)) as u8;
    Identity { incarnation: std::array::from_fn(byte), hash_secret: std::array::from_fn(|index| byte(index + 16)) }
}
