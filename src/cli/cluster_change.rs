//! `freight cluster add | remove | move | rebalance`: who owns what changes while the nodes serve.
#![forbid(unsafe_code)]

use super::cluster::{MapArgs, ask};
use super::{CommandResult, Interrupted, print};
use crate::client::ClientError;
use crate::map::{self, Id, MapNode, ShardMap};
use crate::mover::{MoveError, Mover, MoverConfig, Progress, emptied, rebalanced};
use crate::slots::{SlotSet, parse_range};
use crate::transport::Endpoint;
use std::process::ExitCode;
use std::str::FromStr;
use tokio::signal::ctrl_c;

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// The node, started with --map and the same map
    #[arg(value_name = "ENDPOINT")]
    node: Endpoint,
    #[command(flatten)]
    at: MapArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// The node: an address or the incarnation that the map names
    node: NodeName,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct MoveArgs {
    /// The slots, like 0-4095,9000
    #[arg(value_parser = slots)]
    slots: Box<SlotSet>,
    /// The node that gets them: an address or the incarnation that the map names
    node: NodeName,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RebalanceArgs {
    #[command(flatten)]
    at: MapArgs,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Take slots from this node without asking it: its records are given up. Only where it is really dead
    #[arg(long, value_name = "NODE")]
    confirm_dead: Vec<NodeName>,
    #[command(flatten)]
    at: MapArgs,
}

/// A node of the map, by an address or its incarnation.
#[derive(Debug, Clone)]
enum NodeName {
    Address(Endpoint),
    Incarnation(Id),
}

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(incarnation) = text.parse() {
            return Ok(Self::Incarnation(incarnation));
        }
        let address = text.parse().map(Self::Address);
        address.map_err(|error| format!("{error}; an incarnation has 32 hexadecimal digits"))
    }
}

impl NodeName {
    fn place(&self, map: &ShardMap) -> Result<usize, String> {
        let is_named = |node: &MapNode| match self {
            Self::Address(address) => node.addresses.contains(address),
            Self::Incarnation(incarnation) => node.incarnation == *incarnation,
        };
        let place = map.nodes().iter().position(is_named);
        place.ok_or_else(|| match self {
            Self::Address(address) => format!("the map of epoch {} names no node at {address}", map.epoch()),
            Self::Incarnation(incarnation) => format!("the map of epoch {} names no node {incarnation}", map.epoch()),
        })
    }
}

fn slots(text: &str) -> Result<Box<SlotSet>, String> {
    let mut slots = SlotSet::NONE;
    for part in text.split(',') {
        let range = parse_range(part).ok_or_else(|| format!("'{part}' are no slots: like 0-4095,9000, up to 16383"))?;
        range.for_each(|slot| _ = slots.insert(slot));
    }
    Ok(Box::new(slots))
}

/// A mover, and the map as it is now.
struct Change {
    mover: Mover,
    map: std::sync::Arc<ShardMap>,
    dead: Vec<Id>,
}

impl Change {
    async fn begin(at: &MapArgs, dead: &[NodeName]) -> Result<Self, Box<dyn std::error::Error>> {
        let config = MoverConfig { client: at.client()?, patience: 2 * at.deadline };
        let mover = Mover::new(map::open(&at.map)?, config);
        let map = mover.newest().await?;
        let places = dead.iter().map(|name| name.place(&map)).collect::<Result<Vec<_>, _>>()?;
        let dead = places.into_iter().map(|place| map.nodes()[place].incarnation).collect();
        Ok(Self { mover, map, dead })
    }

    /// Moves slots to nodes, by their places in the map; interrupted, it ends what it has begun.
    async fn carry_out(&mut self, plan: Vec<(usize, SlotSet)>) -> Result<(), Box<dyn std::error::Error>> {
        for (to, slots) in plan {
            let to = self.map.nodes()[to].incarnation;
            let mut told = tell;
            let moved = tokio::select! {
                biased;
                _ = ctrl_c() => None,
                moved = self.mover.move_slots(&slots, to, &self.dead, &mut told) => Some(moved),
            };
            match moved {
                Some(moved) => moved.map_err(|error| hint(&self.map, error))?,
                None => {
                    let took_place = self.mover.give_up().await?;
                    let what =
                        if took_place { "the move under way took place" } else { "nothing of the move under way" };
                    return Err(Interrupted(format!("{what}, those before it stay")).into());
                }
            }
        }
        Ok(())
    }

    /// Tells all nodes of what has changed.
    async fn finish(&self) -> CommandResult {
        for behind in self.mover.tell_all().await? {
            tracing::warn!("{behind}");
        }
        print(format_args!("map of epoch {}", self.mover.newest().await?.epoch()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Where a node that cannot be asked owns slots, the way out.
fn hint(map: &ShardMap, error: MoveError) -> Box<dyn std::error::Error> {
    let MoveError::Unreachable { endpoint, source } = &error else { return error.into() };
    let place = map.nodes().iter().position(|node| node.addresses.contains(endpoint));
    let slots = place.map_or(0, |place| map.slots_of(place).count());
    let gone = if matches!(source, ClientError::MemoryLost { .. }) { "are lost" } else { "are given up with it" };
    format!("{error}; if it is dead, --confirm-dead {endpoint} takes its slots: the records of {slots} slots {gone}")
        .into()
}

fn tell(progress: &Progress) {
    let line = match progress {
        Progress::Began { from, to, slots } => format!("{from} -> {to}: {} slots: {slots}", slots.count()),
        Progress::Moved { epoch, bytes, paused } => format!(
            "moved, {:.1} MB of records, nobody served for {paused:.1?}: map of epoch {epoch}",
            *bytes as f64 / 1e6
        ),
        Progress::Given { to, slots, are_lost: true } => {
            format!("given up: the records of {} slots; {to} owns them, empty: {slots}", slots.count())
        }
        Progress::Given { to, slots, .. } => format!("nobody's -> {to}: {} slots: {slots}", slots.count()),
        Progress::Again { error } => format!("once more: {error}"),
    };
    // Whoever reads no lines any more still wants the move.
    let _told = print(format_args!("{line}"));
}

pub(super) async fn add(args: &AddArgs) -> CommandResult {
    let change = Change::begin(&args.at, &[]).await?;
    let stats = ask(&args.node, &args.at.client()?).await?;
    let cluster = change.map.cluster().to_string();
    match &stats.cluster {
        Some(other) if *other != cluster => {
            return Err(format!("{} works for another cluster: {}", args.node, other.escape_debug()).into());
        }
        None if stats.slots > 0 => return Err(format!("{} was started without --map", args.node).into()),
        _ => {}
    }
    let incarnation = stats.incarnation.parse().map_err(|error| format!("{}: incarnation: {error}", args.node))?;
    change.mover.add(MapNode { addresses: vec![args.node.clone()], incarnation }).await?;
    change.finish().await
}

pub(super) async fn remove(args: &RemoveArgs) -> CommandResult {
    let mut change = Change::begin(&args.change.at, &args.change.confirm_dead).await?;
    let place = args.node.place(&change.map)?;
    let plan = emptied(&change.map, place);
    if change.map.nodes().len() == 1 {
        return Err("it is the only node: its records have nowhere to go".into());
    }
    change.carry_out(plan).await?;
    change.mover.forget(change.map.nodes()[place].incarnation).await?;
    change.finish().await
}

pub(super) async fn move_slots(args: &MoveArgs) -> CommandResult {
    let mut change = Change::begin(&args.change.at, &args.change.confirm_dead).await?;
    let place = args.node.place(&change.map)?;
    change.carry_out(vec![(place, (*args.slots).clone())]).await?;
    change.finish().await
}

pub(super) async fn rebalance(args: &RebalanceArgs) -> CommandResult {
    let mut change = Change::begin(&args.at, &[]).await?;
    let plan = rebalanced(&change.map);
    change.carry_out(plan).await?;
    change.finish().await
}
