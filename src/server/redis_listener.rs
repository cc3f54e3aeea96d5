//! Where a node listens for Redis clients.
#![forbid(unsafe_code)]

use crate::transport::tcp::{self, TcpAcceptor, TcpIncoming};
use crate::transport::tls::{PlainOrTls, TlsError, TlsNode};
use crate::transport::{ConnectionConfig, Endpoint, Incoming, Listener, RedisEndpoint, Source, TransportError};
use tokio::net::TcpStream;

/// Listens at an endpoint, by `tls` where that is asked for.
///
/// # Errors
/// Why that is not possible.
pub(super) async fn listen(endpoint: &RedisEndpoint, tls: Option<&TlsNode>) -> Result<RedisListener, TransportError> {
    let tls = endpoint.is_tls().then(|| tls.cloned().ok_or(TlsError::NoCertificate)).transpose()?;
    let acceptor = tcp::listen(endpoint.endpoint()).await?;
    Ok(RedisListener { endpoint: RedisEndpoint::at(acceptor.endpoint().clone()), acceptor, tls })
}

/// Takes Redis clients.
#[derive(Debug)]
pub(super) struct RedisListener {
    acceptor: TcpAcceptor,
    endpoint: RedisEndpoint,
    tls: Option<TlsNode>,
}

impl RedisListener {
    /// Where it listens, with the port it really has.
    pub(super) fn redis_endpoint(&self) -> &RedisEndpoint {
        &self.endpoint
    }
}

impl Listener for RedisListener {
    type Incoming = RedisIncoming;

    fn endpoint(&self) -> &Endpoint {
        self.acceptor.endpoint()
    }

    fn local_only(&self) -> bool {
        self.acceptor.local_only()
    }

    async fn accept(&mut self) -> Result<RedisIncoming, TransportError> {
        Ok(RedisIncoming { tcp: self.acceptor.accept().await?, tls: self.tls.clone() })
    }
}

/// A Redis client that is not served yet.
#[derive(Debug)]
pub(super) struct RedisIncoming {
    tcp: TcpIncoming,
    tls: Option<TlsNode>,
}

impl Incoming for RedisIncoming {
    type Connection = RedisConnection;

    async fn cpu(&self) -> Option<usize> {
        self.tcp.cpu().await
    }

    fn source(&self) -> Source {
        self.tcp.source()
    }

    fn takes_handshake(&self) -> bool {
        self.tls.is_some()
    }

    fn attach(self, config: &ConnectionConfig) -> Result<RedisConnection, TransportError> {
        let failed = |source| TransportError::Accept { source };
        let peer = self.tcp.peer().to_string();
        let socket = self.tcp.into_stream().map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?.to_string();
        Ok(RedisConnection { socket, tls: self.tls, peer, local, config: config.clone() })
    }
}

/// A Redis client that is connected.
#[derive(Debug)]
pub(super) struct RedisConnection {
    socket: TcpStream,
    tls: Option<TlsNode>,
    pub(super) peer: String,
    pub(super) local: String,
    pub(super) config: ConnectionConfig,
}

impl RedisConnection {
    /// What its commands come by, after a handshake where TLS is spoken. Dropping the future drops the connection.
    ///
    /// # Errors
    /// Why TLS is not.
    pub(super) async fn establish(self) -> Result<PlainOrTls, TransportError> {
        match &self.tls {
            None => Ok(PlainOrTls::plain(self.socket)),
            Some(tls) => PlainOrTls::accept(self.socket, tls, &self.config).await,
        }
    }
}
