//! What RDMA does beyond carrying frames: how much work it posts, what it leaves behind, how it opens and fails.
//!
//! Facts that need a device are ignored where there is none: `scripts/lab/tests rdma` runs them in a guest that has
//! one, and `cargo test rdma -- --include-ignored` where `FREIGHT_RDMA_ADDRESS` names an address of one.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the command line's tests use the rest")]
#[path = "../support/binary.rs"]
mod binary;
mod rdma_counts;
mod rdma_leaks;
mod rdma_limits;
mod rdma_opening;
mod rdma_processes;
mod support;
