//! TLS as flags: who is trusted, and which certificate is shown.
#![forbid(unsafe_code)]

use super::hangup::Hangups;
use crate::server::Node;
use crate::transport::tls::{TlsClient, TlsFileError, TlsIdentity, TlsNode, TlsOptions};
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// What a client has for `tls://`. Each flag may stand in the environment too.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsArgs {
    /// Who signed the certificates of tls:// nodes, as PEM: they and nobody else are trusted
    #[arg(long, value_name = "FILE", env = "FREIGHT_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// The client's certificate, as PEM, where nodes ask for one
    #[arg(long, value_name = "FILE", env = "FREIGHT_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The key of that certificate, without a password, in a file that others may not read
    #[arg(long, value_name = "FILE", env = "FREIGHT_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// Reads the files.
    pub(super) fn client(&self) -> Result<TlsOptions, TlsFileError> {
        Ok(TlsOptions { node: None, client: self.read()? })
    }

    /// Reads the files for both ends in one process: the certificate is the node's then.
    pub(super) fn both(&self) -> Result<TlsOptions, Box<dyn Error>> {
        let (Some(identity), Some(client)) = (self.identity(), self.read()?) else {
            return Err("over TLS a node in this process needs --tls-certificate and --tls-key, for 127.0.0.1, and \
                        --tls-ca, which signed it"
                .into());
        };
        Ok(TlsOptions { node: Some(TlsNode::read(identity, None)?), client: Some(client) })
    }

    fn read(&self) -> Result<Option<TlsClient>, TlsFileError> {
        self.tls_ca.clone().map(|ca| TlsClient::read(ca, self.identity())).transpose()
    }

    fn identity(&self) -> Option<TlsIdentity> {
        let (certificate, key) = (self.tls_certificate.clone()?, self.tls_key.clone()?);
        Some(TlsIdentity { certificate, key })
    }
}

/// What a node has for `tls://` and `resps://`. What belongs together may be said in different places, so it is looked
/// at together only when all is said.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(super) struct NodeTlsArgs {
    /// The node's certificate for tls:// and resps:// endpoints, as PEM, behind it those between it and its CA. All
    /// files of TLS are read again at SIGHUP
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// The key of that certificate, without a password, in a file that others may not read
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Who signed the certificates of clients, as PEM: whoever has none stays outside. It gives nobody a right that
    /// --users does not [default: clients need no certificate]
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// Who signed the certificates of the other nodes of the map, as PEM, where they are at tls://: the node asks them
    /// for Redis clients, and shows its own certificate
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

impl NodeTlsArgs {
    /// Whether there is any file to read.
    pub(super) fn are_given(&self) -> bool {
        self.tls_certificate.is_some() || self.tls_ca.is_some()
    }

    /// Reads the files.
    pub(super) fn options(&self) -> Result<TlsOptions, Box<dyn Error>> {
        let identity = match (self.tls_certificate.clone(), self.tls_key.clone()) {
            (Some(certificate), Some(key)) => Some(TlsIdentity { certificate, key }),
            (None, None) => None,
            (Some(_), None) => return Err("--tls-certificate needs --tls-key".into()),
            (None, Some(_)) => return Err("--tls-key needs --tls-certificate".into()),
        };
        if identity.is_none() && self.tls_client_ca.is_some() {
            return Err("--tls-client-ca needs --tls-certificate and --tls-key".into());
        }
        let client = self.tls_ca.clone().map(|ca| TlsClient::read(ca, identity.clone())).transpose()?;
        let node = identity.map(|identity| TlsNode::read(identity, self.tls_client_ca.clone())).transpose()?;
        Ok(TlsOptions { node, client })
    }
}

/// The certificates of a served node, and when they are read again.
#[derive(Debug)]
pub(super) struct TlsReload {
    hangups: Hangups,
}

impl TlsReload {
    /// From now on no SIGHUP finds the default action.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { hangups: Hangups::new()? })
    }

    /// Reads all files anew at each SIGHUP, for ever. One that cannot be used leaves what it is for as it was.
    pub(super) async fn run(self, node: &Node) -> Infallible {
        let reload = || match node.reload_tls() {
            Ok(()) => tracing::info!("SIGHUP: the certificates are read again, for new connections"),
            Err(error) => tracing::error!("SIGHUP: the certificates stay as they are: {error}"),
        };
        self.hangups.each(reload).await
    }
}
