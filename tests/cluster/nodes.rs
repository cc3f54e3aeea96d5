//! Real node processes with a shard map, and what can be done to them.
//!
//! ```text
//!   map of the nodes, one file         read by all at start and at SIGHUP
//!   map of each client host, a copy    written after the nodes have taken it, host by host
//! ```
#![forbid(unsafe_code)]

use crate::binary::{Running, Served, freight};
use crate::maps::{self, Maps};
use crate::network::{Host, Network, Role};
use crate::relay::{Relay, Ways};
use freight::client::{Client, ClientConfig};
use freight::limits::SLOTS;
use freight::map::{Id, MapNode, ShardMap, even_owner};
use freight::metrics::NodeStats;
use freight::transport::Endpoint;
use rustix::process::Signal;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

const PORT: u16 = 7411;

/// What a cluster is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) client_hosts: usize,
    /// Whether nodes are started with the map. Without it they answer for every slot.
    pub(crate) mapped: bool,
    /// How long the client hosts' maps come one after another.
    pub(crate) stale: Duration,
}

impl Plan {
    pub(crate) const DEFAULT: Self = Self { nodes: 4, client_hosts: 2, mapped: true, stale: Duration::from_millis(20) };
}

/// Running nodes, their map, and the hosts of their clients.
pub(crate) struct Cluster<'a> {
    network: &'a Network,
    plan: Plan,
    maps: Maps,
    pub(crate) clients: Vec<Host>,
    nodes: Vec<Node>,
    /// Who owns each slot.
    owners: Vec<Option<usize>>,
    epoch: u64,
    runtime: Runtime,
}

struct Node {
    host: Host,
    /// What stands between it and its clients.
    relay: Option<(Host, Relay)>,
    process: Option<Running>,
    /// SIGSTOP has stopped it.
    is_stopped: bool,
    incarnation: Id,
}

impl Node {
    /// The host that clients know.
    fn known(&self) -> &Host {
        self.relay.as_ref().map_or(&self.host, |(host, _)| host)
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
            maps: Maps::new(),
            clients,
            nodes: Vec::new(),
            owners: (0..SLOTS as u16).map(|slot| Some(even_owner(slot, plan.nodes))).collect(),
            epoch: 0,
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
        };
        for number in 0..plan.nodes {
            let host = network.host(Role::Node, number);
            let relay = (number % 2 == 0 || !network.cuts()).then(|| cluster.relay(number, &host));
            let (process, is_stopped, incarnation) = (None, false, Id([0; 16]));
            cluster.nodes.push(Node { host, relay, process, is_stopped, incarnation });
            cluster.start_node(number);
        }
        cluster.publish();
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
        let (map, endpoint) = (self.maps.of_nodes(), endpoint(&self.nodes[number].host));
        let mut words = vec!["serve", "--threads", "1", "--placement", "free", "--insecure", "--listen", &endpoint];
        if self.plan.mapped {
            words.extend(["--map", map.to_str().expect("text")]);
        }
        let node = &mut self.nodes[number];
        let mut command = self.network.at(&node.host, &freight(&words));
        let piped = std::process::Stdio::piped;
        command.stdin(std::process::Stdio::null()).stdout(piped()).stderr(piped());
        let served = Served::of(Running::of(command.spawn().expect("it starts")), 1);
        node.process = Some(served.process);
        self.nodes[number].incarnation = self.stats(number).incarnation.parse().expect("an incarnation");
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
    pub(crate) fn plug(&self, number: usize, is_in: bool) {
        if self.network.cuts() {
            self.network.plug(self.nodes[number].known(), is_in);
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

    /// The slots of a node.
    pub(crate) fn slots_of(&self, number: usize) -> Vec<u16> {
        (0..SLOTS as u16).filter(|slot| self.owner(*slot) == Some(number)).collect()
    }

    fn owner(&self, slot: u16) -> Option<usize> {
        self.owners[usize::from(slot)]
    }

    /// Gives slots to a node, or to nobody, in the next map.
    pub(crate) fn give(&mut self, slots: &[u16], node: Option<usize>) {
        slots.iter().for_each(|slot| self.owners[usize::from(*slot)] = node);
        self.publish();
    }

    /// Writes the next map. Every node that runs, and is not stopped, has taken it when this returns.
    pub(crate) fn publish(&mut self) {
        self.epoch += 1;
        let node = |(number, node): (usize, &Node)| {
            let addresses = vec![endpoint(node.known()).parse().expect("an endpoint")];
            let slots = self.slots_of(number).into_iter().collect();
            (MapNode { addresses, incarnation: node.incarnation }, slots)
        };
        let map = ShardMap::new(Id([1; 16]), self.epoch, self.nodes.iter().enumerate().map(node).collect());
        let map = map.expect("a map");
        maps::write(&self.maps.of_nodes(), &map);
        if self.plan.mapped {
            let taken = format!("map of epoch {},", self.epoch);
            for node in &mut self.nodes {
                let Some(process) = &mut node.process else { continue };
                process.signal(Signal::HUP);
                if !node.is_stopped {
                    process.wait_for(&taken);
                }
            }
        }
        for client in 0..self.clients.len() {
            if client > 0 {
                sleep(self.plan.stale);
            }
            maps::write(&self.maps.of_clients(client), &map);
        }
    }

    /// The map that clients at a host go by.
    pub(crate) fn client_map_path(&self, host: usize) -> PathBuf {
        self.maps.of_clients(host)
    }

    /// Where clients reach the nodes.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        self.nodes.iter().map(|node| endpoint(node.known()).parse().expect("an endpoint")).collect()
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

/// How the system calls the state of a process: T for stopped.
fn state_of(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, behind_name) = stat.rsplit_once(") ").expect("a name in brackets");
    behind_name.chars().next().expect("a state")
}
