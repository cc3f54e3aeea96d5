//! TCP: frames over a socket, NODELAY, buffers left to the kernel's autotuning but for the send buffer on loopback.
#![forbid(unsafe_code)]

use super::stream::{self, StreamReceiver, StreamSender};
use super::{Buffer, Connection, ConnectionConfig, Endpoint, Incoming, Listener, Source, Transport, TransportError};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Send buffer where both ends share a machine, in bytes (the kernel doubles it). Left to itself it grows to
/// megabytes, and a large frame has left the core's cache before its reader comes: 47 M op/s of wire limit instead
/// of 72 M. Across a network it is left to the kernel.
const LOOPBACK_SEND_BYTES: usize = 400_000;

/// How long a new connection may stay silent before it is served without knowing its processor.
const FIRST_BYTES_WAIT: Duration = Duration::from_millis(20);

/// How long a connection is silent before its peer's system is asked whether it is still there, and then how often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// How long bytes may go unacknowledged before the peer counts as gone. Longer than any wait for a peer that is
/// there and slow: the kernel counts a closed window too.
const GONE_WAIT: Duration = Duration::from_secs(120);

/// TCP on any Linux machine.
#[derive(Debug, Clone, Copy)]
pub struct Tcp;

impl Transport for Tcp {
    type Listener = TcpAcceptor;
    type Incoming = TcpIncoming;
    type Connection = TcpConnection;

    async fn listen(&self, endpoint: &Endpoint) -> Result<TcpAcceptor, TransportError> {
        listen(endpoint).await
    }

    async fn connect(&self, endpoint: &Endpoint, config: &ConnectionConfig) -> Result<TcpConnection, TransportError> {
        let stream = open(endpoint).await?;
        let failed = |source| TransportError::Connect { endpoint: endpoint.clone(), source };
        TcpConnection::new(stream, endpoint.to_string(), config).map_err(failed)
    }
}

/// Listens at an endpoint of TCP, whatever goes over it.
pub(crate) async fn listen(endpoint: &Endpoint) -> Result<TcpAcceptor, TransportError> {
    let failed = |source| TransportError::Listen { endpoint: endpoint.clone(), source };
    let address = resolve(endpoint).await.map_err(failed)?[0];
    let listener = bind(address).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let endpoint = Endpoint::new(endpoint.scheme(), &local.to_string()).expect("a socket address is host:port");
    Ok(TcpAcceptor { listener, endpoint })
}

/// Connects to an endpoint of TCP, whatever goes over it.
pub(crate) async fn open(endpoint: &Endpoint) -> Result<TcpStream, TransportError> {
    let failed = |source| TransportError::Connect { endpoint: endpoint.clone(), source };
    let addresses = resolve(endpoint).await.map_err(failed)?;
    let stream = TcpStream::connect(&addresses[..]).await.map_err(failed)?;
    prepare(&stream).map_err(failed)?;
    Ok(stream)
}

/// The addresses of an endpoint, at least one.
pub(super) async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = endpoint.host_port().ok_or_else(|| io::Error::other("no host and port"))?;
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A listening socket.
#[derive(Debug)]
pub struct TcpAcceptor {
    listener: TcpListener,
    endpoint: Endpoint,
}

impl Listener for TcpAcceptor {
    type Incoming = TcpIncoming;

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn local_only(&self) -> bool {
        self.listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
    }

    async fn accept(&mut self) -> Result<TcpIncoming, TransportError> {
        let (stream, peer) = self.listener.accept().await.map_err(|source| TransportError::Accept { source })?;
        Ok(TcpIncoming { stream, peer })
    }
}

/// An accepted socket, still registered where it was accepted.
#[derive(Debug)]
pub struct TcpIncoming {
    stream: TcpStream,
    peer: SocketAddr,
}

impl TcpIncoming {
    /// The other end.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The socket, bound to the runtime of the calling thread.
    pub(crate) fn into_stream(self) -> io::Result<TcpStream> {
        let stream = self.stream.into_std().and_then(TcpStream::from_std)?;
        prepare(&stream)?;
        Ok(stream)
    }
}

impl Incoming for TcpIncoming {
    type Connection = TcpConnection;

    /// Known once the client's first bytes are there.
    async fn cpu(&self) -> Option<usize> {
        let _silent = tokio::time::timeout(FIRST_BYTES_WAIT, self.stream.readable()).await;
        incoming_cpu(&self.stream)
    }

    fn source(&self) -> Source {
        Source::of(self.peer.ip())
    }

    fn attach(self, config: &ConnectionConfig) -> Result<TcpConnection, TransportError> {
        let peer = format!("tcp://{}", self.peer);
        let attached = self.into_stream().and_then(|stream| TcpConnection::new(stream, peer, config));
        attached.map_err(|source| TransportError::Accept { source })
    }
}

/// An open socket.
#[derive(Debug)]
pub struct TcpConnection {
    stream: TcpStream,
    peer: String,
    staging: Buffer,
    config: ConnectionConfig,
}

impl TcpConnection {
    fn new(stream: TcpStream, peer: String, config: &ConnectionConfig) -> io::Result<Self> {
        Ok(Self { stream, peer, staging: stream::staging(config)?, config: config.clone() })
    }
}

/// Sets a socket's options.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    // What is to be said is one write: nothing is gained by holding it back.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    // A peer that vanished without a word must not keep its place for ever.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(GONE_WAIT))?;
    if is_loopback(stream)? {
        socket.set_send_buffer_size(LOOPBACK_SEND_BYTES)?;
    }
    Ok(())
}

/// Whether the peer is this machine.
fn is_loopback(stream: &TcpStream) -> io::Result<bool> {
    Ok(stream.peer_addr()?.ip().to_canonical().is_loopback())
}

/// The processor of this machine that a socket's last bytes came from, by `SO_INCOMING_CPU`: where they were handled,
/// which on loopback is where the peer runs. `None` where the peer is elsewhere.
pub(crate) fn sender_cpu(stream: &TcpStream) -> Option<usize> {
    if is_loopback(stream).ok()? { incoming_cpu(stream) } else { None }
}

/// `SO_INCOMING_CPU`: the processor that handled the socket's last packet. With receive steering that is where the card
/// puts the flow.
fn incoming_cpu(stream: &TcpStream) -> Option<usize> {
    SockRef::from(stream).cpu_affinity().ok()
}

impl Connection for TcpConnection {
    type Sender = StreamSender<OwnedWriteHalf>;
    type Receiver = StreamReceiver<OwnedReadHalf>;

    fn peer(&self) -> &str {
        &self.peer
    }

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let (reader, writer) = self.stream.into_split();
        let receiver = StreamReceiver::new(reader, self.staging, &self.config);
        (StreamSender::new(writer, &self.config), receiver.with_sender_cpu(|reader| sender_cpu(reader.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use crate::cores;
    use crate::transport::{Frame, FrameReceiver, FrameSender, HeapPool};
    use crate::wire::stats_request;
    use std::sync::Arc;

    /// Both ends of a connection.
    async fn ends() -> [TcpConnection; 2] {
        let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
        let config = ConnectionConfig::of_client(pool, 1 << 30);
        let any: Endpoint = "tcp://127.0.0.1:0".parse().expect("an endpoint");
        let mut listener = Tcp.listen(&any).await.expect("loopback");
        let endpoint = listener.endpoint().clone();
        let (near, far) = tokio::join!(Tcp.connect(&endpoint, &config), listener.accept());
        [near.expect("connected"), far.and_then(|incoming| incoming.attach(&config)).expect("accepted")]
    }

    #[tokio::test]
    async fn a_frame_of_this_machine_tells_the_processor_that_it_came_from() {
        let [near, far] = ends().await;
        let ((mut sender, _near), (_far, mut receiver)) = (near.split(), far.split());
        for cpu in cores::available() {
            assert!(cores::pin_current_thread(cpu));
            sender.send(Frame::unaccounted(stats_request(1).to_vec())).await.expect("sent");
            receiver.receive().await.expect("no fault").expect("a frame");
            assert_eq!(receiver.sender_cpu(), Some(cpu));
        }
    }

    #[tokio::test]
    async fn both_ends_notice_a_peer_that_vanished() {
        for end in ends().await {
            let socket = SockRef::from(&end.stream);
            assert!(socket.keepalive().expect("an option"));
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(GONE_WAIT));
        }
    }
}
