//! `freight flame`: where a running node spends its time, as a flamegraph.
#![forbid(unsafe_code)]

use super::key_value::NodesArgs;
use super::{CommandResult, FAILED, Interrupted, print};
use crate::limits::PROFILE_SECONDS_MAX;
use crate::profile::{self, Format, ProfileError};
use crate::transport::Endpoint;
use clap::value_parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal;

#[derive(Debug, clap::Args)]
pub(super) struct FlameArgs {
    /// What to write: a flamegraph (.svg) or a pprof profile (.pb.gz). Of several nodes each has a file of its own,
    /// named like it: out-127.0.0.1_7411.svg
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// How long to look
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = value_parser!(u32).range(1..=i64::from(PROFILE_SECONDS_MAX)))]
    seconds: u32,
    #[command(flatten)]
    nodes: NodesArgs,
}

pub(super) fn run(args: &FlameArgs) -> CommandResult {
    let format = Format::of(&args.file)?;
    let taken = args.nodes.with(async |client| {
        tokio::select! {
            biased;
            // The connections end with this process, and the profiles with them.
            _ = signal::ctrl_c() => Ok(None),
            taken = client.profiles(args.seconds) => Ok(Some(taken)),
        }
    })?;
    let taken = taken.ok_or_else(|| Interrupted("no profile was taken".to_owned()))?;
    let is_alone = taken.len() == 1;
    let mut failed = false;
    for (endpoint, profile) in taken {
        let path = if is_alone { args.file.clone() } else { named(&args.file, format, &endpoint) };
        let title = format!("freight {endpoint}, {} s of CPU time sampled", args.seconds);
        let written = profile
            .map_err(|error| error.to_string())
            .and_then(|samples| write(&path, format, samples, &title).map_err(|error| format!("{endpoint}: {error}")));
        match written {
            Ok(()) => print(format_args!("{} is of {endpoint}", path.display()))?,
            Err(error) if is_alone => return Err(error.into()),
            Err(error) => {
                failed = true;
                eprintln!("freight: {error}");
            }
        }
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn write(path: &Path, format: Format, samples: Vec<u8>, title: &str) -> Result<(), ProfileError> {
    let bytes = match format {
        Format::Flamegraph => profile::draw(&samples, title)?,
        Format::Protobuf => samples,
    };
    fs::write(path, bytes).map_err(|source| ProfileError::Write { path: path.to_owned(), source })
}

/// The file of one node of several.
fn named(file: &Path, format: Format, endpoint: &Endpoint) -> PathBuf {
    let text = endpoint.to_string();
    let place = text.split_once("://").map_or(&text[..], |(_, place)| place);
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(format.suffix()).unwrap_or(&name);
    file.with_file_name(format!("{stem}-{}{}", place.chars().map(plain).collect::<String>(), format.suffix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_a_file_of_its_own() {
        for (file, endpoint, expected) in [
            ("a/out.svg", "tcp://127.0.0.1:7411", "a/out-127.0.0.1_7411.svg"),
            ("out.pb.gz", "tcp://[::1]:7411", "out-___1__7411.pb.gz"),
            ("out.svg", "shm:///run/node.sock", "out-_run_node.sock.svg"),
        ] {
            let (file, endpoint) = (Path::new(file), endpoint.parse().expect("an endpoint"));
            let format = Format::of(file).expect("a format");
            assert_eq!(named(file, format, &endpoint), Path::new(expected));
        }
    }
}
