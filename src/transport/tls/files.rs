//! Certificates and keys in PEM files: whoever reads a key can pose as its owner, so nobody else does.
#![forbid(unsafe_code)]

use super::error::plainly;
use crate::files::{self, FileError};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{self, RootCertStore};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest file, in bytes: bundles of all public CAs are a fifth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate and its key are, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// The certificate, and behind it those between it and its CA, if there are any.
    pub certificate: PathBuf,
    /// Its key, without a password, in a file that others may not read.
    pub key: PathBuf,
}

/// Why a file of TLS cannot be used.
#[derive(Debug, Error)]
pub enum TlsFileError {
    /// It cannot be read, or others may read a key.
    #[error(transparent)]
    File(#[from] FileError),
    /// It holds no PEM of the wanted kind.
    #[error("{}: no {wanted} in it: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is looked for.
        wanted: &'static str,
        /// What was found instead.
        source: pem::Error,
    },
    /// A certificate or a key that cannot be used.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A certificate and the key of another.
    #[error("{}: this is not the key of the certificate in {}", identity.key.display(), identity.certificate.display())]
    OtherKey {
        /// Both files.
        identity: TlsIdentity,
    },
}

impl TlsFileError {
    /// What rustls says of a certificate with its key.
    pub(super) fn of_identity(identity: &TlsIdentity, error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => Self::OtherKey { identity: identity.clone() },
            rustls::Error::InvalidCertificate(why) => {
                Self::Unusable { path: identity.certificate.clone(), why: plainly(why) }
            }
            error => Self::Unusable { path: identity.key.clone(), why: error.to_string() },
        }
    }
}

impl TlsIdentity {
    /// Reads both files.
    pub(super) fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsFileError> {
        let chain = certificates(&self.certificate)?;
        let bytes = files::read_secret(&self.key, FILE_BYTES_MAX)?;
        let pem = |source| TlsFileError::Pem { path: self.key.clone(), wanted: "key without a password", source };
        Ok((chain, PrivateKeyDer::from_pem_slice(&bytes).map_err(pem)?))
    }
}

/// The CAs of a file.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| TlsFileError::Unusable { path: path.to_owned(), why: error.to_string() })?;
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let bytes = files::read(path, FILE_BYTES_MAX)?;
    let pem = |source| TlsFileError::Pem { path: path.to_owned(), wanted: "certificate", source };
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(pem)?;
    if found.is_empty() { Err(pem(pem::Error::NoItemsFound)) } else { Ok(found) }
}
