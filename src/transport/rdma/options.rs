//! What RDMA can be told, with the names of perftest where an option means the same, and where each default is from.
#![forbid(unsafe_code)]

use serde::Serialize;

/// One SEND in so many is signalled, at most.
///
/// eRPC (NSDI '19, section 4.3 and `kUnsigBatch` in its source) signals one in 64.
pub(super) const SIGNALLED_ONE_IN_MAX: u32 = 64;

/// Largest receive, in bytes: a message of 1 MiB is one work request on every device.
const RECEIVE_BYTES_MAX: u32 = 1 << 20;

/// Flags of the `rdma` transport, for both ends.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, Serialize)]
#[command(next_help_heading = "RDMA")]
pub struct RdmaOptions {
    /// RDMA device, like mlx5_0 [default: the one that owns the endpoint's address]
    #[arg(long, hide_short_help = true, value_name = "NAME")]
    pub rdma_device: Option<String>,
    /// Port of the RDMA device [default: the one that owns the endpoint's address]
    #[arg(long, hide_short_help = true, value_name = "NUMBER")]
    pub rdma_port: Option<u8>,
    /// Index in the port's table of GIDs [default: the endpoint's address, RoCE v2 before v1]
    #[arg(long, hide_short_help = true, value_name = "INDEX")]
    pub rdma_gid: Option<u8>,
    /// How RDMA completions are waited for
    #[arg(long, hide_short_help = true, value_enum, default_value_t, value_name = "MODE")]
    pub poll: PollMode,
    /// SENDs on their way at a time on an RDMA connection
    // perftest's default for bandwidth.
    #[arg(long, hide_short_help = true, value_name = "COUNT", default_value_t = 128)]
    #[arg(value_parser = clap::value_parser!(u32).range(8..=4096))]
    pub tx_depth: u32,
    /// Messages of frames the peer may send before one is taken, on an RDMA connection
    // Half of what a client has in flight: the rest waits at the sender, which pins less.
    #[arg(long, hide_short_help = true, value_name = "COUNT", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u32).range(4..=4096))]
    pub rx_depth: u32,
    /// RDMA frames up to this size go by SEND into a receive of this size, of which every connection has --rx-depth and
    /// 20 more; larger ones are announced, and read by the peer
    // Two pages hold a batch of a hundred small operations. What larger frames cost is a round trip, what larger
    // receives cost is pinned for each connection.
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = 8192)]
    #[arg(value_parser = clap::value_parser!(u32).range(1024..=RECEIVE_BYTES_MAX as i64))]
    pub receive_bytes: u32,
    /// RDMA frames up to this size go inside the work request
    // perftest's default for latency; the NIC fetches nothing: "inlining" in HERD (SIGCOMM '14) and ATC '16.
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = 236)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub inline_size: u32,
    /// RDMA path MTU, a power of two from 256 to 4096 [default: the smaller of both ports']
    #[arg(long, hide_short_help = true, value_name = "BYTES", value_parser = mtu)]
    pub mtu: Option<u32>,
    /// RDMA requests posted by one doorbell, at most
    // "Postlists" in ATC '16, section 3. A receive that waits for its list to fill is pinned and of no use, so lists
    // are short; eRPC, with thousands of receives, posts 32 at a time. Sends never wait for theirs.
    #[arg(long, hide_short_help = true, value_name = "COUNT", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=8))]
    pub post_list: u32,
    /// One RDMA SEND in so many reports its completion, at most 64
    // A quarter of eRPC's: what is not reported keeps its buffer.
    #[arg(long, hide_short_help = true, value_name = "COUNT", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=SIGNALLED_ONE_IN_MAX as i64))]
    pub cq_mod: u32,
}

impl Default for RdmaOptions {
    fn default() -> Self {
        Self {
            rdma_device: None,
            rdma_port: None,
            rdma_gid: None,
            poll: PollMode::default(),
            tx_depth: 128,
            rx_depth: 32,
            receive_bytes: 8192,
            inline_size: 236,
            mtu: None,
            post_list: 8,
            cq_mod: 16,
        }
    }
}

/// How completions are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PollMode {
    /// Never sleep: lowest latency, a whole core.
    Spin,
    /// Spin for a while if that paid off lately, then sleep until the device's event.
    #[default]
    Adaptive,
    /// Sleep at once: each wait costs an event.
    Event,
}

fn mtu(text: &str) -> Result<u32, String> {
    let mtu: Option<u32> = text.parse().ok().filter(|mtu: &u32| mtu.is_power_of_two() && (256..=4096).contains(mtu));
    mtu.ok_or_else(|| format!("'{text}' is none of 256, 512, 1024, 2048, 4096"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: RdmaOptions,
    }

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        assert_eq!(Line::parse_from(["freight"]).options, RdmaOptions::default());
    }

    #[test]
    fn an_mtu_is_one_that_packets_can_have() {
        assert_eq!(mtu("1024"), Ok(1024));
        for bad in ["0", "128", "1500", "8192", "x"] {
            assert!(mtu(bad).is_err(), "{bad}");
        }
    }
}
