//! The door for Redis clients: what they say and get, byte by byte, beside a real redis-server and by real clients.
#![forbid(unsafe_code)]

mod authentication;
mod bench;
mod by_hand;
mod clients;
mod differential;
mod forwarding;
mod hostile;
mod properties;
mod raw;
mod scan;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod words;

use freight::server::{Identity, Node, NodeConfig};
use raw::Raw;

/// A node for Redis clients.
struct Served {
    node: Node,
    address: String,
}

/// Starts one, configured further by `change`.
fn node(change: impl FnOnce(&mut NodeConfig)) -> Served {
    let identity = Identity { incarnation: [7; 16], hash_secret: std::array::from_fn(|i| (i as u8).wrapping_mul(37)) };
    let mut config = NodeConfig::new(Vec::new(), identity);
    config.redis = vec!["resp://127.0.0.1:0".parse().expect("an endpoint")];
    config.threads = 1;
    config.cores = Vec::new();
    change(&mut config);
    let node = Node::start(config).expect("a node on this machine");
    let (host, port) = node.redis_endpoints()[0].host_port().expect("an address");
    let address = format!("{host}:{port}");
    Served { node, address }
}

impl Served {
    fn client(&self) -> Raw {
        Raw::tcp(&self.address)
    }

    fn port(&self) -> &str {
        self.address.rsplit_once(':').expect("an address").1
    }
}
