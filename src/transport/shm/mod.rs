//! Shared memory between processes of one host: frames are built where the other process reads them.
//!
//! ```text
//!   client                         requests (client writes, node maps read-only)                    node
//!     build in a span ==publish==> ring of 256 slots ==take==> copied out once, checked there (copy D)
//!     read in place   <==take===== ring of 256 slots <==publish== built in a span
//!                                  replies (node writes, sealed against the client)
//!          \------------------ unix socket: handshake, bell, end of either process ------------------/
//! ```
//!
//! A frame is a run of granules anywhere in the writer's segment; the ring carries where it is. So frames may be
//! released in any order, and the next one goes where the last one was, while it is warm. `layout` has the words,
//! `segment` the memory, `sender` and `receiver` the two ends of a ring, `link` what
//! halves share, `handshake` and `socket` how a connection comes to be.
//!
//! Architecture invariant: the node trusts no client. It holds no reference to memory that a client can change, reads
//! each byte of it once, and never waits for a client but in its own tasks.

mod error;
mod granules;
mod handshake;
mod layout;
mod link;
mod patience;
mod receiver;
mod segment;
mod sender;
mod socket;
mod watch;

pub use error::ShmError;
pub use receiver::{InPlace, ShmReceiver};
pub use segment::Span;
pub use sender::ShmSender;
pub use socket::ShmListener;

use super::{Connection, ConnectionConfig, Endpoint, Incoming, Source, Transport, TransportError};
use handshake::Segments;
use link::Link;
use sender::ShmLender;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// How long a new connection may stay silent before it is served without knowing its client's processor.
const HELLO_WAIT: Duration = Duration::from_millis(20);

/// Shared memory, on Linux from 5.1 on.
#[derive(Debug, Clone, Copy)]
pub struct Shm;

impl Transport for Shm {
    type Listener = ShmListener;
    type Incoming = ShmIncoming;
    type Connection = ShmConnection;

    async fn listen(&self, endpoint: &Endpoint) -> Result<ShmListener, TransportError> {
        let failed = |source| TransportError::Listen { endpoint: endpoint.clone(), source };
        ShmListener::new(endpoint).await.map_err(failed)
    }

    async fn connect(&self, endpoint: &Endpoint, config: &ConnectionConfig) -> Result<ShmConnection, TransportError> {
        let failed = |source| TransportError::Connect { endpoint: endpoint.clone(), source };
        let socket = socket::connect(endpoint).await.map_err(failed)?;
        handshake::say_hello(socket.as_fd()).map_err(TransportError::Shm)?;
        ShmConnection::new(socket, None, endpoint.to_string(), config).map_err(failed)
    }
}

/// A client to be served, to which memory was offered.
#[derive(Debug)]
pub struct ShmIncoming {
    socket: UnixStream,
    segments: Segments,
    peer: String,
    uid: u32,
}

impl Incoming for ShmIncoming {
    type Connection = ShmConnection;

    /// The processor from which the client connected: its hello says so.
    async fn cpu(&self) -> Option<usize> {
        let socket = watch::readable(self.socket.try_clone().ok()?).ok()?;
        let _silent = tokio::time::timeout(HELLO_WAIT, socket.readable()).await;
        handshake::peek_cpu(self.socket.as_fd())
    }

    fn source(&self) -> Source {
        Source::LocalUser(self.uid)
    }

    fn attach(self, config: &ConnectionConfig) -> Result<ShmConnection, TransportError> {
        let refused = |source| TransportError::Accept { source };
        if !self.segments.own.charge_to(config.pool.budget(), handshake::fixed_bytes()) {
            let text = "the memory cap has no room for a connection";
            return Err(refused(io::Error::new(io::ErrorKind::OutOfMemory, text)));
        }
        ShmConnection::new(self.socket, Some(self.segments), self.peer, config).map_err(refused)
    }
}

/// One end of an open connection.
#[derive(Debug)]
pub struct ShmConnection {
    sender: ShmSender,
    receiver: ShmReceiver,
    peer: String,
}

impl ShmConnection {
    fn new(
        socket: UnixStream,
        segments: Option<Segments>,
        peer: String,
        config: &ConnectionConfig,
    ) -> io::Result<Self> {
        let link = Arc::new(Link::new(socket, segments)?);
        let lender = ShmLender::new(link, Arc::clone(&config.pool));
        let receiver = ShmReceiver::new(Arc::clone(&lender), config);
        Ok(Self { sender: ShmSender::new(lender, config.send_wait), receiver, peer })
    }
}

impl Connection for ShmConnection {
    type Sender = ShmSender;
    type Receiver = ShmReceiver;

    fn peer(&self) -> &str {
        &self.peer
    }

    fn split(self) -> (ShmSender, ShmReceiver) {
        (self.sender, self.receiver)
    }
}
