//! `freight serve`: a node until it is told to stop.
#![forbid(unsafe_code)]

use super::config::{self, ConfigError, Reloader, Running, Sources};
use super::credentials::{PasswordReload, PeerArgs};
use super::follow::Follower;
use super::limits::LimitArgs;
use super::log::{Log, LogLevel};
use super::manager;
use super::tls::{NodeTlsArgs, TlsReload};
use super::user::UsersReload;
use super::{CommandResult, check_cores, check_writable, print, raise_descriptor_limit, runtime};
use crate::auth::{Users, UsersFileError};
use crate::bench::config::BenchConfig;
use crate::bench::sizes;
use crate::cores::{self, CoreList, Placement};
use crate::files::FileError;
use crate::limits;
use crate::profile::Profile;
use crate::server::{Identity, Limits, Node, NodeConfig};
use crate::shard::{Eviction, IndexKind};
use crate::transport::rdma::RdmaOptions;
use crate::transport::{Door, Endpoint, TransportOptions};
use clap::{FromArgMatches, value_parser};
use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Args)]
#[command(mut_args(config::with_value))]
pub(super) struct ServeArgs {
    /// A TOML file that says any of these flags, without their dashes; docs/freight.toml is one, with all of them.
    /// FREIGHT_MEMORY=4GiB in the environment goes before the file's `memory`, --memory before both. At SIGHUP the file
    /// is read again: what can change at run time does, what cannot is said
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print what would be used and who said it, as a configuration file, or what is wrong; serve nothing
    #[arg(long)]
    check_config: bool,
    /// Where to listen; may be given several times. A name (its first address), IPv4, or IPv6 in
    /// brackets; port 0 takes a free one. tls://host:port is TLS 1.3; resp://host:port, and resps:// over TLS, are for
    /// Redis clients
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:7411", value_delimiter = ',')]
    listen: Vec<Door>,
    #[command(flatten)]
    cores: CoreArgs,
    /// The shard map, a file or etcd://host:2379/prefix: the node owns what the map gives to its incarnation, and
    /// nothing while there is none. A file is read again at SIGHUP and when `freight cluster` changes it, etcd is
    /// watched [default: no map, every slot is the node's]
    #[arg(long, value_name = "PLACE")]
    map: Option<PathBuf>,
    /// Who may use the node, and what they may do: a file that `freight user` writes, read again at SIGHUP [default:
    /// everybody who can connect may do everything]
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Listen beyond this machine without --users: everybody who can connect may read, change and remove everything
    #[arg(long)]
    insecure: bool,
    /// Answer wire-limit frames from other machines too: anybody can then keep this node's network busy
    #[arg(long)]
    allow_wire_limit: bool,
    /// Write a flamegraph (.svg) or a pprof profile (.pb.gz) of the node's whole life
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// What is logged on standard error. RUST_LOG, where it is set, says it instead, and in more detail
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    pub(super) log_level: LogLevel,
    /// Tell metrics at http://ADDRESS/metrics, for Prometheus, and whether the node lives and can be used at /healthz
    /// and /readyz. Whoever reaches it may read them [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// Log batches that take so long in the store, like 10ms, ten a second at most [default: none]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) slow_batch: Option<Duration>,
    /// Look at one operation in so many, on average, for `freight stats` to tell which keys are hot; 0 looks at none
    #[arg(long, value_name = "COUNT", default_value_t = 1_024)]
    hot_keys: u32,
    /// Let whoever has the right to admin take profiles of the running node: `freight flame`
    #[arg(long)]
    allow_profile: bool,
    // What has a heading of its own comes last: it would be that of everything behind it too.
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Who the node is for other nodes, which it asks for Redis clients.
    #[command(flatten)]
    credentials: PeerArgs,
    #[command(flatten)]
    tls: NodeTlsArgs,
    #[command(flatten)]
    rdma: RdmaOptions,
}

/// What a node of `serve` and a node of `bench` have in common.
#[derive(Debug, clap::Args, serde::Serialize)]
#[command(next_help_heading = "Node")]
pub(super) struct NodeArgs {
    /// Shards, a power of two [default: four a thread]
    #[arg(long, value_name = "COUNT", value_parser = shards)]
    shards: Option<u32>,
    /// The index of each shard: buckets, our own, or leapfrog, the crate, to compare with
    #[arg(long, default_value_t, value_name = "NAME")]
    #[serde(serialize_with = "as_text")]
    index: IndexKind,
    /// Memory cap of the node, like 4GiB. A thirty-second of it, at least 24 MiB and at most 512 MiB, is kept for
    /// connections: from 512 MiB on, records get more than nine tenths [default: none]
    #[arg(long, value_name = "SIZE", value_parser = sizes::parse)]
    memory: Option<u64>,
    /// What goes where memory is full: none refuses puts, a store; s3-fifo evicts what is not asked for, random
    /// anything, a cache
    #[arg(long, default_value_t, value_name = "POLICY")]
    #[serde(serialize_with = "as_text")]
    evict: Eviction,
    /// The longest frame the node takes and sends
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = frame_limit)]
    frame_limit: u32,
    /// Connections served at a time; fewer under a memory cap or a limit of open files that is too small for them
    #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = value_parser!(u32).range(1..))]
    connections_max: u32,
    /// Requests a client may have in flight on one connection
    #[arg(long, value_name = "COUNT", default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
    frames_in_flight_max: u32,
}

/// Which cores a node runs on; `bench` has the same flags for both ends.
#[derive(Debug, clap::Args)]
struct CoreArgs {
    /// Threads [default: one a core]
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Cores to run on, like 0-3,8 [default: the process's affinity mask]
    #[arg(long, value_name = "LIST")]
    cores: Option<CoreList>,
    /// Which core serves a connection
    #[arg(long, value_enum, default_value_t)]
    placement: Placement,
    /// Let threads sleep as soon as nothing comes over TCP: clients of this machine are answered later, and no thread
    /// is on its core without work
    #[arg(long)]
    no_busy_polling: bool,
}

fn as_text<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is no address with a port, like 127.0.0.1:9411 or [::1]:9411"))
}

fn shards(text: &str) -> Result<u32, String> {
    let shards: u32 = text.parse().map_err(|_| format!("'{text}' is no number"))?;
    if shards.is_power_of_two() && shards <= limits::SHARDS_MAX {
        return Ok(shards);
    }
    Err(format!("{shards} is no power of two up to {}", limits::SHARDS_MAX))
}

fn frame_limit(text: &str) -> Result<u32, String> {
    let (min, max) = (limits::FRAME_BYTES_MIN, limits::FRAME_BYTES_MAX);
    let bytes = u32::try_from(sizes::parse(text)?).ok().filter(|bytes| (min..=max).contains(bytes));
    bytes.ok_or_else(|| format!("{text} is not within {} to {} MiB", min >> 20, max >> 20))
}

impl NodeArgs {
    /// Refuses one-way frames that a node with these flags would not take, or let wait.
    pub(super) fn check_one_way(&self, bench: &BenchConfig) -> Result<(), String> {
        let Some(bytes) = bench.frame_bytes else { return Ok(()) };
        let (limit, in_flight) = (self.frame_limit, bench.frames_in_flight_a_connection());
        if bytes > limit {
            return Err(format!("--frame-bytes {bytes} is more than --frame-limit, which is {limit}"));
        }
        if in_flight > u64::from(self.frames_in_flight_max) {
            let max = self.frames_in_flight_max;
            return Err(format!(
                "{in_flight} frames in flight on a connection are more than --frames-in-flight-max, {max}"
            ));
        }
        Ok(())
    }

    /// A node that listens at `listen`, with so many threads, each on one of `cores` if there are any.
    pub(super) fn config(
        &self,
        listen: Vec<Endpoint>,
        threads: usize,
        cores: Vec<usize>,
        placement: Placement,
        transport: TransportOptions,
    ) -> io::Result<NodeConfig> {
        let defaults = NodeConfig::new(listen, Identity::random()?);
        Ok(NodeConfig {
            threads,
            cores,
            placement,
            shards: self.shards,
            index: self.index,
            memory_bytes_max: self.memory,
            eviction: self.evict,
            frame_bytes_max: self.frame_limit,
            connections_max: self.connections_max as usize,
            frames_in_flight_max: self.frames_in_flight_max,
            transport,
            ..defaults
        })
    }
}

/// Serves no more connections than there are descriptors for, and says so: one too many is refused, not left waiting.
fn fit_descriptors(config: &mut NodeConfig, descriptors: usize) -> Result<(), String> {
    let kept = DESCRIPTORS_KEPT + DESCRIPTORS_A_THREAD * config.threads;
    let room = descriptors.saturating_sub(kept);
    if room == 0 {
        return Err(format!(
            "{descriptors} open files are allowed (ulimit -n), and a node takes {kept} besides those of its connections"
        ));
    }
    if config.connections_max > room {
        let wanted = std::mem::replace(&mut config.connections_max, room);
        tracing::warn!(
            "{wanted} connections need more than the {descriptors} open files allowed (ulimit -n): {room} are served"
        );
    }
    Ok(())
}

/// Open files that are no connections: what is listened at, what is logged to, and peers that are being refused.
const DESCRIPTORS_KEPT: usize = 128;

/// Open files of a thread's runtime, at most.
const DESCRIPTORS_A_THREAD: usize = 4;

impl ServeArgs {
    /// What is wrong with them, as far as that can be known without serving.
    pub(super) fn check(&self) -> Result<(), Box<dyn Error>> {
        self.profile.as_deref().map_or(Ok(()), Profile::check)?;
        if self.insecure && self.users.is_some() {
            return Err(
                "--users and --insecure exclude each other: either those users may use the node, or everybody".into()
            );
        }
        Ok(self.config()?.check()?)
    }

    fn config(&self) -> Result<NodeConfig, Box<dyn Error>> {
        let CoreArgs { threads, cores, placement, no_busy_polling } = &self.cores;
        check_cores(cores.as_ref())?;
        let cores = cores.as_ref().map_or_else(cores::available, |list| list.0.clone());
        let threads = threads.map_or(cores.len(), |threads| threads as usize);
        let cores: Vec<_> = match placement {
            Placement::Free => Vec::new(),
            Placement::Paired | Placement::Split => cores.into_iter().cycle().take(threads).collect(),
        };
        let (mut listen, mut redis) = (Vec::new(), Vec::new());
        for door in &self.listen {
            match door {
                Door::Frames(endpoint) => listen.push(endpoint.clone()),
                Door::Redis(endpoint) => redis.push(endpoint.clone()),
            }
        }
        let transport = TransportOptions { rdma: self.rdma.clone(), tls: self.tls.options()? };
        let config = self.limits.limit(self.node.config(listen, threads, cores, *placement, transport)?);
        let Self { insecure, allow_wire_limit, metrics, slow_batch, hot_keys: hot_keys_every, allow_profile, .. } =
            *self;
        let told = NodeConfig { metrics, slow_batch, hot_keys_every, allow_profile, ..config };
        let mapped = self.map.is_some();
        let credentials = self.credentials.credentials()?;
        let busy_polling = !no_busy_polling;
        Ok(NodeConfig { redis, credentials, insecure, allow_wire_limit, mapped, busy_polling, ..told })
    }

    /// What clients may take of the node.
    pub(super) fn limits(&self) -> Result<Limits, Box<dyn Error>> {
        let mut config = self.config()?;
        fit_descriptors(&mut config, raise_descriptor_limit())?;
        Ok(config.limits())
    }
}

/// `serve`, with `line` behind its name.
pub(super) fn run(line: impl Iterator<Item = OsString>) -> CommandResult {
    let command = <ServeArgs as clap::Args>::augment_args(clap::Command::new("serve"));
    let sources = Sources::new(command, line, env::vars_os());
    let settings = sources.read()?;
    let args = ServeArgs::from_arg_matches(&settings.matches).map_err(ConfigError::Line)?;
    args.check()?;
    if args.check_config {
        print(settings.to_string().trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    let log = Log::start(args.log_level);
    for (name, known) in sources.misspelt() {
        tracing::warn!("{name} in the environment is not understood: {known} would be");
    }
    let runtime = runtime()?;
    let entered = runtime.enter();
    let reloader = settings.file.is_some().then(|| Reloader::new(sources, settings)).transpose()?;
    let ended = serve(&args, &log, reloader, &runtime);
    drop(entered);
    // A name being looked up, as of an etcd member, cannot be cancelled; nobody waits for it.
    runtime.shutdown_background();
    ended
}

/// The users of a node that starts; where the file is not there, how it is made.
fn read_users(path: &Path) -> Result<Users, String> {
    let hint = |error: &UsersFileError| match error {
        UsersFileError::File(FileError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            format!("; `freight user add NAME --users {}` makes it", path.display())
        }
        _ => String::new(),
    };
    Users::read(path).map_err(|error| format!("{error}{}", hint(&error)))
}

/// A node until it is told to stop.
fn serve(args: &ServeArgs, log: &Log, reloader: Option<Reloader>, runtime: &Runtime) -> CommandResult {
    if let Some(path) = &args.profile {
        check_writable(path)?;
    }
    let profile = args.profile.as_deref().map(Profile::start).transpose()?;
    // Before the node listens, so that no signal finds the default action.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let users = args.users.as_deref().map(read_users).transpose()?;
    if users.as_ref().is_some_and(|users| users.iter().next().is_none()) {
        tracing::warn!("there are no users: nobody can connect until `freight user add` and SIGHUP");
    }
    let users_reload = args.users.as_deref().map(UsersReload::new).transpose()?;
    let tls_reload = args.tls.are_given().then(TlsReload::new).transpose()?;
    let password_reload = PasswordReload::new(&args.credentials)?;
    let mut config = NodeConfig { users, ..args.config()? };
    fit_descriptors(&mut config, raise_descriptor_limit())?;
    let follower = args.map.as_deref().map(Follower::new).transpose()?;
    let first = follower.as_ref().map(|follower| runtime.block_on(follower.first())).transpose()?.flatten();
    let node = Node::start(config)?;
    if let Some(follower) = &follower {
        node.follow(follower.store());
    }
    match (&follower, first) {
        (_, Some(map)) => node.take_map(&map)?,
        (Some(follower), None) => {
            let (incarnation, until) = (node.stats().incarnation, follower.until());
            tracing::warn!("no map yet: incarnation {incarnation} owns nothing until {until}");
        }
        (None, None) => {}
    }
    for endpoint in node.endpoints() {
        print(format_args!("listening {endpoint} (transport {})", endpoint.scheme()))?;
    }
    for endpoint in node.redis_endpoints() {
        print(format_args!("listening {endpoint} (transport {})", endpoint.scheme()))?;
    }
    if let Some(address) = node.metrics_address() {
        print(format_args!("metrics at http://{address}/metrics"))?;
    }
    manager::ready();
    let running = Running { log, node: &node };
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("interrupted: draining"),
            never = where_wanted(follower.map(|follower| follower.run(&node))) => match never {},
            never = where_wanted(reloader.map(|reloader| reloader.run(&running))) => match never {},
            never = where_wanted(users_reload.map(|reload| reload.run(&node))) => match never {},
            never = where_wanted(tls_reload.map(|reload| reload.run(&node))) => match never {},
            never = where_wanted(password_reload.map(|reload| reload.run(&node))) => match never {},
        }
    });
    manager::stopping();
    node.drain();
    tracing::info!("drained");
    if let Some(profile) = profile {
        profile.finish()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What goes on for ever, if it goes on at all.
async fn where_wanted(work: Option<impl Future<Output = Infallible>>) -> Infallible {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
