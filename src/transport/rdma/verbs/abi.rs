//! libibverbs as it lies in memory: structs, numbers and function types of its stable ABI.
//!
//! Whoever calls `ibv_post_send` in C compiles a jump through the context's table of operations; nothing of that name
//! is exported. So the table's layout is part of the ABI, and stands here:
//!
//! ```text
//!   context  0 device   8 operations (32 pointers)             264 command fd   268 asynchronous events fd
//!   operations          88 poll_cq   96 req_notify_cq   200 post_send   208 post_recv
//! ```
//!
//! Structs that only the library allocates are declared as far as they are read. A test compiles a C program against
//! Debian's header and holds every size, offset and number here against it.
#![forbid(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};

/// `struct ibv_device`: known by pointer only.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawDevice {
    _opaque: [u8; 0],
}

/// `struct ibv_pd`: known by pointer only.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawDomain {
    _opaque: [u8; 0],
}

/// `struct ibv_context`, up to its file descriptors.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawContext {
    pub(super) device: *mut RawDevice,
    pub(super) operations: Operations,
    pub(super) command_fd: c_int,
    pub(super) async_fd: c_int,
}

/// `struct ibv_context_ops`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Operations {
    _before: [*mut c_void; 11],
    pub(super) poll_cq: PollCq,
    pub(super) req_notify_cq: RequestNotify,
    _between: [*mut c_void; 12],
    pub(super) post_send: PostSend,
    pub(super) post_recv: PostReceive,
    _after: [*mut c_void; 5],
}

pub(super) type PollCq = unsafe extern "C" fn(*mut RawQueue, c_int, *mut Completion) -> c_int;
pub(super) type RequestNotify = unsafe extern "C" fn(*mut RawQueue, c_int) -> c_int;
pub(super) type PostSend = unsafe extern "C" fn(*mut RawPair, *mut SendRequest, *mut *mut SendRequest) -> c_int;
pub(super) type PostReceive =
    unsafe extern "C" fn(*mut RawPair, *mut ReceiveRequest, *mut *mut ReceiveRequest) -> c_int;

/// `struct ibv_mr`, all of it.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawRegion {
    pub(super) context: *mut RawContext,
    pub(super) domain: *mut RawDomain,
    pub(super) address: *mut c_void,
    pub(super) length: usize,
    pub(super) handle: u32,
    pub(super) lkey: u32,
    pub(super) rkey: u32,
}

/// `struct ibv_comp_channel`, up to its file descriptor.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawChannel {
    pub(super) context: *mut RawContext,
    pub(super) fd: c_int,
}

/// `struct ibv_cq`, up to what is read of it.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawQueue {
    pub(super) context: *mut RawContext,
}

/// `struct ibv_qp`, up to its number.
#[repr(C)]
#[derive(Debug)]
pub(super) struct RawPair {
    pub(super) context: *mut RawContext,
    pub(super) user: *mut c_void,
    pub(super) domain: *mut RawDomain,
    pub(super) send_queue: *mut RawQueue,
    pub(super) receive_queue: *mut RawQueue,
    pub(super) shared_receive_queue: *mut c_void,
    pub(super) handle: u32,
    pub(super) number: u32,
}

/// `struct ibv_device_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceAttributes {
    pub(super) firmware: [c_char; 64],
    pub(super) node_guid: u64,
    pub(super) system_guid: u64,
    pub(super) max_mr_size: u64,
    pub(super) page_size_cap: u64,
    pub(super) vendor: [u32; 3],
    pub(super) max_qp: c_int,
    pub(super) max_qp_wr: c_int,
    pub(super) capabilities: u32,
    pub(super) max_sge: [c_int; 2],
    pub(super) max_cq: c_int,
    pub(super) max_cqe: c_int,
    pub(super) max_mr: c_int,
    pub(super) max_pd: c_int,
    pub(super) max_qp_rd_atom: c_int,
    pub(super) max_ee_rd_atom: c_int,
    pub(super) max_res_rd_atom: c_int,
    pub(super) max_qp_init_rd_atom: c_int,
    pub(super) rest: [c_int; 16],
    pub(super) max_pkeys: u16,
    pub(super) local_ca_ack_delay: u8,
    pub(super) phys_port_cnt: u8,
}

/// `struct ibv_port_attr`. The exported `ibv_query_port` fills it up to `flags`, of which nothing is read here.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct PortAttributes {
    pub(super) state: c_int,
    pub(super) max_mtu: c_int,
    pub(super) active_mtu: c_int,
    pub(super) gid_tbl_len: c_int,
    pub(super) port_cap_flags: u32,
    pub(super) max_msg_sz: u32,
    pub(super) counters: [u32; 2],
    pub(super) pkey_tbl_len: u16,
    pub(super) lid: u16,
    pub(super) sm_lid: u16,
    pub(super) bytes: [u8; 8],
    pub(super) link_layer: u8,
    pub(super) flags: u8,
    pub(super) port_cap_flags2: u16,
}

/// `union ibv_gid`, in network byte order.
pub(super) type RawGid = [u8; 16];

/// `struct ibv_global_route`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GlobalRoute {
    pub(super) dgid: [u64; 2],
    pub(super) flow_label: u32,
    pub(super) sgid_index: u8,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
}

/// `struct ibv_ah_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AddressVector {
    pub(super) route: GlobalRoute,
    pub(super) dlid: u16,
    pub(super) sl: u8,
    pub(super) src_path_bits: u8,
    pub(super) static_rate: u8,
    pub(super) is_global: u8,
    pub(super) port_num: u8,
}

/// `struct ibv_qp_cap`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PairCapacity {
    pub(super) max_send_wr: u32,
    pub(super) max_recv_wr: u32,
    pub(super) max_send_sge: u32,
    pub(super) max_recv_sge: u32,
    pub(super) max_inline_data: u32,
}

/// `struct ibv_qp_init_attr`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct PairCreation {
    pub(super) user: *mut c_void,
    pub(super) send_queue: *mut RawQueue,
    pub(super) receive_queue: *mut RawQueue,
    pub(super) shared_receive_queue: *mut c_void,
    pub(super) capacity: PairCapacity,
    pub(super) kind: c_int,
    pub(super) signal_all: c_int,
}

/// `struct ibv_qp_attr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PairAttributes {
    pub(super) state: c_int,
    pub(super) current_state: c_int,
    pub(super) path_mtu: c_int,
    pub(super) path_mig_state: c_int,
    pub(super) qkey: u32,
    pub(super) rq_psn: u32,
    pub(super) sq_psn: u32,
    pub(super) dest_qp_num: u32,
    pub(super) access: u32,
    pub(super) capacity: PairCapacity,
    pub(super) address: AddressVector,
    pub(super) alternative: AddressVector,
    pub(super) pkey_index: u16,
    pub(super) alternative_pkey_index: u16,
    pub(super) en_sqd_async_notify: u8,
    pub(super) sq_draining: u8,
    pub(super) max_rd_atomic: u8,
    pub(super) max_dest_rd_atomic: u8,
    pub(super) min_rnr_timer: u8,
    pub(super) port_num: u8,
    pub(super) timeout: u8,
    pub(super) retry_cnt: u8,
    pub(super) rnr_retry: u8,
    pub(super) alternative_port_num: u8,
    pub(super) alternative_timeout: u8,
    pub(super) rate_limit: u32,
}

/// `struct ibv_sge`: a piece of registered memory.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) lkey: u32,
}

/// `struct ibv_send_wr`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct SendRequest {
    pub(super) id: u64,
    pub(super) next: *mut Self,
    pub(super) segments: *mut Segment,
    pub(super) segment_count: c_int,
    pub(super) opcode: c_int,
    pub(super) flags: u32,
    /// In network byte order.
    pub(super) immediate: u32,
    pub(super) remote_address: u64,
    pub(super) rkey: u32,
    pub(super) unused: [u64; 9],
}

impl SendRequest {
    /// One that asks for nothing.
    pub(super) const EMPTY: Self = Self {
        id: 0,
        next: std::ptr::null_mut(),
        segments: std::ptr::null_mut(),
        segment_count: 0,
        opcode: 0,
        flags: 0,
        immediate: 0,
        remote_address: 0,
        rkey: 0,
        unused: [0; 9],
    };
}

/// `struct ibv_recv_wr`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiveRequest {
    pub(super) id: u64,
    pub(super) next: *mut Self,
    pub(super) segments: *mut Segment,
    pub(super) segment_count: c_int,
}

/// `struct ibv_wc`: a work request's end.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Completion {
    pub(in super::super) id: u64,
    pub(super) status: c_int,
    pub(super) opcode: c_int,
    pub(super) vendor_error: u32,
    pub(in super::super) bytes: u32,
    /// In network byte order.
    pub(super) immediate: u32,
    pub(super) qp_num: u32,
    pub(super) src_qp: u32,
    pub(super) flags: u32,
    pub(super) pkey_index: u16,
    pub(super) slid: u16,
    pub(super) sl: u8,
    pub(super) dlid_path_bits: u8,
}

/// `struct ibv_async_event`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct RawEvent {
    pub(super) element: *mut c_void,
    pub(super) kind: c_int,
}

macro_rules! numbers {
    ($($name:ident: $type:ty = $value:expr, $c:literal;)*) => {
        $(pub(super) const $name: $type = $value;)*

        /// Every number above, with its name in C.
        #[cfg(test)]
        pub(super) const NUMBERS: &[(&str, i64)] = &[$(($c, $name as i64)),*];
    };
}

numbers! {
    ACCESS_LOCAL_WRITE: u32 = 1, "IBV_ACCESS_LOCAL_WRITE";
    ACCESS_REMOTE_READ: u32 = 4, "IBV_ACCESS_REMOTE_READ";
    PORT_ACTIVE: c_int = 4, "IBV_PORT_ACTIVE";
    LINK_ETHERNET: u8 = 2, "IBV_LINK_LAYER_ETHERNET";
    PAIR_RELIABLE: c_int = 2, "IBV_QPT_RC";
    STATE_INIT: c_int = 1, "IBV_QPS_INIT";
    STATE_RECEIVE: c_int = 2, "IBV_QPS_RTR";
    STATE_SEND: c_int = 3, "IBV_QPS_RTS";
    MASK_STATE: c_int = 1, "IBV_QP_STATE";
    MASK_ACCESS: c_int = 1 << 3, "IBV_QP_ACCESS_FLAGS";
    MASK_PKEY_INDEX: c_int = 1 << 4, "IBV_QP_PKEY_INDEX";
    MASK_PORT: c_int = 1 << 5, "IBV_QP_PORT";
    MASK_ADDRESS: c_int = 1 << 7, "IBV_QP_AV";
    MASK_MTU: c_int = 1 << 8, "IBV_QP_PATH_MTU";
    MASK_TIMEOUT: c_int = 1 << 9, "IBV_QP_TIMEOUT";
    MASK_RETRY: c_int = 1 << 10, "IBV_QP_RETRY_CNT";
    MASK_RNR_RETRY: c_int = 1 << 11, "IBV_QP_RNR_RETRY";
    MASK_RQ_PSN: c_int = 1 << 12, "IBV_QP_RQ_PSN";
    MASK_READS: c_int = 1 << 13, "IBV_QP_MAX_QP_RD_ATOMIC";
    MASK_RNR_TIMER: c_int = 1 << 15, "IBV_QP_MIN_RNR_TIMER";
    MASK_SQ_PSN: c_int = 1 << 16, "IBV_QP_SQ_PSN";
    MASK_READS_SERVED: c_int = 1 << 17, "IBV_QP_MAX_DEST_RD_ATOMIC";
    MASK_PEER: c_int = 1 << 20, "IBV_QP_DEST_QPN";
    WORK_SEND_IMMEDIATE: c_int = 3, "IBV_WR_SEND_WITH_IMM";
    WORK_READ: c_int = 4, "IBV_WR_RDMA_READ";
    SIGNALLED: u32 = 2, "IBV_SEND_SIGNALED";
    INLINE: u32 = 8, "IBV_SEND_INLINE";
    DONE_SEND: c_int = 0, "IBV_WC_SEND";
    DONE_READ: c_int = 2, "IBV_WC_RDMA_READ";
    DONE_RECEIVE: c_int = 128, "IBV_WC_RECV";
    DONE_WITH_IMMEDIATE: c_int = 2, "IBV_WC_WITH_IMM";
    STATUS_LOCAL_LENGTH: c_int = 1, "IBV_WC_LOC_LEN_ERR";
    STATUS_LOCAL_OPERATION: c_int = 2, "IBV_WC_LOC_QP_OP_ERR";
    STATUS_LOCAL_PROTECTION: c_int = 4, "IBV_WC_LOC_PROT_ERR";
    STATUS_FLUSHED: c_int = 5, "IBV_WC_WR_FLUSH_ERR";
    STATUS_BAD_RESPONSE: c_int = 7, "IBV_WC_BAD_RESP_ERR";
    STATUS_LOCAL_ACCESS: c_int = 8, "IBV_WC_LOC_ACCESS_ERR";
    STATUS_REMOTE_REQUEST: c_int = 9, "IBV_WC_REM_INV_REQ_ERR";
    STATUS_REMOTE_ACCESS: c_int = 10, "IBV_WC_REM_ACCESS_ERR";
    STATUS_REMOTE_OPERATION: c_int = 11, "IBV_WC_REM_OP_ERR";
    STATUS_RETRIES: c_int = 12, "IBV_WC_RETRY_EXC_ERR";
    STATUS_NOT_READY: c_int = 13, "IBV_WC_RNR_RETRY_EXC_ERR";
    STATUS_FATAL: c_int = 19, "IBV_WC_FATAL_ERR";
    EVENT_QUEUE_ERROR: c_int = 0, "IBV_EVENT_CQ_ERR";
    EVENT_PAIR_FATAL: c_int = 1, "IBV_EVENT_QP_FATAL";
    EVENT_PAIR_REQUEST: c_int = 2, "IBV_EVENT_QP_REQ_ERR";
    EVENT_PAIR_ACCESS: c_int = 3, "IBV_EVENT_QP_ACCESS_ERR";
    EVENT_DEVICE_FATAL: c_int = 8, "IBV_EVENT_DEVICE_FATAL";
    EVENT_PORT_ACTIVE: c_int = 9, "IBV_EVENT_PORT_ACTIVE";
    EVENT_PORT_ERROR: c_int = 10, "IBV_EVENT_PORT_ERR";
    EVENT_LID_CHANGE: c_int = 11, "IBV_EVENT_LID_CHANGE";
    EVENT_PARTITION_CHANGE: c_int = 12, "IBV_EVENT_PKEY_CHANGE";
    EVENT_MANAGER_CHANGE: c_int = 13, "IBV_EVENT_SM_CHANGE";
    EVENT_REGISTER: c_int = 17, "IBV_EVENT_CLIENT_REREGISTER";
    EVENT_GID_CHANGE: c_int = 18, "IBV_EVENT_GID_CHANGE";
}
