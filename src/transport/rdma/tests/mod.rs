//! Peers that speak the protocol as they like, on real verbs: what each does to a connection, and to others.
//!
//! Facts that need a device are ignored where there is none: `scripts/lab/tests rdma` runs them in a guest.
#![forbid(unsafe_code)]

mod counting;
mod events;
mod failures;
mod hostile;
mod idle;
mod peer;
mod processor;
mod together;

use super::listener::RdmaListener;
use super::{PollMode, Rdma, RdmaConnection, RdmaError, RdmaOptions, RdmaReceiver, RdmaSender};
use crate::budget::Budget;
use crate::transport::{
    Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, HeapPool, Incoming, Listener, Transport,
    TransportError,
};
use crate::wire::wire_limit_reply;
use peer::{Manners, Peer};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Past this a test hangs. What is promised is far less: docs/RDMA.md.
const HANG: Duration = Duration::from_secs(100);

/// One end of a connection.
struct End {
    sender: RdmaSender,
    receiver: RdmaReceiver,
    budget: Arc<Budget>,
}

impl End {
    fn new(connection: RdmaConnection, config: &ConnectionConfig) -> Self {
        let (sender, receiver) = connection.split();
        Self { sender, receiver, budget: Arc::clone(config.pool.budget()) }
    }

    fn frame(&self, frame_bytes: u32) -> Frame {
        let mut buffer = self.sender.lender().lend(frame_bytes as usize).expect("no cap");
        wire_limit_reply(&mut buffer, 1, frame_bytes);
        Frame::new(buffer, frame_bytes)
    }

    async fn send(&mut self, frame_bytes: u32) -> Result<(), TransportError> {
        let frame = self.frame(frame_bytes);
        self.sender.send(frame).await
    }

    async fn expect(&mut self, frame_bytes: u32) {
        let frame = self.receiver.receive().await.expect("no fault").expect("a frame");
        assert_eq!(frame.frame_bytes(), frame_bytes);
    }

    /// Why nothing arrives.
    async fn refusal(&mut self) -> TransportError {
        let began = Instant::now();
        let received = timeout(HANG, self.receiver.receive()).await.expect("it ends");
        let error = received.expect_err("an error, not a frame, nor the end");
        println!("after {:?}: {error}", began.elapsed());
        error
    }

    /// Why the connection is lost.
    async fn loss(&mut self) -> RdmaError {
        why(&self.refusal().await)
    }
}

/// The reason in the loss of a connection.
fn why(error: &TransportError) -> RdmaError {
    let TransportError::Lost { source } = error else { panic!("{error}") };
    source.get_ref().and_then(|inner| inner.downcast_ref::<RdmaError>()).expect("RDMA says why").clone()
}

/// An end that the peer is connected to, and two ends of another connection.
struct Scene {
    listener: RdmaListener,
    config: ConnectionConfig,
    near: End,
    far: End,
}

impl Scene {
    async fn new() -> Self {
        Self::at(&address()).await
    }

    /// At an address that a device owns.
    async fn at(address: &str) -> Self {
        let endpoint: Endpoint = format!("rdma://{address}:0").parse().expect("an endpoint");
        let rdma = Rdma::new(RdmaOptions { poll: PollMode::Event, ..RdmaOptions::default() });
        let mut listener = rdma.listen(&endpoint).await.expect("the endpoint is free");
        let (mine, other) = (config(), config());
        let near = rdma.connect(&listener.endpoint().clone(), &mine).await.expect("a listener");
        let far = listener.accept().await.expect("a connection").attach(&other).expect("room");
        let (near, far) = (End::new(near, &mine), End::new(far, &other));
        Self { listener, config: config(), near, far }
    }

    /// A peer with these manners, and the end that it is connected to.
    async fn peer(&mut self, manners: Manners) -> (Peer, End) {
        let endpoint = self.listener.endpoint().clone();
        let accepting = async {
            let incoming = self.listener.accept().await.expect("a connection");
            End::new(incoming.attach(&self.config).expect("room"), &self.config)
        };
        tokio::join!(Peer::connect(&endpoint, manners), accepting)
    }

    /// The other connection carries frames, by SEND and by READ.
    async fn exchange(&mut self) {
        for bytes in [300, 100_000] {
            let (sent, ()) = tokio::join!(self.near.send(bytes), self.far.expect(bytes));
            sent.expect("the other end is there");
        }
    }

    /// The peer did what it did: others are served as before, and its connection leaves nothing behind.
    async fn end(mut self, end: End) {
        self.exchange().await;
        let budget = Arc::clone(&end.budget);
        drop(end);
        assert_eq!(budget.bytes_used(), 0, "it leaves memory behind");
    }
}

fn config() -> ConnectionConfig {
    ConnectionConfig::of_client(HeapPool::new(Arc::new(Budget::new(u64::MAX))), 1 << 20)
}

/// An address that an RDMA device owns.
fn address() -> String {
    std::env::var("FREIGHT_RDMA_ADDRESS").unwrap_or_else(|_| "127.0.0.1".to_owned())
}

/// Held by tests that others may run beside; alone by those that do to the device what the others would feel.
static DEVICE: RwLock<()> = RwLock::new(());

fn run(test: impl AsyncFnOnce(Scene)) {
    let _shared = DEVICE.read().unwrap_or_else(PoisonError::into_inner);
    block_on(async { test(Scene::new().await).await });
}

fn run_alone(test: impl AsyncFnOnce()) {
    let _alone = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    block_on(test());
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}
