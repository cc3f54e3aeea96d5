//! Clients and what they trust: one line for each thing that is wrong, which says what to look at.
#![forbid(unsafe_code)]

use crate::binary::{Done, freight, run, run_with_input, serve_one};
use crate::certificates::Authority;
use crate::{address, at, node};

#[test]
fn a_key_is_put_and_found_over_tls() {
    let authority = Authority::with_node();
    let node = node(&authority, &["tls"], &[]);
    assert_eq!(at(&authority, node.endpoint(), &["put", "k", "v"]).code, Some(0));
    assert_eq!(at(&authority, node.endpoint(), &["get", "k"]).stdout, b"v");
    let ping = at(&authority, node.endpoint(), &["ping"]);
    let said = String::from_utf8(ping.stdout).expect("text");
    assert_eq!(said, format!("{} answers (transport tls)\n", node.endpoint()));
    // By its name too, for which the certificate is as well.
    let by_name = node.endpoint().replace("127.0.0.1", "localhost");
    assert_eq!(at(&authority, &by_name, &["get", "k"]).stdout, b"v");
    let mut command = freight(&["get", "k", "--servers", node.endpoint()]);
    let done = command.env("FREIGHT_TLS_CA", authority.file("ca.pem")).output().expect("it ends");
    assert_eq!(done.stdout, b"v", "the environment says it too");
    // Half a megabyte at once.
    let value = "x".repeat(500_000);
    let ca = authority.file("ca.pem");
    let put = run_with_input(&["put", "long", "-", "--servers", node.endpoint(), "--tls-ca", &ca], value.as_bytes());
    assert_eq!(put.code, Some(0), "{}", put.stderr);
    assert_eq!(at(&authority, node.endpoint(), &["get", "long"]).stdout, value.as_bytes());
}

#[test]
fn whom_a_client_does_not_trust_it_does_not_talk_to() {
    let (authority, stranger) = (Authority::with_node(), Authority::new());
    let node = node(&authority, &["tls"], &[]);
    let get = |endpoint: &str| at(&authority, endpoint, &["get", "k"]);
    run(&["get", "k", "--servers", node.endpoint()]).assert_one_line("--tls-ca FILE");
    at(&stranger, node.endpoint(), &["get", "k"])
        .assert_one_line("the other end's certificate is signed by no CA of --tls-ca");
    // One that is called like the CA that signed the certificate, and is another.
    at(&authority.namesake(), node.endpoint(), &["get", "k"]).assert_one_line("signed by no CA of --tls-ca");
    let elsewhere = node.endpoint().replace("127.0.0.1", "127.0.0.2");
    drop(node);
    get(&elsewhere).assert_one_line("Connection refused");
    for (extension, words) in [
        ("subjectAltName=DNS:other.example", "is for DnsName(\"other.example\"), not for 127.0.0.1"),
        ("basicConstraints=CA:FALSE", "is for nobody, not for 127.0.0.1"),
    ] {
        authority.sign("node", extension, "-days 10");
        get(crate::node(&authority, &["tls"], &[]).endpoint()).assert_one_line(words);
    }
    authority.sign_expired("node", "subjectAltName=IP:127.0.0.1");
    let node = crate::node(&authority, &["tls"], &[]);
    get(node.endpoint()).assert_one_line("the other end's certificate expired at 2020-02-01T00:00:00Z");
}

#[test]
fn clients_show_a_certificate_where_it_is_asked_for() {
    let (authority, stranger) = (Authority::with_node(), Authority::new());
    authority.sign("client", "extendedKeyUsage=clientAuth", "-days 10");
    authority.sign_expired("old", "extendedKeyUsage=clientAuth");
    stranger.sign("client", "extendedKeyUsage=clientAuth", "-days 10");
    let ca = authority.file("ca.pem");
    let mut node = node(&authority, &["tls"], &["--tls-client-ca", &ca]);
    let endpoint = node.endpoint().to_owned();
    let with = |of: &Authority, name: &str| {
        let [certificate, key] = ["pem", "key"].map(|ending| of.file(&format!("{name}.{ending}")));
        at(&authority, &endpoint, &["put", "k", "v", "--tls-certificate", &certificate, "--tls-key", &key])
    };
    assert_eq!(with(&authority, "client").code, Some(0));
    let without: Done = at(&authority, &endpoint, &["get", "k"]);
    without.assert_one_line("the node asks for a client certificate: --tls-certificate FILE and --tls-key FILE");
    node.process.wait_for("the client gave no certificate, and --tls-client-ca asks for one");
    with(&stranger, "client").assert_one_line("the other end refuses this one's certificate (UnknownCA)");
    node.process.wait_for("the other end's certificate is signed by no CA of --tls-client-ca");
    with(&authority, "old").assert_one_line("the other end refuses this one's certificate (CertificateExpired)");
    node.process.wait_for("the other end's certificate expired at 2020-02-01T00:00:00Z");
    let namesake = authority.namesake();
    with(&namesake, "client").assert_one_line("the other end refuses this one's certificate (DecryptError)");
    node.process.wait_for("the other end's certificate is signed by no CA of --tls-client-ca");
    // A certificate lets nobody do what users may not, and there are none here.
    let key_alone = at(&authority, &endpoint, &["get", "k", "--tls-key", &authority.file("client.key")]);
    key_alone.assert_one_line("--tls-certificate");
}

#[test]
fn whoever_mixes_up_plain_and_tls_is_told_so() {
    let authority = Authority::with_node();
    let mut secure = node(&authority, &["tls"], &[]);
    let plain = format!("tcp://{}", address(secure.endpoint()));
    run(&["get", "k", "--servers", &plain]).assert_one_line("it looks like TLS: is one end at tls://?");
    secure.process.wait_for("the other end does not speak TLS: is one end at tcp:// or resp://?");
    let mut open = serve_one(&[]);
    let tls = format!("tls://{}", address(open.endpoint()));
    at(&authority, &tls, &["get", "k"]).assert_one_line("the other end does not speak TLS");
    open.process.wait_for("it looks like TLS: is one end at tls://?");
    // Neither is the worse for it.
    assert_eq!(at(&authority, secure.endpoint(), &["put", "k", "v"]).code, Some(0));
    assert_eq!(open.run(&["put", "k", "v"]).code, Some(0));
}

#[test]
fn the_benchmark_drives_a_node_of_its_own_over_tls_too() {
    let authority = Authority::with_node();
    let [certificate, key, ca] = ["node.pem", "node.key", "ca.pem"].map(|name| authority.file(name));
    let short =
        ["bench", "--records", "2000", "--duration", "200ms", "--warmup", "100ms", "--batch", "100", "--verify"];
    let over = ["--transports", "tcp,tls,resps", "--wire-limit=false"];
    let files = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-ca", &ca];
    let done = run(&[&short[..], &over, &files].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let said = String::from_utf8(done.stdout).expect("text");
    assert!(["tcp", "tls", "resps"].iter().all(|name| said.contains(name)), "{said}");
    run(&[&short[..], &over].concat()).assert_one_line("--tls-certificate and --tls-key");
    let node = node(&authority, &["tls", "resps"], &[]);
    for endpoint in &node.endpoints {
        let done = run(&[&short[..], &["--servers", endpoint, "--tls-ca", &ca]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
}
