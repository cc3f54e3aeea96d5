//! Slots that move forth and back with their records while clients write them, on a network that misbehaves: what the
//! clients are told is linearizable. Planted bug: a mover that forgets what changed last.
#![forbid(unsafe_code)]

use crate::recorded::Recorded;
use crate::sim::network;
use crate::support::checker::{Checker, Violation, assert_linearizable};
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::for_each_seed;
use crate::support::history::{History, Recorder};
use crate::workload::Workload;
use freight::client::{Client, ClientConfig};
use freight::limits::SLOTS;
use freight::map::{Id, MapMemory, MapStore};
use freight::mover::{MoveError, MoverConfig, Moving};
use freight::shard::IndexKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

const WORKLOAD: Workload =
    Workload { keys: 8, calls: 60, batch_ops_max: 8, singles_percent: 40, dropped_percent: 3, edits_percent: 0 };

pub(crate) const NODES: usize = 3;
const CLIENTS: u64 = 6;

/// Nodes whose map is kept in memory, and clients of them.
pub(crate) async fn begin(cluster: &Cluster, seed: u64, deadline: Duration) -> (Arc<dyn MapStore>, Vec<Client>) {
    let map = cluster.map(1, |slot| Some(usize::from(slot) * NODES / SLOTS as usize));
    let store: Arc<dyn MapStore> = Arc::new(MapMemory::default());
    store.replace(0, &map).await.expect("nothing was there");
    let mut clients = Vec::new();
    for node in 0..NODES {
        cluster.take_map(node, &map);
        cluster.follow(node, Arc::clone(&store));
    }
    for number in 0..CLIENTS {
        let config = ClientConfig { deadline, jitter_seed: Some(seed * 8 + number), ..ClientConfig::default() };
        clients.push(Client::connect_mapped(Arc::clone(&store), config).await.expect("a map"));
    }
    (store, clients)
}

pub(crate) fn plan(seed: u64, random: &mut ChaCha8Rng) -> Plan {
    let network = network(random, seed);
    let index = IndexKind::BUILT[random.random_range(0..IndexKind::BUILT.len())];
    Plan { nodes: NODES, seed, network, ..Plan::new(Wire::Sim) }
        .node(move |config| (config.shards, config.mapped, config.index) = (Some(2), true, index))
}

/// The next move: some of what a node owns, to another; and which two they are.
pub(crate) async fn next_move(store: &Arc<dyn MapStore>, random: &RefCell<ChaCha8Rng>) -> (Moving, [usize; 2]) {
    let map = store.load().await.expect("memory").expect("a map");
    let mut random = random.borrow_mut();
    let from = (0..).map(|_| random.random_range(0..NODES)).find(|from| map.slots_of(*from).count() > 0);
    let from = from.expect("somebody owns slots");
    let to = (from + random.random_range(1..NODES)) % NODES;
    let part = random.random_range(2..=8);
    let all: Vec<_> = map.slots_of(from).ranges().flatten().collect();
    let slots = all.iter().enumerate().filter(|(number, _)| number % 8 < part).map(|(_, slot)| *slot).collect();
    let client = ClientConfig { jitter_seed: Some(random.random()), ..MoverConfig::default().client };
    let config = MoverConfig { client, ..MoverConfig::default() };
    (Moving::new(store, &map, (from, to), slots, Id(random.random()), &config), [from, to])
}

/// Moves slots, at drawn times, until it is told to stop; counts the moves that took place.
async fn keep_moving(
    store: &Arc<dyn MapStore>,
    random: &RefCell<ChaCha8Rng>,
    run: impl AsyncFn(Moving) -> bool,
    moved: &mut u32,
) {
    loop {
        let pause = random.borrow_mut().random_range(0..20);
        sleep(Duration::from_millis(pause)).await;
        let (moving, _) = next_move(store, random).await;
        *moved += u32::from(run(moving).await);
    }
}

/// Takes all steps, or none.
async fn whole(mut moving: Moving) -> bool {
    let ran = moving.run().await;
    ran.is_ok() || moving.cancel().await.unwrap_or(false)
}

/// What clients are told while slots move; and how many moves took place.
fn history_of_moves(seed: u64, run: impl AsyncFn(&RefCell<ChaCha8Rng>, Moving) -> bool) -> (History, u32) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut history, mut moved) = (History::default(), 0);
    plan(seed, &mut random).run(async |cluster: &mut Cluster| {
        let (store, clients) = begin(cluster, seed, ClientConfig::default().deadline).await;
        let recorder = Recorder::new();
        let random = RefCell::new(random);
        let tasks = LocalSet::new();
        for (id, client) in (0_u32..).zip(clients) {
            let recorded = Recorded::new(id, client, &recorder);
            tasks.spawn_local(async move { WORKLOAD.run(&recorded, seed * 8 + u64::from(id)).await });
        }
        tokio::select! {
            biased;
            () = tasks => {}
            () = keep_moving(&store, &random, async |moving| run(&random, moving).await, &mut moved) => {}
        }
        history = recorder.history();
    });
    (history, moved)
}

/// Checks histories over moves; gives how many moves took place.
fn check(seeds: u64, run: impl AsyncFn(&RefCell<ChaCha8Rng>, Moving) -> bool) -> u32 {
    let (mut calls, mut lost, mut moved) = (0, 0, 0);
    for_each_seed(seeds, |seed| {
        let (history, moves) = history_of_moves(seed, &run);
        assert_linearizable(&history);
        calls += history.calls.values().map(Vec::len).sum::<usize>();
        lost += history.calls.values().flatten().filter(|call| call.is_lost()).count();
        moved += moves;
    });
    println!("{calls} calls, {lost} of them lost, over {moved} moves");
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(lost < calls / 4, "{lost} of {calls} calls lost: moves are not ridden over");
    }
    moved
}

#[test]
fn histories_over_moves_are_linearizable() {
    let moved = check(100, async |_, moving| whole(moving).await);
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(moved > 200, "only {moved} moves took place");
    }
}

#[test]
fn histories_over_movers_that_die_are_linearizable() {
    let dying = async |random: &RefCell<ChaCha8Rng>, moving| {
        let patience = Duration::from_millis(random.borrow_mut().random_range(0..80));
        timeout(patience, whole(moving)).await.unwrap_or(false)
    };
    check(60, dying);
}

#[test]
fn a_seed_replays_moves() {
    for_each_seed(5, |seed| {
        let history = || history_of_moves(seed, async |_, moving| whole(moving).await).0;
        assert!(history().calls == history().calls, "the same seed, another history");
    });
}

#[test]
fn a_record_lost_on_a_move_is_caught() {
    let forgetful = async |moving: &mut Moving| {
        moving.begin().await?;
        moving.copy().await?;
        moving.freeze().await?;
        // What changed since it was copied is not handed over.
        moving.finish().await?;
        moving.settle().await
    };
    let run = async |_: &RefCell<ChaCha8Rng>, mut moving: Moving| {
        let ran: Result<(), MoveError> = forgetful(&mut moving).await;
        ran.is_ok() || moving.cancel().await.unwrap_or(false)
    };
    let (mut caught, mut runs) = (0, 0);
    for_each_seed(30, |seed| {
        let verdict = Checker::default().check(&history_of_moves(seed, run).0);
        assert!(!matches!(verdict, Err(Violation::GaveUp { .. })), "{verdict:?}");
        caught += u32::from(verdict.is_err());
        runs += 1;
    });
    println!("caught in {caught} of {runs} histories");
    assert!(2 * caught > runs, "caught in only {caught} of {runs} histories");
}
