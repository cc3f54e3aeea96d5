//! `etcd://host:2379/prefix`: which etcd, and which key in it.
#![forbid(unsafe_code)]

use crate::map::MapStoreError;
use crate::transport::{Endpoint, Scheme};

/// How a place in etcd begins.
pub(in crate::map) const SCHEME: &str = "etcd://";

/// The port of an endpoint that names none.
const PORT: u16 = 2379;

/// Members that are named, at most: each may keep a call waiting.
const ENDPOINTS_MAX: usize = 9;

/// The longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 1024;

/// Where in etcd a map is.
#[derive(Debug)]
pub(super) struct Place {
    /// As it was written.
    pub(super) text: String,
    /// Members of one cluster; at least one.
    pub(super) endpoints: Vec<Endpoint>,
    /// `PREFIX/map`: what else a cluster will keep has room beside it.
    pub(super) key: String,
}

impl Place {
    pub(super) fn parse(text: &str) -> Result<Self, MapStoreError> {
        let bad = |why| MapStoreError::BadPlace { got: text.escape_debug().to_string(), why };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| bad("etcd://host:2379/prefix is needed"))?;
        let (hosts, prefix) = rest.split_once('/').ok_or_else(|| bad("a prefix is needed, like /freight"))?;
        if hosts.contains('@') {
            return Err(bad("no user or password is taken: etcd is asked without"));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let is_path = !prefix.split('/').any(str::is_empty);
        if !is_path || !prefix.bytes().all(is_plain) || prefix.len() > PREFIX_BYTES_MAX {
            return Err(bad("a prefix is names of letters, digits and -._~ with a / between two of them"));
        }
        let endpoints: Option<Vec<_>> = hosts.split(',').map(endpoint).collect();
        let endpoints = endpoints.ok_or_else(|| bad("a host is host, host:port or [IPv6]:port"))?;
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(bad("at most nine hosts"));
        }
        Ok(Self { text: text.to_owned(), endpoints, key: format!("{prefix}/map") })
    }
}

/// A member, on etcd's own port where it names none.
fn endpoint(host: &str) -> Option<Endpoint> {
    // What is no address of HTTP's either.
    if !host.bytes().all(|byte| byte.is_ascii_graphic()) || host.contains(['?', '#', '\\', '"']) {
        return None;
    }
    let named = Endpoint::new(Scheme::Tcp, host);
    let endpoint = named.or_else(|_| Endpoint::new(Scheme::Tcp, &format!("{host}:{PORT}"))).ok()?;
    endpoint.host_port().is_some_and(|(_, port)| port != 0).then_some(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<String>, String) {
        let place = Place::parse(text).expect("a place");
        assert_eq!(place.text, text);
        (place.endpoints.iter().map(|endpoint| endpoint.address().to_owned()).collect(), place.key)
    }

    #[test]
    fn a_place_names_members_and_a_key() {
        let one = |address: &str, key: &str| (vec![address.to_owned()], key.to_owned());
        assert_eq!(read("etcd://10.0.0.1:2380/freight"), one("10.0.0.1:2380", "freight/map"));
        assert_eq!(read("etcd://host/a/b-c"), one("host:2379", "a/b-c/map"));
        assert_eq!(read("etcd://[::1]/f"), one("[::1]:2379", "f/map"));
        let (members, key) = read("etcd://a:1,b,[::1]:3/f");
        assert_eq!((members, key), (["a:1", "b:2379", "[::1]:3"].map(str::to_owned).to_vec(), "f/map".to_owned()));
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_reason() {
        let many = format!("etcd://{}/f", ["a"; ENDPOINTS_MAX + 1].join(","));
        let long = format!("etcd://a/{}", "p".repeat(PREFIX_BYTES_MAX + 1));
        for (text, words) in [
            ("etcd:/a/f", "etcd://host:2379/prefix is needed"),
            ("etcd://a:2379", "a prefix is needed"),
            ("etcd://a:2379/", "a prefix is names"),
            ("etcd://a/f/", "a prefix is names"),
            ("etcd://a/f?x=1", "a prefix is names"),
            ("etcd://a/ü", "a prefix is names"),
            (&long, "a prefix is names"),
            ("etcd://root:secret@a/f", "no user or password"),
            ("etcd:///f", "a host is"),
            ("etcd://a,/f", "a host is"),
            ("etcd://::1/f", "a host is"),
            ("etcd://a:0/f", "a host is"),
            ("etcd://a:65536/f", "a host is"),
            ("etcd://a:/f", "a host is"),
            ("etcd://a b/f", "a host is"),
            ("etcd://a\r\nX: y/f", "a host is"),
            (&many, "at most nine"),
        ] {
            let error = Place::parse(text).expect_err(text);
            assert!(matches!(&error, MapStoreError::BadPlace { .. }) && error.to_string().contains(words), "{error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}
