//! Hundreds of seeds on the simulated network: delays, torn frames, cut connections, short deadlines, calls dropped
//! in the middle; one thread, and time that costs nothing.
#![forbid(unsafe_code)]

use crate::recorded::Recorded;
use crate::support::checker::assert_linearizable;
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::for_each_seed;
use crate::support::history::{History, Recorder};
use crate::workload::Workload;
use freight::client::{Client, ClientConfig};
use freight::shard::IndexKind;
use freight::transport::Endpoint;
use freight::transport::sim::NetworkConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

const WORKLOAD: Workload =
    Workload { keys: 5, calls: 30, batch_ops_max: 8, singles_percent: 40, dropped_percent: 3, edits_percent: 0 };

/// A network whose faults, and a client whose patience, come from a seed.
pub(crate) fn network(random: &mut ChaCha8Rng, seed: u64) -> NetworkConfig {
    let delay_ms_max = random.random_range(1..6);
    let cut_after = random.random_range(3_000..30_000);
    NetworkConfig {
        seed,
        delay: Duration::ZERO..=Duration::from_millis(delay_ms_max),
        chunk_bytes_max: random.random_range(20..2_000),
        cut_after_bytes: random.random::<bool>().then_some(cut_after / 10..=cut_after),
    }
}

/// Connects, again and again where the network cuts it off in the middle.
pub(crate) async fn connect(endpoints: &[Endpoint], config: &ClientConfig) -> Client {
    loop {
        if let Ok(client) = Client::connect(endpoints, config.clone()).await {
            return client;
        }
    }
}

/// Runs clients side by side, some with connections of their own, some sharing one client.
pub(crate) async fn play(endpoints: &[Endpoint], config: &ClientConfig, workload: Workload, seed: u64) -> History {
    play_to(Recorder::new(), endpoints, config, workload, seed).await
}

/// The same, taken down by a recorder.
pub(crate) async fn play_to(
    recorder: Recorder,
    endpoints: &[Endpoint],
    config: &ClientConfig,
    workload: Workload,
    seed: u64,
) -> History {
    let shared = connect(endpoints, config).await;
    let tasks = tokio::task::LocalSet::new();
    for id in 0..6_u32 {
        let (endpoints, config, shared, recorder) =
            (endpoints.to_vec(), config.clone(), shared.clone(), recorder.clone());
        tasks.spawn_local(async move {
            let client = if id < 3 { shared } else { connect(&endpoints, &config).await };
            workload.run(&Recorded::new(id, client, &recorder), seed * 6 + u64::from(id)).await;
        });
    }
    drop(shared);
    tasks.await;
    recorder.history()
}

/// What the clients of a cluster were told; cluster, faults and clients all come from the seed.
fn history(seed: u64) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let network = network(&mut random, seed);
    let deadline = Duration::from_millis([8, 30, 30_000][random.random_range(0..3)]);
    let (nodes, index) = (random.random_range(1..=3), IndexKind::BUILT[random.random_range(0..IndexKind::BUILT.len())]);
    let plan = Plan { nodes, seed, network, ..Plan::new(Wire::Sim) };
    let mut history = History::default();
    plan.node(move |config| (config.shards, config.index) = (Some(2), index)).run(async |cluster: &mut Cluster| {
        let config = ClientConfig { deadline, jitter_seed: Some(seed), ..ClientConfig::default() };
        history = play(&cluster.endpoints(), &config, WORKLOAD, seed).await;
    });
    history
}

#[test]
fn histories_of_a_misbehaving_network_are_linearizable() {
    let (mut calls, mut lost) = (0, 0);
    for_each_seed(300, |seed| {
        let history = history(seed);
        assert_linearizable(&history);
        calls += history.calls.values().map(Vec::len).sum::<usize>();
        lost += history.calls.values().flatten().filter(|call| call.is_lost()).count();
    });
    println!("{calls} calls, {lost} of them lost");
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(lost > calls / 100 && lost < calls / 4, "{lost} of {calls} calls lost: the faults are not as meant");
    }
}

#[test]
fn a_seed_replays_a_whole_cluster() {
    for_each_seed(20, |seed| {
        let (first, second) = (history(seed), history(seed));
        for (key, calls) in &first.calls {
            let again = &second.calls[key];
            let differing = calls.iter().zip(again).find(|(one, other)| one != other);
            assert!(differing.is_none(), "the same seed, another history: {differing:?}");
            assert_eq!(calls.len(), again.len());
        }
    });
}
