//! A real node and a real client, over TCP, over shared memory, and over the simulated network.
#![forbid(unsafe_code)]

use freight::client::{Client, ClientConfig, ClientError};
use freight::op::Outcome;
use freight::server::{Identity, LocalNode, Node, NodeConfig};
use freight::transport::Endpoint;
use freight::transport::sim::{Network, NetworkConfig};
use std::time::Duration;

fn identity(seed: u8) -> Identity {
    Identity { incarnation: [seed; 16], hash_secret: std::array::from_fn(|i| seed ^ (i as u8).wrapping_mul(37)) }
}

fn node(seed: u8) -> Node {
    node_at("tcp://127.0.0.1:0", seed)
}

fn node_at(endpoint: &str, seed: u8) -> Node {
    let config = NodeConfig::new(vec![endpoint.parse().expect("an endpoint")], identity(seed));
    Node::start(config).expect("a node on this machine")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

async fn all_operations(client: &Client) {
    assert_eq!(client.get(b"k").await.expect("an answer"), None);
    client.put(b"k", b"one").await.expect("written");
    let (value, version) = client.get_with_version(b"k").await.expect("an answer").expect("a record");
    assert_eq!(value, b"one");
    let newer = client.compare_and_swap(b"k", version, b"two").await.expect("an answer").expect("swapped");
    assert_eq!(client.compare_and_swap(b"k", version, b"x").await.expect("an answer"), Err(newer));
    assert_eq!(client.get(b"k").await.expect("an answer").as_deref(), Some(&b"two"[..]));
    assert!(client.delete(b"k").await.expect("an answer"));
    assert!(!client.delete(b"k").await.expect("an answer"));
    assert_eq!(client.add(b"n", 5).await.expect("an answer"), 5);
    assert_eq!(client.add(b"n", -7).await.expect("an answer"), -2);
    client.put(b"n", b"text").await.expect("written");
    assert!(matches!(client.add(b"n", 1).await, Err(ClientError::NotANumber)));
    client.put(b"n", i64::MAX.to_string().as_bytes()).await.expect("written");
    assert!(matches!(client.add(b"n", 1).await, Err(ClientError::CounterOverflow)));
}

async fn a_large_batch(client: &Client) {
    let mut batch = client.batch(20_000);
    for i in 0..20_000_u32 {
        batch.put(&i.to_le_bytes(), &[i as u8; 100]).expect("room");
    }
    let reply = client.execute(batch).await.expect("an answer");
    assert!(reply.outcomes().all(|outcome| outcome == Outcome::Done { version: None }));
    let mut batch = client.batch(10);
    for i in 0..20_000_u32 {
        batch.get(&i.to_le_bytes()).expect("room");
    }
    let reply = client.execute(batch).await.expect("an answer");
    for (i, outcome) in (0..20_000_u32).zip(reply.outcomes()) {
        assert_eq!(outcome, Outcome::Value { value: &[i as u8; 100], version: None });
    }
    assert_eq!(reply.len(), 20_000);
}

fn a_client_talks_to(node: Node) {
    runtime().block_on(async {
        let client = Client::connect(node.endpoints(), ClientConfig::default()).await.expect("connected");
        all_operations(&client).await;
        a_large_batch(&client).await;
        client.ping().await.expect("an answer");
        let stats = client.stats().await.expect("an answer");
        assert_eq!(stats[0].connections, 1);
    });
    node.drain();
}

#[test]
fn a_client_talks_to_a_node_over_tcp() {
    a_client_talks_to(node(1));
}

#[test]
fn a_client_talks_to_a_node_over_shm() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    a_client_talks_to(node_at(&format!("shm://{}/node.sock", folder.path().display()), 1));
    assert_eq!(folder.path().read_dir().expect("a folder").count(), 0, "the socket's file goes with its node");
}

#[test]
fn a_client_talks_to_three_nodes_over_tcp() {
    let nodes = [node(1), node(2), node(3)];
    let endpoints: Vec<Endpoint> = nodes.iter().flat_map(|node| node.endpoints().to_vec()).collect();
    runtime().block_on(async {
        let client = Client::connect(&endpoints, ClientConfig::default()).await.expect("connected");
        all_operations(&client).await;
        a_large_batch(&client).await;
    });
    for node in nodes {
        node.drain();
    }
}

#[test]
fn one_client_takes_nodes_on_different_transports() {
    let over_tcp = node(1);
    runtime().block_on(async {
        let _network = Network::create("beside-tcp", NetworkConfig::calm(1));
        let endpoint: Endpoint = "sim://beside-tcp/a".parse().expect("an endpoint");
        let simulated = LocalNode::start(NodeConfig::new(vec![endpoint.clone()], identity(2))).await.expect("a node");
        let endpoints = [over_tcp.endpoints()[0].clone(), endpoint];
        let client = Client::connect(&endpoints, ClientConfig::default()).await.expect("connected");
        all_operations(&client).await;
        a_large_batch(&client).await;
        for stats in client.stats().await.expect("an answer") {
            assert!(stats.store.records > 8_000, "keys are dealt to both: {:?}", stats.store);
        }
        drop(client);
        simulated.drain().await;
    });
    over_tcp.drain();
}

#[test]
fn a_client_talks_to_a_node_over_a_misbehaving_network() {
    paused().block_on(async {
        let delay = Duration::ZERO..=Duration::from_millis(3);
        let config = NetworkConfig { delay, chunk_bytes_max: 700, ..NetworkConfig::calm(5) };
        let _network = Network::create("misbehaving", config);
        let endpoint: Endpoint = "sim://misbehaving/a".parse().expect("an endpoint");
        let node = LocalNode::start(NodeConfig::new(vec![endpoint.clone()], identity(4))).await.expect("a node");
        let client = Client::connect(&[endpoint], ClientConfig::default()).await.expect("connected");
        all_operations(&client).await;
        a_large_batch(&client).await;
        drop(client);
        node.drain().await;
    });
}
