//! `freight bench`: the benchmark, with a node of its own where none is named; `freight bench sweep` is `sweep.rs`.
#![forbid(unsafe_code)]

use super::credentials::CredentialArgs;
use super::serve::NodeArgs;
use super::sweep::{self, SweepArgs};
use super::tls::TlsArgs;
use super::{
    CommandResult, INTERRUPTED, NOT_AS_EXPECTED, check_cores, check_writable, print, raise_descriptor_limit, runtime,
};
use crate::bench::config::BenchConfig;
use crate::bench::via::Via;
use crate::bench::{Target, compare, run as run_store, run_one_way};
use crate::client::ClientError;
use crate::cores::Placement;
use crate::map;
use crate::profile::Profile;
use crate::server::{Node, NodeConfig};
use crate::transport::rdma::local_address;
use crate::transport::{Door, Endpoint, RedisEndpoint, Scheme, TransportOptions};
use serde::Serialize;
use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
#[command(mut_args(not_with_servers), args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    many: Option<BenchCommand>,
    #[command(flatten)]
    bench: BenchConfig,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    node: NodeArgs,
}

/// More than one run.
#[derive(Debug, clap::Subcommand)]
enum BenchCommand {
    /// Runs batch sizes x workers x transports, and loads below the peak, and draws what came of it
    Sweep(Box<SweepArgs>),
}

/// Refuses flags of the node in this process, each by its own name, where there is none.
fn not_with_servers(arg: clap::Arg) -> clap::Arg {
    let node = <NodeArgs as clap::Args>::augment_args(clap::Command::new("node"));
    let is_the_node_s = node.get_arguments().any(|flag| flag.get_id() == arg.get_id());
    if is_the_node_s { arg.conflicts_with_all(["servers", "map"]) } else { arg }
}

pub(super) fn run(args: BenchArgs) -> CommandResult {
    if let Some(BenchCommand::Sweep(args)) = args.many {
        return sweep::run(*args);
    }
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
    if let Some(path) = &config.map {
        // Whom it names is driven; how, the clients find out by themselves.
        let map = runtime.block_on(map::open(path)?.load())?.ok_or(ClientError::NoMap)?;
        config.servers = map.nodes().iter().map(|node| node.addresses[0].clone().into()).collect();
    }
    // A node of its own has no users.
    config.credentials = args.credentials.credentials().filter(|_| !config.servers.is_empty());
    config.tls = match config.servers.is_empty() && config.vias().iter().any(|via| via.is_tls()) {
        true => args.tls.both()?,
        false => args.tls.client()?,
    };
    let node = if config.servers.is_empty() { Some(OwnNode::start(&config, &args.node)?) } else { None };
    config.node = node_flags(&args.node, node.is_some())?;
    let target = match &node {
        Some(own) => Target { endpoints: own.doors.clone(), node_cores: Some(node_cores(&config)) },
        None => Target { endpoints: config.servers.clone(), node_cores: None },
    };
    announce(&target);
    let outcome = runtime.block_on(async {
        let mut measuring = pin!(measure(config, target));
        tokio::select! {
            outcome = &mut measuring => outcome,
            // At once: whoever interrupts does not wait until client threads have drawn their pools.
            _ = interrupt.recv() => {
                eprintln!("freight: interrupted, no report");
                std::process::exit(INTERRUPTED.into())
            }
        }
    })?;
    outcome.tell(json.as_deref())?;
    if let Some(own) = node {
        own.node.drain();
    }
    Ok(if outcome.errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_EXPECTED) })
}

/// Measures what the flags ask for.
async fn measure(config: BenchConfig, target: Target) -> Result<Outcome, Box<dyn Error>> {
    if config.one_way {
        return Outcome::of(&run_one_way(config, target).await?, 0);
    }
    if config.transports.is_empty() {
        let report = run_store(config, target).await?;
        return Outcome::of(&report, report.errors.total);
    }
    let Target { endpoints, node_cores } = target;
    let at = |endpoint| Target { endpoints: vec![endpoint], node_cores: node_cores.clone() };
    let comparison = compare(config, endpoints.into_iter().map(at).collect()).await?;
    Outcome::of(&comparison, comparison.errors())
}

/// What a benchmark ends with.
struct Outcome {
    /// For people.
    text: String,
    /// For machines.
    json: String,
    /// Operations that failed.
    errors: u64,
}

impl Outcome {
    fn of(report: &(impl Display + Serialize), errors: u64) -> Result<Self, Box<dyn Error>> {
        Ok(Self { text: report.to_string(), json: serde_json::to_string_pretty(report)?, errors })
    }

    /// Prints the report, and writes it as JSON where that was asked for: on standard output nothing else then.
    fn tell(&self, json: Option<&Path>) -> Result<(), Box<dyn Error>> {
        match json {
            Some(path) if path.as_os_str() == "-" => {
                eprintln!("{}", self.text);
                print(&self.json)?;
            }
            Some(path) => {
                print(&self.text)?;
                let written = fs::write(path, self.json.clone() + "\n");
                written.map_err(|error| format!("{}: {error}", path.display()))?;
            }
            None => print(&self.text)?,
        }
        Ok(())
    }
}

/// The flags of a node in this process; null, each of them, where there is none.
pub(super) fn node_flags(
    args: &NodeArgs,
    in_process: bool,
) -> serde_json::Result<serde_json::Map<String, serde_json::Value>> {
    let mut flags = serde_json::to_value(args)?.as_object().cloned().unwrap_or_default();
    if !in_process {
        flags.values_mut().for_each(|value| *value = serde_json::Value::Null);
    }
    Ok(flags)
}

/// The cores of the threads of a node in this process; none where the kernel shall choose.
pub(super) fn node_cores(config: &BenchConfig) -> Vec<usize> {
    match config.placement {
        Placement::Free => Vec::new(),
        Placement::Paired | Placement::Split => config.seats(),
    }
}

/// A node in this process.
pub(super) struct OwnNode {
    pub(super) node: Node,
    /// Where it listens, in the order of the flags.
    pub(super) doors: Vec<Door>,
    /// Where its socket is, if it has one in the file system; removed when dropped.
    folder: Option<Folder>,
}

impl OwnNode {
    pub(super) fn start(config: &BenchConfig, args: &NodeArgs) -> Result<Self, Box<dyn Error>> {
        args.check_one_way(config)?;
        let vias = &config.vias();
        let (mut folder, mut endpoints, mut redis) = (None, Vec::with_capacity(vias.len()), Vec::new());
        for via in vias {
            let refused = |why: Box<dyn Error>| format!("transport {via} cannot be used here: {why}");
            match via {
                Via::Frames(scheme) => endpoints.push(own_endpoint(*scheme, config, &mut folder).map_err(refused)?),
                Via::Resp | Via::Resps => redis.push(format!("{via}://127.0.0.1:0").parse::<RedisEndpoint>()?),
            }
        }
        raise_descriptor_limit();
        let threads = config.seats().len();
        let cores = node_cores(config);
        let transport = TransportOptions { rdma: config.rdma.clone(), tls: config.tls.clone() };
        let config_of_node = args.config(endpoints, threads, cores, config.placement, transport)?;
        // The address of an RDMA device is never this machine's alone.
        let exposed = vias.contains(&Via::Frames(Scheme::Rdma));
        let node = Node::start(NodeConfig {
            redis,
            insecure: exposed,
            allow_wire_limit: exposed,
            scrub_wire_limit: exposed,
            ..config_of_node
        })?;
        let (mut frames, mut redis) = (node.endpoints().iter().cloned(), node.redis_endpoints().iter().cloned());
        let door = |via: &Via| match via {
            Via::Frames(_) => frames.next().map(Door::Frames),
            Via::Resp | Via::Resps => redis.next().map(Door::Redis),
        };
        let doors = vias.iter().filter_map(door).collect();
        Ok(Self { node, doors, folder })
    }

    /// Removes its socket, if it has one: for a process that ends without dropping anything.
    pub(super) fn leave_no_socket(&mut self) {
        self.folder = None;
    }
}

/// Where a node of this process can listen, and be reached by this process.
fn own_endpoint(scheme: Scheme, config: &BenchConfig, folder: &mut Option<Folder>) -> Result<Endpoint, Box<dyn Error>> {
    let address = match scheme {
        Scheme::Tcp | Scheme::Tls => "127.0.0.1:0".to_owned(),
        Scheme::Shm => folder.insert(Folder::make()?).0.join("node.sock").to_string_lossy().into_owned(),
        Scheme::Rdma => SocketAddr::new(local_address(&config.rdma)?, 0).to_string(),
        Scheme::Sim => return Err("the simulated network is for tests and has no speed to measure: try tcp".into()),
    };
    Ok(Endpoint::new(scheme, &address)?)
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

pub(super) fn announce(target: &Target) {
    let whose = if target.node_cores.is_some() { "a node of its own in this process" } else { "the node" };
    for endpoint in &target.endpoints {
        let via = Via::of(endpoint);
        eprintln!("bench drives {whose} at {endpoint} (transport {via})");
        if target.node_cores.is_some() && via == Via::Frames(Scheme::Rdma) {
            eprintln!("while it runs, other machines can reach it there too");
        }
    }
}
