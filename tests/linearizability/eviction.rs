//! Nodes that are caches, whose memory somebody else fills all the time: a key may vanish at any instant, and what was
//! seen gone never comes back.
#![forbid(unsafe_code)]

use crate::clocks::Clocks;
use crate::once::cutting;
use crate::sim::{connect, network, play_to};
use crate::support::checker::Checker;
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::for_each_seed;
use crate::support::history::History;
use crate::workload::Workload;
use freight::client::{Client, ClientConfig};
use freight::op::{Action, Op};
use freight::shard::{Eviction, IndexKind};
use freight::transport::Endpoint;
use freight::transport::sim::{Network, NetworkConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const WORKLOAD: Workload =
    Workload { keys: 6, calls: 60, batch_ops_max: 8, singles_percent: 30, dropped_percent: 3, edits_percent: 15 };

/// A node may refuse what no eviction makes room for, too.
const CHECKER: Checker = Checker { evicting: true, memory_capped: true, ..Checker::DEFAULT };

/// The least that a node has: 40 MiB of it are for records.
const MEMORY_BYTES: u64 = 64 << 20;

/// Values that fill the memory are no longer: some share size classes, and some have pages of their own.
const FILLING_BYTES_MAX: usize = 400 << 10;

/// So that each has a name of its own.
static NETWORKS: AtomicU64 = AtomicU64::new(0);

/// What the clients of a cluster were told, and how many records its nodes evicted. Cluster, clocks, faults, clients
/// and what fills the memory all come from the seed.
fn history(seed: u64) -> (History, u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let network = if random.random() { network(&mut random, seed) } else { cutting(&mut random, seed) };
    let nodes = random.random_range(1..=2);
    let index = IndexKind::BUILT[random.random_range(0..IndexKind::BUILT.len())];
    let eviction = [Eviction::S3Fifo, Eviction::Random][random.random_range(0..2)];
    let shards = [4, 8][random.random_range(0..2)];
    // Who fills the memory has a network without faults.
    let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
    let calm = Network::create(&format!("calm-{number}"), NetworkConfig::calm(seed));
    let (mut history, mut evicted) = (History::default(), 0);
    let config = ClientConfig { jitter_seed: Some(seed), ..ClientConfig::default() };
    Wire::Sim.runtime().block_on(async {
        let clocks = Clocks::new(seed, 5);
        let recorder = clocks.recorder();
        let plan = Plan { nodes, seed, network, ..Plan::new(Wire::Sim) };
        let calm_name = calm.name().to_owned();
        let plan = plan.node(move |config| {
            (config.memory_bytes_max, config.eviction) = (Some(MEMORY_BYTES), eviction);
            (config.shards, config.index, config.clock) = (Some(shards), index, clocks.clock());
            config.listen.push(endpoint(&calm_name, config.identity.incarnation));
        });
        plan.run_here(async |cluster: &mut Cluster| {
            let calm: Vec<_> = (0..nodes).map(|node| cluster.endpoints_of(node)[1].clone()).collect();
            let client = connect(&calm, &ClientConfig::default()).await;
            let endpoints = cluster.endpoints();
            let evicted_by = |node| cluster.stats(node).store.records_evicted;
            while (0..nodes).any(|node| evicted_by(node) == 0) {
                fill(&client, &mut random).await;
            }
            let play = play_to(recorder, &endpoints, &config, WORKLOAD, seed);
            history = tokio::select! {
                history = play => history,
                () = fill_on(&client, &mut random) => unreachable!("it fills for ever"),
            };
            evicted = (0..nodes).map(evicted_by).sum();
        })
        .await;
    });
    (history, evicted)
}

/// An endpoint on a network that no other node has.
fn endpoint(network: &str, incarnation: [u8; 16]) -> Endpoint {
    format!("sim://{network}/{}", u128::from_le_bytes(incarnation)).parse().expect("an endpoint")
}

/// Puts records of all sizes on keys of its own.
async fn fill(client: &Client, random: &mut ChaCha8Rng) {
    static FILLING: [u8; FILLING_BYTES_MAX] = [0xF1; FILLING_BYTES_MAX];
    let mut batch = client.batch(8);
    for _ in 0..8 {
        let (key, bytes_max) = (random.random::<u64>().to_le_bytes(), 1 << random.random_range(4..20));
        let value = &FILLING[..random.random_range(0..bytes_max).min(FILLING_BYTES_MAX)];
        let op = Op { key: &key, action: Action::Put { value }, version_wanted: false };
        batch.push(&op).expect("room in the frame");
    }
    // What is refused was tried.
    let _answered = client.execute(batch).await;
}

/// The same, for ever.
async fn fill_on(client: &Client, random: &mut ChaCha8Rng) {
    loop {
        fill(client, random).await;
        tokio::time::sleep(Duration::from_micros(random.random_range(0..3_000))).await;
    }
}

#[test]
fn histories_of_nodes_that_evict_are_linearizable() {
    let (mut calls, mut evicted, mut seen, mut seeds) = (0, 0, 0, 0);
    for_each_seed(60, |seed| {
        let (history, evicted_here) = history(seed);
        if let Err(violation) = CHECKER.check(&history) {
            panic!("{violation}");
        }
        calls += history.calls.values().map(Vec::len).sum::<usize>();
        evicted += evicted_here;
        // Without eviction no order explains what was seen gone.
        seen += u32::from(Checker { evicting: false, ..CHECKER }.check(&history).is_err());
        seeds += 1;
    });
    println!("{calls} calls, {evicted} records evicted, seen in {seen} of {seeds} histories");
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(
            2 * seen > seeds,
            "keys were seen to vanish in {seen} of {seeds} histories: the filling is not as meant"
        );
    }
}

#[test]
fn a_seed_replays_what_is_evicted() {
    for_each_seed(5, |seed| {
        let (first, second) = (history(seed), history(seed));
        assert!(first.0.calls == second.0.calls && first.1 == second.1, "the same seed, another history");
    });
}
