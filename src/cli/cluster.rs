//! `freight cluster create | status`: the shard map of a cluster, made and held against its nodes. What changes it is
//! in `cluster_change.rs`.
#![forbid(unsafe_code)]

use super::cluster_change::{self, AddArgs, MoveArgs, RebalanceArgs, RemoveArgs};
use super::credentials::CredentialArgs;
use super::tls::TlsArgs;
use super::{CommandResult, NOT_AS_EXPECTED, print, runtime};
use crate::client::{Client, ClientConfig, ClientError};
use crate::limits::SLOTS;
use crate::map::{self, Id, MapNode, ShardMap};
use crate::metrics::NodeStats;
use crate::transport::rdma::RdmaOptions;
use crate::transport::tls::TlsFileError;
use crate::transport::{Endpoint, TransportOptions};
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::timeout;

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Makes the first map: asks each node for its incarnation and deals the slots evenly. Nodes take it from a file at
    /// SIGHUP, from etcd at once
    Create(CreateArgs),
    /// Holds a map against its nodes; exit code 1 where they are not as it says
    Status(StatusArgs),
    /// Brings a node into the map, with no slots: `rebalance` gives it some
    Add(AddArgs),
    /// Moves all slots of a node to the others, with their records, and takes it out of the map
    Remove(RemoveArgs),
    /// Moves slots to a node, with their records, from whoever owns them
    Move(MoveArgs),
    /// Moves slots until every node owns as many as the others, within one
    Rebalance(RebalanceArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The nodes, in the order in which slots are dealt to them
    #[arg(long, value_name = "ENDPOINTS", value_delimiter = ',', required = true)]
    servers: Vec<Endpoint>,
    #[command(flatten)]
    at: MapArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    at: MapArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct MapArgs {
    /// Where the map is: a file, or etcd://host:2379/prefix
    #[arg(long, value_name = "PLACE")]
    pub(super) map: PathBuf,
    /// How long to wait for an answer, like 500ms
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) deadline: Duration,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    rdma: RdmaOptions,
}

impl MapArgs {
    pub(super) fn client(&self) -> Result<ClientConfig, TlsFileError> {
        let transport = TransportOptions { rdma: self.rdma.clone(), tls: self.tls.client()? };
        let credentials = self.credentials.credentials();
        Ok(ClientConfig { deadline: self.deadline, transport, credentials, ..ClientConfig::default() })
    }
}

/// What the node at an endpoint says of itself, whichever incarnation it is.
pub(super) async fn ask(endpoint: &Endpoint, config: &ClientConfig) -> Result<NodeStats, ClientError> {
    let client = Client::connect(std::slice::from_ref(endpoint), config.clone()).await?;
    Ok(client.stats().await?.remove(0))
}

pub(super) fn run(command: &ClusterCommand) -> CommandResult {
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        match command {
            ClusterCommand::Create(args) => create(args).await,
            ClusterCommand::Status(args) => status(args).await,
            ClusterCommand::Add(args) => cluster_change::add(args).await,
            ClusterCommand::Remove(args) => cluster_change::remove(args).await,
            ClusterCommand::Move(args) => cluster_change::move_slots(args).await,
            ClusterCommand::Rebalance(args) => cluster_change::rebalance(args).await,
        }
    });
    // A name being looked up past the deadline cannot be cancelled; nobody waits for it.
    runtime.shutdown_background();
    done
}

async fn create(args: &CreateArgs) -> CommandResult {
    let (config, mut nodes) = (args.at.client()?, Vec::with_capacity(args.servers.len()));
    for endpoint in &args.servers {
        let stats = ask(endpoint, &config).await?;
        if stats.slots == SLOTS && stats.map_epoch == 0 {
            tracing::warn!("{endpoint} was started without --map: it serves every slot, whatever the map says");
        }
        if let Some(cluster) = stats.cluster {
            return Err(format!("{endpoint} works for a cluster already: {}", cluster.escape_debug()).into());
        }
        let incarnation = stats.incarnation.parse().map_err(|error| format!("{endpoint}: incarnation: {error}"))?;
        nodes.push(MapNode { addresses: vec![endpoint.clone()], incarnation });
    }
    let mut cluster = [0; 16];
    getrandom::fill(&mut cluster).map_err(|error| error.to_string())?;
    let map = ShardMap::dealt(Id(cluster), nodes)?;
    let store = map::open(&args.at.map)?;
    store.replace(0, &map).await?;
    print(format_args!("cluster {}: map of epoch {} in {}", map.cluster(), map.epoch(), args.at.map.display()))?;
    for (place, node) in map.nodes().iter().enumerate() {
        let slots = map.slots_of(place);
        print(format_args!("{}  incarnation {}  slots {slots}", node.addresses[0], node.incarnation))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(args: &StatusArgs) -> CommandResult {
    let (config, store) = (args.at.client()?, map::open(&args.at.map)?);
    let map = timeout(args.at.deadline, store.load()).await;
    let late = |_| ClientError::MapLate { deadline: args.at.deadline };
    let map = map.map_err(late)??.ok_or(ClientError::NoMap)?;
    let owned: u32 = (0..map.nodes().len()).map(|place| map.slots_of(place).count()).sum();
    print(format_args!("cluster {}: map of epoch {}, {owned} of {SLOTS} slots owned", map.cluster(), map.epoch()))?;
    let mut is_as_mapped = owned == SLOTS;
    for (place, node) in map.nodes().iter().enumerate() {
        let (mut told, mut failed) = (None, None);
        for address in &node.addresses {
            match ask(address, &config).await {
                Ok(stats) if stats.incarnation == node.incarnation.to_string() => told = Some(stats),
                // Another node may answer at one of several addresses; the one that is named counts.
                Ok(stats) => told = told.or(Some(stats)),
                Err(error) => failed = Some(error),
            }
        }
        let moves = told.iter().flat_map(|stats| stats.moves.clone()).collect::<Vec<_>>();
        let (said, is_fine) = match told {
            Some(stats) => line(&map, place, &stats, store.is_watched()),
            None => (failed.map_or_else(String::new, |error| format!("unreachable: {error}")), false),
        };
        is_as_mapped &= is_fine;
        print(format_args!("{}  {said}", node.addresses[0]))?;
        for line in moves {
            print(format_args!("    {}", line.escape_debug()))?;
        }
    }
    Ok(if is_as_mapped { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_EXPECTED) })
}

/// What is said of a node that answers, and whether it is as the map says.
fn line(map: &ShardMap, place: usize, stats: &NodeStats, is_watched: bool) -> (String, bool) {
    let (named, slots) = (map.nodes()[place].incarnation, map.slots_of(place).count());
    let (records, epoch) = (stats.store.records, stats.map_epoch);
    if stats.incarnation != named.to_string() {
        // Of whoever answers there: nothing that a terminal would take for more than text.
        let found = stats.incarnation.escape_debug();
        return (format!("RESTARTED: is incarnation {found}, the map names {named}, whose records are lost"), false);
    }
    let whole = stats.cluster.is_none() && stats.slots == SLOTS;
    let (remark, is_fine) = match () {
        () if whole => (", started without --map", false),
        () if stats.cluster.as_ref().is_some_and(|cluster| *cluster != map.cluster().to_string()) => {
            (", of ANOTHER CLUSTER", false)
        }
        () if epoch < map.epoch() && is_watched => (", has yet to take the map", false),
        () if epoch < map.epoch() => (", has yet to take the map: SIGHUP", false),
        () if epoch > map.epoch() => (", AHEAD of this map: it has taken a later one", false),
        () if stats.slots != slots => (", has ANOTHER MAP of this epoch", false),
        () => ("", true),
    };
    (
        format!(
            "reachable  incarnation as named  slots {} of {slots}  records {records}  epoch {epoch}{remark}",
            stats.slots
        ),
        is_fine,
    )
}
