//! Where transports are tested: two ends of one connection, frames that know their content, a clock that waits
//! for nobody where the transport is simulated.
#![forbid(unsafe_code)]

use crate::certificates::Authority;
use freight::budget::Budget;
use freight::transport::sim::{Network, NetworkConfig};
use freight::transport::tls::Tls;
use freight::transport::{
    Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, HeapPool, Incoming, Lender, Listener,
    Transport, TransportError,
};
use freight::wire::{HEADER_BYTES, Header, wire_limit_reply};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Builder;

/// Runs one fact on a transport.
pub(crate) fn run<T: Transport>(transport: T, lab: fn() -> Lab, fact: impl AsyncFnOnce(T, Lab)) {
    let lab = lab();
    let runtime = Builder::new_current_thread().enable_all().start_paused(lab.time_is_simulated).build();
    runtime.expect("a runtime").block_on(fact(transport, lab));
}

/// What a fact needs to know of its transport.
pub(crate) struct Lab {
    /// Where to listen.
    pub(crate) endpoint: Endpoint,
    /// Where nobody listens.
    pub(crate) nobody: Endpoint,
    /// Whether only this machine can connect there.
    pub(crate) local_only: bool,
    /// Bytes that a connection holds as long as it is open: receive buffers, frames the peer may still be reading.
    pub(crate) own_bytes: u64,
    time_is_simulated: bool,
    /// What the endpoints need to exist.
    _alive: Box<dyn Any>,
}

pub(crate) fn tcp() -> Lab {
    // A port that is bound and never listened at stays nobody's.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let nobody = socket.local_addr().expect("bound").as_socket().expect("an address");
    Lab {
        endpoint: "tcp://127.0.0.1:0".parse().expect("an endpoint"),
        nobody: format!("tcp://{nobody}").parse().expect("an endpoint"),
        local_only: true,
        own_bytes: 0,
        time_is_simulated: false,
        _alive: Box::new(socket),
    }
}

pub(crate) fn tls() -> Lab {
    let tcp = tcp();
    let endpoint = |tcp: &Endpoint| format!("tls://{}", tcp.address()).parse().expect("an endpoint");
    // What the session may hold.
    Lab { endpoint: endpoint(&tcp.endpoint), nobody: endpoint(&tcp.nobody), own_bytes: 96 << 10, ..tcp }
}

/// With certificates for both ends, which are made once.
pub(crate) fn tls_transport() -> Tls {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::with_node);
    Tls::new(AUTHORITY.options())
}

/// At an address that an RDMA device owns: `FREIGHT_RDMA_ADDRESS`, or the loopback one, which `scripts/rdma-lab` makes
/// one.
pub(crate) fn rdma() -> Lab {
    let host = std::env::var("FREIGHT_RDMA_ADDRESS").unwrap_or_else(|_| "127.0.0.1".to_owned());
    // A port that is bound and never listened at stays nobody's.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let host_address = host.parse::<Ipv4Addr>().expect("FREIGHT_RDMA_ADDRESS is an IPv4 address");
    socket.bind(&SocketAddrV4::new(host_address, 0).into()).expect("a free port");
    let nobody = socket.local_addr().expect("bound").as_socket().expect("an address");
    Lab {
        endpoint: format!("rdma://{host}:0").parse().expect("an endpoint"),
        nobody: format!("rdma://{nobody}").parse().expect("an endpoint"),
        local_only: host_address.is_loopback(),
        own_bytes: 1536 << 10,
        time_is_simulated: false,
        _alive: Box::new(socket),
    }
}

pub(crate) fn shm() -> Lab {
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = |name: &str| format!("shm://{}", folder.path().join(name).display()).parse().expect("an endpoint");
    let (endpoint, nobody) = (endpoint("node.sock"), endpoint("nobody.sock"));
    // A socket that is bound and never listened at stays nobody's.
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    let path = folder.path().join("nobody.sock");
    socket.bind(&socket2::SockAddr::unix(path).expect("a short path")).expect("a free path");
    let _alive = Box::new((folder, socket));
    Lab { endpoint, nobody, local_only: true, own_bytes: 0, time_is_simulated: false, _alive }
}

pub(crate) fn calm_sim() -> Lab {
    sim(NetworkConfig::calm(1))
}

/// Every write is torn, every piece delayed.
pub(crate) fn sim_in_pieces() -> Lab {
    let delay = Duration::ZERO..=Duration::from_micros(900);
    sim(NetworkConfig { delay, chunk_bytes_max: 5_000, ..NetworkConfig::calm(2) })
}

fn sim(config: NetworkConfig) -> Lab {
    static NETWORKS: AtomicU64 = AtomicU64::new(0);
    let network = Network::create(&format!("lab-{}", NETWORKS.fetch_add(1, Ordering::Relaxed)), config);
    let endpoint = |node: &str| format!("sim://{}/{node}", network.name()).parse().expect("an endpoint");
    Lab {
        endpoint: endpoint("a"),
        nobody: endpoint("b"),
        local_only: true,
        own_bytes: 0,
        time_is_simulated: true,
        _alive: Box::new(network),
    }
}

pub(crate) type Sender<T> = <<T as Transport>::Connection as Connection>::Sender;
pub(crate) type Receiver<T> = <<T as Transport>::Connection as Connection>::Receiver;

/// One end of a connection, with an account of its own.
pub(crate) struct End<T: Transport> {
    pub(crate) sender: Sender<T>,
    pub(crate) receiver: Receiver<T>,
    pub(crate) budget: Arc<Budget>,
}

/// How an end is set up.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) frame_bytes_max: u32,
    pub(crate) peer_trusted: bool,
    pub(crate) budget_bytes: u64,
    pub(crate) frame_wait: Duration,
    pub(crate) send_wait: Duration,
}

impl Side {
    pub(crate) const CLIENT: Self = Self {
        frame_bytes_max: 4 << 20,
        peer_trusted: true,
        budget_bytes: u64::MAX,
        frame_wait: Duration::MAX,
        send_wait: Duration::MAX,
    };
    pub(crate) const NODE: Self = Self { peer_trusted: false, ..Self::CLIENT };

    pub(crate) fn config(&self) -> ConnectionConfig {
        let pool = HeapPool::new(Arc::new(Budget::new(self.budget_bytes)));
        let Self { frame_bytes_max, peer_trusted, frame_wait, send_wait, .. } = *self;
        ConnectionConfig { pool, frame_bytes_max, peer_trusted, frame_wait, send_wait }
    }
}

/// The connecting and the accepting end of a new connection.
pub(crate) async fn pair<T: Transport>(transport: &T, lab: &Lab) -> (End<T>, End<T>) {
    pair_of(transport, lab, &Side::CLIENT, &Side::NODE).await
}

pub(crate) async fn pair_of<T: Transport>(transport: &T, lab: &Lab, near: &Side, far: &Side) -> (End<T>, End<T>) {
    let mut listener = transport.listen(&lab.endpoint).await.expect("the endpoint is free");
    connect_to(transport, &mut listener, near, far).await
}

pub(crate) async fn connect_to<T: Transport>(
    transport: &T,
    listener: &mut T::Listener,
    near: &Side,
    far: &Side,
) -> (End<T>, End<T>) {
    let (near, far) = (near.config(), far.config());
    let endpoint = listener.endpoint().clone();
    let (connected, accepted) = tokio::join!(transport.connect(&endpoint, &near), listener.accept());
    let attached = accepted.expect("a connection").attach(&far).expect("room for a connection");
    tokio::join!(End::open(connected.expect("a listener"), &near), End::open(attached, &far))
}

impl<T: Transport> End<T> {
    /// Of a connection whose peer is opened meanwhile.
    pub(crate) async fn open(mut connection: T::Connection, config: &ConnectionConfig) -> Self {
        connection.establish().await.expect("an honest peer");
        let (sender, receiver) = connection.split();
        Self { sender, receiver, budget: Arc::clone(config.pool.budget()) }
    }

    /// Sends frame `number`, of `frame_bytes` bytes.
    pub(crate) async fn send(&mut self, number: u64, frame_bytes: u32) {
        send(&mut self.sender, number, frame_bytes).await.expect("the peer is there");
    }

    /// Sends bytes that need not be a frame.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let mut buffer = self.sender.lender().lend(bytes.len()).expect("no cap");
        buffer[..bytes.len()].copy_from_slice(bytes);
        self.sender.send(Frame::new(buffer, bytes.len() as u32)).await.expect("the peer is there");
    }

    /// Receives frame `number`.
    pub(crate) async fn expect(&mut self, number: u64, frame_bytes: u32) {
        let frame = self.receiver.receive().await.expect("no fault").expect("a frame");
        assert_is(&frame, number, frame_bytes);
    }

    /// Receives why there is no frame.
    pub(crate) async fn expect_error(&mut self) -> TransportError {
        self.receiver.receive().await.expect_err("not a frame, and not the end")
    }
}

pub(crate) async fn send(sender: &mut impl FrameSender, number: u64, frame_bytes: u32) -> Result<(), TransportError> {
    let buffer = sender.lender().lend(frame_bytes as usize).expect("no cap");
    sender.send(frame(buffer, number, frame_bytes)).await
}

/// Frame `number`: its content says which one it is, and where each byte belongs.
pub(crate) fn frame(mut buffer: freight::transport::Buffer, number: u64, frame_bytes: u32) -> Frame {
    for (byte, content) in buffer[..frame_bytes as usize].iter_mut().zip(content(number)) {
        *byte = content;
    }
    wire_limit_reply(&mut buffer, number, frame_bytes);
    Frame::new(buffer, frame_bytes)
}

/// The bytes of frame `number` as they are sent.
pub(crate) fn bytes(number: u64, frame_bytes: u32) -> Vec<u8> {
    let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
    frame(pool.lend(frame_bytes as usize).expect("no cap"), number, frame_bytes).to_vec()
}

pub(crate) fn assert_is(frame: &Frame, number: u64, frame_bytes: u32) {
    let (header, _, payload) = Header::split(frame).expect("a frame");
    assert_eq!((header.request.get(), frame.frame_bytes()), (number, frame_bytes));
    let expected = content(number).skip(HEADER_BYTES as usize);
    assert!(payload.iter().copied().eq(expected.take(payload.len())), "frame {number} was changed on its way");
}

fn content(number: u64) -> impl Iterator<Item = u8> {
    (number.wrapping_mul(0x9E37_79B9)..).map(|position| (position ^ (position >> 8) ^ (position >> 16)) as u8)
}

/// Polls a future once and drops it.
pub(crate) async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// What facts draw from; printed, so that a failure can be repeated.
pub(crate) fn random(seed: u64) -> ChaCha8Rng {
    println!("seed {seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Frame sizes that cross every buffer's edge now and then.
pub(crate) fn any_size(random: &mut ChaCha8Rng, frame_bytes_max: u32) -> u32 {
    let bits = random.random_range(6..=frame_bytes_max.ilog2());
    random.random_range(HEADER_BYTES..=(2 << bits).min(frame_bytes_max))
}
