//! The simulated network: an in-process twin of TCP whose faults come from a seed.
//!
//! ```text
//!   write --cut into chunks--> [chunk, due] [chunk, due] ... --each at its time--> read
//!                                    \-- after a drawn number of bytes: the connection is cut
//! ```
//!
//! Bytes of one connection stay in order; chunks of different connections overtake each other by their drawn
//! delays. Time is tokio's: on a current-thread runtime with paused time a seed replays a whole cluster, and
//! waiting costs nothing. A network is known by its name, so that plain `sim://network/node` endpoints reach it.
#![forbid(unsafe_code)]

use super::stream::{self, StreamReceiver, StreamSender};
use super::{Buffer, Connection, ConnectionConfig, Endpoint, Incoming, Listener, Source, Transport, TransportError};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

/// Bytes under way in one direction before its writer has to wait.
const WINDOW_BYTES: usize = 1 << 20;

/// The networks that exist, by name.
static NETWORKS: LazyLock<Mutex<HashMap<String, Weak<Network>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panicked while it held the lock must not fail the others.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a network misbehaves.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// What every fault is drawn from.
    pub seed: u64,
    /// How long a chunk is under way.
    pub delay: RangeInclusive<Duration>,
    /// The largest chunk a write is cut into, in bytes.
    pub chunk_bytes_max: usize,
    /// After how many bytes, counted both ways, a connection is cut; drawn for each connection. `None`: never.
    pub cut_after_bytes: Option<RangeInclusive<u64>>,
}

impl NetworkConfig {
    /// A network without faults, with chunks as they are written.
    #[must_use]
    pub fn calm(seed: u64) -> Self {
        let delay = Duration::ZERO..=Duration::ZERO;
        Self { seed, delay, chunk_bytes_max: usize::MAX, cut_after_bytes: None }
    }
}

/// A simulated network. Exists while somebody holds it.
#[derive(Debug)]
pub struct Network {
    name: String,
    state: Mutex<NetworkState>,
}

#[derive(Debug)]
struct NetworkState {
    config: NetworkConfig,
    random: ChaCha8Rng,
    listeners: HashMap<String, mpsc::UnboundedSender<SimIncoming>>,
    /// Each with the node that it leads to.
    links: Vec<(String, Weak<Mutex<Link>>)>,
}

impl Network {
    /// A new network.
    ///
    /// # Panics
    /// Where one of that name exists.
    #[must_use]
    pub fn create(name: &str, config: NetworkConfig) -> Arc<Self> {
        let random = ChaCha8Rng::seed_from_u64(config.seed);
        let state = NetworkState { config, random, listeners: HashMap::new(), links: Vec::new() };
        let network = Arc::new(Self { name: name.to_owned(), state: Mutex::new(state) });
        let mut networks = lock(&NETWORKS);
        let before = networks.insert(name.to_owned(), Arc::downgrade(&network));
        assert!(before.is_none_or(|network| network.strong_count() == 0), "network '{name}' exists");
        network
    }

    /// Its name in endpoints.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes how it misbehaves from now on.
    pub fn set_config(&self, change: impl FnOnce(&mut NetworkConfig)) {
        change(&mut lock(&self.state).config);
    }

    /// Cuts every open connection: both ends see a reset, what is under way is lost.
    pub fn cut_all(&self) {
        self.cut_where(|_| true);
    }

    /// Cuts every open connection to a node of this network, as when it dies.
    pub fn cut_node(&self, endpoint: &Endpoint) {
        self.cut_where(|node| endpoint.network_node() == Some((&self.name, node)));
    }

    fn cut_where(&self, is_cut: impl Fn(&str) -> bool) {
        for (_, link) in lock(&self.state).links.extract_if(.., |(node, _)| is_cut(node)) {
            if let Some(link) = link.upgrade() {
                lock(&link).cut();
            }
        }
    }

    fn find(endpoint: &Endpoint) -> io::Result<(Arc<Self>, String)> {
        let (network, node) = endpoint.network_node().ok_or_else(|| io::Error::other("no network and node"))?;
        let found = lock(&NETWORKS).get(network).and_then(Weak::upgrade);
        let none = || io::Error::new(io::ErrorKind::NotFound, format!("there is no simulated network '{network}'"));
        Ok((found.ok_or_else(none)?, node.to_owned()))
    }

    fn connect(&self, node: &str) -> io::Result<SimStream> {
        let mut state = lock(&self.state);
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = state.listeners.get(node).cloned().ok_or_else(refused)?;
        let cut_after = state.config.cut_after_bytes.clone();
        let bytes_left = cut_after.map(|range| state.random.random_range(range));
        let link = Link {
            random: ChaCha8Rng::seed_from_u64(state.random.random()),
            config: state.config.clone(),
            bytes_left,
            cut: false,
            pipes: [Pipe::default(), Pipe::default()],
            gone: [false; 2],
        };
        let link = Arc::new(Mutex::new(link));
        state.links.retain(|(_, link)| link.strong_count() > 0);
        state.links.push((node.to_owned(), Arc::downgrade(&link)));
        let far = SimStream { link: Arc::clone(&link), side: 1, timer: None };
        listener
            .send(SimIncoming { stream: far, peer: format!("sim://{}/client", self.name) })
            .map_err(|_| refused())?;
        Ok(SimStream { link, side: 0, timer: None })
    }
}

/// The simulated transport.
#[derive(Debug, Clone, Copy)]
pub struct Sim;

impl Transport for Sim {
    type Listener = SimListener;
    type Incoming = SimIncoming;
    type Connection = SimConnection;

    async fn listen(&self, endpoint: &Endpoint) -> Result<SimListener, TransportError> {
        let failed = |source| TransportError::Listen { endpoint: endpoint.clone(), source };
        let (network, node) = Network::find(endpoint).map_err(failed)?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let mut state = lock(&network.state);
        if state.listeners.get(&node).is_some_and(|listener| !listener.is_closed()) {
            return Err(failed(io::Error::from(io::ErrorKind::AddrInUse)));
        }
        state.listeners.insert(node, sender);
        drop(state);
        Ok(SimListener { incoming, endpoint: endpoint.clone() })
    }

    async fn connect(&self, endpoint: &Endpoint, config: &ConnectionConfig) -> Result<SimConnection, TransportError> {
        let connected = Network::find(endpoint).and_then(|(network, node)| network.connect(&node));
        let connection = connected.and_then(|stream| SimConnection::new(stream, endpoint.to_string(), config));
        connection.map_err(|source| TransportError::Connect { endpoint: endpoint.clone(), source })
    }
}

/// Takes simulated connections.
#[derive(Debug)]
pub struct SimListener {
    incoming: mpsc::UnboundedReceiver<SimIncoming>,
    endpoint: Endpoint,
}

impl Listener for SimListener {
    type Incoming = SimIncoming;

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn local_only(&self) -> bool {
        true
    }

    async fn accept(&mut self) -> Result<SimIncoming, TransportError> {
        let gone = || TransportError::Accept { source: io::Error::other("the simulated network is gone") };
        self.incoming.recv().await.ok_or_else(gone)
    }
}

/// A simulated connection to be served.
#[derive(Debug)]
pub struct SimIncoming {
    stream: SimStream,
    peer: String,
}

impl Incoming for SimIncoming {
    type Connection = SimConnection;

    async fn cpu(&self) -> Option<usize> {
        None
    }

    /// All simulated clients are one host's.
    fn source(&self) -> Source {
        Source::of(Ipv4Addr::LOCALHOST.into())
    }

    fn attach(self, config: &ConnectionConfig) -> Result<SimConnection, TransportError> {
        SimConnection::new(self.stream, self.peer, config).map_err(|source| TransportError::Accept { source })
    }
}

/// An open simulated connection.
#[derive(Debug)]
pub struct SimConnection {
    stream: SimStream,
    peer: String,
    staging: Buffer,
    config: ConnectionConfig,
}

impl SimConnection {
    fn new(stream: SimStream, peer: String, config: &ConnectionConfig) -> io::Result<Self> {
        Ok(Self { stream, peer, staging: stream::staging(config)?, config: config.clone() })
    }
}

impl Connection for SimConnection {
    type Sender = StreamSender<WriteHalf<SimStream>>;
    type Receiver = StreamReceiver<ReadHalf<SimStream>>;

    fn peer(&self) -> &str {
        &self.peer
    }

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let (reader, writer) = tokio::io::split(self.stream);
        (StreamSender::new(writer, &self.config), StreamReceiver::new(reader, self.staging, &self.config))
    }
}

/// Both directions of a connection; side 0 is the client's.
#[derive(Debug)]
struct Link {
    random: ChaCha8Rng,
    config: NetworkConfig,
    /// Bytes until the cut; `None` for never.
    bytes_left: Option<u64>,
    cut: bool,
    /// Pipe `i` is written by side `i`.
    pipes: [Pipe; 2],
    /// Sides that are dropped: nobody reads what is written to them.
    gone: [bool; 2],
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// When the last chunk arrives: later ones not before it.
    last_due: Option<Instant>,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Debug)]
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    taken: usize,
}

impl Link {
    fn cut(&mut self) {
        self.cut = true;
        self.pipes.iter_mut().for_each(Pipe::wake);
    }

    fn write(&mut self, side: usize, bytes: &[u8]) -> io::Result<usize> {
        let now = Instant::now();
        let mut count = bytes.len().min(WINDOW_BYTES - self.pipes[side].bytes);
        if let Some(left) = &mut self.bytes_left {
            count = count.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= count as u64;
            if count == 0 {
                self.cut();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let longest = rest.len().min(self.config.chunk_bytes_max);
            let (chunk, after) = rest.split_at(self.random.random_range(1..=longest));
            let due = now + self.random.random_range(self.config.delay.clone());
            self.pipes[side].push(chunk, due);
            rest = after;
        }
        Ok(count)
    }
}

impl Pipe {
    fn push(&mut self, bytes: &[u8], due: Instant) {
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk { due, bytes: bytes.to_vec(), taken: 0 });
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Takes what has arrived; the time of the next arrival where nothing has.
    fn take(&mut self, now: Instant, room: &mut ReadBuf<'_>) -> Option<Instant> {
        while let Some(chunk) = self.chunks.front_mut() {
            if chunk.due > now {
                return Some(chunk.due);
            }
            let rest = &chunk.bytes[chunk.taken..];
            let count = rest.len().min(room.remaining());
            room.put_slice(&rest[..count]);
            chunk.taken += count;
            self.bytes -= count;
            if chunk.taken < chunk.bytes.len() {
                break;
            }
            self.chunks.pop_front();
        }
        None
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One end of a connection.
pub struct SimStream {
    link: Arc<Mutex<Link>>,
    side: usize,
    /// Wakes the reader when the next chunk arrives.
    timer: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream(side {})", self.side)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut link = lock(&self.link);
            let pipe = &mut link.pipes[1 - self.side];
            let before = room.filled().len();
            let next_due = pipe.take(Instant::now(), room);
            if room.filled().len() > before {
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
                return Poll::Ready(Ok(()));
            }
            if link.cut {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let pipe = &mut link.pipes[1 - self.side];
            let Some(due) = next_due else {
                if pipe.closed {
                    return Poll::Ready(Ok(()));
                }
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            pipe.reader = Some(cx.waker().clone());
            drop(link);
            let mut timer = Box::pin(tokio::time::sleep_until(due));
            let waiting = timer.as_mut().poll(cx).is_pending();
            self.timer = Some(timer);
            if waiting {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut link = lock(&self.link);
        if link.cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if link.gone[1 - self.side] || link.pipes[self.side].closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if link.pipes[self.side].bytes >= WINDOW_BYTES {
            link.pipes[self.side].writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(link.write(self.side, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pipe = &mut lock(&self.link).pipes[self.side];
        pipe.closed = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut link = lock(&self.link);
        link.gone[self.side] = true;
        link.pipes[self.side].closed = true;
        link.pipes.iter_mut().for_each(Pipe::wake);
    }
}
