//! Listening and connecting: TCP to the endpoint's host and port, which stays open as the control connection.
#![forbid(unsafe_code)]

use super::connection::RdmaConnection;
use super::greeting::{self, GREETING_BYTES};
use super::keeper;
use super::options::RdmaOptions;
use super::place::Place;
use super::verbs::{Context, VerbsError};
use crate::transport::{
    ConnectionConfig, Endpoint, Incoming, Listener, Scheme, Source, Transport, TransportError, tcp::bind, tcp::resolve,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long a new connection of this machine may stay silent before it is served without knowing its client's
/// processor: the client opens a device first.
const GREETING_WAIT: Duration = Duration::from_millis(500);

/// RDMA on InfiniBand and RoCE.
#[derive(Debug, Clone, Default)]
pub struct Rdma {
    options: RdmaOptions,
}

impl Rdma {
    /// RDMA as the options say.
    #[must_use]
    pub fn new(options: RdmaOptions) -> Self {
        Self { options }
    }
}

impl Transport for Rdma {
    type Listener = RdmaListener;
    type Incoming = RdmaIncoming;
    type Connection = RdmaConnection;

    async fn listen(&self, endpoint: &Endpoint) -> Result<RdmaListener, TransportError> {
        let failed = |source| TransportError::Listen { endpoint: endpoint.clone(), source };
        let address = resolve(endpoint).await.map_err(failed)?[0];
        // What is missing should be known now, and not from the first client. An address that is all addresses is
        // looked at when somebody has connected to one.
        if address.ip().is_unspecified() {
            Context::names().map_err(|error| failed(error.into_io()))?;
        } else {
            let place = Place::pick(&self.options, address.ip().to_canonical());
            let place = place.map_err(|error| failed(error.into_io()))?;
            tracing::info!("rdma://{address} is at {place}");
        }
        let listener = bind(address).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let endpoint = Endpoint::new(Scheme::Rdma, &local.to_string()).expect("a socket address is host:port");
        Ok(RdmaListener { listener, endpoint, options: self.options.clone() })
    }

    async fn connect(&self, endpoint: &Endpoint, config: &ConnectionConfig) -> Result<RdmaConnection, TransportError> {
        let failed = |source| TransportError::Connect { endpoint: endpoint.clone(), source };
        // Before anything else: without a library or a device nobody needs to be asked.
        Context::names().map_err(VerbsError::into_io).map_err(failed)?;
        let addresses = resolve(endpoint).await.map_err(failed)?;
        let stream = TcpStream::connect(&addresses[..]).await.map_err(failed)?;
        RdmaConnection::new(stream, endpoint.to_string(), &self.options, config).map_err(|(_, error)| failed(error))
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct RdmaListener {
    listener: TcpListener,
    endpoint: Endpoint,
    options: RdmaOptions,
}

impl Listener for RdmaListener {
    type Incoming = RdmaIncoming;

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn local_only(&self) -> bool {
        self.listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
    }

    async fn accept(&mut self) -> Result<RdmaIncoming, TransportError> {
        let (stream, peer) = self.listener.accept().await.map_err(|source| TransportError::Accept { source })?;
        Ok(RdmaIncoming { stream, peer, options: self.options.clone() })
    }
}

/// An accepted control connection.
#[derive(Debug)]
pub struct RdmaIncoming {
    stream: TcpStream,
    peer: SocketAddr,
    options: RdmaOptions,
}

impl Incoming for RdmaIncoming {
    type Connection = RdmaConnection;

    /// The processor from which a client of this machine connected: its greeting says so. Of another machine's it is
    /// none of ours, and the device writes to memory without interrupting any.
    async fn cpu(&self) -> Option<usize> {
        if self.peer.ip() != self.stream.local_addr().ok()?.ip() {
            return None;
        }
        let mut bytes = [0; GREETING_BYTES];
        let peeked = timeout(GREETING_WAIT, self.stream.peek(&mut bytes)).await.ok()?;
        (peeked.ok()? == GREETING_BYTES).then(|| greeting::processor(&bytes)).flatten().map(usize::from)
    }

    /// The host of its control connection.
    fn source(&self) -> Source {
        Source::of(self.peer.ip())
    }

    /// A queue pair and registered memory, for a refusal as for a client.
    fn takes_handshake(&self) -> bool {
        true
    }

    fn attach(self, config: &ConnectionConfig) -> Result<RdmaConnection, TransportError> {
        let peer = format!("rdma://{}", self.peer);
        let accept = |source| TransportError::Accept { source };
        let stream = self.stream.into_std().and_then(TcpStream::from_std).map_err(accept)?;
        RdmaConnection::new(stream, peer, &self.options, config).map_err(|(stream, error)| {
            keeper::refuse(&stream, &error.to_string());
            accept(error)
        })
    }
}
