//! A peer made of verbs: it opens a connection as it should, and then has no queue that would keep it honest.
#![forbid(unsafe_code)]

use super::super::greeting::{GREETING_BYTES, Greeting, READY};
use super::super::message::{Announcement, Kind, PREFIX_BYTES, Word};
use super::super::place::Place;
use super::super::pool::RegisteredPool;
use super::super::slab;
use super::super::verbs::{
    CompletionChannel, CompletionQueue, Failure, PairAddress, PairDepth, PairPath, PeerMay, ProtectionDomain, QueuePair,
};
use super::super::work::{Done, SendDepth, Work, address_of};
use super::super::{RdmaError, RdmaOptions};
use super::HANG;
use crate::budget::Budget;
use crate::transport::{Endpoint, Frame, Lender};
use crate::wire::wire_limit_reply;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::timeout;
use zerocopy::IntoBytes;

/// Bytes of receive buffers, as both ends say.
const RECEIVE_BYTES: u32 = 8192;

/// Most requests in its queues.
const DEPTH: u32 = 256;

/// How it behaves while opening.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// Receives it posts, of so many bytes, whatever it says of them.
    pub(super) receives: u32,
    pub(super) receive_bytes: u32,
    /// Announcements that it takes in one message.
    pub(super) announcements: u8,
    /// Whether it says that it is ready.
    pub(super) ready: bool,
}

impl Manners {
    pub(super) const GOOD: Self = Self { receives: 64, receive_bytes: RECEIVE_BYTES, announcements: 8, ready: true };
}

pub(super) struct Peer {
    pub(super) control: TcpStream,
    work: Option<Work>,
    /// What it has done that nobody has asked for yet.
    done: VecDeque<Done>,
    pool: Arc<RegisteredPool>,
}

impl Peer {
    pub(super) async fn connect(endpoint: &Endpoint, manners: Manners) -> Self {
        let mut control = TcpStream::connect(endpoint.host_port().expect("host and port")).await.expect("a listener");
        let own = control.local_addr().expect("connected").ip();
        let place = Place::pick(&RdmaOptions::default(), own).expect("a device owns the address");
        let domain = ProtectionDomain::new(&place.context).expect("a domain");
        let channel = CompletionChannel::new(&place.context).expect("a channel");
        let completions = CompletionQueue::new(&channel, 2 * DEPTH).expect("a queue");
        let depth = PairDepth { sends: DEPTH, receives: DEPTH, inline_bytes: 0 };
        let pair = QueuePair::new(&domain, &completions, place.port, depth).expect("a pair");
        let address = PairAddress { gid: place.gid, number: pair.number(), packet_number: 7, lid: place.state.lid };
        let send_depth = SendDepth { tx_depth: DEPTH - 16, signalled_one_in: 1, post_list: 1 };
        let mut work = Work::new(pair, completions, DEPTH as usize, send_depth, 1 << 20);
        let budget = Arc::new(Budget::new(u64::MAX));
        if manners.receives > 0 {
            let sizes = (manners.receive_bytes, manners.receives);
            let mut spans = slab::spans(&domain, &budget, sizes, PeerMay::Nothing).expect("memory");
            work.post_receives(&mut spans).expect("room for receives");
        }
        let own = Greeting {
            address,
            mtu_bytes: 4096,
            receive_bytes: RECEIVE_BYTES,
            credits: 32,
            reads_served: 16,
            announcements: manners.announcements,
            processor: None,
        };
        control.write_all(&own.encode()).await.expect("somebody reads");
        let mut greeting = [0; GREETING_BYTES];
        control.read_exact(&mut greeting).await.expect("a greeting");
        let peer = Greeting::decode(&greeting).expect("a greeting");
        let path = PairPath {
            port: place.port,
            gid_index: place.gid_index,
            mtu_bytes: peer.mtu_bytes.min(place.state.mtu_bytes),
            reads: 16,
            reads_served: 16,
            timeout: 14,
            retries: 6,
            not_ready_retries: 6,
            not_ready_timer: 12,
        };
        work.pair.connect(&address, &peer.address, &path).expect("a path");
        if manners.ready {
            control.write_all(&READY).await.expect("somebody reads");
            control.read_exact(&mut [0; READY.len()]).await.expect("it is ready");
        }
        let pool = RegisteredPool::new(&domain, &budget, RECEIVE_BYTES);
        Self { control, work: Some(work), done: VecDeque::new(), pool }
    }

    fn work(&mut self) -> &mut Work {
        self.work.as_mut().expect("its queue pair is there")
    }

    /// Its queue pair goes, and nothing else: the network knows it no more.
    pub(super) fn vanish(&mut self) {
        self.work = None;
    }

    /// A frame in memory that the other end may read.
    pub(super) fn frame(&self, frame_bytes: u32) -> Frame {
        let mut buffer = Arc::clone(&self.pool).lend(frame_bytes as usize).expect("memory");
        wire_limit_reply(&mut buffer, 1, frame_bytes);
        Frame::new(buffer, frame_bytes)
    }

    /// Sends a message of these bytes; false where its queue is full.
    pub(super) fn say(&mut self, word: Word, bytes: &[u8]) -> bool {
        let frame = (!bytes.is_empty()).then(|| {
            let mut buffer = Arc::clone(&self.pool).lend(bytes.len()).expect("memory");
            buffer[..bytes.len()].copy_from_slice(bytes);
            Frame::new(buffer, bytes.len() as u32)
        });
        self.work().has_room_for_frame() && self.work().send(word, frame, true).is_ok()
    }

    /// Announces a frame, as it is but for what `change` does to it.
    pub(super) fn announce(&mut self, frame: &Frame, change: impl FnOnce(&mut Announcement)) {
        let (address, key) = address_of(frame);
        let mut prefix = [0; PREFIX_BYTES];
        prefix.copy_from_slice(&frame[..PREFIX_BYTES]);
        let frame_bytes = frame.frame_bytes();
        let mut announcement =
            Announcement { address: address.into(), key: key.into(), frame_bytes: frame_bytes.into(), prefix };
        change(&mut announcement);
        assert!(self.say(word(Kind::Announcement), announcement.as_bytes()));
    }

    /// Sends a frame as it lies, wherever that is.
    pub(super) fn send_frame(&mut self, frame: &Frame) {
        self.work().send(word(Kind::Frame), Some(frame.clone()), true).expect("room");
    }

    /// Waits until all that it has said has arrived.
    pub(super) async fn done_sending(&mut self) {
        let waiting = async {
            while !self.work().is_idle() {
                self.work().poll(&mut Vec::new()).expect("it arrives");
                yield_now().await;
            }
        };
        timeout(HANG, waiting).await.expect("it ends");
    }

    /// READs from the other end's memory.
    pub(super) fn read(&mut self, address: u64, key: u32) {
        let buffer = Arc::clone(&self.pool).lend(4096).expect("memory");
        self.work().begin_read(buffer, 4096, address, key);
        self.work().read().expect("room for a READ");
    }

    /// The next thing that its queue pair has done.
    pub(super) async fn done(&mut self) -> Result<Done, RdmaError> {
        let waiting = async {
            loop {
                if let Some(done) = self.done.pop_front() {
                    return Ok(done);
                }
                let mut done = Vec::new();
                self.work().poll(&mut done)?;
                self.done.extend(done);
                yield_now().await;
            }
        };
        timeout(HANG, waiting).await.expect("it ends")
    }

    /// How its queue pair fails.
    pub(super) async fn failure(&mut self) -> Failure {
        loop {
            match self.done().await {
                Ok(_) => {}
                Err(RdmaError::Completion { failure }) => return failure,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A message's word that gives nothing.
pub(super) fn word(kind: Kind) -> Word {
    Word { kind, frames_read: 0, credits: 0 }
}
