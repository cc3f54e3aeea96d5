//! Redis clients over TLS: redis-cli and redis-py as they come.
#![forbid(unsafe_code)]

use crate::certificates::Authority;
use crate::{address, node};
use std::path::Path;
use std::process::{Command, Output};

fn redis_cli(endpoint: &str, flags: &[&str], words: &[&str]) -> Output {
    let (host, port) = address(endpoint).rsplit_once(':').expect("an address");
    let mut command = Command::new("redis-cli");
    command.args(["-h", host, "-p", port]).args(flags).args(words);
    command.output().expect("redis-cli is installed: scripts/verify does so")
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn redis_cli_talks_to_a_node_over_tls() {
    let authority = Authority::with_node();
    let node = node(&authority, &["resps"], &[]);
    let ca = authority.file("ca.pem");
    let tls = ["--tls", "--cacert", &ca];
    assert_eq!(said(&redis_cli(node.endpoint(), &tls, &["SET", "k", "v"])), "OK\n");
    assert_eq!(said(&redis_cli(node.endpoint(), &tls, &["GET", "k"])), "v\n");
    let stranger = Authority::new();
    let other = ["--tls", "--cacert", &stranger.file("ca.pem")];
    let refused = redis_cli(node.endpoint(), &other, &["GET", "k"]);
    assert!(said(&refused).contains("certificate verify failed"), "{}", said(&refused));
    let plain = redis_cli(node.endpoint(), &[], &["GET", "k"]);
    assert!(!plain.status.success() && said(&plain).contains("rror"), "{}", said(&plain));
}

#[test]
fn redis_clients_show_a_certificate_where_it_is_asked_for() {
    let authority = Authority::with_node();
    authority.sign("client", "extendedKeyUsage=clientAuth", "-days 10");
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| authority.file(name));
    let node = node(&authority, &["resps"], &["--tls-client-ca", &ca]);
    let with = ["--tls", "--cacert", &ca, "--cert", &certificate, "--key", &key];
    assert_eq!(said(&redis_cli(node.endpoint(), &with, &["SET", "k", "v"])), "OK\n");
    let without = redis_cli(node.endpoint(), &with[..3], &["GET", "k"]);
    assert!(!without.status.success() && !said(&without).contains("v\n"), "{}", said(&without));
}

#[test]
fn redis_py_pipelines_over_tls_what_no_buffer_holds() {
    let authority = Authority::with_node();
    let node = node(&authority, &["resps"], &[]);
    let (_, port) = address(node.endpoint()).rsplit_once(':').expect("an address");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/redis.py");
    // Debian's, for which scripts/verify installs the module; another one may come first in the path.
    let mut command = Command::new("/usr/bin/python3");
    let done = command.arg(script).args([port, &authority.file("ca.pem")]).output().expect("python3 is installed");
    assert!(done.status.success(), "{}", said(&done));
}
