//! Real node processes with a shard map, and what can be done to them.
//!
//! ```text
//!   in a file   the nodes' one             read by all at start and at SIGHUP
//!               one of each client host    a copy, written after the nodes have taken it, host by host
//!   in etcd     one key                    watched by nodes, read by clients and movers
//! ```
#![forbid(unsafe_code)]

use crate::binary::{Running, Served, freight};
use crate::etcd::Etcd;
use crate::maps::{self, Keeper, Maps};
use crate::network::{Host, Network, Role};
use crate::relay::{Relay, Ways};
use freight::client::{Client, ClientConfig};
use freight::map::{Id, MapNode, ShardMap};
use freight::metrics::NodeStats;
use freight::slots::SlotSet;
use freight::transport::Endpoint;
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

const PORT: u16 = 7411;
const METRICS_PORT: u16 = 7412;

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) client_hosts: usize,
    pub(crate) keeper: Keeper,
    /// Whether nodes are started with the map. Without it they answer for every slot.
    pub(crate) mapped: bool,
    /// How long the client hosts' maps come one after another.
    pub(crate) stale: Duration,
    /// The nodes' memory cap, as `--memory` says it.
    pub(crate) memory: Option<&'static str>,
}

impl Plan {
    pub(crate) const DEFAULT: Self = Self {
        nodes: 4,
        client_hosts: 2,
        keeper: Keeper::Files,
        mapped: true,
        stale: Duration::from_millis(20),
        memory: None,
    };
}

/// Running nodes, their map, and the hosts of their clients.
pub(crate) struct Cluster<'a> {
    network: &'a Network,
    plan: Plan,
    maps: Maps,
    pub(crate) clients: Vec<Host>,
    nodes: Vec<Node>,
    runtime: Runtime,
}

struct Node {
    host: Host,
    /// What stands between it and its clients.
    relay: Option<(Host, Relay)>,
    process: Option<Running>,
    /// SIGSTOP has stopped it.
    is_stopped: bool,
    /// Its own cable is out.
    is_unplugged: bool,
    /// The epoch of the latest map that it said it took.
    epoch: u64,
}

impl Node {
    /// The host that clients know.
    fn known(&self) -> &Host {
        self.relay.as_ref().map_or(&self.host, |(host, _)| host)
    }

    /// Waits until it has taken a map of this epoch, or a later one; if it runs and can.
    fn take(&mut self, epoch: u64, is_watched: bool) {
        let Some(process) = &mut self.process else { return };
        if !is_watched {
            process.signal(Signal::HUP);
        }
        while self.epoch < epoch && !self.is_stopped && !self.is_unplugged {
            let line = process.stderr.next().expect("it runs").expect("text");
            let said = line.split_once("map of epoch ").and_then(|(_, rest)| rest.split_once(',')?.0.parse().ok());
            self.epoch = self.epoch.max(said.unwrap_or_default());
        }
    }
}

impl<'a> Cluster<'a> {
    /// Starts the nodes, and gives each the same share of the slots. Every other node is behind a relay; where ways
    /// cannot be cut all are.
    pub(crate) fn start(network: &'a Network, plan: Plan) -> Self {
        let clients = (0..plan.client_hosts).map(|number| network.host(Role::Client, number)).collect();
        let mut cluster = Self {
            network,
            plan,
            maps: Maps::new(plan.keeper, network.address()),
            clients,
            nodes: Vec::new(),
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
        };
        for number in 0..plan.nodes {
            let host = network.host(Role::Node, number);
            let relay = (number % 2 == 0 || !network.cuts()).then(|| cluster.relay(number, &host));
            cluster.nodes.push(Node { host, relay, process: None, is_stopped: false, is_unplugged: false, epoch: 0 });
            cluster.start_node(number);
        }
        let named = (0..plan.nodes).map(|number| MapNode {
            addresses: vec![cluster.endpoint(number)],
            incarnation: cluster.incarnation(number),
        });
        let map = ShardMap::dealt(Id([1; 16]), named.collect()).expect("a map");
        cluster.block_on(cluster.maps.create(&map));
        cluster.tell(&map);
        cluster
    }

    fn relay(&self, number: usize, node: &Host) -> (Host, Relay) {
        let host = self.network.host(Role::Relay, number);
        let enter = {
            let (network, host) = (self.network.clone(), host.clone());
            move || network.enter(&host)
        };
        let relay = Relay::start(SocketAddr::new(host.address.into(), PORT), socket(node), enter);
        (host, relay)
    }

    /// Starts a node that is not running: it owns nothing until a map names it.
    pub(crate) fn start_node(&mut self, number: usize) {
        let host = &self.nodes[number].host;
        let (map, endpoint, metrics) = (self.maps.of_nodes(), endpoint(host), metrics(host).to_string());
        let mut words = vec!["serve", "--threads", "1", "--placement", "free", "--insecure", "--listen", &endpoint];
        words.extend(["--metrics", &metrics]);
        words.extend(self.plan.memory.iter().flat_map(|memory| ["--memory", memory]));
        if self.plan.mapped {
            words.extend(["--map", map.to_str().expect("text")]);
        }
        let node = &mut self.nodes[number];
        let mut command = self.network.at(&node.host, &freight(&words));
        let piped = std::process::Stdio::piped;
        command.stdin(std::process::Stdio::null()).stdout(piped()).stderr(piped());
        let served = Served::of(Running::of(command.spawn().expect("it starts")), 1);
        (node.process, node.epoch) = (Some(served.process), 0);
    }

    /// Which life of it runs.
    fn incarnation(&self, number: usize) -> Id {
        self.stats(number).incarnation.parse().expect("an incarnation")
    }

    /// What a node tells of itself.
    pub(crate) fn stats(&self, number: usize) -> NodeStats {
        let endpoint = endpoint(&self.nodes[number].host).parse().expect("an endpoint");
        // A machine may stand still for a while.
        let config = ClientConfig { deadline: Duration::from_secs(600), ..ClientConfig::default() };
        self.block_on(async {
            let client = Client::connect(&[endpoint], config).await;
            client.expect("it listens").stats().await.expect("it answers").remove(0)
        })
    }

    /// Bytes that a node has charged to its account for something.
    pub(crate) fn charged(&self, number: usize, class: &str) -> u64 {
        let mut stream = TcpStream::connect(metrics(&self.nodes[number].host)).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").expect("it listens");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("text");
        let metric = format!("freight_memory_bytes{{class=\"{class}\"}} ");
        let bytes = page.lines().find_map(|line| line.strip_prefix(&metric)).expect("it tells");
        bytes.parse().expect("a number")
    }

    /// Runs a future here, outside of the hosts: no fault is in its way.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn pid(&self, number: usize) -> u32 {
        self.nodes[number].process.as_ref().expect("it runs").child.id()
    }

    /// Kills a node, and its memory with it.
    pub(crate) fn kill(&mut self, number: usize) {
        let mut process = self.nodes[number].process.take().expect("it runs");
        process.signal(Signal::KILL);
        let (code, _) = process.end();
        assert_eq!(code, None, "it ended by itself");
    }

    /// Stops a node where it is, or lets it go on.
    pub(crate) fn stop(&mut self, number: usize, is_stopped: bool) {
        let node = &mut self.nodes[number];
        node.is_stopped = is_stopped;
        let process = node.process.as_ref().expect("it runs");
        process.signal(if is_stopped { Signal::STOP } else { Signal::CONT });
        while (state_of(process.child.id()) == 'T') != is_stopped {
            sleep(Duration::from_millis(1));
        }
    }

    /// Cuts ways between a node and the clients at a host, at all where none is given, or mends them.
    pub(crate) fn cut(&self, number: usize, client: Option<usize>, ways: Ways, is_cut: bool) {
        let node = &self.nodes[number];
        if !self.network.cuts() {
            let now = if is_cut { ways } else { Ways::default() };
            return self.relay_of(number).set(|faults| faults.held = now);
        }
        let turn = if is_cut { Network::cut } else { Network::mend };
        for (index, host) in self.clients.iter().enumerate() {
            if client.is_some_and(|client| client != index) {
                continue;
            }
            if ways.to_node {
                turn(self.network, host, node.known());
            }
            if ways.from_node {
                turn(self.network, node.known(), host);
            }
        }
    }

    /// Takes a node's cable out, or puts it in again.
    pub(crate) fn plug(&mut self, number: usize, is_in: bool) {
        if self.network.cuts() {
            let node = &mut self.nodes[number];
            node.is_unplugged = !is_in && node.relay.is_none();
            self.network.plug(node.known(), is_in);
        } else {
            self.cut(number, None, Ways { to_node: true, from_node: true }, !is_in);
        }
    }

    /// How many there are.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn is_relayed(&self, number: usize) -> bool {
        self.nodes[number].relay.is_some()
    }

    pub(crate) fn relay_of(&self, number: usize) -> &Relay {
        &self.nodes[number].relay.as_ref().expect("a node behind a relay").1
    }

    /// The map that is in force.
    pub(crate) fn map(&self) -> Arc<ShardMap> {
        self.block_on(self.maps.newest())
    }

    /// Gives slots to a node, or to nobody, in the next map.
    pub(crate) fn give(&mut self, slots: &SlotSet, node: Option<usize>) {
        self.change(|map| maps::given(map, slots, node));
    }

    /// Names the life of a node that runs in the next map; `lose` gives up the slots that the one before had till then.
    pub(crate) fn name_anew(&mut self, number: usize, lose: impl Fn(&SlotSet)) {
        let incarnation = self.incarnation(number);
        self.change(|map| {
            // What moves while this goes on: another map is there then, and this is done again with it.
            lose(&map.slots_of(number));
            maps::named_anew(map, number, incarnation)
        });
    }

    /// Puts a map there in which nothing changes.
    pub(crate) fn publish(&mut self) {
        self.change(|map| map.fenced().expect("a map"));
    }

    /// Puts the next map there. Every node that runs, and can, has taken it when this returns.
    fn change(&mut self, next: impl FnMut(&ShardMap) -> ShardMap) {
        let map = self.block_on(self.maps.change(next));
        self.tell(&map);
    }

    fn tell(&mut self, map: &ShardMap) {
        if self.plan.mapped {
            let is_watched = self.maps.is_watched();
            self.nodes.iter_mut().for_each(|node| node.take(map.epoch(), is_watched));
        }
        self.tell_clients(map);
    }

    /// Copies a map to the client hosts, where those have copies.
    pub(crate) fn tell_clients(&self, map: &ShardMap) {
        for client in 0..self.clients.len() {
            if self.maps.is_watched() {
                return;
            }
            if client > 0 {
                sleep(self.plan.stale);
            }
            self.maps.copy_to(client, map);
        }
    }

    /// What `--map` says where nodes and movers run.
    pub(crate) fn map_path(&self) -> PathBuf {
        self.maps.of_nodes()
    }

    pub(crate) fn etcd(&mut self) -> &mut Etcd {
        self.maps.etcd()
    }

    /// Of moves under way, what nodes that run tell.
    pub(crate) fn moves(&self, nodes: &[usize]) -> Vec<String> {
        nodes.iter().flat_map(|node| self.stats(*node).moves).collect()
    }

    /// The map that clients at a host go by.
    pub(crate) fn client_map_path(&self, host: usize) -> PathBuf {
        self.maps.of_clients(host)
    }

    /// Where clients reach the nodes.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        (0..self.nodes()).map(|number| self.endpoint(number)).collect()
    }

    /// Where clients reach a node.
    pub(crate) fn endpoint(&self, number: usize) -> Endpoint {
        endpoint(self.nodes[number].known()).parse().expect("an endpoint")
    }

    pub(crate) fn network(&self) -> &'a Network {
        self.network
    }
}

fn endpoint(host: &Host) -> String {
    format!("tcp://{}", socket(host))
}

fn socket(host: &Host) -> SocketAddr {
    SocketAddr::new(host.address.into(), PORT)
}

fn metrics(host: &Host) -> SocketAddr {
    SocketAddr::new(host.address.into(), METRICS_PORT)
}

/// How the system calls the state of a process: T for stopped.
pub(crate) fn state_of(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, behind_name) = stat.rsplit_once(") ").expect("a name in brackets");
    behind_name.chars().next().expect("a state")
}
