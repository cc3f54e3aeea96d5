//! The ABI against Debian's header: a C program prints every size, offset and number that we declare.
#![forbid(unsafe_code)]

use super::abi::{
    AddressVector, Completion, DeviceAttributes, GlobalRoute, NUMBERS, Operations, PairAttributes, PairCapacity,
    PairCreation, PortAttributes, RawChannel, RawContext, RawEvent, RawGid, RawPair, RawQueue, RawRegion,
    ReceiveRequest, Segment, SendRequest,
};
use super::feigned::{CONTEXT_BEGINS, CONTEXT_WHOLE_BYTES};
use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

/// Where the library counts the acknowledged events of a pair, and the asynchronous ones of a completion queue.
pub(super) const PAIR_EVENTS_COMPLETED: usize = 152;
pub(super) const QUEUE_EVENTS_COMPLETED: usize = 124;

/// What C calls something, as an expression, and what we declare it to be.
type Fact = (String, i64);

macro_rules! sizes {
    ($($c:literal = $rust:ty),* $(,)?) => {
        vec![$((format!("sizeof({})", $c), size_of::<$rust>() as i64)),*]
    };
}

macro_rules! offsets {
    ($facts:ident, $c:literal = $rust:ty; $($member:literal = $($field:ident).+),* $(,)?) => {
        $($facts.push((format!("offsetof({}, {})", $c, $member), offset_of!($rust, $($field).+) as i64));)*
    };
}

fn facts() -> Vec<Fact> {
    let mut facts = sizes![
        "struct ibv_context_ops" = Operations,
        "struct ibv_mr" = RawRegion,
        "struct ibv_device_attr" = DeviceAttributes,
        "struct ibv_port_attr" = PortAttributes,
        "union ibv_gid" = RawGid,
        "struct ibv_global_route" = GlobalRoute,
        "struct ibv_ah_attr" = AddressVector,
        "struct ibv_qp_cap" = PairCapacity,
        "struct ibv_qp_init_attr" = PairCreation,
        "struct ibv_qp_attr" = PairAttributes,
        "struct ibv_sge" = Segment,
        "struct ibv_send_wr" = SendRequest,
        "struct ibv_recv_wr" = ReceiveRequest,
        "struct ibv_wc" = Completion,
        "struct ibv_async_event" = RawEvent,
    ];
    offsets!(facts, "struct ibv_context" = RawContext; "device" = device, "ops" = operations, "cmd_fd" = command_fd,
        "async_fd" = async_fd, "ops.poll_cq" = operations.poll_cq, "ops.req_notify_cq" = operations.req_notify_cq,
        "ops.post_send" = operations.post_send, "ops.post_recv" = operations.post_recv);
    offsets!(facts, "struct ibv_mr" = RawRegion; "lkey" = lkey, "rkey" = rkey);
    offsets!(facts, "struct ibv_comp_channel" = RawChannel; "fd" = fd);
    offsets!(facts, "struct ibv_cq" = RawQueue; "context" = context);
    offsets!(facts, "struct ibv_qp" = RawPair; "context" = context, "qp_num" = number);
    offsets!(facts, "struct ibv_device_attr" = DeviceAttributes; "fw_ver" = firmware, "max_qp" = max_qp,
        "max_qp_wr" = max_qp_wr, "max_cqe" = max_cqe, "max_qp_rd_atom" = max_qp_rd_atom,
        "max_qp_init_rd_atom" = max_qp_init_rd_atom, "phys_port_cnt" = phys_port_cnt);
    offsets!(facts, "struct ibv_port_attr" = PortAttributes; "state" = state, "max_mtu" = max_mtu,
        "active_mtu" = active_mtu, "gid_tbl_len" = gid_tbl_len, "max_msg_sz" = max_msg_sz, "lid" = lid,
        "link_layer" = link_layer);
    offsets!(facts, "struct ibv_global_route" = GlobalRoute; "dgid" = dgid, "flow_label" = flow_label,
        "sgid_index" = sgid_index, "hop_limit" = hop_limit, "traffic_class" = traffic_class);
    offsets!(facts, "struct ibv_ah_attr" = AddressVector; "grh" = route, "dlid" = dlid, "sl" = sl,
        "is_global" = is_global, "port_num" = port_num);
    offsets!(facts, "struct ibv_qp_cap" = PairCapacity; "max_send_wr" = max_send_wr, "max_recv_wr" = max_recv_wr,
        "max_send_sge" = max_send_sge, "max_recv_sge" = max_recv_sge, "max_inline_data" = max_inline_data);
    offsets!(facts, "struct ibv_qp_init_attr" = PairCreation; "qp_context" = user, "send_cq" = send_queue,
        "recv_cq" = receive_queue, "srq" = shared_receive_queue, "cap" = capacity, "qp_type" = kind,
        "sq_sig_all" = signal_all);
    offsets!(facts, "struct ibv_qp_attr" = PairAttributes; "qp_state" = state, "path_mtu" = path_mtu,
        "rq_psn" = rq_psn, "sq_psn" = sq_psn, "dest_qp_num" = dest_qp_num, "qp_access_flags" = access,
        "ah_attr" = address, "pkey_index" = pkey_index, "max_rd_atomic" = max_rd_atomic,
        "max_dest_rd_atomic" = max_dest_rd_atomic, "min_rnr_timer" = min_rnr_timer, "port_num" = port_num,
        "timeout" = timeout, "retry_cnt" = retry_cnt, "rnr_retry" = rnr_retry);
    offsets!(facts, "struct ibv_sge" = Segment; "addr" = address, "length" = length, "lkey" = lkey);
    offsets!(facts, "struct ibv_send_wr" = SendRequest; "wr_id" = id, "next" = next, "sg_list" = segments,
        "num_sge" = segment_count, "opcode" = opcode, "send_flags" = flags, "imm_data" = immediate,
        "wr.rdma.remote_addr" = remote_address, "wr.rdma.rkey" = rkey);
    offsets!(facts, "struct ibv_recv_wr" = ReceiveRequest; "wr_id" = id, "next" = next, "sg_list" = segments,
        "num_sge" = segment_count);
    offsets!(facts, "struct ibv_wc" = Completion; "wr_id" = id, "status" = status, "opcode" = opcode,
        "byte_len" = bytes, "imm_data" = immediate);
    offsets!(facts, "struct ibv_async_event" = RawEvent; "element" = element, "event_type" = kind);
    facts.push(("sizeof(struct verbs_context)".to_owned(), CONTEXT_WHOLE_BYTES as i64));
    facts.push(("offsetof(struct verbs_context, context)".to_owned(), CONTEXT_BEGINS as i64));
    facts.push(("offsetof(struct ibv_qp, events_completed)".to_owned(), PAIR_EVENTS_COMPLETED as i64));
    facts.push(("offsetof(struct ibv_cq, async_events_completed)".to_owned(), QUEUE_EVENTS_COMPLETED as i64));
    facts.extend(NUMBERS.iter().map(|(name, value)| ((*name).to_owned(), *value)));
    facts
}

#[test]
fn every_size_offset_and_number_is_that_of_the_header() {
    if !Path::new("/usr/include/infiniband/verbs.h").exists() {
        assert!(std::env::var_os("CI").is_none(), "libibverbs-dev is missing: scripts/verify installs it");
        eprintln!("NOT RUN: the ABI can only be compared where libibverbs-dev is installed");
        return;
    }
    let facts = facts();
    let mut program =
        "#include <infiniband/verbs.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
    for (expression, _) in &facts {
        writeln!(program, "printf(\"%lld\\n\", (long long)({expression}));").expect("strings take any text");
    }
    program.push_str("}\n");
    let folder = std::env::temp_dir().join(format!("freight-abi-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let (source, binary) = (folder.join("abi.c"), folder.join("abi"));
    std::fs::write(&source, program).expect("room for a program");
    let compiled = Command::new("cc").arg(&source).arg("-o").arg(&binary).output().expect("a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let printed = Command::new(&binary).output().expect("it was compiled");
    std::fs::remove_dir_all(&folder).expect("it was made");
    let printed = String::from_utf8(printed.stdout).expect("numbers");
    let wrong: Vec<_> = facts
        .iter()
        .zip(printed.lines())
        .filter(|((_, declared), found)| found.parse() != Ok(*declared))
        .map(|((expression, declared), found)| format!("{expression} is {found}, declared is {declared}"))
        .collect();
    assert_eq!(printed.lines().count(), facts.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
