//! What openssl's own client sees of a node.
#![forbid(unsafe_code)]

use crate::certificates::Authority;
use crate::{address, node};
use std::process::{Command, Stdio};

/// What `openssl s_client` says of an endpoint, and whether it was content.
fn s_client(authority: &Authority, endpoint: &str, flags: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", address(endpoint), "-CAfile", &authority.file("ca.pem"), "-showcerts"]);
    let done = command.args(flags).stdin(Stdio::null()).output().expect("openssl is there");
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (done.status.success(), said)
}

#[track_caller]
fn assert_says(said: &(bool, String), is_content: bool, words: &[&str]) {
    assert_eq!(said.0, is_content, "{}", said.1);
    words.iter().for_each(|words| assert!(said.1.contains(words), "{words:?}: {}", said.1));
}

#[test]
fn a_node_speaks_tls_1_3_and_shows_its_chain() {
    let authority = Authority::new();
    authority.sign_by_intermediate("node");
    let node = node(&authority, &["tls", "resps"], &[]);
    let seen = s_client(&authority, &node.endpoints[0], &["-alpn", "freight/1", "-verify_ip", "127.0.0.1"]);
    let chain = ["0 s:CN = node", "1 s:CN = intermediate", "Verify return code: 0 (ok)"];
    assert_says(&seen, true, &[&chain[..], &["New, TLSv1.3", "ALPN protocol: freight/1"]].concat());
    // Redis clients name no protocol.
    let seen = s_client(&authority, &node.endpoints[1], &[]);
    assert_says(&seen, true, &[&chain[..], &["New, TLSv1.3", "No ALPN negotiated"]].concat());
}

#[test]
fn nothing_is_resumed_and_nothing_is_sent_early() {
    let authority = Authority::with_node();
    let node = node(&authority, &["tls"], &[]);
    let (_, said) = s_client(&authority, node.endpoint(), &[]);
    assert!(!said.contains("New Session Ticket"), "{said}");
    assert!(said.contains("Early data was not sent"), "{said}");
}

#[test]
fn older_tls_is_refused_and_another_protocol() {
    let authority = Authority::with_node();
    let mut node = node(&authority, &["tls", "resps"], &[]);
    for endpoint in &node.endpoints {
        let older = s_client(&authority, endpoint, &["-tls1_2"]);
        assert_says(&older, false, &["alert protocol version"]);
        node.process.wait_for("the other end does not speak TLS 1.3 as this one does");
    }
    let other = s_client(&authority, node.endpoint(), &["-alpn", "h2,http/1.1"]);
    assert_says(&other, false, &["alert no application protocol"]);
    node.process.wait_for("the other end speaks another protocol over TLS (ALPN), not freight/1");
    assert_says(&s_client(&authority, node.endpoint(), &[]), true, &["No ALPN negotiated"]);
}
