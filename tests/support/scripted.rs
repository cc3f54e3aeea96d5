//! A node that does what a test tells it: it speaks frames over the simulated network, well or badly.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::client::{Client, ClientConfig};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Outcome, Outcomes};
use freight::transport::sim::{Network, NetworkConfig, Sim, SimConnection, SimListener};
use freight::transport::{
    Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, HeapPool, Incoming, Listener, Transport,
};
use freight::wire::{
    Capabilities, Hello, HelloReply, Origin, PROTOCOL_VERSION, ReplyBuilder, RequestView, hello, hello_reply,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Listens for clients.
pub(crate) struct ScriptedNode {
    listener: SimListener,
    /// What it says of itself.
    pub(crate) hello: HelloReply,
    pub(crate) network: Arc<Network>,
}

/// One connection, seen from a node or from a raw client.
pub(crate) struct Peer {
    sender: <SimConnection as Connection>::Sender,
    pub(crate) receiver: <SimConnection as Connection>::Receiver,
}

impl ScriptedNode {
    /// A node on a calm network of its own.
    pub(crate) async fn start() -> Self {
        static NETWORKS: AtomicU64 = AtomicU64::new(0);
        let name = format!("script-{}", NETWORKS.fetch_add(1, Ordering::Relaxed));
        let network = Network::create(&name, NetworkConfig::calm(1));
        let endpoint: Endpoint = format!("sim://{name}/node").parse().expect("an endpoint");
        let listener = Sim.listen(&endpoint).await.expect("the network is new");
        Self { listener, hello: well_behaved(), network }
    }

    /// A node, and the one client of it: with the node's side of their connection.
    pub(crate) async fn connected(config: ClientConfig) -> (Self, Peer, Client) {
        let mut node = Self::start().await;
        let endpoints = [node.endpoint()];
        let (peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, config));
        (node, peer, client.expect("the node listens"))
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.listener.endpoint().clone()
    }

    /// Does something while connections are refused.
    pub(crate) async fn away_during(&mut self, act: impl Future<Output = ()>) {
        let endpoint = self.endpoint();
        let elsewhere = format!("sim://{}/elsewhere", self.network.name()).parse().expect("an endpoint");
        self.listener = Sim.listen(&elsewhere).await.expect("nobody is there");
        act.await;
        self.listener = Sim.listen(&endpoint).await.expect("nobody is there");
    }

    /// Takes the next connection and answers its hello.
    pub(crate) async fn accept(&mut self) -> Peer {
        let mut peer = self.accept_silently().await;
        assert!(Hello::parse(&peer.next().await).is_ok(), "a client begins with a hello");
        peer.send(&hello_reply(&self.hello)).await;
        peer
    }

    /// Takes the next connection and says nothing.
    pub(crate) async fn accept_silently(&mut self) -> Peer {
        let incoming = self.listener.accept().await.expect("the network is there");
        Peer::new(incoming.attach(&config()).expect("no cap"))
    }
}

impl Peer {
    fn new(connection: SimConnection) -> Self {
        let (sender, receiver) = connection.split();
        Self { sender, receiver }
    }

    /// A raw client that has said hello and read the answer.
    pub(crate) async fn connect(endpoint: &Endpoint) -> Self {
        let mut peer = Self::connect_silently(endpoint).await;
        peer.send(&hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default()))).await;
        assert!(HelloReply::parse(&peer.next().await).is_ok(), "a node answers a hello");
        peer
    }

    /// A raw client that has said nothing yet.
    pub(crate) async fn connect_silently(endpoint: &Endpoint) -> Self {
        Self::new(Sim.connect(endpoint, &config()).await.expect("a node"))
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Frame {
        self.receiver.receive().await.expect("no fault").expect("a frame")
    }

    /// Sends bytes, a frame or not.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let mut buffer = self.sender.lender().lend(bytes.len()).expect("no cap");
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.sender.send(Frame::new(buffer, bytes.len() as u32)).await.expect("the peer is there");
    }

    /// Answers a request with these outcomes, as many as there are.
    pub(crate) async fn answer(&mut self, request: &Frame, outcomes: &[Outcome<'_>]) {
        self.send(&reply(request, outcomes)).await;
    }
}

/// A reply to a request, with these outcomes.
pub(crate) fn reply(request: &[u8], outcomes: &[Outcome<'_>]) -> Vec<u8> {
    let request = RequestView::parse(request).expect("a client sends requests").header().request.get();
    let mut builder = ReplyBuilder::new(Vec::new(), outcomes.len() as u32, FRAME_BYTES_DEFAULT).expect("room");
    for (index, outcome) in (0..).zip(outcomes) {
        builder.set(index, *outcome);
    }
    let (mut bytes, length) = builder.finish(Origin { request, ..Origin::default() });
    bytes.truncate(length as usize);
    bytes
}

pub(crate) fn well_behaved() -> HelloReply {
    HelloReply {
        version: PROTOCOL_VERSION,
        reserved: 0,
        cpu: HelloReply::CPU_NONE.into(),
        frame_bytes_max: FRAME_BYTES_DEFAULT.into(),
        capabilities: 0.into(),
        incarnation: [7; 16],
        frames_in_flight_max: 64.into(),
        permissions: 0.into(),
    }
}

fn config() -> ConnectionConfig {
    let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
    ConnectionConfig::of_client(pool, 1 << 30)
}
