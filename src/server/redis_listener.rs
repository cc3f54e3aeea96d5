//! Where a node listens for Redis clients.
#![forbid(unsafe_code)]

use crate::transport::tcp::{Tcp, TcpAcceptor, TcpIncoming};
use crate::transport::{ConnectionConfig, Endpoint, Incoming, Listener, RedisEndpoint, Transport, TransportError};
use tokio::net::TcpStream;

/// Listens at an endpoint.
///
/// # Errors
/// Why that is not possible.
pub(super) async fn listen(endpoint: &RedisEndpoint) -> Result<RedisListener, TransportError> {
    let acceptor = Tcp.listen(endpoint.over_tcp()).await?;
    Ok(RedisListener { endpoint: RedisEndpoint::at(acceptor.endpoint().clone()), acceptor })
}

/// Takes Redis clients.
#[derive(Debug)]
pub(super) struct RedisListener {
    acceptor: TcpAcceptor,
    endpoint: RedisEndpoint,
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
        self.acceptor.accept().await.map(RedisIncoming)
    }
}

/// A Redis client that is not served yet.
#[derive(Debug)]
pub(super) struct RedisIncoming(TcpIncoming);

impl Incoming for RedisIncoming {
    type Connection = RedisConnection;

    async fn cpu(&self) -> Option<usize> {
        self.0.cpu().await
    }

    fn attach(self, config: &ConnectionConfig) -> Result<RedisConnection, TransportError> {
        let failed = |source| TransportError::Accept { source };
        let peer = self.0.peer().to_string();
        let stream = self.0.into_stream().map_err(failed)?;
        let local = stream.local_addr().map_err(failed)?.to_string();
        Ok(RedisConnection { stream, peer, local, config: config.clone() })
    }
}

/// A Redis client that is connected.
#[derive(Debug)]
pub(super) struct RedisConnection {
    pub(super) stream: TcpStream,
    pub(super) peer: String,
    pub(super) local: String,
    pub(super) config: ConnectionConfig,
}
