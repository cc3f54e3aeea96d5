//! Three nodes with a shard map that changes, clients with maps of several ages, and a network that misbehaves: what
//! the clients are told is linearizable. Planted bugs: nodes that do not look whether a slot is their own, and a node
//! that comes back empty as if it were the one before.
//!
//! ```text
//!   epoch 1   slots dealt evenly           known to half of the clients, to no node
//!   epoch 2   dealt to the next node each, some to nobody     known to the nodes when clients begin
//!   epoch 3   all dealt to the next node   given to nodes and keeper one by one, at drawn times
//! ```
#![forbid(unsafe_code)]

use crate::recorded::Recorded;
use crate::sim::network;
use crate::support::checker::{Checker, Violation, assert_linearizable};
use crate::support::cluster::{Cluster, Plan, Wire, identity};
use crate::support::for_each_seed;
use crate::support::history::{History, Recorder};
use crate::workload::Workload;
use freight::client::{Client, ClientConfig};
use freight::limits::SLOTS;
use freight::map::{MapMemory, MapStore, ShardMap};
use freight::server::NodeConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

const WORKLOAD: Workload =
    Workload { keys: 8, calls: 20, batch_ops_max: 8, singles_percent: 40, dropped_percent: 3, edits_percent: 0 };

const NODES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// Nodes answer for every slot: an answer from a stale map.
    NoCheck,
    /// A node is started again, empty, under the incarnation that it had: it answers misses.
    EmptyAgain,
}

fn plan(seed: u64, random: &mut ChaCha8Rng, bug: Option<Bug>) -> Plan {
    let network = network(random, seed);
    Plan { nodes: NODES, seed, network, ..Plan::new(Wire::Sim) }.node(move |config: &mut NodeConfig| {
        (config.shards, config.mapped) = (Some(2), bug != Some(Bug::NoCheck));
        if bug == Some(Bug::EmptyAgain) {
            let node = config.listen[0].to_string().bytes().last().expect("its number");
            config.identity = identity(seed, node.into());
        }
    })
}

fn turned(slot: u16, by: usize) -> usize {
    (usize::from(slot) * NODES / SLOTS as usize + by) % NODES
}

/// A client that goes by what a keeper has at this time.
async fn client(store: &Arc<MapMemory>, seed: u64) -> Client {
    let config = ClientConfig { jitter_seed: Some(seed), ..ClientConfig::default() };
    Client::connect_mapped(Arc::<MapMemory>::clone(store), config).await.expect("a map")
}

/// Plays clients, half of which begin with the old map.
fn play(tasks: &LocalSet, old: Vec<Client>, new: Vec<Client>, recorder: &Recorder, seed: u64) {
    for (id, client) in (0_u32..).zip(old.into_iter().chain(new)) {
        let recorded = Recorded::new(id, client, recorder);
        let seed = seed * 8 + u64::from(id);
        tasks.spawn_local(async move { WORKLOAD.run(&recorded, seed).await });
    }
}

async fn keeper_of(map: &ShardMap) -> Arc<MapMemory> {
    let store = Arc::new(MapMemory::default());
    store.replace(0, map).await.expect("nothing was there");
    store
}

/// What clients are told while the map changes.
fn history_of_changes(seed: u64, bug: Option<Bug>) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut history = History::default();
    let plan = plan(seed, &mut random, bug);
    plan.run(async |cluster: &mut Cluster| {
        let unowned = random.random_range(2..9);
        let first = cluster.map(1, |slot| Some(turned(slot, 0)));
        let second = cluster.map(2, |slot| (slot % unowned != 0).then(|| turned(slot, 1)));
        let third = cluster.map(3, |slot| Some(turned(slot, 1)));
        let (stale, fresh) = (keeper_of(&first).await, keeper_of(&second).await);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for number in 0..3 {
            old.push(client(&stale, seed * 8 + number).await);
            new.push(client(&fresh, seed * 8 + 4 + number).await);
        }
        let is_checked = bug != Some(Bug::NoCheck);
        let give = |node: usize, map: &ShardMap| {
            if is_checked {
                cluster.take_map(node, map)
            }
        };
        (0..NODES).for_each(|node| give(node, &second));
        let recorder = Recorder::new();
        let tasks = LocalSet::new();
        play(&tasks, old, new, &recorder, seed);
        let delays: Vec<_> = (0..NODES + 3).map(|_| Duration::from_millis(random.random_range(0..60))).collect();
        let change = async {
            let nodes = async {
                for (node, delay) in (0..NODES).zip(&delays) {
                    sleep(*delay).await;
                    give(node, &third);
                }
            };
            let keepers = async {
                sleep(delays[NODES]).await;
                stale.replace(1, &second).await.expect("the epoch is right");
                sleep(delays[NODES + 1]).await;
                stale.replace(2, &third).await.expect("the epoch is right");
                sleep(delays[NODES + 2]).await;
                fresh.replace(2, &third).await.expect("the epoch is right");
            };
            tokio::join!(nodes, keepers)
        };
        tokio::join!(tasks, change);
        history = recorder.history();
    });
    history
}

/// What clients are told while a node is stopped and started again; with the bug it says that it is the same.
fn history_of_a_restart(seed: u64, bug: Option<Bug>) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut history = History::default();
    plan(seed, &mut random, bug).run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, |slot| Some(turned(slot, 0)));
        (0..NODES).for_each(|node| cluster.take_map(node, &map));
        let store = keeper_of(&map).await;
        let mut clients = Vec::new();
        for number in 0..6 {
            clients.push(client(&store, seed * 8 + number).await);
        }
        let recorder = Recorder::new();
        let tasks = LocalSet::new();
        play(&tasks, clients, Vec::new(), &recorder, seed);
        let restart = async {
            for node in (0..NODES).chain(0..NODES) {
                sleep(Duration::from_millis(random.random_range(5..25))).await;
                cluster.restart(node).await;
                cluster.take_map(node, &map);
            }
        };
        tokio::join!(tasks, restart);
        history = recorder.history();
    });
    history
}

#[test]
fn histories_over_a_change_of_the_map_are_linearizable() {
    let (mut calls, mut lost) = (0, 0);
    for_each_seed(100, |seed| {
        let history = history_of_changes(seed, None);
        assert_linearizable(&history);
        calls += history.calls.values().map(Vec::len).sum::<usize>();
        lost += history.calls.values().flatten().filter(|call| call.is_lost()).count();
    });
    println!("{calls} calls, {lost} of them lost");
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(lost < calls / 4, "{lost} of {calls} calls lost: the change is not ridden over");
    }
}

#[test]
fn histories_over_restarts_are_linearizable() {
    for_each_seed(60, |seed| assert_linearizable(&history_of_a_restart(seed, None)));
}

#[test]
fn a_seed_replays_a_change_of_the_map() {
    for_each_seed(10, |seed| {
        let (first, second) = (history_of_changes(seed, None), history_of_changes(seed, None));
        assert!(first.calls == second.calls, "the same seed, another history");
    });
}

/// In how many histories of each bug the checker finds a violation.
fn caught(bug: Bug, history: impl Fn(u64, Option<Bug>) -> History) {
    let (mut caught, mut runs) = (0, 0);
    for_each_seed(30, |seed| {
        let verdict = Checker::default().check(&history(seed, Some(bug)));
        assert!(!matches!(verdict, Err(Violation::GaveUp { .. })), "{bug:?}: {verdict:?}");
        caught += u32::from(verdict.is_err());
        runs += 1;
    });
    println!("{bug:?}: caught in {caught} of {runs} histories");
    assert!(2 * caught > runs, "{bug:?}: caught in only {caught} of {runs} histories");
}

#[test]
fn an_answer_from_a_stale_map_is_caught() {
    caught(Bug::NoCheck, history_of_changes);
}

#[test]
fn an_empty_restarted_node_that_answers_misses_is_caught() {
    caught(Bug::EmptyAgain, history_of_a_restart);
}
