//! Records that expire, by clocks that are set back and forth: what was seen gone never comes back.
#![forbid(unsafe_code)]

use crate::clocks::Clocks;
use crate::once::cutting;
use crate::sim::{network, play_to};
use crate::support::checker::assert_linearizable;
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::for_each_seed;
use crate::support::history::{Call, History, OwnedOp, OwnedOutcome};
use crate::workload::Workload;
use freight::client::ClientConfig;
use freight::shard::IndexKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

const WORKLOAD: Workload =
    Workload { keys: 5, calls: 40, batch_ops_max: 8, singles_percent: 40, dropped_percent: 3, edits_percent: 35 };

/// What the clients of a cluster were told; cluster, clocks, faults and clients all come from the seed.
fn history(seed: u64) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let network = if random.random() { network(&mut random, seed) } else { cutting(&mut random, seed) };
    let (nodes, index) = (random.random_range(1..=3), IndexKind::BUILT[random.random_range(0..IndexKind::BUILT.len())]);
    let behind_max = [0, 5, 30][random.random_range(0..3)];
    let mut history = History::default();
    let config = ClientConfig {
        deadline: Duration::from_secs(if random.random() { 1 } else { 3_600 }),
        jitter_seed: Some(seed),
        ..ClientConfig::default()
    };
    Wire::Sim.runtime().block_on(async {
        let clocks = Clocks::new(seed, behind_max);
        let recorder = clocks.recorder();
        let plan = Plan { nodes, seed, network, ..Plan::new(Wire::Sim) };
        let plan = plan.node(move |config| {
            (config.shards, config.index, config.clock) = (Some(2), index, clocks.clock());
        });
        plan.run_here(async |cluster: &mut Cluster| {
            history = play_to(recorder, &cluster.endpoints(), &config, WORKLOAD, seed).await;
        })
        .await;
    });
    history
}

/// Whether a call met a record with a deadline, or set one.
fn tells_deadline(call: &&Call) -> bool {
    call.steps
        .iter()
        .any(|(_, outcome)| matches!(outcome, OwnedOutcome::Edited { edited, .. } if edited.deadline.is_some()))
}

#[test]
fn histories_of_records_that_expire_are_linearizable() {
    let (mut calls, mut expiring, mut lost) = (0, 0, 0);
    for_each_seed(200, |seed| {
        let history = history(seed);
        assert_linearizable(&history);
        calls += history.calls.values().map(Vec::len).sum::<usize>();
        expiring += history.calls.values().flatten().filter(tells_deadline).count();
        lost += history.calls.values().flatten().filter(|call| call.is_lost()).count();
    });
    println!("{calls} calls, {expiring} of them on records with deadlines, {lost} lost");
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(expiring > calls / 20, "{expiring} of {calls} calls tell a deadline: the workload is not as meant");
    }
}

#[test]
fn a_seed_replays_its_clocks_too() {
    for_each_seed(10, |seed| {
        let (first, second) = (history(seed), history(seed));
        assert!(first.calls == second.calls, "the same seed, another history");
        let edits = first.calls.values().flatten().flat_map(|call| &call.steps);
        assert!(edits.filter(|(op, _)| matches!(op, OwnedOp::Edit { .. })).count() > 20);
    });
}
