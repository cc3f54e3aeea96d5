//! `freight stats`: what nodes say of themselves, and which keys are hot.
#![forbid(unsafe_code)]

use super::key_value::NodesArgs;
use super::{CommandResult, print};
use crate::hot_keys::{HotKey, HotKeysTold};
use crate::metrics::NodeStats;
use serde::Serialize;
use std::fmt;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct StatsArgs {
    /// Print the hot keys of each node alone, as a table
    #[arg(long)]
    hot_keys: bool,
    #[command(flatten)]
    nodes: NodesArgs,
}

/// A node's statistics.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    stats: NodeStats,
    /// Absent where the node does not tell us.
    hot_keys: Option<HotKeysTold>,
}

pub(super) fn run(args: &StatsArgs) -> CommandResult {
    let (endpoints, stats, hot_keys) = args.nodes.with(async |client| {
        let stats = client.stats().await?;
        Ok((client.endpoints(), stats, client.hot_keys().await))
    })?;
    if args.hot_keys {
        for (endpoint, hot_keys) in endpoints.iter().zip(hot_keys) {
            print(format_args!("{endpoint}: {}", Table(&hot_keys?)))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Whoever may not see keys may see the rest.
    let or_warn = |hot_keys: Result<HotKeysTold, _>| {
        hot_keys.map_err(|error| tracing::warn!("hot keys are not told: {error}")).ok()
    };
    let told = stats.into_iter().zip(hot_keys).map(|(stats, hot_keys)| Told { stats, hot_keys: or_warn(hot_keys) });
    print(serde_json::to_string_pretty(&told.collect::<Vec<_>>())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Hot keys for people.
struct Table<'a>(&'a HotKeysTold);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HotKeysTold { every, samples, keys } = self.0;
        match (every, keys.len()) {
            (0, _) => return f.write_str("it looks for no hot keys (--hot-keys 0)"),
            (_, 0) => return write!(f, "no key is hot in {samples} samples, one operation in {every}"),
            _ => writeln!(f, "{samples} samples, one operation in {every}")?,
        }
        write!(f, "{:>8} {:>19} {:>7} {:>7}  key", "share", "between", "reads", "writes")?;
        for HotKey { key, key_bytes, share, share_min, share_max, reads, writes } in keys {
            let percent = |share: &f64| format!("{:.2} %", 100.0 * share);
            // An honest node escapes what is none to print.
            let key: String = key.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
            let between = format!("{} - {}", percent(share_min), percent(share_max));
            write!(f, "\n{:>8} {between:>19} {reads:>7} {writes:>7}  \"{key}\"", percent(share))?;
            if *key_bytes as usize > HotKey::KEY_BYTES_KEPT {
                write!(f, "... ({key_bytes} bytes)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_keys_cannot_steer_a_terminal() {
        let told = r#"{"every":1,"samples":1,"keys":[{"key":"a\u001b[2Jb","key_bytes":5,"share":1.0,"share_min":1.0,
            "share_max":1.0,"reads":1,"writes":0}]}"#;
        let told: HotKeysTold = serde_json::from_str(told).expect("as nodes tell it");
        assert!(Table(&told).to_string().ends_with("\"a?[2Jb\""), "{}", Table(&told));
    }
}
