//! A real etcd of the test's own: free ports, a scratch folder, killed at the end whatever happens.
#![forbid(unsafe_code)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// The prefix of the test's map.
const PREFIX: &str = "freight";

/// A process of etcd that may be stopped and come back with what it held.
pub(crate) struct Etcd {
    folder: TempDir,
    /// Of clients and of peers.
    addresses: [String; 2],
    running: Option<Running>,
}

struct Running {
    process: Child,
    /// Reads what it says, so that it is never kept from saying more.
    reader: JoinHandle<()>,
}

impl Etcd {
    /// Starts one, empty.
    pub(crate) fn start() -> Self {
        // A loopback address of the process's own, so that a port stays free for it to come back to.
        let process = std::process::id();
        Self::start_at(&format!("127.{}.{}.{}", 100 + (process >> 16) % 100, process >> 8 & 255, process & 255))
    }

    /// The same, at an address of this machine that nobody else uses.
    pub(crate) fn start_at(address: &str) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let free = || TcpListener::bind((address, 0)).expect("a free port");
        // Both at once, so that they are two.
        let listeners = [free(), free()];
        let addresses = listeners.each_ref().map(|bound| bound.local_addr().expect("it is bound").to_string());
        drop(listeners);
        let mut etcd = Self { folder, addresses, running: None };
        etcd.restart();
        etcd
    }

    /// Starts it where it was, with what it held, and waits until it answers.
    pub(crate) fn restart(&mut self) {
        assert!(self.running.is_none(), "it runs");
        let [client, peer] = self.addresses.each_ref().map(|address| format!("http://{address}"));
        // It ends with the test, also where that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--data-dir"]).arg(self.folder.path().join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("setpriv, of util-linux, starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let is_ready = lines.by_ref().inspect(|line| said.push(line.clone())).any(|line| line.contains(READY));
        let reader = std::thread::spawn(move || lines.for_each(drop));
        self.running = Some(Running { process, reader });
        assert!(is_ready, "etcd does not start: is etcd-server installed?\n{}", said.join("\n"));
    }

    /// `etcd://` and where the map is.
    pub(crate) fn place(&self) -> String {
        format!("etcd://{}/{PREFIX}", self.address())
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(Running { mut process, reader }) = self.running.take() {
            process.kill().expect("it runs");
            process.wait().expect("it ends");
            reader.join().expect("it only reads");
        }
    }

    /// STOP or CONT. Stopped it answers nothing any more: threads stop one after the other.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.running.as_ref().expect("it runs").process.id();
        kill_process(Pid::from_raw(id.cast_signed()).expect("a number"), signal).expect("it runs");
        while signal == Signal::STOP && !are_stopped(id) {
            std::thread::yield_now();
        }
    }

    /// Writes the map's key past freight.
    pub(crate) fn put(&self, value: &[u8]) {
        let (key, value) = (STANDARD.encode(format!("{PREFIX}/map")), STANDARD.encode(value));
        self.ask("put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#));
    }

    /// What stands there.
    pub(crate) fn get(&self) -> Vec<u8> {
        let key = STANDARD.encode(format!("{PREFIX}/map"));
        let answer = self.ask("range", &format!(r#"{{"key":"{key}"}}"#));
        STANDARD.decode(answer["kvs"][0]["value"].as_str().unwrap_or_default()).expect("base64")
    }

    /// How many watch it now.
    pub(crate) fn watchers(&self) -> u32 {
        let metrics = self.http("GET /metrics", "");
        let line = metrics.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        line.expect("it counts them").parse().expect("a number")
    }

    fn ask(&self, what: &str, json: &str) -> serde_json::Value {
        serde_json::from_str(&self.http(&format!("POST /v3/kv/{what}"), json)).expect("JSON")
    }

    fn http(&self, what: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(self.address()).expect("it listens");
        let length = body.len();
        write!(socket, "{what} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(" 200 OK"), "{answer}");
        body.to_owned()
    }
}

/// What etcd says once it answers.
const READY: &str = "ready to serve client requests";

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(Running { process, .. }) = &mut self.running {
            // It may have ended by itself, and there is nobody left to tell.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Whether every thread of a process is stopped.
fn are_stopped(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let mut states = threads.map(|thread| std::fs::read_to_string(thread.expect("a thread").path().join("stat")));
    // The state stands behind the name, which is in parentheses.
    states.all(|stat| stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))))
}
