//! `freight bench`: the benchmark, with a node of its own where none is named.
#![forbid(unsafe_code)]

use super::serve::NodeArgs;
use super::{CommandResult, NOT_AS_EXPECTED, check_cores, check_writable, print, raise_descriptor_limit, runtime};
use crate::bench::config::BenchConfig;
use crate::bench::report::Report;
use crate::bench::{Target, run as measure};
use crate::cores::Placement;
use crate::profile::Profile;
use crate::server::Node;
use crate::transport::{Endpoint, Scheme};
use std::error::Error;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
#[command(mut_group("NodeArgs", |flags| flags.conflicts_with("servers")))]
pub(super) struct BenchArgs {
    #[command(flatten)]
    bench: BenchConfig,
    #[command(flatten)]
    node: NodeArgs,
}

/// The exit code of an interrupted command: 128 + SIGINT, as a shell says it.
const INTERRUPTED: i32 = 130;

pub(super) fn run(args: BenchArgs) -> CommandResult {
    check_cores(args.bench.cores.as_ref())?;
    let mut config = args.bench.resolved();
    config.check()?;
    config.profile.as_deref().map_or(Ok(()), Profile::check)?;
    let json = config.json.clone();
    for path in config.json.iter().chain(&config.profile) {
        check_writable(path)?;
    }
    let runtime = runtime()?;
    let _entered = runtime.enter();
    // Before anything runs, so that no interrupt finds the default action.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let node = if config.servers.is_empty() { Some(OwnNode::start(&config, &args.node)?) } else { None };
    config.node = node_flags(&args.node, node.is_some())?;
    let target = match &node {
        Some(own) => Target { endpoints: own.node.endpoints().to_vec(), node_cores: Some(node_cores(&config)) },
        None => Target { endpoints: config.servers.clone(), node_cores: None },
    };
    announce(&target);
    let report = runtime.block_on(async {
        let mut measuring = pin!(measure(config, target));
        tokio::select! {
            report = &mut measuring => report,
            // At once: whoever interrupts does not wait until client threads have drawn their pools.
            _ = interrupt.recv() => {
                eprintln!("freight: interrupted, no report");
                std::process::exit(INTERRUPTED)
            }
        }
    })?;
    tell(&report, json.as_deref())?;
    if let Some(own) = node {
        own.node.drain();
    }
    Ok(if report.errors.total == 0 { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_EXPECTED) })
}

/// The flags of a node in this process; null, each of them, where there is none.
fn node_flags(args: &NodeArgs, in_process: bool) -> serde_json::Result<serde_json::Map<String, serde_json::Value>> {
    let mut flags = serde_json::to_value(args)?.as_object().cloned().unwrap_or_default();
    if !in_process {
        flags.values_mut().for_each(|value| *value = serde_json::Value::Null);
    }
    Ok(flags)
}

/// The cores of the threads of a node in this process; none where the kernel shall choose.
fn node_cores(config: &BenchConfig) -> Vec<usize> {
    match config.placement {
        Placement::Free => Vec::new(),
        Placement::Paired | Placement::Split => config.seats(),
    }
}

/// A node in this process.
struct OwnNode {
    node: Node,
    /// Where its socket is, if it has one in the file system; removed when dropped.
    _folder: Option<Folder>,
}

impl OwnNode {
    fn start(config: &BenchConfig, args: &NodeArgs) -> Result<Self, Box<dyn Error>> {
        let (endpoint, folder) = match config.transport {
            Scheme::Tcp => (Endpoint::new(Scheme::Tcp, "127.0.0.1:0")?, None),
            Scheme::Shm => {
                let folder = Folder::make()?;
                let path = folder.0.join("node.sock");
                (Endpoint::new(Scheme::Shm, &path.to_string_lossy())?, Some(folder))
            }
            Scheme::Sim => return Err("the simulated network is for tests and has no speed to measure: try tcp".into()),
        };
        raise_descriptor_limit();
        let threads = config.seats().len();
        let node = Node::start(args.config(vec![endpoint], threads, node_cores(config), config.placement)?)?;
        Ok(Self { node, _folder: folder })
    }
}

/// A folder of this process alone, among the temporary ones.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("freight-bench-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is for the system's own tidying up.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn announce(target: &Target) {
    let whose = if target.node_cores.is_some() { "a node of its own in this process" } else { "the node" };
    for endpoint in &target.endpoints {
        eprintln!("bench drives {whose} at {endpoint} (transport {})", endpoint.scheme());
    }
}

/// Prints the report, and writes it as JSON where that was asked for.
fn tell(report: &Report, json: Option<&Path>) -> Result<(), Box<dyn Error>> {
    let Some(path) = json else {
        return Ok(print(report)?);
    };
    let text = serde_json::to_string_pretty(report)?;
    if path.as_os_str() == "-" {
        eprintln!("{report}");
        return Ok(print(text)?);
    }
    print(report)?;
    fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()).into())
}
