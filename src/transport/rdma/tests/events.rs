//! What a device reports unasked: events written as the kernel writes them, to a pipe which the real library reads in
//! the place of the device's own descriptor. Soft-RoCE has none of the fatal ones, and the lab no subnet manager.
#![forbid(unsafe_code)]

use super::super::place::Place;
use super::super::queue::{Half, Queue};
use super::super::verbs::{AsyncEvent, Context, VerbsError};
use super::super::{RdmaError, RdmaOptions};
use super::{End, HANG, Scene, address, run_alone, why};
use crate::client::{Client, ClientConfig, ClientError};
use crate::server::{Identity, Node, NodeConfig};
use crate::transport::{FrameReceiver, Incoming, Listener};
use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::Receiver;
use tokio::time::{sleep, timeout};

/// As `enum ibv_event_type` has them.
const QUEUE_ERROR: u32 = 0;
const PAIR_FATAL: u32 = 1;
const PAIR_REQUEST: u32 = 2;
const PAIR_ACCESS: u32 = 3;
const DEVICE_FATAL: u32 = 8;

/// A device that reports what it is told to.
struct Feigned {
    device: Arc<Context>,
    events: File,
    heard: Receiver<AsyncEvent>,
}

impl Feigned {
    /// The one that owns the address. Connections must be made after this.
    fn new() -> Self {
        let device = place(&address()).expect("a device owns the address").context;
        Self { events: device.feign_events().expect("a pipe"), heard: device.events(), device }
    }

    /// `struct ib_uverbs_async_event_desc`: what it is about, which event, four bytes of nothing.
    fn report(&mut self, kind: u32, element: usize) {
        let words = [(element as u64).to_ne_bytes(), u64::from(kind).to_ne_bytes()];
        self.events.write_all(words.as_flattened()).expect("room in a pipe");
    }

    /// Reports, and waits until a connection has taken it.
    async fn tell(&mut self, kind: u32, element: usize) {
        self.report(kind, element);
        timeout(HANG, self.heard.recv()).await.expect("it is taken").expect("and told");
    }
}

fn place(address: &str) -> Result<Place, VerbsError> {
    Place::pick(&RdmaOptions::default(), address.parse().expect("an address"))
}

/// The address of a second device, which the lab's guest is given.
async fn second_device() -> &'static str {
    const MAKE: &str = "rdma link show rxe1/1 || { ip link add dummy1 type dummy && ip link set dummy1 mtu 4500 up &&
        ip address add 198.51.100.1/24 dev dummy1 && rdma link add rxe1 type rxe netdev dummy1; }";
    assert!(std::env::var_os("FREIGHT_LAB_ROLE").is_some(), "this makes a device: only in the lab");
    assert!(Command::new("sh").args(["-c", MAKE]).status().expect("a shell").success());
    let there = async {
        while place("198.51.100.1").is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(HANG, there).await.expect("it has its GIDs");
    "198.51.100.1"
}

/// Who waits for a frame is told that the device failed, and who sends likewise.
async fn assert_device_failed(end: &mut End) {
    let lost = end.loss().await;
    assert!(matches!(lost, RdmaError::Device), "{lost:?}");
    let sent = timeout(HANG, end.send(300)).await.expect("it ends").expect_err("nothing works after it");
    assert!(matches!(why(&sent), RdmaError::Device), "{sent}");
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_device_that_fails_ends_its_connections_and_no_others() {
    run_alone(async || {
        let mut feigned = Feigned::new();
        let mut others = Scene::at(second_device().await).await;
        let mut scene = Scene::new().await;
        scene.exchange().await;
        // A connection whose thread is busy when the event is taken, and hears of it later.
        let (opened, is_open) = mpsc::channel();
        let (taken, is_taken) = mpsc::channel();
        let busy = std::thread::spawn(move || {
            super::block_on(async {
                let mut scene = Scene::new().await;
                scene.exchange().await;
                opened.send(()).expect("somebody waits");
                is_taken.recv().expect("it is taken");
                assert_device_failed(&mut scene.near).await;
                assert_device_failed(&mut scene.far).await;
            });
        });
        is_open.recv().expect("it opens");
        // One that is being opened: its peer is silent.
        let endpoint = scene.listener.endpoint().clone();
        let _silent = tokio::net::TcpStream::connect(endpoint.host_port().expect("host and port")).await.expect("room");
        let incoming = scene.listener.accept().await.expect("a connection");
        let mut opening = End::new(incoming.attach(&scene.config).expect("room"), &scene.config);
        feigned.tell(DEVICE_FATAL, 0).await;
        assert_device_failed(&mut scene.near).await;
        assert_device_failed(&mut scene.far).await;
        assert_device_failed(&mut opening).await;
        taken.send(()).expect("somebody waits");
        busy.join().expect("it was told too");
        others.exchange().await;
        // New ones open the device anew, while the old ones are still there.
        let mut anew = Scene::new().await;
        anew.exchange().await;
        assert!(feigned.device.has_failed());
        for end in [scene.near, scene.far, opening] {
            let budget = Arc::clone(&end.budget);
            drop(end);
            assert_eq!(budget.bytes_used(), 0, "it leaves memory behind");
        }
        anew.exchange().await;
        others.exchange().await;
    });
}

async fn client(node: &Node, which: usize) -> Client {
    // What is lost is told, not sent again.
    let config = ClientConfig { deadline: HANG, at_most_once: false, ..ClientConfig::default() };
    Client::connect(&node.endpoints()[which..=which], config).await.expect("the node listens")
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_node_whose_rdma_device_fails_serves_on() {
    run_alone(async || {
        let mut feigned = Feigned::new();
        let other = second_device().await;
        let endpoints = [&format!("rdma://{}:0", address()), "tcp://127.0.0.1:0", &format!("rdma://{other}:0")];
        let endpoints = endpoints.map(|endpoint| endpoint.parse().expect("an endpoint"));
        let mut config = NodeConfig::new(endpoints.to_vec(), Identity { incarnation: [1; 16], hash_secret: [2; 32] });
        (config.threads, config.cores, config.insecure) = (2, Vec::new(), true);
        let node = Node::start(config).expect("a node on this machine");
        let (doomed, tcp, on_other) = (client(&node, 0).await, client(&node, 1).await, client(&node, 2).await);
        doomed.put(b"k", b"value").await.expect("written");
        let connections = node.stats().connections;
        assert_eq!(connections, 3);
        // Calls go on while the device fails: those on their way are lost with the reason, and nobody else's are.
        let failing = async {
            let began = Instant::now();
            loop {
                if let Err(error) = doomed.get(b"k").await {
                    println!("after {:?}: {error}", began.elapsed());
                    return error;
                }
            }
        };
        let bystanders = async {
            feigned.tell(DEVICE_FATAL, 0).await;
            for _ in 0..20 {
                for client in [&tcp, &on_other] {
                    assert_eq!(client.get(b"k").await.expect("an answer").as_deref(), Some(&b"value"[..]));
                }
            }
        };
        let (error, ()) = timeout(HANG, async { tokio::join!(failing, bystanders) }).await.expect("it ends");
        assert!(
            matches!(&error, ClientError::Lost { .. }) && error.to_string().contains("RDMA device failed"),
            "{error}"
        );
        // The same client opens the device anew, and so does the node.
        assert_eq!(doomed.get(b"k").await.expect("an answer").as_deref(), Some(&b"value"[..]));
        let settled = async {
            while node.stats().connections != connections {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(HANG, settled).await.expect("the old connection is gone from the node");
        drop((doomed, tcp, on_other));
        node.drain();
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_report_of_a_queue_or_pair_ends_its_connection_alone() {
    run_alone(async || {
        let mut feigned = Feigned::new();
        let mut others = Scene::new().await;
        for kind in [QUEUE_ERROR, PAIR_FATAL, PAIR_REQUEST, PAIR_ACCESS] {
            let mut scene = Scene::new().await;
            scene.exchange().await;
            let shared = Arc::clone(&scene.near.sender.shared);
            let of = |queue: &mut Queue| match kind {
                QUEUE_ERROR => queue.work.completions.element(),
                _ => queue.work.pair.element(),
            };
            feigned.tell(kind, shared.look(Half::Sender, of)).await;
            let lost = scene.near.loss().await;
            let word = if kind == QUEUE_ERROR { "queue overran" } else { "a queue pair" };
            assert!(matches!(lost, RdmaError::Reported { what } if what.contains(word)), "{lost}");
            // The library has counted an event of which the kernel knows nothing.
            shared.look(Half::Sender, |queue| {
                queue.work.completions.forget_events();
                queue.work.pair.forget_events();
            });
            drop((shared, scene.near));
            // To its peer it is gone.
            let ended = timeout(HANG, scene.far.receiver.receive()).await;
            assert!(matches!(ended, Ok(Ok(None))), "{ended:?}");
            others.exchange().await;
            assert!(!feigned.device.has_failed());
        }
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_report_of_a_port_or_of_nothing_ends_nobody() {
    run_alone(async || {
        let mut feigned = Feigned::new();
        let mut scene = Scene::new().await;
        // A port up, down, with another LID, keys, manager, to be registered, with other GIDs; and what nobody knows.
        for kind in (9..=13).chain([17, 18, 99]) {
            feigned.tell(kind, 1).await;
            scene.exchange().await;
        }
        // Communication established, send queue drained, path migrated or not.
        let shared = Arc::clone(&scene.near.sender.shared);
        for kind in 4..8 {
            feigned.tell(kind, shared.look(Half::Sender, |queue| queue.work.pair.element())).await;
            shared.look(Half::Sender, |queue| queue.work.pair.forget_events());
            scene.exchange().await;
        }
        drop(shared);
        let mut anew = Scene::new().await;
        anew.exchange().await;
        assert!(!feigned.device.has_failed());
    });
}
