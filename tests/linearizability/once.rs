//! Connections that are cut all the time while their nodes live: no call is lost, and each is executed once.
#![forbid(unsafe_code)]

use crate::sim::{connect, play};
use crate::support::checker::assert_linearizable;
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::for_each_seed;
use crate::workload::Workload;
use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use freight::transport::sim::NetworkConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

const WORKLOAD: Workload =
    Workload { keys: 5, calls: 30, batch_ops_max: 8, singles_percent: 40, dropped_percent: 0, edits_percent: 0 };

/// A network that cuts every connection soon.
pub(crate) fn cutting(random: &mut ChaCha8Rng, seed: u64) -> NetworkConfig {
    NetworkConfig {
        seed,
        delay: Duration::ZERO..=Duration::from_millis(random.random_range(1..6)),
        chunk_bytes_max: random.random_range(20..2_000),
        cut_after_bytes: Some(600..=random.random_range(1_000..6_000)),
    }
}

fn plan(seed: u64) -> Plan {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (nodes, network) = (random.random_range(1..=3), cutting(&mut random, seed));
    Plan { nodes, seed, network, ..Plan::new(Wire::Sim) }
}

fn config(seed: u64) -> ClientConfig {
    ClientConfig { jitter_seed: Some(seed), deadline: Duration::from_secs(3_600), ..ClientConfig::default() }
}

#[test]
fn no_call_is_lost_and_histories_are_linearizable() {
    for_each_seed(150, |seed| {
        plan(seed).run(async |cluster: &mut Cluster| {
            let history = play(&cluster.endpoints(), &config(seed), WORKLOAD, seed).await;
            assert_linearizable(&history);
            let lost = history.calls.values().flatten().find(|call| call.is_lost());
            assert!(lost.is_none(), "{}", lost.expect("checked"));
        });
    });
}

#[test]
fn a_counter_is_the_sum_of_what_was_added() {
    for_each_seed(60, |seed| {
        plan(seed).run(async |cluster: &mut Cluster| {
            let tasks = tokio::task::LocalSet::new();
            for id in 0..4 {
                let (endpoints, config) = (cluster.endpoints(), config(seed * 4 + id));
                tasks.spawn_local(async move {
                    let client = connect(&endpoints, &config).await;
                    for round in 0..20 {
                        add_in_a_batch(&client, round).await;
                        client.add(b"single", 1).await.expect("the node lives");
                    }
                });
            }
            tasks.await;
            let client = connect(&cluster.endpoints(), &config(seed + 1_000)).await;
            assert_eq!(client.add(b"single", 0).await.expect("the node lives"), 4 * 20, "seed {seed}");
            for key in 0..8_u8 {
                let expected = 4 * (0..20).map(|round| i64::from(round * u32::from(key) % 5)).sum::<i64>();
                assert_eq!(client.add(&[key], 0).await.expect("the node lives"), expected, "seed {seed}");
            }
        });
    });
}

async fn add_in_a_batch(client: &Client, round: u32) {
    let mut batch = client.batch(8);
    for key in 0..8_u8 {
        batch.add(&[key], i64::from(round * u32::from(key) % 5)).expect("room");
    }
    let reply = client.execute(batch).await.expect("the node lives");
    assert!(reply.outcomes().all(|outcome| matches!(outcome, Outcome::Counter { .. })));
}
