//! The binary as a process: runs to its end, or until it is told to stop.
#![forbid(unsafe_code)]

use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

pub(crate) fn freight<S: AsRef<OsStr>>(args: &[S]) -> Command {
    // Where tests run on another machine than the one that built them, it lies elsewhere.
    let binary = std::env::var_os("FREIGHT").unwrap_or_else(|| env!("CARGO_BIN_EXE_freight").into());
    let mut command = Command::new(binary);
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command left behind.
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    /// Where a command went wrong: one line, nothing on standard output, code 2.
    pub(crate) fn assert_one_line(&self, words: &str) {
        assert_eq!((self.code, self.stdout.len()), (Some(2), 0), "{}", self.stderr);
        assert!(self.stderr.starts_with("freight: ") && self.stderr.contains(words), "{words:?}: {}", self.stderr);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
    }
}

pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Done {
    run_with_input(args, b"")
}

pub(crate) fn run_with_input<S: AsRef<OsStr>>(args: &[S], input: &[u8]) -> Done {
    let mut child = freight(args).stdin(Stdio::piped()).spawn().expect("the binary starts");
    // Whoever does not read it, like a command line that was refused, breaks the pipe.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8(output.stderr).expect("errors are text");
    Done { code: output.status.code(), stdout: output.stdout, stderr }
}

/// A process that runs until it is told to stop; killed where a test fails.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: Lines<BufReader<ChildStdout>>,
    pub(crate) stderr: Lines<BufReader<ChildStderr>>,
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::of(freight(args).spawn().expect("the binary starts"))
    }

    pub(crate) fn of(mut child: Child) -> Self {
        let stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        let stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
        Self { child, stdout, stderr }
    }

    /// Waits until it says `words` on standard error.
    pub(crate) fn wait_for(&mut self, words: &str) {
        let mut said = Vec::new();
        for line in self.stderr.by_ref().map_while(Result::ok) {
            if line.contains(words) {
                return;
            }
            said.push(line);
        }
        panic!("it never said {words:?}, but\n{}", said.join("\n"));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has a number");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end: the exit code and the lines it still said on standard error.
    pub(crate) fn end(&mut self) -> (Option<i32>, Vec<String>) {
        let said = self.stderr.by_ref().map_while(Result::ok).collect();
        (self.child.wait().expect("it ends").code(), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where its test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node, and where it listens.
pub(crate) struct Served {
    pub(crate) process: Running,
    pub(crate) endpoints: Vec<String>,
}

pub(crate) fn serve(listen: &[&str], flags: &[&str]) -> Served {
    let mut args = vec!["serve", "--threads", "1"];
    args.extend(listen.iter().flat_map(|endpoint| ["--listen", endpoint]));
    args.extend(flags);
    Served::of(Running::start(&args), listen.len())
}

/// A node at an address that an RDMA device owns, which need not be a loopback one.
pub(crate) fn serve_over_rdma(flags: &[&str]) -> Served {
    let address = std::env::var("FREIGHT_RDMA_ADDRESS").unwrap_or_else(|_| "127.0.0.1".to_owned());
    serve(&[&format!("rdma://{address}:0")], &[&["--insecure"], flags].concat())
}

pub(crate) fn serve_one(flags: &[&str]) -> Served {
    serve(&["tcp://127.0.0.1:0"], flags)
}

impl Served {
    /// A node that says where it listens, at so many endpoints.
    pub(crate) fn of(mut process: Running, count: usize) -> Self {
        let endpoint = |line: String| {
            let said =
                line.strip_prefix("listening ").and_then(|line| line.strip_suffix(")")?.split_once(" (transport "));
            let (endpoint, transport) = said.unwrap_or_else(|| panic!("an unexpected line: {line}"));
            assert!(endpoint.starts_with(&format!("{transport}://")), "{line}");
            endpoint.to_owned()
        };
        let lines = process.stdout.by_ref().take(count);
        let endpoints: Vec<_> = lines.map(|line| endpoint(line.expect("text"))).collect();
        assert_eq!(endpoints.len(), count, "{:?}", process.end());
        Self { process, endpoints }
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoints[0]
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        run(&[args, &["--servers", self.endpoint()]].concat())
    }

    pub(crate) fn raw(&self) -> TcpStream {
        TcpStream::connect(self.endpoint().trim_start_matches("tcp://")).expect("it listens")
    }
}
