//! Certificates that are renewed while a node serves: new connections go by them, open ones go on.
#![forbid(unsafe_code)]

use crate::binding::{client_config, started};
use crate::certificates::Authority;
use crate::{at, node};
use freight::client::Client;
use freight::transport::tls::{TlsClient, TlsNode, TlsOptions};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use tokio::runtime::Builder;

const ON_THIS_MACHINE: &str = "subjectAltName=IP:127.0.0.1";

#[test]
fn sighup_takes_certificate_key_and_ca_anew() {
    let (authority, other) = (Authority::with_node(), Authority::with_node());
    let mut node = node(&authority, &["tls"], &[]);
    let get = |of: &Authority, endpoint: &str| at(of, endpoint, &["ping"]);
    let endpoint = node.endpoint().to_owned();
    assert_eq!(get(&authority, &endpoint).code, Some(0));
    get(&other, &endpoint).assert_one_line("signed by no CA of --tls-ca");
    for name in ["node.pem", "node.key"] {
        fs::copy(other.path(name), authority.path(name)).expect("ours");
    }
    get(&other, &endpoint).assert_one_line("signed by no CA of --tls-ca");
    node.process.signal(Signal::HUP);
    node.process.wait_for("SIGHUP: the certificates are read again, for new connections");
    assert_eq!(get(&other, &endpoint).code, Some(0));
    get(&authority, &endpoint).assert_one_line("signed by no CA of --tls-ca");
}

#[test]
fn a_file_that_cannot_be_used_leaves_all_as_it_was() {
    let authority = Authority::with_node();
    let mut node = node(&authority, &["tls"], &[]);
    for (name, content, words) in [
        ("node.key", &b"no key"[..], "node.key: no key without a password in it"),
        ("node.pem", b"no certificate", "node.pem: no certificate in it"),
    ] {
        let before = fs::read(authority.path(name)).expect("ours");
        fs::write(authority.path(name), content).expect("ours");
        node.process.signal(Signal::HUP);
        node.process.wait_for(&format!("SIGHUP: the certificates stay as they are: {}", authority.file(name)));
        assert_eq!(at(&authority, node.endpoint(), &["ping"]).code, Some(0), "{words}");
        fs::write(authority.path(name), before).expect("ours");
    }
    node.process.signal(Signal::HUP);
    node.process.wait_for("SIGHUP: the certificates are read again");
}

#[test]
fn open_connections_go_on_and_new_ones_go_by_the_new_files() {
    let authority = Authority::with_node();
    authority.sign("client", "extendedKeyUsage=clientAuth", "-days 10");
    let (certificate, ca) = (authority.identity("node"), authority.path("ca.pem"));
    fs::copy(&ca, authority.path("clients.pem")).expect("ours");
    let node_tls = TlsNode::read(certificate, Some(authority.path("clients.pem"))).expect("files");
    let client_tls = TlsClient::read(ca, Some(authority.identity("client"))).expect("files");
    let tls = TlsOptions { node: Some(node_tls), client: Some(client_tls) };
    let node = started(tls.clone(), |_| ());
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connect = || Client::connect(node.endpoints(), client_config(tls.clone(), None));
        let open = connect().await.expect("a certificate that is known");
        open.put(b"k", b"v").await.expect("served");
        // From here on clients need a certificate of another CA.
        fs::copy(Authority::new().path("ca.pem"), authority.path("clients.pem")).expect("ours");
        node.reload_tls().expect("good files");
        assert_eq!(open.get(b"k").await.expect("served").as_deref(), Some(&b"v"[..]));
        let refused = connect().await.expect_err("another CA");
        assert!(refused.to_string().contains("refuses this one's certificate (UnknownCA)"), "{refused}");
        assert_eq!(open.get(b"k").await.expect("served").as_deref(), Some(&b"v"[..]));
    });
    node.drain();
}

#[test]
fn metrics_tell_when_the_certificate_expires() {
    let authority = Authority::with_node();
    let mut node = node(&authority, &["tls"], &["--metrics", "127.0.0.1:0"]);
    let line = node.process.stdout.next().expect("a line").expect("text");
    let metrics = line.trim_start_matches("metrics at http://").trim_end_matches("/metrics").to_owned();
    let told = || {
        let mut stream = TcpStream::connect(&metrics).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").expect("it listens");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("text");
        let line = page.lines().find_map(|line| line.strip_prefix("freight_tls_certificate_expiry_seconds "));
        line.expect("it is told").parse::<u64>().expect("a number")
    };
    let by_openssl = || {
        let mut command = Command::new("openssl");
        command.args(["x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", &authority.file("node.pem")]);
        let said = String::from_utf8(command.output().expect("openssl is there").stdout).expect("text");
        let date = said.trim().trim_start_matches("notAfter=").to_owned();
        let done = Command::new("date").args(["--date", &date, "+%s"]).output().expect("coreutils");
        String::from_utf8(done.stdout).expect("text").trim().parse::<u64>().expect("a number")
    };
    assert_eq!(told(), by_openssl());
    authority.sign("node", ON_THIS_MACHINE, "-days 20000");
    node.process.signal(Signal::HUP);
    node.process.wait_for("SIGHUP: the certificates are read again");
    assert_eq!(told(), by_openssl(), "it is the new one's");
}
