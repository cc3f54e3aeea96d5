//! What each end of TLS goes by: certificates and CAs, which are read anew while connections stay.
//!
//! ```text
//!   files --read--> TlsNode, TlsClient --the newest--> a new connection     (open ones keep what they began with)
//!            reload ----^
//! ```
#![forbid(unsafe_code)]

use super::error::{Side, TlsError};
use super::expiry;
use super::files::{TlsFileError, TlsIdentity, roots};
use super::{ALPN, TransportError};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{self, ClientConfig, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// How long a client that was refused may take to read why.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

/// What `tls://` endpoints are told.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// Where this process listens; without it no such endpoint is listened at.
    pub node: Option<TlsNode>,
    /// Where it connects; without it no such endpoint is connected to.
    pub client: Option<TlsClient>,
}

impl TlsOptions {
    /// Reads all files again: new connections go by them, of every clone, and open ones stay.
    ///
    /// # Errors
    /// Why one of them cannot be used; then all stays as it was.
    pub fn reload(&self) -> Result<(), TlsFileError> {
        let (node, client) =
            (self.node.as_ref().map(|node| &*node.inner), self.client.as_ref().map(|client| &*client.inner));
        let node_now = node.map(|node| NodeNow::read(&node.identity, node.client_ca.as_ref())).transpose()?;
        let client_now = client.map(|client| ClientNow::read(&client.ca, client.identity.as_ref())).transpose()?;
        if let (Some(node), Some(now)) = (node, node_now) {
            *node.now.write().unwrap_or_else(PoisonError::into_inner) = now;
        }
        if let (Some(client), Some(now)) = (client, client_now) {
            *client.now.write().unwrap_or_else(PoisonError::into_inner) = now;
        }
        Ok(())
    }
}

/// A node's certificate, and who its clients may be. Clones share it.
#[derive(Debug, Clone)]
pub struct TlsNode {
    inner: Arc<Node>,
}

#[derive(Debug)]
struct Node {
    identity: TlsIdentity,
    client_ca: Option<PathBuf>,
    now: RwLock<NodeNow>,
}

#[derive(Debug, Clone)]
struct NodeNow {
    frames: Arc<ServerConfig>,
    redis: Arc<ServerConfig>,
    expires: Option<u64>,
}

impl TlsNode {
    /// Reads the files. With CAs for clients, whoever has no certificate that one of them signed stays outside.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn read(identity: TlsIdentity, client_ca: Option<PathBuf>) -> Result<Self, TlsFileError> {
        let now = RwLock::new(NodeNow::read(&identity, client_ca.as_ref())?);
        Ok(Self { inner: Arc::new(Node { identity, client_ca, now }) })
    }

    /// When the certificate that it goes by expires, in seconds of Unix time.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.now().expires
    }

    /// The handshake of a client of frames. Dropping the future drops the connection.
    pub(super) async fn accept_frames<IO>(&self, io: IO) -> Result<TlsStream<IO>, TransportError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        accept(io, self.now().frames).await
    }

    /// The handshake of a Redis client, which has no name for its protocol. Likewise.
    pub(crate) async fn accept_redis<IO>(&self, io: IO) -> Result<TlsStream<IO>, TransportError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        accept(io, self.now().redis).await
    }

    fn now(&self) -> NodeNow {
        self.inner.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl NodeNow {
    fn read(identity: &TlsIdentity, client_ca: Option<&PathBuf>) -> Result<Self, TlsFileError> {
        let (chain, key) = identity.read()?;
        let expires = chain.first().and_then(|certificate| expiry::of(certificate));
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let builder = builder.expect("ring has what TLS 1.3 takes");
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider()).build();
                let unusable = |error: VerifierBuilderError| error.to_string();
                let verifier = verifier.map_err(unusable);
                let verifier = verifier.map_err(|why| TlsFileError::Unusable { path: path.clone(), why })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(chain, key);
        let mut redis = config.map_err(|error| TlsFileError::of_identity(identity, &error))?;
        // Who was let in by a certificate once is not by remembering it.
        (redis.session_storage, redis.send_tls13_tickets) = (Arc::new(NoServerSessionStorage {}), 0);
        let mut frames = redis.clone();
        frames.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { frames: Arc::new(frames), redis: Arc::new(redis), expires })
    }
}

/// Whom a client trusts, and who it is. Clones share it.
#[derive(Debug, Clone)]
pub struct TlsClient {
    inner: Arc<Client>,
}

#[derive(Debug)]
struct Client {
    ca: PathBuf,
    identity: Option<TlsIdentity>,
    now: RwLock<ClientNow>,
}

#[derive(Debug, Clone)]
struct ClientNow {
    frames: Arc<ClientConfig>,
    redis: Arc<ClientConfig>,
}

impl TlsClient {
    /// Reads the files. Nobody is trusted but nodes whose certificates a CA of `ca` signed, for the host of their
    /// endpoint: the system's CAs count for nothing.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn read(ca: PathBuf, identity: Option<TlsIdentity>) -> Result<Self, TlsFileError> {
        let now = RwLock::new(ClientNow::read(&ca, identity.as_ref())?);
        Ok(Self { inner: Arc::new(Client { ca, identity, now }) })
    }

    /// The handshake with a node at `host`. Dropping the future drops the connection.
    pub(super) async fn connect_frames<IO>(&self, host: &str, io: IO) -> Result<TlsStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        connect(host, io, self.now().frames).await
    }

    /// The same in the words of Redis.
    pub(crate) async fn connect_redis<IO>(&self, host: &str, io: IO) -> Result<TlsStream<IO>, TlsError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        connect(host, io, self.now().redis).await
    }

    fn now(&self) -> ClientNow {
        self.inner.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientNow {
    fn read(ca: &Path, identity: Option<&TlsIdentity>) -> Result<Self, TlsFileError> {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let builder = builder.expect("ring has what TLS 1.3 takes").with_root_certificates(roots(ca)?);
        let mut redis = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read()?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| TlsFileError::of_identity(identity, &error))?
            }
        };
        redis.resumption = Resumption::disabled();
        let mut frames = redis.clone();
        frames.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { frames: Arc::new(frames), redis: Arc::new(redis) })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

async fn accept<IO>(io: IO, config: Arc<ServerConfig>) -> Result<TlsStream<IO>, TransportError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = TlsAcceptor::from(config).accept(io).into_fallible().await;
    let (error, mut io) = match accepted {
        Ok(stream) => return Ok(TlsStream::Server(stream)),
        Err(failed) => failed,
    };
    let last_words = async {
        io.shutdown().await?;
        let mut discarded = [0; 1024];
        while io.read(&mut discarded).await? > 0 {}
        std::io::Result::Ok(())
    };
    // What it still sends is not read by anybody; closed over it, its system might throw away why.
    let _read = timeout(LAST_WORDS_WAIT, last_words).await;
    Err(TlsError::of_handshake(&error, Side::Node).into())
}

async fn connect<IO>(host: &str, io: IO, config: Arc<ClientConfig>) -> Result<TlsStream<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::NoName { got: host.to_owned() })?;
    let connected = TlsConnector::from(config).connect(name, io).await;
    connected.map(TlsStream::Client).map_err(|error| TlsError::of_handshake(&error, Side::Client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;

    #[tokio::test]
    async fn a_host_that_no_certificate_can_be_for_is_said() {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
        let builder = builder.expect("ring has TLS 1.3").with_root_certificates(RootCertStore::empty());
        let (near, _far) = tokio::io::duplex(1);
        let error =
            connect("no name", near, Arc::new(builder.with_no_client_auth())).await.map(drop).expect_err("none");
        assert_eq!(error.to_string(), "'no name' is no name that a certificate can be for");
    }
}
