//! Queue pairs: reliable connections between two devices.
//!
//! ```text
//!   new --> initialised (receives may be posted) --connect--> ready to receive --> ready to send
//! ```
//!
//! Any failed completion ends a queue pair: what is posted behind it is flushed.
#![expect(unsafe_code, reason = "the library gives pointers, and the device works on memory")]

use super::abi::{
    self, AddressVector, GlobalRoute, PairAttributes, PairCapacity, PairCreation, RawPair, ReceiveRequest, Segment,
    SendRequest,
};
use super::{CompletionQueue, ProtectionDomain, VerbsError};
use std::ptr::NonNull;
use std::sync::Arc;

/// A queue pair of the reliable connected service.
#[derive(Debug)]
pub(in super::super) struct QueuePair {
    raw: NonNull<RawPair>,
    post_send: abi::PostSend,
    post_receive: abi::PostReceive,
    inline_bytes_max: u32,
    domain: Arc<ProtectionDomain>,
}

// SAFETY: libibverbs locks what threads share.
unsafe impl Send for QueuePair {}

/// How much a queue pair holds.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct PairDepth {
    pub(in super::super) sends: u32,
    pub(in super::super) receives: u32,
    pub(in super::super) inline_bytes: u32,
}

/// Where a queue pair is: what its peer must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct PairAddress {
    pub(in super::super) gid: [u8; 16],
    pub(in super::super) number: u32,
    /// Of the first packet it sends, 24 bits.
    pub(in super::super) packet_number: u32,
    pub(in super::super) lid: u16,
}

/// The path between two queue pairs.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct PairPath {
    pub(in super::super) port: u8,
    pub(in super::super) gid_index: u8,
    pub(in super::super) mtu_bytes: u32,
    pub(in super::super) reads: u8,
    pub(in super::super) reads_served: u8,
    /// Retransmission timeout: 4.096 us times 2 to the power of this.
    pub(in super::super) timeout: u8,
    pub(in super::super) retries: u8,
    pub(in super::super) not_ready_retries: u8,
    /// Code of the pause before a retry where no receive was ready: 12 is 0.64 ms.
    pub(in super::super) not_ready_timer: u8,
}

/// A piece of registered memory that a work request uses.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Piece {
    pub(in super::super) address: u64,
    pub(in super::super) bytes: u32,
    pub(in super::super) local_key: u32,
}

impl Piece {
    fn segment(self) -> Segment {
        Segment { address: self.address, length: self.bytes, lkey: self.local_key }
    }
}

/// One piece of work for the send queue.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Request {
    pub(in super::super) id: u64,
    /// What goes out, or where to read to; `None` for a message without bytes.
    pub(in super::super) piece: Option<Piece>,
    pub(in super::super) signalled: bool,
    pub(in super::super) verb: Verb,
}

/// What is done with the piece.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Verb {
    /// SEND. Inline, it is copied into the request, so that its memory is free again when posting returns.
    Send { immediate: u32, inline: bool },
    /// READ of the peer's memory into it.
    Read { address: u64, key: u32 },
}

/// Most requests posted at once to the send queue.
pub(in super::super) const SENDS_AT_ONCE: usize = 8;

/// Most receives posted at once.
pub(in super::super) const RECEIVES_AT_ONCE: usize = 32;

impl QueuePair {
    /// An initialised queue pair that reports to one completion queue. Drop it before the queue.
    pub(in super::super) fn new(
        domain: &Arc<ProtectionDomain>,
        queue: &CompletionQueue,
        port: u8,
        depth: PairDepth,
    ) -> Result<Self, VerbsError> {
        let context = domain.context();
        let mut creation = PairCreation {
            user: std::ptr::null_mut(),
            send_queue: queue.raw(),
            receive_queue: queue.raw(),
            shared_receive_queue: std::ptr::null_mut(),
            capacity: PairCapacity {
                max_send_wr: depth.sends,
                max_recv_wr: depth.receives,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: depth.inline_bytes,
            },
            kind: abi::PAIR_RELIABLE,
            signal_all: 0,
        };
        // SAFETY: domain and queue live, and the struct is the library's.
        let raw = unsafe { (context.library.ibv_create_qp)(domain.raw(), &raw mut creation) };
        let raw = NonNull::new(raw).ok_or_else(|| VerbsError::last("cannot make a queue pair"))?;
        let operations = context.operations();
        let pair = Self {
            raw,
            post_send: operations.post_send,
            post_receive: operations.post_recv,
            inline_bytes_max: creation.capacity.max_inline_data.min(depth.inline_bytes),
            domain: Arc::clone(domain),
        };
        let mut attributes = PairAttributes {
            state: abi::STATE_INIT,
            port_num: port,
            access: abi::ACCESS_REMOTE_READ,
            ..PairAttributes::default()
        };
        let mask = abi::MASK_STATE | abi::MASK_PKEY_INDEX | abi::MASK_PORT | abi::MASK_ACCESS;
        pair.modify(&mut attributes, mask, "cannot initialise a queue pair")?;
        Ok(pair)
    }

    /// Its number.
    pub(in super::super) fn number(&self) -> u32 {
        // SAFETY: the pair lives as long as `self`, and its number doesn't change.
        let pair = unsafe { self.raw.as_ref() };
        pair.number
    }

    /// What asynchronous events call it.
    pub(in super::super) fn element(&self) -> usize {
        self.raw.addr().get()
    }

    /// Bytes that a SEND may carry inline.
    pub(in super::super) fn inline_bytes_max(&self) -> u32 {
        self.inline_bytes_max
    }

    /// Takes back that events were acknowledged which the kernel never reported: destroying waits until both have
    /// counted as many.
    #[cfg(test)]
    pub(in super::super) fn forget_events(&self) {
        let completed = self.raw.as_ptr().wrapping_byte_add(super::tests::PAIR_EVENTS_COMPLETED).cast::<u32>();
        // SAFETY: the pair lives, and the library's struct has its count there, as the test of the ABI compares.
        unsafe { completed.write(0) };
    }

    /// Connects to a peer: both directions work when both sides have.
    pub(in super::super) fn connect(
        &self,
        own: &PairAddress,
        peer: &PairAddress,
        path: &PairPath,
    ) -> Result<(), VerbsError> {
        let (high, low) = peer.gid.split_at(8);
        let word = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().expect("half of 16 bytes"));
        let mut attributes = PairAttributes {
            state: abi::STATE_RECEIVE,
            path_mtu: path.mtu_bytes.ilog2().cast_signed() - 7,
            dest_qp_num: peer.number,
            rq_psn: peer.packet_number,
            max_dest_rd_atomic: path.reads_served,
            min_rnr_timer: path.not_ready_timer,
            address: AddressVector {
                route: GlobalRoute {
                    dgid: [word(high), word(low)],
                    sgid_index: path.gid_index,
                    hop_limit: 64,
                    ..GlobalRoute::default()
                },
                dlid: peer.lid,
                is_global: 1,
                port_num: path.port,
                ..AddressVector::default()
            },
            ..PairAttributes::default()
        };
        let mask = abi::MASK_STATE
            | abi::MASK_ADDRESS
            | abi::MASK_MTU
            | abi::MASK_PEER
            | abi::MASK_RQ_PSN
            | abi::MASK_READS_SERVED
            | abi::MASK_RNR_TIMER;
        self.modify(&mut attributes, mask, "cannot reach the peer's queue pair")?;
        let mut attributes = PairAttributes {
            state: abi::STATE_SEND,
            sq_psn: own.packet_number,
            timeout: path.timeout,
            retry_cnt: path.retries,
            rnr_retry: path.not_ready_retries,
            max_rd_atomic: path.reads,
            ..PairAttributes::default()
        };
        let mask = abi::MASK_STATE
            | abi::MASK_SQ_PSN
            | abi::MASK_TIMEOUT
            | abi::MASK_RETRY
            | abi::MASK_RNR_RETRY
            | abi::MASK_READS;
        self.modify(&mut attributes, mask, "cannot make a queue pair ready to send")
    }

    fn modify(&self, attributes: &mut PairAttributes, mask: i32, what: &'static str) -> Result<(), VerbsError> {
        // SAFETY: the pair lives, and the struct is the library's.
        let failed = unsafe { (self.domain.context().library.ibv_modify_qp)(self.raw.as_ptr(), attributes, mask) };
        if failed == 0 { Ok(()) } else { Err(VerbsError::returned(what, failed)) }
    }

    /// Posts SENDs and READs as one list: one doorbell for all of them.
    ///
    /// # Errors
    /// The device takes no more. Those before the one that it refused were posted.
    ///
    /// # Panics
    /// On more than [`SENDS_AT_ONCE`].
    ///
    /// # Safety
    /// What is sent must be readable memory that nobody writes: until this returns where it goes inline, else until
    /// the request or one behind it has completed, or the queue pair is gone. What is read to nobody may touch until
    /// the request has completed, or the queue pair is gone.
    pub(in super::super) unsafe fn post_sends(&self, list: &[Request]) -> Result<(), VerbsError> {
        assert!(list.len() <= SENDS_AT_ONCE, "{} sends at once", list.len());
        let mut segments = [Segment::default(); SENDS_AT_ONCE];
        let mut requests = [SendRequest::EMPTY; SENDS_AT_ONCE];
        let mut next = std::ptr::null_mut();
        for (at, Request { id, piece, signalled, verb }) in list.iter().enumerate().rev() {
            segments[at] = piece.map(Piece::segment).unwrap_or_default();
            let request = SendRequest {
                id: *id,
                next,
                segments: &raw mut segments[at],
                segment_count: i32::from(piece.is_some()),
                flags: if *signalled { abi::SIGNALLED } else { 0 },
                ..SendRequest::EMPTY
            };
            requests[at] = match *verb {
                Verb::Send { immediate, inline } => SendRequest {
                    opcode: abi::WORK_SEND_IMMEDIATE,
                    flags: request.flags | if inline { abi::INLINE } else { 0 },
                    immediate: immediate.to_be(),
                    ..request
                },
                Verb::Read { address, key } => {
                    SendRequest { opcode: abi::WORK_READ, remote_address: address, rkey: key, ..request }
                }
            };
            next = &raw mut requests[at];
        }
        if next.is_null() {
            return Ok(());
        }
        let mut refused = std::ptr::null_mut();
        // SAFETY: the pair lives; the list is read before this returns; the caller minds the memory.
        let failed = unsafe { (self.post_send)(self.raw.as_ptr(), next, &raw mut refused) };
        if failed == 0 { Ok(()) } else { Err(VerbsError::returned("cannot post sends", failed)) }
    }

    /// Posts receives, each with its id, as one list: one doorbell for all of them.
    ///
    /// # Errors
    /// The device takes no more.
    ///
    /// # Panics
    /// On more than [`RECEIVES_AT_ONCE`].
    ///
    /// # Safety
    /// Nobody may touch a piece until its request has completed, or the queue pair is gone.
    pub(in super::super) unsafe fn post_receives(&self, receives: &[(u64, Piece)]) -> Result<(), VerbsError> {
        let mut segments = [Segment::default(); RECEIVES_AT_ONCE];
        let empty =
            ReceiveRequest { id: 0, next: std::ptr::null_mut(), segments: std::ptr::null_mut(), segment_count: 1 };
        let mut requests = [empty; RECEIVES_AT_ONCE];
        assert!(receives.len() <= RECEIVES_AT_ONCE, "{} receives at once", receives.len());
        let mut next = std::ptr::null_mut();
        for (at, (id, piece)) in receives.iter().enumerate().rev() {
            segments[at] = piece.segment();
            requests[at] = ReceiveRequest { id: *id, next, segments: &raw mut segments[at], segment_count: 1 };
            next = &raw mut requests[at];
        }
        if next.is_null() {
            return Ok(());
        }
        let mut refused = std::ptr::null_mut();
        // SAFETY: the pair lives; the list is read before this returns; the caller minds the memory.
        let failed = unsafe { (self.post_receive)(self.raw.as_ptr(), next, &raw mut refused) };
        if failed == 0 { Ok(()) } else { Err(VerbsError::returned("cannot post receives", failed)) }
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: the pair was made and is destroyed once.
        let failed = unsafe { (self.domain.context().library.ibv_destroy_qp)(self.raw.as_ptr()) };
        if failed != 0 {
            tracing::warn!("a queue pair stays behind: {failed}");
        }
    }
}
