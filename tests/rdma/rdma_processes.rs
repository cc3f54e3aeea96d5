//! Processes at the other end that are killed or stopped: a typed error in bounded time, and nobody else notices.
#![forbid(unsafe_code)]

use crate::binary::{Running, Served, serve};
use crate::support::{HANG, endpoint, resources, run, run_alone};
use freight::client::{Client, ClientConfig, ClientError};
use freight::server::{Identity, Node, NodeConfig};
use freight::transport::Endpoint;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::time::timeout;

fn node() -> Served {
    serve(&[&endpoint().to_string()], &["--insecure"])
}

async fn client_of(endpoint: &str, deadline: Duration) -> Client {
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    // What is lost is told at once, not sent again until the deadline.
    let config = ClientConfig { deadline, at_most_once: false, ..ClientConfig::default() };
    Client::connect(&[endpoint], config).await.expect("the node listens")
}

/// Gets a record again and again until that fails.
async fn failure_of_gets(client: &Client) -> ClientError {
    let began = Instant::now();
    let getting = async {
        loop {
            if let Err(error) = client.get(b"k").await {
                return error;
            }
        }
    };
    let error = timeout(HANG, getting).await.expect("it ends");
    println!("after {:?}: {error}", began.elapsed());
    error
}

/// One that is on another connection.
struct Bystander(Client);

impl Bystander {
    async fn of(endpoint: &str) -> Self {
        let client = client_of(endpoint, HANG).await;
        client.put(b"b", b"unharmed").await.expect("written");
        Self(client)
    }

    async fn assert_unharmed(&self) {
        assert_eq!(self.0.get(b"b").await.expect("an answer").as_deref(), Some(&b"unharmed"[..]));
    }
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_killed_node_ends_the_calls_of_its_clients() {
    run(async || {
        let (mut doomed, other) = (node(), node());
        let client = client_of(doomed.endpoint(), HANG).await;
        let bystander = Bystander::of(other.endpoint()).await;
        client.put(b"k", &[7; 100_000]).await.expect("written");
        let killing = async {
            bystander.assert_unharmed().await;
            doomed.process.signal(Signal::KILL);
        };
        let (error, ()) = tokio::join!(failure_of_gets(&client), killing);
        assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
        // A process closes one thing after another: until it has ended, a connection may still be begun.
        assert_eq!(doomed.process.end().0, None, "it was killed");
        let error = failure_of_gets(&client).await;
        assert!(matches!(error, ClientError::Connect(_)), "{error:?}");
        bystander.assert_unharmed().await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_stopped_node_passes_deadlines_and_may_go_on() {
    run(async || {
        let (stopped, other) = (node(), node());
        let client = client_of(stopped.endpoint(), Duration::from_secs(3)).await;
        let bystander = Bystander::of(other.endpoint()).await;
        client.put(b"k", &[7; 100_000]).await.expect("written");
        stopped.process.signal(Signal::STOP);
        let error = failure_of_gets(&client).await;
        assert!(matches!(error, ClientError::Deadline { .. }), "{error:?}");
        bystander.assert_unharmed().await;
        stopped.process.signal(Signal::CONT);
        let found = async {
            loop {
                if let Ok(found) = client.get(b"k").await {
                    return found;
                }
            }
        };
        let found = timeout(HANG, found).await.expect("it goes on").expect("a record");
        assert!(found == [7; 100_000]);
        bystander.assert_unharmed().await;
    });
}

/// A node of this process, whose statistics can be looked at.
fn own_node() -> Node {
    let identity = Identity { incarnation: [1; 16], hash_secret: [2; 32] };
    let mut config = NodeConfig::new(vec![endpoint()], identity);
    (config.threads, config.cores, config.insecure) = (1, Vec::new(), true);
    Node::start(config).expect("a node on this machine")
}

/// A benchmark that has begun.
fn benchmark(node: &Node, duration: &str) -> Running {
    let endpoint = node.endpoints()[0].to_string();
    let sizes = ["--records", "1000", "--batch", "200", "--workers", "2", "--value-size", "512"];
    let times = ["--warmup", "100ms", "--duration", duration, "--verify"];
    let mut running = Running::start(&[&["bench", "--servers", &endpoint], &sizes[..], &times].concat());
    running.wait_for("measuring");
    running
}

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(HANG, waiting).await.is_ok(), "{what}: not after {HANG:?}");
    println!("{what} after {:?}", began.elapsed());
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_killed_client_leaves_nothing_behind() {
    run_alone(async || {
        let node = own_node();
        let bystander = Bystander::of(&node.endpoints()[0].to_string()).await;
        let before = resources();
        let mut client = benchmark(&node, "100s");
        assert!(node.stats().connections > 1);
        client.signal(Signal::KILL);
        wait_until("its connections are gone", async || {
            bystander.assert_unharmed().await;
            node.stats().connections == 1 && resources() == before
        })
        .await;
        assert_eq!(client.end().0, None, "it was killed");
        drop(bystander);
        node.drain();
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_stopped_client_harms_nobody_and_may_go_on() {
    run(async || {
        let node = own_node();
        let bystander = Bystander::of(&node.endpoints()[0].to_string()).await;
        let mut client = benchmark(&node, "2s");
        client.signal(Signal::STOP);
        let frames = node.stats().frames;
        for _ in 0..200 {
            bystander.assert_unharmed().await;
        }
        assert!(node.stats().frames >= frames + 200);
        client.signal(Signal::CONT);
        let (code, said) = client.end();
        assert_eq!(code, Some(0), "{said:?}");
        drop(bystander);
        node.drain();
    });
}
