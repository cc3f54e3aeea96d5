//! Connections: made of a control connection and a place, then split into halves.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::counts::Counts;
use super::greeting::Greeting;
use super::keeper::Keeper;
use super::options::RdmaOptions;
use super::place::Place;
use super::pool::RegisteredPool;
use super::queue::{ANNOUNCED_MAX, CONTROL_RECEIVES, Queue};
use super::reads::READS_MAX;
use super::receiver::RdmaReceiver;
use super::sender::RdmaSender;
use super::shared::Shared;
use super::slab;
use super::verbs::{
    CompletionChannel, CompletionQueue, PairAddress, PairDepth, PeerMay, ProtectionDomain, QueuePair, VerbsError,
};
use super::work::{CONTROL_SENDS, SendDepth, Work};
use crate::transport::{Connection, ConnectionConfig};
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Bytes of one READ: pieces of this size keep several on their way, and stay under every device's limit.
const CHUNK_BYTES: u32 = 1 << 20;

/// An open connection.
#[derive(Debug)]
pub struct RdmaConnection {
    shared: Arc<Shared>,
    peer: String,
    config: ConnectionConfig,
}

impl RdmaConnection {
    /// Makes what the connection needs and has its keeper open it; nothing is waited for.
    ///
    /// # Errors
    /// Why not, and the control connection, over which the peer can be told.
    pub(super) fn new(
        stream: TcpStream,
        peer: String,
        options: &RdmaOptions,
        config: &ConnectionConfig,
    ) -> Result<Self, (TcpStream, io::Error)> {
        let made = stream.local_addr().and_then(|local| {
            let place = Place::pick(options, local.ip().to_canonical()).map_err(VerbsError::into_io)?;
            let (shared, own, tx_depth) = make(&place, options, config).map_err(RdmaError::into_io)?;
            Ok((place, shared, own, tx_depth))
        });
        let (place, shared, own, tx_depth) = match made {
            Ok(made) => made,
            Err(error) => return Err((stream, error)),
        };
        let keeper = Keeper {
            stream,
            peer: peer.clone(),
            reads_max: place.context.limits().reads_max.clamp(1, READS_MAX as u8),
            place,
            own,
            tx_depth,
            shared: Arc::downgrade(&shared),
        };
        keeper.start(&shared);
        Ok(Self { shared, peer, config: config.clone() })
    }

    /// What was posted so far, as long as one of the halves lives.
    pub fn counter(&self) -> impl Fn() -> Option<Counts> + Send + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade().map(|shared| shared.counts())
    }
}

/// Queue pair, memory and queues of one connection, all of its own: a peer that may read our memory finds nobody
/// else's in its protection domain. With what the peer is told of it, and the depth of its send queue.
fn make(
    place: &Place,
    options: &RdmaOptions,
    config: &ConnectionConfig,
) -> Result<(Arc<Shared>, Greeting, u32), RdmaError> {
    let limits = place.context.limits();
    let domain = ProtectionDomain::new(&place.context)?;
    let channel = CompletionChannel::new(&place.context)?;
    let extra = CONTROL_SENDS + READS_MAX as u32;
    let tx_depth = options.tx_depth.min(limits.requests_max.saturating_sub(extra)).max(8);
    let rx_depth = options.rx_depth.min(limits.requests_max.saturating_sub(CONTROL_RECEIVES)).max(4);
    let depth =
        PairDepth { sends: tx_depth + extra, receives: rx_depth + CONTROL_RECEIVES, inline_bytes: options.inline_size };
    let completions = CompletionQueue::new(&channel, (depth.sends + depth.receives).min(limits.completions_max))?;
    let budget = config.pool.budget();
    // What a device carries in one message is at least that.
    let receive_bytes = options.receive_bytes.min(place.state.message_bytes_max.max(4096));
    let spans = slab::spans(&domain, budget, (receive_bytes, depth.receives), PeerMay::Nothing)?;
    let pair = QueuePair::new(&domain, &completions, place.port, depth)?;
    let own = Greeting {
        address: PairAddress {
            gid: place.gid,
            number: pair.number(),
            packet_number: getrandom::u32().unwrap_or(0) & 0x00FF_FFFF,
            lid: place.state.lid,
        },
        mtu_bytes: options.mtu.unwrap_or(u32::MAX).min(place.state.mtu_bytes),
        receive_bytes,
        credits: rx_depth as u16,
        reads_served: limits.reads_served_max.clamp(1, READS_MAX as u8),
        announcements: ANNOUNCED_MAX as u8,
        processor: u16::try_from(rustix::thread::sched_getcpu()).ok(),
    };
    // One in so many, but often enough that a full send queue empties in quarters.
    let signalled_one_in = options.cq_mod.min(tx_depth / 4).max(1);
    let chunk_bytes = CHUNK_BYTES.min(place.state.message_bytes_max.max(4096));
    let send_depth = SendDepth { tx_depth, signalled_one_in, post_list: options.post_list };
    let work = Work::new(pair, completions, depth.receives as usize, send_depth, chunk_bytes);
    let pool = RegisteredPool::new(&domain, budget, receive_bytes);
    let queue = Queue::new(work, pool, spans, (rx_depth as u16, options.post_list, config.frame_bytes_max))?;
    let system =
        |source: io::Error| VerbsError::System { what: "cannot watch a completion channel", source: Arc::new(source) };
    let in_place_max = (rx_depth as u16 / 8).max(1);
    let shared = Shared::new(queue, channel, (options.poll, in_place_max), Arc::clone(&config.pool)).map_err(system)?;
    Ok((shared, own, tx_depth))
}

impl Connection for RdmaConnection {
    type Sender = RdmaSender;
    type Receiver = RdmaReceiver;

    fn peer(&self) -> &str {
        &self.peer
    }

    fn split(self) -> (RdmaSender, RdmaReceiver) {
        let receiver = RdmaReceiver::new(Arc::clone(&self.shared), &self.config);
        (RdmaSender::new(self.shared, self.config.send_wait), receiver)
    }
}
