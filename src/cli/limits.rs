//! Flags of `serve` that say what clients may take of the node. All of them can change at SIGHUP.
#![forbid(unsafe_code)]

use crate::bench::sizes;
use crate::server::NodeConfig;
use clap::value_parser;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Connections at a time from one client: one host, one /64 of IPv6, over shared memory one user of this machine
    /// [default: any number]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
    connections_per_client: Option<u32>,
    /// Connections at a time of one user of --users [default: any number]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
    connections_per_user: Option<u32>,
    /// Bytes of frames and replies above 16 KiB that a user, or without --users a client, may have in flight on all its
    /// connections: what is more is not read yet [default: any number]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    bytes_in_flight: Option<u64>,
    /// Operations a second of a user, unless the file of users says otherwise, or without --users of a client: whoever
    /// asks for more is not read for a while [default: any number]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..))]
    ops_per_second: Option<u32>,
    /// How long a new connection may take to say hello, and who it is
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = some_time)]
    handshake_timeout: Duration,
    /// Close connections over which nothing comes for so long, and up to a quarter more [default: never]
    #[arg(long, value_name = "DURATION", value_parser = some_time)]
    idle_timeout: Option<Duration>,
}

/// Far more than anybody waits, and little enough to be added to any instant.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

fn some_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match time {
        Duration::ZERO => Err("it takes some time".to_owned()),
        time if time > TIME_MAX => Err("a year at most".to_owned()),
        time => Ok(time),
    }
}

impl LimitArgs {
    /// A node that is held to them.
    pub(super) fn limit(&self, config: NodeConfig) -> NodeConfig {
        NodeConfig {
            connections_per_client_max: self.connections_per_client.map(|count| count as usize),
            connections_per_user_max: self.connections_per_user.map(|count| count as usize),
            bytes_in_flight_max: self.bytes_in_flight,
            ops_per_second: self.ops_per_second,
            hello_wait: self.handshake_timeout,
            idle_wait: self.idle_timeout,
            ..config
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_some_and_can_be_added_to_any_instant() {
        assert_eq!(some_time("5s"), Ok(Duration::from_secs(5)));
        assert!(some_time("0s").is_err() && some_time("9999999999999999999s").is_err());
    }
}
