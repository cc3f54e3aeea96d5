//! Where a node listens, and servers are reached: by frames, or in the words of Redis.
#![forbid(unsafe_code)]

use super::{Endpoint, EndpointError, Scheme};
use std::fmt;
use std::str::FromStr;

/// An endpoint of either kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Door {
    /// Frames, over a transport.
    Frames(Endpoint),
    /// The protocol of Redis.
    Redis(RedisEndpoint),
}

impl Door {
    /// Whether it is on this machine.
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Self::Frames(endpoint) | Self::Redis(RedisEndpoint(endpoint)) => endpoint.is_here(),
        }
    }
}

impl From<Endpoint> for Door {
    fn from(endpoint: Endpoint) -> Self {
        Self::Frames(endpoint)
    }
}

impl From<RedisEndpoint> for Door {
    fn from(endpoint: RedisEndpoint) -> Self {
        Self::Redis(endpoint)
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(endpoint) => endpoint.fmt(f),
            Self::Redis(endpoint) => endpoint.fmt(f),
        }
    }
}

impl FromStr for Door {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let is_redis = text.split_once("://").is_some_and(|(scheme, _)| RedisEndpoint::is_scheme(scheme));
        if is_redis { text.parse().map(Self::Redis) } else { text.parse().map(Self::Frames) }
    }
}

/// `resp://host:port`, or `resps://` over TLS: no transport of frames, but the protocol of Redis.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisEndpoint(Endpoint);

impl RedisEndpoint {
    /// What stands before an address.
    pub const SCHEME: &str = "resp";

    /// What stands before an address that is reached over TLS.
    pub const SCHEME_TLS: &str = "resps";

    /// The place that this endpoint of TCP or TLS names.
    pub(crate) fn at(endpoint: Endpoint) -> Self {
        debug_assert!(matches!(endpoint.scheme(), Scheme::Tcp | Scheme::Tls));
        Self(endpoint)
    }

    /// Whether endpoints of Redis begin so.
    pub(crate) fn is_scheme(name: &str) -> bool {
        [Self::SCHEME, Self::SCHEME_TLS].contains(&name)
    }

    /// What stands before its address.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_tls() { Self::SCHEME_TLS } else { Self::SCHEME }
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == Scheme::Tls
    }

    /// Host, without brackets, and port.
    #[must_use]
    pub fn host_port(&self) -> Option<(&str, u16)> {
        self.0.host_port()
    }

    /// The same place, for TCP or TLS.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0
    }
}

impl fmt::Display for RedisEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.0.address())
    }
}

impl FromStr for RedisEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let no_scheme = || EndpointError::NoScheme { got: text.to_owned() };
        let (scheme, address) = text.split_once("://").ok_or_else(no_scheme)?;
        let scheme = match scheme {
            Self::SCHEME => Scheme::Tcp,
            Self::SCHEME_TLS => Scheme::Tls,
            _ => return Err(EndpointError::UnknownScheme { got: scheme.to_owned() }),
        };
        Endpoint::new(scheme, address).map(Self)
    }
}
