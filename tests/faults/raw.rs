//! A plain socket that speaks to a real node, well or badly.
#![forbid(unsafe_code)]

use crate::support::cluster::identity;
use crate::support::frames::read_frame;
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Op};
use freight::server::{Node, NodeConfig};
use freight::wire::{Capabilities, Hello, HelloReply, Origin, Refusal, RefusalCode, ReplyView, RequestBuilder, hello};
use std::io::Write;
use std::net::{Shutdown, TcpStream};

/// A node on loopback with two threads.
pub(crate) fn node(change: impl FnOnce(&mut NodeConfig)) -> Node {
    let mut config = NodeConfig::new(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], identity(1, 1));
    (config.threads, config.cores) = (2, Vec::new());
    change(&mut config);
    Node::start(config).expect("a node on loopback")
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    pub(crate) fn connect_silently(node: &Node) -> Self {
        let stream = TcpStream::connect(node.endpoints()[0].address()).expect("the node listens");
        Self { stream }
    }

    pub(crate) fn connect(node: &Node) -> Self {
        let mut raw = Self::connect_silently(node);
        raw.greet();
        raw
    }

    /// Says hello and is welcome.
    pub(crate) fn greet(&mut self) {
        self.send(&greeting());
        let answer = self.frame().expect("an answer");
        assert!(HelloReply::parse(&answer).is_ok(), "a node answers a hello");
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    /// Says that nothing more comes.
    pub(crate) fn close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is there");
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn frame(&mut self) -> Option<Vec<u8>> {
        read_frame(&mut self.stream)
    }

    /// Expects a refusal and the end of the connection behind it; gives its one line.
    #[track_caller]
    pub(crate) fn expect_refusal(&mut self, code: RefusalCode) -> String {
        let frame = self.frame().expect("a refusal");
        let refusal = Refusal::parse(&frame).expect("a refusal");
        assert_eq!(refusal.code, code, "{}", refusal.text);
        assert_eq!(self.frame(), None, "a refusal is the last frame");
        refusal.text.to_owned()
    }

    /// Puts and gets a record: the connection works.
    pub(crate) fn works(&mut self) {
        let ops = [op(b"works", Action::Put { value: b"v" }), op(b"works", Action::Get)];
        self.send(&request(7, &ops));
        let reply = self.frame().expect("a reply");
        assert_eq!(ReplyView::parse(&reply).expect("a reply").op_count(), 2);
    }
}

/// A hello.
pub(crate) fn greeting() -> Vec<u8> {
    hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default()))
}

pub(crate) fn op<'a>(key: &'a [u8], action: Action<'a>) -> Op<'a> {
    Op { key, action, version_wanted: false }
}

pub(crate) fn request(number: u64, ops: &[Op<'_>]) -> Vec<u8> {
    let mut builder = RequestBuilder::new(Vec::new(), ops.len() as u32, FRAME_BYTES_DEFAULT).expect("room");
    ops.iter().for_each(|op| builder.push(op).expect("room"));
    let (mut bytes, length) = builder.finish(Origin { request: number, ..Origin::default() });
    bytes.truncate(length as usize);
    bytes
}
