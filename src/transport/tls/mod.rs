//! TLS 1.3 over TCP: the frames of `tcp`, encrypted, between ends that have seen each other's certificates.
//!
//! ```text
//!   accept --> attach --> establish: handshake --> split --> frames, through stream.rs, in records of 16 KiB
//!   connect ----/         on the connection's thread, within the time that its user gives it
//! ```
//!
//! RFC 8446 and nothing older, by rustls. Nothing is resumed and nothing is sent early: each connection is a handshake
//! of its own, and by the certificates of its moment. Frames say `freight/1` to the other end (ALPN, RFC 7301), so that
//! another protocol's client is refused; one that says nothing is not.
//!
//! An end of the TCP connection without TLS's own (`close_notify`) counts like the one with it: frames have lengths, so
//! what is cut off is either half a frame, which is an error, or frames that nobody was told of.
#![forbid(unsafe_code)]

mod error;
mod expiry;
mod files;
mod plain_or_tls;
mod session;
mod stream;

pub use error::TlsError;
pub use files::{TlsFileError, TlsIdentity};
pub(crate) use plain_or_tls::{PlainOrTls, Reading};
pub use session::{TlsClient, TlsNode, TlsOptions};

use super::stream::{StreamReceiver, StreamSender};
use super::tcp::{self, TcpAcceptor, TcpIncoming};
use super::{Buffer, Connection, ConnectionConfig, Endpoint, Incoming, Listener, Source, Transport, TransportError};
use crate::budget::Budget;
use std::io;
use std::sync::Arc;
use stream::{Reader, Writer, binding_of};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// What a frame's connection calls its protocol.
pub const ALPN: &[u8] = b"freight/1";

/// Memory of a connection that is charged beside its buffers: what rustls holds at most, a record that arrives, its
/// plaintext, and 64 KiB of records that the peer has not taken.
pub(crate) const SESSION_BYTES: u64 = 96 << 10;

/// TLS 1.3 over TCP.
#[derive(Debug, Clone)]
pub struct Tls {
    options: TlsOptions,
}

impl Tls {
    /// With certificates for one end or both.
    #[must_use]
    pub fn new(options: TlsOptions) -> Self {
        Self { options }
    }
}

impl Transport for Tls {
    type Listener = TlsListener;
    type Incoming = TlsIncoming;
    type Connection = TlsConnection;

    async fn listen(&self, endpoint: &Endpoint) -> Result<TlsListener, TransportError> {
        let node = self.options.node.clone().ok_or(TlsError::NoCertificate)?;
        Ok(TlsListener { acceptor: tcp::listen(endpoint).await?, node })
    }

    async fn connect(&self, endpoint: &Endpoint, config: &ConnectionConfig) -> Result<TlsConnection, TransportError> {
        let client = self.options.client.as_ref().ok_or(TlsError::NoCa)?;
        let failed = |source| TransportError::Connect { endpoint: endpoint.clone(), source };
        let (charge, staging) = memory(config).map_err(failed)?;
        let state = State::Connected(tcp::open(endpoint).await?, client.clone(), endpoint.clone());
        Ok(TlsConnection { state, peer: endpoint.to_string(), staging, charge, config: config.clone() })
    }
}

/// Listens for TLS over TCP.
#[derive(Debug)]
pub struct TlsListener {
    acceptor: TcpAcceptor,
    node: TlsNode,
}

impl Listener for TlsListener {
    type Incoming = TlsIncoming;

    fn endpoint(&self) -> &Endpoint {
        self.acceptor.endpoint()
    }

    fn local_only(&self) -> bool {
        self.acceptor.local_only()
    }

    async fn accept(&mut self) -> Result<TlsIncoming, TransportError> {
        Ok(TlsIncoming { tcp: self.acceptor.accept().await?, node: self.node.clone() })
    }
}

/// An accepted socket on which nothing was said yet.
#[derive(Debug)]
pub struct TlsIncoming {
    tcp: TcpIncoming,
    node: TlsNode,
}

impl Incoming for TlsIncoming {
    type Connection = TlsConnection;

    async fn cpu(&self) -> Option<usize> {
        self.tcp.cpu().await
    }

    fn source(&self) -> Source {
        self.tcp.source()
    }

    fn takes_handshake(&self) -> bool {
        true
    }

    fn attach(self, config: &ConnectionConfig) -> Result<TlsConnection, TransportError> {
        let failed = |source| TransportError::Accept { source };
        let peer = format!("tls://{}", self.tcp.peer());
        let (charge, staging) = memory(config).map_err(failed)?;
        let stream = self.tcp.into_stream().map_err(failed)?;
        let state = State::Accepted(stream, self.node);
        Ok(TlsConnection { state, peer, staging, charge, config: config.clone() })
    }
}

/// A connection, with or without its handshake.
#[derive(Debug)]
pub struct TlsConnection {
    state: State,
    peer: String,
    staging: Buffer,
    charge: Arc<Charge>,
    config: ConnectionConfig,
}

#[derive(Debug)]
enum State {
    Accepted(TcpStream, TlsNode),
    Connected(TcpStream, TlsClient, Endpoint),
    Open(Box<TlsStream<TcpStream>>),
    /// The handshake failed, or was abandoned.
    Failed,
}

impl Connection for TlsConnection {
    type Sender = StreamSender<Writer>;
    type Receiver = StreamReceiver<Reader>;

    fn peer(&self) -> &str {
        &self.peer
    }

    async fn establish(&mut self) -> Result<(), TransportError> {
        let stream = match std::mem::replace(&mut self.state, State::Failed) {
            State::Accepted(stream, node) => node.accept_frames(stream).await?,
            State::Connected(stream, client, endpoint) => {
                let (host, _) = endpoint.host_port().expect("an endpoint of TLS has both");
                client.connect_frames(host, stream).await.map_err(|error| error.of_connecting(&endpoint))?
            }
            State::Open(_) | State::Failed => panic!("a connection is established once"),
        };
        self.state = State::Open(Box::new(stream));
        Ok(())
    }

    fn channel_binding(&self) -> Option<[u8; 32]> {
        match &self.state {
            State::Open(stream) => binding_of(stream),
            State::Accepted(..) | State::Connected(..) | State::Failed => None,
        }
    }

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let State::Open(stream) = self.state else { panic!("it is established before it is split") };
        let (reader, writer) = stream::split(*stream, &self.charge);
        (StreamSender::new(writer, &self.config), StreamReceiver::new(reader, self.staging, &self.config))
    }
}

/// What a connection takes from its account.
fn memory(config: &ConnectionConfig) -> io::Result<(Arc<Charge>, Buffer)> {
    Ok((Charge::take(config)?, super::stream::staging(config)?))
}

/// The account of a connection's session, as long as either half lives.
#[derive(Debug)]
struct Charge {
    budget: Arc<Budget>,
}

impl Charge {
    fn take(config: &ConnectionConfig) -> io::Result<Arc<Self>> {
        let budget = Arc::clone(config.pool.budget());
        if !budget.charge_connection(SESSION_BYTES) {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the memory cap has no room for a connection"));
        }
        Ok(Arc::new(Self { budget }))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.credit_connection(SESSION_BYTES);
    }
}
