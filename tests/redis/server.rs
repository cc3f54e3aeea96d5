//! A real redis-server, to compare with.
#![forbid(unsafe_code)]

use crate::raw::Raw;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// redis-server with our limits: one database, values of up to 8 MiB. It keeps nothing.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().display();
        let socket = format!("{path}/socket");
        let mut command = Command::new("redis-server");
        // Free a moment ago; most tests use the socket.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--unixsocket",
            &socket,
            "--dir",
            &path.to_string(),
        ]);
        command.args(["--save", "", "--appendonly", "no", "--databases", "1", "--proto-max-bulk-len", "8388608"]);
        let mut child =
            command.stdout(Stdio::piped()).spawn().expect("redis-server is installed: scripts/verify does so");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let is_ready = lines.any(|line| line.expect("text").contains("now ready to accept connections"));
        assert!(is_ready, "it ended before it was ready");
        // What else it says is nobody's concern, but a pipe that is full would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, folder, port }
    }

    /// Where it listens, for a benchmark.
    pub(crate) fn endpoint(&self) -> String {
        format!("resp://127.0.0.1:{}", self.port)
    }

    pub(crate) fn client(&self) -> Raw {
        Raw::unix(&self.folder.path().join("socket")).expect("it listens")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
