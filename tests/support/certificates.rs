//! Certificates as anybody makes them: by the command line of openssl.
#![forbid(unsafe_code)]

use freight::transport::tls::{TlsClient, TlsIdentity, TlsNode, TlsOptions};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A folder with a CA, and what it signed.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    /// With a CA of its own, whose name no other has.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let name = folder.path().file_name().expect("it has one").to_string_lossy().into_owned();
        Self::named(folder, &name)
    }

    /// With another CA that is called like this one.
    pub(crate) fn namesake(&self) -> Self {
        let name = self.folder.path().file_name().expect("it has one").to_string_lossy();
        let namesake = Self::named(tempfile::tempdir().expect("a folder"), &name);
        namesake.sign("client", "extendedKeyUsage=clientAuth", "-days 10");
        namesake
    }

    fn named(folder: TempDir, name: &str) -> Self {
        let authority = Self { folder };
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN={name} \
             -keyout ca.key -out ca.pem -addext keyUsage=critical,keyCertSign,cRLSign"
        ));
        authority
    }

    /// And with the certificate of a node on this machine, `node.pem` and `node.key`.
    pub(crate) fn with_node() -> Self {
        let authority = Self::new();
        authority.sign("node", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1", "-days 3650");
        authority
    }

    /// Signs a certificate with an extension: NAME.pem and NAME.key, anew where they are there.
    pub(crate) fn sign(&self, name: &str, extension: &str, validity: &str) {
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.csr -addext {extension}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -copy_extensions copy -out {name}.pem {validity}"
        ));
    }

    /// The same, of February 2020.
    pub(crate) fn sign_expired(&self, name: &str, extension: &str) {
        self.sign(name, extension, "-days 1");
        let folder =
            "[it]\ndatabase = index\nrand_serial = yes\nnew_certs_dir = .\ndefault_md = sha256\npolicy = any\n";
        let settings = ["[ca]\ndefault_ca = it\n", folder, "copy_extensions = copy\n[any]\ncommonName = supplied\n"];
        fs::write(self.path("ca.cnf"), settings.concat()).expect("ours");
        fs::write(self.path("index"), "").expect("ours");
        self.openssl(&format!(
            "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -startdate 20200101000000Z \
             -enddate 20200201000000Z -in {name}.csr -out {name}.pem"
        ));
    }

    /// The same by a CA in between, whose certificate is behind the node's own in NAME.pem.
    pub(crate) fn sign_by_intermediate(&self, name: &str) {
        self.sign("intermediate", "basicConstraints=critical,CA:TRUE", "-days 3650");
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={name} -keyout {name}.key \
             -out {name}.csr -addext subjectAltName=IP:127.0.0.1"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA intermediate.pem -CAkey intermediate.key -copy_extensions copy \
             -out {name}.pem -days 3650"
        ));
        let [leaf, between] = [name, "intermediate"].map(|name| fs::read(self.path(&format!("{name}.pem"))));
        let chain = [leaf.expect("made"), between.expect("made")].concat();
        fs::write(self.path(&format!("{name}.pem")), chain).expect("ours");
    }

    /// Runs openssl in the folder; its words are parted by spaces.
    pub(crate) fn openssl(&self, words: &str) {
        let mut command = Command::new("openssl");
        command.args(words.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        let done = command.output().expect("openssl is there");
        assert!(done.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same for a command line.
    pub(crate) fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Puts one file in another's place, as whoever renews a certificate does.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).expect("both are ours");
    }

    pub(crate) fn identity(&self, name: &str) -> TlsIdentity {
        let [certificate, key] = ["pem", "key"].map(|ending| self.path(&format!("{name}.{ending}")));
        TlsIdentity { certificate, key }
    }

    /// What both ends on this machine are told.
    pub(crate) fn options(&self) -> TlsOptions {
        let node = TlsNode::read(self.identity("node"), None).expect("a certificate and its key");
        let client = TlsClient::read(self.path("ca.pem"), None).expect("a CA");
        TlsOptions { node: Some(node), client: Some(client) }
    }
}
