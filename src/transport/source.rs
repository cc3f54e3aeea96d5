//! Whom connections come from, as far as a transport can tell before anybody has said who they are.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What connections are counted by: two with the same source may be one client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A host, by its IPv4 address.
    Host(Ipv4Addr),
    /// A host, by its IPv6 address: one of a link, which tells hosts apart by all of it.
    LinkLocalHost(Ipv6Addr),
    /// A network of which a host may have every address: the first 64 bits of an IPv6 one (RFC 4291, section 2.5.1).
    Network(u64),
    /// A user of this machine, by number.
    LocalUser(u32),
}

impl Source {
    /// The source of what comes from an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::Host(address),
            IpAddr::V6(address) if address.is_loopback() || address.is_unicast_link_local() => {
                Self::LinkLocalHost(address)
            }
            IpAddr::V6(address) => Self::Network((address.to_bits() >> 64) as u64),
        }
    }
}

/// As people write it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address) => address.fmt(f),
            Self::LinkLocalHost(address) => address.fmt(f),
            Self::Network(network) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*network) << 64)),
            Self::LocalUser(user) => write!(f, "user {user} of this machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_source_whichever_of_its_addresses_it_uses() {
        let of = |text: &str| Source::of(text.parse().expect("an address"));
        assert_eq!(of("192.0.2.7"), of("::ffff:192.0.2.7"));
        assert_ne!(of("192.0.2.7"), of("192.0.2.8"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("fe80::1"), of("fe80::2"), "hosts of a link share its first 64 bits");
        assert_ne!(of("::1"), of("::2"));
    }

    #[test]
    fn a_source_is_told_as_people_write_it() {
        let told = |text: &str| Source::of(text.parse().expect("an address")).to_string();
        assert_eq!(told("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(told("2001:db8::1:2"), "2001:db8::/64");
        assert_eq!((told("fe80::1"), told("::1")), ("fe80::1".to_owned(), "::1".to_owned()));
        assert_eq!(Source::LocalUser(1_000).to_string(), "user 1000 of this machine");
    }
}
