//! What a batch allocates on its way through client and node, once both are warm.
//!
//! ```text
//!   this thread   client: build, send, receive, read outcomes     counted by itself
//!   node's        receive, execute, reply                         all other threads together
//! ```
//!
//! Neither allocates anything.
//!
//! One test alone: threads of another would be counted as the node's.

mod counting;

use counting::{everywhere, here};
use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use freight::server::{Identity, Node, NodeConfig};
use freight::transport::Endpoint;

const RECORDS: usize = 1000;
const VALUE: [u8; 128] = [7; 128];

/// Batches until nothing grows any more, and batches that are counted.
const WARM: usize = 300;
const COUNTED: usize = 200;

/// Allocations of a batch on either side.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    client: f64,
    node: f64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Gets,
    Puts,
}

#[test]
fn a_warm_batch_allocates_nothing_on_client_or_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = format!("shm://{}/node.sock", folder.path().display());
    let listen: Vec<Endpoint> = ["tcp://127.0.0.1:0", &socket].map(|text| text.parse().expect("an endpoint")).into();
    let config = NodeConfig::new(listen, Identity { incarnation: [1; 16], hash_secret: [2; 32] });
    let node = Node::start(NodeConfig { threads: 1, ..config }).expect("a node starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for endpoint in node.endpoints() {
        for at_most_once in [false, true] {
            let config = ClientConfig { at_most_once, ..ClientConfig::default() };
            let client = runtime.block_on(Client::connect(std::slice::from_ref(endpoint), config)).expect("a client");
            for kind in [Kind::Puts, Kind::Gets] {
                for ops in [10, RECORDS] {
                    let cost = runtime.block_on(cost(&client, kind, ops));
                    let name = format!("{}, at most once {at_most_once}, {ops} {kind:?}", endpoint.scheme());
                    assert_eq!(cost, Cost { client: 0.0, node: 0.0 }, "{name}");
                }
            }
        }
    }
}

/// The average of many batches, of three windows the least: what grows once in a thousand batches is no batch's cost.
async fn cost(client: &Client, kind: Kind, ops: usize) -> Cost {
    // Side by side: more frames are then in hand than where a reply is still there when the next request comes.
    for _ in 0..WARM {
        tokio::join!(execute(client, kind, ops), execute(client, kind, ops), execute(client, kind, ops));
    }
    let mut least = Cost { client: f64::MAX, node: f64::MAX };
    for _ in 0..3 {
        let (all, ours) = (everywhere(), here());
        for _ in 0..COUNTED {
            execute(client, kind, ops).await;
        }
        let (all, ours) = (everywhere() - all, here() - ours);
        least.client = least.client.min(ours as f64 / COUNTED as f64);
        least.node = least.node.min((all - ours) as f64 / COUNTED as f64);
    }
    least
}

async fn execute(client: &Client, kind: Kind, ops: usize) {
    let mut batch = client.batch(ops as u32);
    for record in 0..ops {
        let key = (record as u64).to_be_bytes();
        match kind {
            Kind::Gets => batch.get(&key[..]),
            Kind::Puts => batch.put(&key, &VALUE),
        }
        .expect("it fits");
    }
    let reply = client.execute(batch).await.expect("a reply");
    let is_right = |outcome| match kind {
        Kind::Gets => matches!(outcome, Outcome::Value { value, .. } if value == VALUE),
        Kind::Puts => matches!(outcome, Outcome::Done { .. }),
    };
    assert_eq!(reply.outcomes().filter(|outcome| is_right(*outcome)).count(), ops);
}
