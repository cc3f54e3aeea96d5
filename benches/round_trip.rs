//! A batch's way through client, transport and node and back, one in flight, by size.
//!
//! usage: cargo bench --bench round_trip
//!
//! A node of one thread in this process, ten thousand records with values of 128 bytes, gets. One in flight says how
//! long somebody waits, not how much a node bears: that is `freight bench`, with as many workers as there are cores.
#![forbid(unsafe_code)]

use divan::counter::ItemsCount;
use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use freight::server::{Identity, Node, NodeConfig};
use freight::transport::{Endpoint, Scheme};
use std::path::PathBuf;
use std::sync::LazyLock;
use tokio::runtime::Runtime;

const RECORDS: u32 = 10_000;
const BATCHES: [u32; 5] = [1, 10, 100, 1_000, 10_000];

static NODE: LazyLock<Node> = LazyLock::new(|| {
    let socket = format!("shm://{}", socket().display());
    let listen = ["tcp://127.0.0.1:0", &socket].map(|text| text.parse().expect("an endpoint"));
    let config = NodeConfig::new(listen.into(), Identity::random().expect("randomness"));
    let node = Node::start(NodeConfig { threads: 1, ..config }).expect("a node starts");
    let (client, runtime) = client(&node, Scheme::Tcp);
    runtime.block_on(async {
        let mut batch = client.batch(RECORDS);
        (0..RECORDS).for_each(|record| batch.put(&record.to_be_bytes(), &[7; 128]).expect("it fits"));
        client.execute(batch).await.expect("a reply");
    });
    node
});

fn main() {
    divan::main();
    let _ = std::fs::remove_file(socket());
}

fn socket() -> PathBuf {
    std::env::temp_dir().join(format!("freight-round-trip-{}.sock", std::process::id()))
}

#[divan::bench(args = BATCHES)]
fn tcp(bencher: divan::Bencher<'_, '_>, ops: u32) {
    round_trip(bencher, Scheme::Tcp, ops);
}

#[divan::bench(args = BATCHES)]
fn shm(bencher: divan::Bencher<'_, '_>, ops: u32) {
    round_trip(bencher, Scheme::Shm, ops);
}

fn round_trip(bencher: divan::Bencher<'_, '_>, scheme: Scheme, ops: u32) {
    let (client, runtime) = client(&NODE, scheme);
    let mut next = 0;
    bencher.counter(ItemsCount::new(ops)).bench_local(|| {
        runtime.block_on(async {
            let mut batch = client.batch(ops);
            for _ in 0..ops {
                batch.get(&u32::to_be_bytes(next % RECORDS)[..]).expect("it fits");
                next = next.wrapping_add(7);
            }
            let reply = client.execute(batch).await.expect("a reply");
            let found = reply.outcomes().filter(|outcome| matches!(outcome, Outcome::Value { .. })).count();
            assert_eq!(found, ops as usize);
        });
    });
}

/// A client on this thread.
fn client(node: &Node, scheme: Scheme) -> (Client, Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let endpoint: &Endpoint = node.endpoints().iter().find(|endpoint| endpoint.scheme() == scheme).expect("it listens");
    let connecting = Client::connect(std::slice::from_ref(endpoint), ClientConfig::default());
    let client = runtime.block_on(connecting).expect("a client");
    (client, runtime)
}
