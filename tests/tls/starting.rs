//! A node that cannot use its files does not start, and says in one line which file it is.
#![forbid(unsafe_code)]

use crate::binary::{Done, run};
use crate::certificates::Authority;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A node with these two files, that only looks at them.
fn checked(authority: &Authority, certificate: &str, key: &str, more: &[&str]) -> Done {
    let [certificate, key] = [certificate, key].map(|name| authority.file(name));
    let words = ["serve", "--check-config", "--listen", "tls://127.0.0.1:0"];
    run(&[&words[..], &["--tls-certificate", &certificate, "--tls-key", &key], more].concat())
}

#[test]
fn a_listener_of_tls_needs_a_certificate() {
    for endpoint in ["tls://127.0.0.1:0", "resps://127.0.0.1:0"] {
        let words = format!("{endpoint} needs a certificate and its key: --tls-certificate FILE and --tls-key FILE");
        run(&["serve", "--listen", endpoint]).assert_one_line(&words);
        run(&["serve", "--check-config", "--listen", endpoint]).assert_one_line(&words);
    }
    run(&["serve", "--tls-key", "k"]).assert_one_line("--tls-key needs --tls-certificate");
    run(&["serve", "--tls-certificate", "c"]).assert_one_line("--tls-certificate needs --tls-key");
    run(&["serve", "--tls-client-ca", "c"]).assert_one_line("--tls-client-ca needs --tls-certificate and --tls-key");
}

#[test]
fn each_file_that_cannot_be_used_is_named() {
    let authority = Authority::with_node();
    let shown = checked(&authority, "node.pem", "node.key", &[]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let wrong = |certificate: &str, key: &str, more: &[&str], words: &str| {
        checked(&authority, certificate, key, more).assert_one_line(words);
    };
    wrong("nowhere.pem", "node.key", &[], "nowhere.pem: No such file or directory");
    wrong("node.key", "node.key", &[], "node.key: no certificate in it: ");
    fs::copy(authority.path("node.pem"), authority.path("closed.pem")).expect("ours");
    fs::set_permissions(authority.path("closed.pem"), PermissionsExt::from_mode(0o600)).expect("ours");
    wrong("node.pem", "closed.pem", &[], "closed.pem: no key without a password in it: ");
    wrong("node.pem", "ca.key", &[], "ca.key: this is not the key of the certificate in ");
    fs::write(authority.path("torn.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n").expect("ours");
    wrong("torn.pem", "node.key", &[], "torn.pem: no certificate in it: ");
    fs::write(authority.path("odd.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("ours");
    wrong("odd.pem", "node.key", &[], "odd.pem: ");
    let odd = authority.file("odd.pem");
    wrong("node.pem", "node.key", &["--tls-client-ca", &odd], "odd.pem: ");
    wrong("node.pem", "node.key", &["--tls-ca", &odd], "odd.pem: ");
    fs::write(authority.path("long.pem"), vec![b'\n'; (1 << 20) + 1]).expect("ours");
    wrong("long.pem", "node.key", &[], "long.pem: longer than 1048576 bytes");
    authority.openssl("x509 -req -in node.csr -CA ca.pem -CAkey ca.key -days 10 -out first.pem");
    wrong("first.pem", "node.key", &[], "first.pem: it is of X.509 version 1, 3 is needed: ");
    authority.openssl("pkey -in node.key -aes256 -passout pass:word -out secret.key");
    wrong("node.pem", "secret.key", &[], "secret.key: no key without a password in it: ");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let authority = Authority::with_node();
    for (mode, is_closed) in [(0o600, true), (0o640, true), (0o644, false), (0o660, false)] {
        fs::set_permissions(authority.path("node.key"), PermissionsExt::from_mode(mode)).expect("ours");
        let done = checked(&authority, "node.pem", "node.key", &[]);
        if is_closed {
            assert_eq!(done.code, Some(0), "{mode:o}: {}", done.stderr);
        } else {
            done.assert_one_line(&format!("node.key: others may read or change it (mode {mode:03o})"));
        }
    }
}

#[test]
fn certificates_are_no_users() {
    let authority = Authority::with_node();
    let [certificate, key, ca] = ["node.pem", "node.key", "ca.pem"].map(|name| authority.file(name));
    let files = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
    let beyond = run(&[&["serve", "--listen", "tls://0.0.0.0:0"][..], &files].concat());
    beyond.assert_one_line("--users names those who may use it");
}
