//! TLS as its users meet it: certificates by the command line of openssl, the binary at both ends, and whoever means no
//! good in between.
#![forbid(unsafe_code)]

#[path = "../support/binary.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod binary;
mod binding;
#[path = "../support/certificates.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod certificates;
mod clients;
mod cluster;
mod hostile;
mod openssl;
mod redis;
mod reload;
mod starting;

use binary::{Done, Served, run, serve};
use certificates::Authority;

/// A node with the certificate `node` of an authority, at an address of each scheme, on this machine.
fn node(authority: &Authority, schemes: &[&str], flags: &[&str]) -> Served {
    let listen: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://127.0.0.1:0")).collect();
    let listen: Vec<_> = listen.iter().map(String::as_str).collect();
    let [certificate, key] = ["node.pem", "node.key"].map(|name| authority.file(name));
    serve(&listen, &[&["--tls-certificate", &certificate, "--tls-key", &key], flags].concat())
}

/// A command by a client that trusts the authority, with more flags.
fn at(authority: &Authority, endpoint: &str, words: &[&str]) -> Done {
    run(&[words, &["--servers", endpoint, "--tls-ca", &authority.file("ca.pem")]].concat())
}

/// `host:port` of an endpoint.
fn address(endpoint: &str) -> &str {
    endpoint.split_once("://").expect("an endpoint").1
}
