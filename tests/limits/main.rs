//! What clients may take of a node: whoever takes more is told so or waits, and nobody else notices.
#![forbid(unsafe_code)]

#[path = "../support/binary.rs"]
#[expect(dead_code, reason = "the command line has tests of its own")]
mod binary;
mod bytes;
mod connections;
mod crowd;
mod idle;
mod over_rdma;
mod rates;
#[path = "../faults/raw.rs"]
#[expect(dead_code, reason = "who closes first is told elsewhere")]
mod raw;
#[path = "../redis/raw.rs"]
#[expect(dead_code, reason = "replies are compared elsewhere")]
mod resp;
mod slow;
#[path = "../support/mod.rs"]
mod support;

use freight::auth::{Credentials, ITERATIONS_MIN, Rights, User, Users, Verifier};
use freight::client::ClientConfig;
use freight::server::{Node, NodeConfig};

/// Users with their rates; each password is the name.
fn users(named: &[(&str, Option<u32>)]) -> Users {
    let mut users = Users::new([9; 32]);
    for (name, ops_per_second) in named {
        let verifier = Verifier::new(name.as_bytes(), [5; 16], ITERATIONS_MIN);
        let user = User { name: (*name).to_owned(), rights: Rights::ALL, verifier, ops_per_second: *ops_per_second };
        users.set(user).expect("a user");
    }
    users
}

fn as_user(name: &str) -> ClientConfig {
    let credentials = Credentials::new(name, name.as_bytes()).expect("a name and a password");
    ClientConfig { credentials: Some(credentials), ..ClientConfig::default() }
}

/// A node that listens for both kinds of clients.
fn node(change: impl FnOnce(&mut NodeConfig)) -> Node {
    raw::node(|config| {
        config.redis = vec!["resp://127.0.0.1:0".parse().expect("an endpoint")];
        change(config);
    })
}

/// A Redis client of a node.
fn redis(node: &Node) -> resp::Raw {
    let (host, port) = node.redis_endpoints()[0].host_port().expect("an address");
    resp::Raw::tcp(&format!("{host}:{port}"))
}
