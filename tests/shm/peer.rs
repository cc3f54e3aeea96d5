//! A client that speaks the handshake by itself, and then does with the shared memory what it likes.
#![forbid(unsafe_code)]

use freight::server::{Identity, Node, NodeConfig};
use rustix::io::IoSliceMut;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use tempfile::TempDir;

/// A node that listens in a scratch folder.
pub(crate) struct Served {
    pub(crate) node: Node,
    _folder: TempDir,
}

pub(crate) fn serve(change: impl FnOnce(&mut NodeConfig)) -> Served {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let endpoint = format!("shm://{}/node.sock", folder.path().display());
    let identity = Identity { incarnation: [7; 16], hash_secret: [9; 32] };
    let mut config = NodeConfig::new(vec![endpoint.parse().expect("an endpoint")], identity);
    (config.threads, config.cores) = (1, Vec::new());
    change(&mut config);
    Served { node: Node::start(config).expect("a node"), _folder: folder }
}

/// The hello of a client of that version.
pub(crate) fn hello(version: u16) -> Vec<u8> {
    let mut hello = b"FSHM".to_vec();
    hello.extend_from_slice(&version.to_le_bytes());
    hello.extend_from_slice(&[0xFF; 2]);
    hello.extend_from_slice(&[0; 8]);
    hello
}

/// Words of a segment, as `layout` draws them.
pub(crate) const PUBLISHED: u64 = 0;
pub(crate) const CONSUMED: u64 = 8;
pub(crate) const SLOTS: u64 = 64;
pub(crate) const RELEASED: u64 = 512;

/// The client's end.
pub(crate) struct Peer {
    pub(crate) socket: UnixStream,
    /// Files are written and read with plain calls: that reaches the same pages.
    pub(crate) requests: File,
    pub(crate) replies: File,
    pub(crate) request_granules: u32,
    pub(crate) reply_granules: u32,
    published: u64,
    taken: u64,
}

pub(crate) fn connect_silently(node: &Node) -> UnixStream {
    UnixStream::connect(node.endpoints()[0].address()).expect("the node listens")
}

impl Peer {
    pub(crate) fn connect(node: &Node) -> Self {
        let mut socket = connect_silently(node);
        socket.write_all(&hello(1)).expect("the node reads");
        let mut offer = [0; 32];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&socket, &mut [IoSliceMut::new(&mut offer)], &mut rights, flags).expect("an offer");
        assert_eq!((got.bytes, &offer[..6]), (32, &b"FSHM\x01\0"[..]));
        let files: Vec<OwnedFd> = rights
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            })
            .flatten()
            .collect();
        let [requests, replies] = <[OwnedFd; 2]>::try_from(files).expect("two files");
        let number = |at: usize| u32::from_le_bytes(*offer[at..].first_chunk().expect("four bytes"));
        Self {
            socket,
            requests: requests.into(),
            replies: replies.into(),
            request_granules: number(8),
            reply_granules: number(12),
            published: 0,
            taken: 0,
        }
    }

    fn data_at(peer_granules: u32) -> u64 {
        (8 * (RELEASED + u64::from(peer_granules))).next_multiple_of(4096)
    }

    pub(crate) fn store(&self, word: u64, value: u64) {
        self.requests.write_all_at(&value.to_le_bytes(), 8 * word).expect("our own segment");
    }

    pub(crate) fn load(&self, word: u64) -> u64 {
        let mut value = [0; 8];
        self.replies.read_exact_at(&mut value, 8 * word).expect("within the segment");
        u64::from_le_bytes(value)
    }

    /// Writes bytes into our data, from a granule on.
    pub(crate) fn write(&self, granule: u64, bytes: &[u8]) {
        let at = Self::data_at(self.reply_granules) + 1024 * granule;
        self.requests.write_all_at(bytes, at).expect("our own segment");
    }

    /// Publishes whatever a descriptor says.
    pub(crate) fn publish(&mut self, first: u32, bytes: u32) {
        self.store(SLOTS + self.published % 256, u64::from(first) << 32 | u64::from(bytes));
        self.published += 1;
        self.store(PUBLISHED, self.published);
        self.ring();
    }

    /// Rings whether the node sleeps or not.
    pub(crate) fn ring(&mut self) {
        // A node that has closed is found out by whoever reads from it.
        let _closed = self.socket.write_all(b"!");
    }

    /// Sends a frame as an honest client does, from the first granule.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.write(0, frame);
        self.publish(0, frame.len() as u32);
    }

    /// Says that no more frames follow.
    pub(crate) fn end(&mut self) {
        self.store(32, 1);
        self.ring();
    }

    /// Waits for the next frame; `None` where the node closed first.
    pub(crate) fn frame(&mut self) -> Option<Vec<u8>> {
        // Both halves of the node's end are asked to ring.
        self.store(16, self.taken + 1);
        let mut closed = false;
        while self.load(PUBLISHED) == self.taken {
            if closed {
                return None;
            }
            closed = !matches!(self.socket.read(&mut [0; 64]), Ok(1..));
        }
        let descriptor = self.load(SLOTS + self.taken % 256);
        self.taken += 1;
        let (first, bytes) = (descriptor >> 32, descriptor as u32);
        let mut frame = vec![0; bytes as usize];
        let at = Self::data_at(self.request_granules) + 1024 * first;
        self.replies.read_exact_at(&mut frame, at).expect("within the segment");
        self.store(CONSUMED, self.taken);
        self.store(RELEASED + first, self.taken);
        self.ring();
        Some(frame)
    }
}
