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

#[allow(dead_code, reason = "the other counts bytes too")]
mod counting;

use counting::{everywhere, here};
use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use freight::server::{Identity, Node, NodeConfig};
use freight::shard::Eviction;
use freight::transport::Endpoint;
use std::sync::atomic::{AtomicU64, Ordering};

const RECORDS: usize = 1000;
const VALUE: [u8; 128] = [7; 128];

/// Batches until nothing grows any more, and batches that are counted.
const WARM: usize = 300;
const COUNTED: usize = 210;

/// Batches in flight.
const ABREAST: usize = 3;

/// Memory that a third of the warm batches fill.
const FULL_BYTES: u64 = 64 << 20;

/// Behind so many other keys one is asked for once more.
const LATELY: u64 = 10_000;

/// Batches so far.
static BATCHES: AtomicU64 = AtomicU64::new(0);

/// Allocations of a batch on either side.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    client: f64,
    node: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Gets,
    Puts,
    /// Batches of these and of those.
    InTurn,
    /// Each key once, of many sizes, and gets of some that were put lately.
    NewKeys,
}

#[test]
fn a_warm_batch_allocates_nothing_on_client_or_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = format!("shm://{}/node.sock", folder.path().display());
    let listen: Vec<Endpoint> = ["tcp://127.0.0.1:0", &socket].map(|text| text.parse().expect("an endpoint")).into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let node = node(listen, None, Eviction::None);
    for endpoint in node.endpoints() {
        for at_most_once in [false, true] {
            let config = ClientConfig { at_most_once, ..ClientConfig::default() };
            let client = runtime.block_on(Client::connect(std::slice::from_ref(endpoint), config)).expect("a client");
            for kind in [Kind::Puts, Kind::Gets, Kind::InTurn] {
                for (ops, abreast) in [(10, 1), (RECORDS, 1), (RECORDS, ABREAST)] {
                    let cost = runtime.block_on(cost(&client, kind, ops, abreast));
                    let scheme = endpoint.scheme();
                    let name = format!("{scheme}, at most once {at_most_once}, {abreast} times {ops} {kind:?}");
                    assert_eq!(cost, Cost { client: 0.0, node: 0.0 }, "{name}");
                }
            }
        }
    }
    drop(node);
    for eviction in [Eviction::S3Fifo, Eviction::Random] {
        let node = self::node(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], Some(FULL_BYTES), eviction);
        let client = runtime.block_on(Client::connect(node.endpoints(), ClientConfig::default())).expect("a client");
        let cost = runtime.block_on(cost(&client, Kind::NewKeys, RECORDS, ABREAST));
        assert_eq!(cost, Cost { client: 0.0, node: 0.0 }, "a full node, {eviction:?}");
        let evicted = node.stats();
        assert!(evicted.store.records_evicted > 0, "{evicted:?}");
    }
}

fn node(listen: Vec<Endpoint>, memory_bytes_max: Option<u64>, eviction: Eviction) -> Node {
    let config = NodeConfig::new(listen, Identity { incarnation: [1; 16], hash_secret: [2; 32] });
    Node::start(NodeConfig { threads: 1, memory_bytes_max, eviction, ..config }).expect("a node starts")
}

/// The average of many batches, of three windows the least: what grows once in a thousand batches is no batch's cost.
async fn cost(client: &Client, kind: Kind, ops: usize, abreast: usize) -> Cost {
    // Side by side: more frames are then in hand than where a reply is still there when the next request comes.
    for _ in 0..WARM {
        execute_abreast(client, kind, ops).await;
    }
    let mut least = Cost { client: f64::MAX, node: f64::MAX };
    for _ in 0..3 {
        let (all, ours) = (everywhere(), here());
        for _ in 0..COUNTED / abreast {
            match abreast {
                1 => execute(client, kind, ops).await,
                _ => execute_abreast(client, kind, ops).await,
            }
        }
        let (all, ours) = (everywhere() - all, here() - ours);
        least.client = least.client.min(ours as f64 / COUNTED as f64);
        least.node = least.node.min((all - ours) as f64 / COUNTED as f64);
    }
    least
}

/// [`ABREAST`] batches at a time.
async fn execute_abreast(client: &Client, kind: Kind, ops: usize) {
    tokio::join!(execute(client, kind, ops), execute(client, kind, ops), execute(client, kind, ops));
}

async fn execute(client: &Client, kind: Kind, ops: usize) {
    let number = BATCHES.fetch_add(1, Ordering::Relaxed);
    let (gets, first) = (kind == Kind::Gets || kind == Kind::InTurn && number.is_multiple_of(2), number * ops as u64);
    let mut batch = client.batch(ops as u32);
    for op in 0..ops as u64 {
        match kind {
            Kind::NewKeys if op % 4 == 3 => batch.get(&(first + op).saturating_sub(LATELY).to_be_bytes()[..]),
            Kind::NewKeys => batch.put(&(first + op).to_be_bytes(), &VALUE[..32 + op as usize % 96]),
            _ if gets => batch.get(&op.to_be_bytes()[..]),
            _ => batch.put(&op.to_be_bytes(), &VALUE),
        }
        .expect("it fits");
    }
    let reply = client.execute(batch).await.expect("a reply");
    let is_right = |outcome| match outcome {
        Outcome::Value { value, .. } => kind == Kind::NewKeys || gets && value == VALUE,
        Outcome::Done { .. } => !gets,
        // Evicted, or a put.
        Outcome::NotFound => kind == Kind::NewKeys,
        _ => false,
    };
    assert_eq!(reply.outcomes().filter(|outcome| is_right(*outcome)).count(), ops);
}
