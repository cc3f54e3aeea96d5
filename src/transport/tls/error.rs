//! What can go wrong between two ends of TLS, each in words that name what to look at.
#![forbid(unsafe_code)]

use crate::transport::{Endpoint, TransportError};
use rustls::{self, AlertDescription, CertificateError, Error as Rustls, InvalidMessage};
use std::io;
use std::time::SystemTime;
use thiserror::Error;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Node,
}

/// Why a connection over TLS does not come to be, or ends.
#[derive(Debug, Clone, Error)]
pub enum TlsError {
    /// A client that trusts nobody.
    #[error("tls needs the CA that signed the nodes' certificates: --tls-ca FILE")]
    NoCa,
    /// A node without a certificate.
    #[error("tls needs a certificate and its key: --tls-certificate FILE and --tls-key FILE")]
    NoCertificate,
    /// A host that no certificate can be for.
    #[error("'{got}' is no name that a certificate can be for")]
    NoName {
        /// The host of the endpoint.
        got: String,
    },
    /// The other end speaks something else.
    #[error("the other end does not speak TLS: is one end at tcp:// or resp://?")]
    NotTls,
    /// The other end speaks an older TLS.
    #[error("the other end does not speak TLS 1.3 as this one does: {why}")]
    Version {
        /// What it lacks.
        why: String,
    },
    /// The other end is a client of another protocol.
    #[error("the other end speaks another protocol over TLS (ALPN), not freight/1")]
    Protocol,
    /// The other end gave no certificate.
    #[error("the client gave no certificate, and --tls-client-ca asks for one")]
    NoClientCertificate,
    /// This end gave no certificate.
    #[error("the node asks for a client certificate: --tls-certificate FILE and --tls-key FILE")]
    ClientCertificateRequired,
    /// A certificate that no known CA has signed.
    #[error("the other end's certificate is signed by no CA of {known}")]
    UnknownCa {
        /// The flag whose file names those that are known.
        known: &'static str,
    },
    /// A certificate of somebody else.
    #[error("the node's certificate is for {names}, not for {wanted}: its subjectAltName has to have that")]
    WrongName {
        /// The host of the endpoint.
        wanted: String,
        /// Whom it is for.
        names: String,
    },
    /// A certificate whose time is over, or has not begun.
    #[error("the other end's certificate {what}, by this machine's clock")]
    OutOfTime {
        /// Which of both, and since or until when.
        what: String,
    },
    /// A certificate that cannot be used.
    #[error("the other end's certificate is refused: {why}")]
    Certificate {
        /// Why.
        why: String,
    },
    /// The other end did not take this one's certificate.
    #[error("the other end refuses this one's certificate ({alert:?}): is it signed by a CA that is known there?")]
    CertificateRefused {
        /// What it said.
        alert: AlertDescription,
    },
    /// The other end ended the session and said why.
    #[error("the other end ended TLS: {alert:?}")]
    Alert {
        /// What it said.
        alert: AlertDescription,
    },
    /// The TCP connection ended in the midst of the handshake.
    #[error("the connection was closed in the midst of the TLS handshake")]
    Closed,
    /// The system's reason, in the midst of the handshake.
    #[error("the connection was lost in the midst of the TLS handshake: {0}")]
    Lost(io::ErrorKind),
    /// Anything else that is no TLS.
    #[error("TLS: {0}")]
    Other(Rustls),
}

impl TlsError {
    /// What rustls found, or had found out for it.
    pub(super) fn of(error: &Rustls, side: Side) -> Self {
        use AlertDescription as Alert;
        match error {
            Rustls::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => Self::NotTls,
            Rustls::PeerIncompatible(why) => Self::Version { why: format!("{why:?}") },
            Rustls::AlertReceived(Alert::ProtocolVersion) => Self::Version { why: "it says so".to_owned() },
            Rustls::NoApplicationProtocol | Rustls::AlertReceived(Alert::NoApplicationProtocol) => Self::Protocol,
            Rustls::NoCertificatesPresented => Self::NoClientCertificate,
            Rustls::InvalidCertificate(why) => Self::of_certificate(why, side),
            Rustls::AlertReceived(Alert::CertificateRequired) => Self::ClientCertificateRequired,
            Rustls::AlertReceived(
                alert @ (Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                // A CA of the same name signed it, which is another one.
                | Alert::DecryptError),
            ) => Self::CertificateRefused { alert: *alert },
            Rustls::AlertReceived(alert) => Self::Alert { alert: *alert },
            error => Self::Other(error.clone()),
        }
    }

    fn of_certificate(why: &CertificateError, side: Side) -> Self {
        let known = match side {
            Side::Client => "--tls-ca",
            Side::Node => "--tls-client-ca",
        };
        match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownCa { known },
            CertificateError::NotValidForNameContext { expected, presented } => {
                let names = if presented.is_empty() { "nobody".to_owned() } else { presented.join(", ") };
                Self::WrongName { wanted: expected.to_str().into_owned(), names }
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::OutOfTime { what: format!("expired at {}", date(not_after.as_secs())) }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::OutOfTime { what: format!("is not valid before {}", date(not_before.as_secs())) }
            }
            CertificateError::Expired => Self::OutOfTime { what: "expired".to_owned() },
            CertificateError::NotValidYet => Self::OutOfTime { what: "is not valid yet".to_owned() },
            why => Self::Certificate { why: plainly(why) },
        }
    }

    /// What the transport found in the midst of a handshake.
    pub(super) fn of_handshake(error: &io::Error, side: Side) -> Self {
        match found(error) {
            Some(error) => Self::of(error, side),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Lost(error.kind()),
        }
    }

    /// Of an attempt to connect.
    pub(super) fn of_connecting(self, endpoint: &Endpoint) -> TransportError {
        TransportError::Connect { endpoint: endpoint.clone(), source: io::Error::other(self) }
    }
}

/// An error of an open connection, in our words where it is rustls's.
pub(super) fn told(error: io::Error, side: Side) -> io::Error {
    match found(&error) {
        Some(error) => io::Error::other(TlsError::of(error, side)),
        None => error,
    }
}

fn found(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What is wrong with a certificate, for people: what openssl makes by itself is of a version that nobody takes.
pub(super) fn plainly(why: &CertificateError) -> String {
    match why.to_string() {
        words if words.contains("UnsupportedCertVersion") => {
            "it is of X.509 version 1, 3 is needed: make it with an extension, like a subjectAltName".to_owned()
        }
        words => words,
    }
}

/// A time for people, UTC.
fn date(unix_seconds: u64) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(unix_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::UnixTime;
    use std::time::Duration;

    fn said(error: &Rustls) -> String {
        TlsError::of(error, Side::Node).to_string()
    }

    #[test]
    fn what_tests_with_openssl_do_not_bring_about_is_told_too() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let early = CertificateError::NotValidYetContext { time: at(1), not_before: at(86_400) };
        let words = "the other end's certificate is not valid before 1970-01-02T00:00:00Z, by this machine's clock";
        assert_eq!(said(&Rustls::InvalidCertificate(early)), words);
        let never = said(&Rustls::InvalidCertificate(CertificateError::Expired));
        assert_eq!(never, "the other end's certificate expired, by this machine's clock");
        let unusable = said(&Rustls::InvalidCertificate(CertificateError::BadEncoding));
        assert!(unusable.starts_with("the other end's certificate is refused: "), "{unusable}");
        let ended = said(&Rustls::AlertReceived(AlertDescription::InternalError));
        assert_eq!(ended, "the other end ended TLS: InternalError");
        assert!(said(&Rustls::DecryptError).starts_with("TLS: "));
    }

    #[test]
    fn a_handshake_that_the_network_ends_says_how() {
        let said = |kind: io::ErrorKind| TlsError::of_handshake(&kind.into(), Side::Client).to_string();
        let closed = "the connection was closed in the midst of the TLS handshake";
        assert_eq!(said(io::ErrorKind::UnexpectedEof), closed);
        let lost = "the connection was lost in the midst of the TLS handshake: connection reset";
        assert_eq!(said(io::ErrorKind::ConnectionReset), lost);
    }

    #[test]
    fn what_the_system_says_of_an_open_connection_stays_its_own() {
        let reset = told(io::ErrorKind::ConnectionReset.into(), Side::Node);
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        let broken = told(io::Error::new(io::ErrorKind::InvalidData, Rustls::DecryptError), Side::Node);
        assert!(broken.get_ref().is_some_and(|source| source.is::<TlsError>()), "{broken}");
    }
}
