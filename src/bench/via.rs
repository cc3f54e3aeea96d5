//! What a benchmark speaks over: a transport of frames, or the protocol of Redis.
#![forbid(unsafe_code)]

use crate::transport::{Door, EndpointError, RedisEndpoint, Scheme};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// What `--transport` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Frames over a transport, by the public client.
    Frames(Scheme),
    /// Pipelined commands of Redis over TCP.
    Resp,
    /// The same over TLS.
    Resps,
}

impl Via {
    /// Whether it is the protocol of Redis.
    #[must_use]
    pub fn is_redis(self) -> bool {
        matches!(self, Self::Resp | Self::Resps)
    }

    /// Whether both ends need certificates.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Resps | Self::Frames(Scheme::Tls))
    }

    /// What whoever goes through a door speaks.
    #[must_use]
    pub fn of(door: &Door) -> Self {
        match door {
            Door::Frames(endpoint) => Self::Frames(endpoint.scheme()),
            Door::Redis(endpoint) if endpoint.is_tls() => Self::Resps,
            Door::Redis(_) => Self::Resp,
        }
    }
}

impl From<Scheme> for Via {
    fn from(scheme: Scheme) -> Self {
        Self::Frames(scheme)
    }
}

impl Display for Via {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(scheme) => scheme.fmt(f),
            Self::Resp => f.write_str(RedisEndpoint::SCHEME),
            Self::Resps => f.write_str(RedisEndpoint::SCHEME_TLS),
        }
    }
}

impl FromStr for Via {
    type Err = EndpointError;

    fn from_str(name: &str) -> Result<Self, EndpointError> {
        match name {
            RedisEndpoint::SCHEME => Ok(Self::Resp),
            RedisEndpoint::SCHEME_TLS => Ok(Self::Resps),
            name => name.parse().map(Self::Frames),
        }
    }
}
