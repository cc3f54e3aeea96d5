//! Two ends of one RDMA connection, on one thread.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::transport::rdma::{
    Counts, PollMode, Rdma, RdmaConnection, RdmaListener, RdmaOptions, RdmaReceiver, RdmaSender,
};
use freight::transport::{
    Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, HeapPool, Incoming, Listener, Transport,
};
use freight::wire::wire_limit_reply;
use std::process::Command;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// One end.
pub(crate) struct End {
    pub(crate) sender: RdmaSender,
    pub(crate) receiver: RdmaReceiver,
    pub(crate) budget: Arc<Budget>,
    counter: Box<dyn Fn() -> Option<Counts>>,
}

/// An address that an RDMA device owns.
pub(crate) fn address() -> String {
    std::env::var("FREIGHT_RDMA_ADDRESS").unwrap_or_else(|_| "127.0.0.1".to_owned())
}

pub(crate) fn endpoint() -> Endpoint {
    format!("rdma://{}:0", address()).parse().expect("an endpoint")
}

/// Past this a test hangs. What is promised is far less: docs/RDMA.md.
pub(crate) const HANG: Duration = Duration::from_secs(100);

/// Held by tests that others may run beside; alone by those that count all there is, or take the port down.
static DEVICE: RwLock<()> = RwLock::new(());

pub(crate) fn run(test: impl AsyncFnOnce()) {
    let _shared = DEVICE.read().unwrap_or_else(PoisonError::into_inner);
    block_on(test());
}

pub(crate) fn run_alone(test: impl AsyncFnOnce()) {
    let _alone = DEVICE.write().unwrap_or_else(PoisonError::into_inner);
    block_on(test());
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test);
}

/// Queue pairs, completion queues, regions and domains, as the kernel counts them.
pub(crate) fn resources() -> String {
    let shown = Command::new("rdma").args(["resource", "show"]).output().expect("iproute2's rdma");
    String::from_utf8(shown.stdout).expect("text")
}

pub(crate) fn config() -> ConnectionConfig {
    let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
    ConnectionConfig::of_client(pool, 16 << 20)
}

/// Sleeps for each wait, so that nothing depends on how long things take.
pub(crate) fn rdma() -> Rdma {
    rdma_with(RdmaOptions::default())
}

fn rdma_with(options: RdmaOptions) -> Rdma {
    Rdma::new(RdmaOptions { poll: PollMode::Event, ..options })
}

pub(crate) async fn pair() -> (End, End) {
    pair_with(RdmaOptions::default()).await
}

pub(crate) async fn pair_with(options: RdmaOptions) -> (End, End) {
    let mut listener = rdma_with(options.clone()).listen(&endpoint()).await.expect("the endpoint is free");
    connect(&rdma_with(options), &mut listener).await
}

pub(crate) async fn connect_to(listener: &mut RdmaListener) -> (End, End) {
    connect(&rdma(), listener).await
}

async fn connect(rdma: &Rdma, listener: &mut RdmaListener) -> (End, End) {
    let (near, far) = (config(), config());
    let connected = rdma.connect(&listener.endpoint().clone(), &near).await.expect("a listener");
    let accepted = listener.accept().await.expect("a connection").attach(&far).expect("room");
    (End::new(connected, &near), End::new(accepted, &far))
}

impl End {
    pub(crate) fn new(connection: RdmaConnection, config: &ConnectionConfig) -> Self {
        let counter = Box::new(connection.counter());
        let (sender, receiver) = connection.split();
        Self { sender, receiver, budget: Arc::clone(config.pool.budget()), counter }
    }

    pub(crate) fn counts(&self) -> Counts {
        (self.counter)().expect("the connection lives")
    }

    pub(crate) fn frame(&self, frame_bytes: u32) -> Frame {
        let mut buffer = self.sender.lender().lend(frame_bytes as usize).expect("no cap");
        wire_limit_reply(&mut buffer, 1, frame_bytes);
        Frame::new(buffer, frame_bytes)
    }

    pub(crate) async fn send(&mut self, frame_bytes: u32) {
        let frame = self.frame(frame_bytes);
        self.sender.send(frame).await.expect("the peer is there");
    }

    pub(crate) async fn expect(&mut self, frame_bytes: u32) {
        let frame = self.receiver.receive().await.expect("no fault").expect("a frame");
        assert_eq!(frame.frame_bytes(), frame_bytes);
    }
}
