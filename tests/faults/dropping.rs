//! Dropping the future of a call, at any poll, harms no connection and no other call.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use freight::client::Client;
use freight::op::Outcome;
use freight::transport::sim::NetworkConfig;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::time::timeout;

const KEYS: u32 = 64;

/// A value says which key it is for, so that a reply that went astray shows.
fn value(key: u32, round: u32, bytes: usize) -> Vec<u8> {
    let mut value = [key.to_le_bytes(), round.to_le_bytes()].concat();
    value.resize(value.len().max(bytes), key as u8);
    value
}

fn assert_belongs(key: u32, found: &[u8]) {
    let rest = found.strip_prefix(&key.to_le_bytes()[..]).expect("a value of another key");
    assert!(rest[4..].iter().all(|byte| *byte == key as u8), "a value in pieces");
}

/// Drops a future at some poll, or after a while that may be nothing.
async fn drop_soon(random: &mut ChaCha8Rng, future: impl Future) {
    if random.random() {
        return drop_at_poll(random.random_range(0..8), future).await;
    }
    let patience = Duration::from_micros([0, 1, 500, 3_000][random.random_range(0..4)]);
    let _answered_or_dropped = timeout(patience, future).await;
}

/// Polls a future so many times, if it is not ready before.
async fn drop_at_poll(polls: u32, future: impl Future) {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 || future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        left -= 1;
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn disturb(client: &Client, random: &mut ChaCha8Rng, round: u32) {
    for _ in 0..random.random_range(1..6) {
        let key: u32 = random.random_range(0..KEYS);
        let bytes = [8, 100, 5_000, 200_000][random.random_range(0..4)];
        match random.random_range(0..4) {
            0 => drop_soon(random, client.get(&key.to_le_bytes())).await,
            1 => drop_soon(random, client.put(&key.to_le_bytes(), &value(key, round, bytes))).await,
            _ => {
                let mut batch = client.batch(20);
                for key in (key..KEYS).chain(0..key) {
                    if random.random() {
                        batch.put(&key.to_le_bytes(), &value(key, round, bytes)).expect("room");
                    } else {
                        batch.get(&key.to_le_bytes()).expect("room");
                    }
                }
                drop_soon(random, client.execute(batch)).await;
            }
        }
    }
}

async fn verify(client: &Client, round: u32) {
    client.put(b"control", &round.to_le_bytes()).await.expect("written");
    let mut batch = client.batch(KEYS + 1);
    batch.get(b"control").expect("room");
    for key in 0..KEYS {
        batch.get(&key.to_le_bytes()).expect("room");
    }
    let reply = client.execute(batch).await.expect("an answer");
    assert_eq!(reply.outcome(0), Outcome::Value { value: &round.to_le_bytes(), version: None });
    for (key, outcome) in (0..KEYS).zip(reply.outcomes().skip(1)) {
        match outcome {
            Outcome::Value { value, .. } => assert_belongs(key, value),
            Outcome::NotFound => {}
            outcome => panic!("{outcome:?}"),
        }
    }
}

async fn disturb_and_verify(cluster: &mut Cluster, seed: u64, rounds: u32) {
    println!("{:?}, seed {seed}", cluster.wire());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let client = cluster.client().await;
    for round in 0..rounds {
        disturb(&client, &mut random, round).await;
        verify(&client, round).await;
    }
    assert_eq!(cluster.stats(0).refusals, 0, "every frame was whole");
    assert_eq!(cluster.stats(0).connections, 1, "one connection carried it all");
}

#[test]
fn dropped_calls_harm_no_later_call_on_tcp() {
    Plan::new(Wire::Tcp).run(async |cluster: &mut Cluster| disturb_and_verify(cluster, 11, 150).await);
}

#[test]
fn dropped_calls_harm_no_later_call_on_shm() {
    Plan::new(Wire::Shm).run(async |cluster: &mut Cluster| disturb_and_verify(cluster, 12, 150).await);
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn dropped_calls_harm_no_later_call_on_rdma() {
    Plan::new(Wire::Rdma).run(async |cluster: &mut Cluster| disturb_and_verify(cluster, 13, 30).await);
}

#[test]
fn dropped_calls_harm_no_later_call_on_sim() {
    crate::support::for_each_seed(10, |seed| {
        let delay = Duration::ZERO..=Duration::from_millis(2);
        let network = NetworkConfig { delay, chunk_bytes_max: 20_000, ..NetworkConfig::calm(seed) };
        let plan = Plan { network, seed, ..Plan::new(Wire::Sim) };
        plan.run(async |cluster: &mut Cluster| disturb_and_verify(cluster, seed, 20).await);
    });
}
