//! A client that knows no more of the protocol than where a reply ends: what it gets is compared byte by byte.
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What a client may be connected by.
pub(crate) trait Stream: Read + Write + Debug + Send {}

impl<S: Read + Write + Debug + Send> Stream for S {}

/// Far beyond what any reply takes: a test that waits in vain fails.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(crate) struct Raw {
    stream: Box<dyn Stream>,
    arrived: Vec<u8>,
    taken: usize,
}

/// A command as an array of words.
pub(crate) fn command<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
        bytes.extend_from_slice(word.as_ref());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Raw {
    pub(crate) fn tcp(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self { stream: Box::new(stream), arrived: Vec::new(), taken: 0 }
    }

    pub(crate) fn unix(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: Box::new(stream), arrived: Vec::new(), taken: 0 })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it reads");
    }

    /// Sends a command and gives its reply.
    pub(crate) fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Vec<u8> {
        self.send(&command(words));
        self.reply()
    }

    /// As [`Raw::ask`], words and reply as text.
    pub(crate) fn says(&mut self, line: &str) -> String {
        let reply = self.ask(&line.split_whitespace().collect::<Vec<_>>());
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// The next reply, with everything that belongs to it.
    pub(crate) fn reply(&mut self) -> Vec<u8> {
        let begin = self.taken;
        self.skip_one();
        let reply = self.arrived[begin..self.taken].to_vec();
        if self.taken == self.arrived.len() {
            self.arrived.clear();
            self.taken = 0;
        }
        reply
    }

    fn skip_one(&mut self) {
        let line = self.line();
        let count = || -> i64 { String::from_utf8_lossy(&line[1..]).parse().unwrap_or_else(|_| panic!("{line:?}")) };
        match line[0] {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' => {}
            b'$' | b'=' => {
                let bytes = count();
                if bytes >= 0 {
                    self.more_until(bytes as usize + 2);
                    self.taken += bytes as usize + 2;
                }
            }
            b'*' | b'~' => (0..count()).for_each(|_| self.skip_one()),
            b'%' => (0..2 * count()).for_each(|_| self.skip_one()),
            _ => panic!("no reply: {:?}", String::from_utf8_lossy(&line)),
        }
    }

    fn line(&mut self) -> Vec<u8> {
        let mut looked = self.taken;
        loop {
            if let Some(at) = self.arrived[looked..].windows(2).position(|two| two == b"\r\n") {
                let line = self.arrived[self.taken..looked + at].to_vec();
                self.taken = looked + at + 2;
                return line;
            }
            looked = self.arrived.len().saturating_sub(1).max(self.taken);
            self.more();
        }
    }

    /// Waits for so many bytes that are not taken.
    pub(crate) fn more_until(&mut self, bytes: usize) {
        while self.arrived.len() < self.taken + bytes {
            self.more();
        }
    }

    fn more(&mut self) {
        let mut bytes = vec![0; 64 << 10];
        let count = self.stream.read(&mut bytes).expect("a reply in time");
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.arrived[self.taken..]));
        self.arrived.extend_from_slice(&bytes[..count]);
    }

    /// Everything until the connection is closed.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.arrived.split_off(self.taken);
        let mut bytes = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return rest,
                Ok(count) => rest.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return rest,
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&rest)),
            }
        }
    }
}
