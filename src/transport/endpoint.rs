//! Endpoints: where a node listens, and by which transport.
#![forbid(unsafe_code)]

use super::RedisEndpoint;
use std::fmt;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;
use std::str::FromStr;
use thiserror::Error;

/// The transports, by the scheme of their endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `tcp://host:port`
    Tcp,
    /// `tls://host:port`: TLS 1.3 over TCP.
    Tls,
    /// `rdma://host:port`: InfiniBand and RoCE; the address is that of the control connection.
    Rdma,
    /// `shm:///path/to/node.sock`: between processes of one host.
    Shm,
    /// `sim://network/node`: the in-process seeded twin, for tests.
    Sim,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Tls, Self::Shm, Self::Rdma, Self::Sim];

    /// Its name in endpoints and flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Rdma => "rdma",
            Self::Shm => "shm",
            Self::Sim => "sim",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = EndpointError;

    fn from_str(name: &str) -> Result<Self, EndpointError> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.name() == name);
        found.ok_or_else(|| EndpointError::UnknownScheme { got: name.to_owned() })
    }
}

/// A transport and an address that it understands, as `scheme://address`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    address: String,
}

/// Why text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// No `://`.
    #[error("'{got}' is no endpoint: write tcp://host:port")]
    NoScheme {
        /// The text.
        got: String,
    },
    /// A scheme that no transport here has.
    #[error("{}", unknown(got))]
    UnknownScheme {
        /// The scheme.
        got: String,
    },
    /// An address that the scheme's transport cannot use.
    #[error("'{got}' is no address of transport {scheme}: {wanted} is needed")]
    BadAddress {
        /// The transport.
        scheme: Scheme,
        /// The address.
        got: String,
        /// The form it should have.
        wanted: &'static str,
    },
}

/// Those that are for users: the simulated one is for tests.
fn unknown(got: &str) -> String {
    if RedisEndpoint::is_scheme(got) {
        return format!("{got} is for Redis clients: tcp, tls, shm or rdma is needed here");
    }
    format!("unknown transport '{got}': there are tcp, tls, shm and rdma, and resp and resps for Redis clients")
}

impl Endpoint {
    /// An endpoint of a transport.
    ///
    /// # Errors
    /// [`EndpointError::BadAddress`] where the address has not the transport's form.
    pub fn new(scheme: Scheme, address: &str) -> Result<Self, EndpointError> {
        let bad = |wanted| EndpointError::BadAddress { scheme, got: address.to_owned(), wanted };
        let endpoint = Self { scheme, address: address.to_owned() };
        match scheme {
            Scheme::Tcp | Scheme::Tls | Scheme::Rdma => {
                endpoint.host_port().map(|_| ()).ok_or_else(|| bad("host:port, [IPv6]:port"))?
            }
            Scheme::Shm => endpoint.path().map(|_| ()).ok_or_else(|| bad("an absolute path of at most 107 bytes"))?,
            Scheme::Sim => endpoint.network_node().map(|_| ()).ok_or_else(|| bad("network/node"))?,
        }
        Ok(endpoint)
    }

    /// Its transport.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What stands behind `://`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Host, without brackets, and port.
    #[must_use]
    pub fn host_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let ambiguous = bare.is_none() && host.contains(':');
        let plain = !host.is_empty() && !host.contains(['/', '[', ']', ' ']);
        if ambiguous || !plain || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some((host, port.parse().ok()?))
    }

    /// Whether it names an address of this machine to itself, without asking anybody who has which name.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host_port().is_some_and(|(host, _)| {
            host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
        })
    }

    /// Whether it is on this machine: one of its addresses is one that can be bound here.
    pub(crate) fn is_here(&self) -> bool {
        let Some(address) = self.host_port() else { return true };
        let Ok(mut addresses) = address.to_socket_addrs() else { return false };
        addresses.any(|address| UdpSocket::bind((address.ip(), 0)).is_ok())
    }

    /// The path of a socket, which the kernel keeps in 108 bytes with a zero behind it.
    pub(super) fn path(&self) -> Option<&Path> {
        let fits = self.address.starts_with('/') && self.address.len() <= 107 && !self.address.contains('\0');
        fits.then(|| Path::new(&self.address))
    }

    /// Simulated network and node.
    pub(super) fn network_node(&self) -> Option<(&str, &str)> {
        self.address.split_once('/').filter(|(network, node)| !network.is_empty() && !node.is_empty())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.address)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (scheme, address) =
            text.split_once("://").ok_or_else(|| EndpointError::NoScheme { got: text.to_owned() })?;
        Self::new(scheme.parse()?, address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_both_address_families_are_endpoints() {
        for (text, host, port) in [
            ("tcp://127.0.0.1:7411", "127.0.0.1", 7411),
            ("tcp://[::1]:0", "::1", 0),
            ("tcp://node-3.example.org:65535", "node-3.example.org", 65535),
        ] {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            assert_eq!((endpoint.host_port(), endpoint.to_string().as_str()), (Some((host, port)), text));
        }
    }

    #[test]
    fn what_is_here_is_told_from_what_is_elsewhere() {
        // The last is for documentation, and nobody's.
        let here = ["tcp://127.0.0.1:7411", "tcp://localhost:1", "rdma://127.0.0.2:1", "shm:///run/node.sock"];
        assert!(here.iter().all(|text| text.parse::<Endpoint>().expect("an endpoint").is_here()));
        assert!(!"tcp://192.0.2.1:7411".parse::<Endpoint>().expect("an endpoint").is_here());
    }

    #[test]
    fn loopback_is_told_by_the_address_alone() {
        let is_loopback = |text: &str| text.parse::<Endpoint>().expect("an endpoint").is_loopback();
        assert!(
            ["tcp://127.0.0.1:1", "tls://localhost:1", "tcp://[::1]:1", "tcp://[::ffff:127.0.0.1]:1"]
                .into_iter()
                .all(is_loopback)
        );
        assert!(!["tcp://192.0.2.1:1", "tcp://node:1", "tcp://[2001:db8::1]:1"].into_iter().any(is_loopback));
    }

    #[test]
    fn other_text_is_refused_with_its_reason() {
        let parse = |text: &str| text.parse::<Endpoint>().expect_err("not an endpoint");
        assert!(matches!(parse("localhost:7411"), EndpointError::NoScheme { .. }));
        let quic = parse("quic://a:1").to_string();
        assert!(quic.ends_with("there are tcp, tls, shm and rdma, and resp and resps for Redis clients"), "{quic}");
        assert!(parse("resp://a:1").to_string().starts_with("resp is for Redis clients: tcp, tls, shm or rdma"));
        for text in ["tcp://", "tcp://a", "tcp://:1", "tcp://a:", "tcp://a:65536", "tcp://::1:1", "tcp://a:+1"] {
            assert!(matches!(parse(text), EndpointError::BadAddress { .. }), "{text}");
        }
        for text in ["shm://relative", "shm://", &format!("shm:///{}", "x".repeat(107)), "shm:///a\0b"] {
            assert!(matches!(parse(text), EndpointError::BadAddress { .. }), "{text}");
        }
        assert!(matches!(parse("sim://x"), EndpointError::BadAddress { .. }));
    }
}
