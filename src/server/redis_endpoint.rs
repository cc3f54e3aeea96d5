//! Where a node listens for Redis clients.
#![forbid(unsafe_code)]

use crate::transport::tcp::{Tcp, TcpAcceptor, TcpIncoming};
use crate::transport::{
    ConnectionConfig, Endpoint, EndpointError, Incoming, Listener, Scheme, Transport, TransportError,
};
use std::fmt;
use std::str::FromStr;
use tokio::net::TcpStream;

/// `resp://host:port`: no transport of frames, but a door for clients that speak the protocol of Redis over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisEndpoint(Endpoint);

impl RedisEndpoint {
    /// What stands before an address.
    pub const SCHEME: &str = "resp";

    /// Host, without brackets, and port.
    #[must_use]
    pub fn host_port(&self) -> Option<(&str, u16)> {
        self.0.host_port()
    }

    /// Listens here.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(super) async fn listen(&self) -> Result<RedisListener, TransportError> {
        let acceptor = Tcp.listen(&self.0).await?;
        Ok(RedisListener { endpoint: Self(acceptor.endpoint().clone()), acceptor })
    }
}

impl fmt::Display for RedisEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", Self::SCHEME, self.0.address())
    }
}

impl FromStr for RedisEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let no_scheme = || EndpointError::NoScheme { got: text.to_owned() };
        let (scheme, address) = text.split_once("://").ok_or_else(no_scheme)?;
        if scheme != Self::SCHEME {
            return Err(EndpointError::UnknownScheme { got: scheme.to_owned() });
        }
        Endpoint::new(Scheme::Tcp, address).map(Self)
    }
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
