//! Random operations through the public client against a plain map: every wire, both indexes, one node and three.
#![forbid(unsafe_code)]

mod draw;
mod model;
#[path = "../support/mod.rs"]
mod support;

use draw::{Draw, DrawnOp};
use freight::client::Client;
use freight::metrics::StoreStats;
use freight::op::{Action, Outcome};
use freight::shard::IndexKind;
use freight::transport::sim::NetworkConfig;
use model::Model;
use std::time::Duration;
use support::cluster::{Cluster, Plan, Wire};
use support::for_each_seed;

/// Runs a test on each kind of cluster with one wire.
fn on_each_cluster(wire: Wire, seed: u64, test: impl AsyncFn(&mut Cluster)) {
    for index in IndexKind::BUILT {
        for nodes in [1, 3] {
            println!("{wire:?}, {index}, {nodes} nodes, seed {seed}");
            let delay = Duration::ZERO..=Duration::from_millis(2);
            let network = NetworkConfig { delay, chunk_bytes_max: 100_000, ..NetworkConfig::calm(seed) };
            let plan = Plan { nodes, seed, network, ..Plan::new(wire) };
            // Few shards, so that each grows, splits and shrinks.
            plan.node(|config| (config.index, config.shards) = (*index, Some(2))).run(&test);
        }
    }
}

/// Executes operations as one batch and holds the outcomes against the model.
async fn execute(client: &Client, model: &mut Model, ops: &[DrawnOp]) {
    let mut batch = client.batch(ops.len() as u32 / 2);
    ops.iter().for_each(|op| batch.push(&op.op()).expect("room in the frame"));
    let reply = client.execute(batch).await.expect("an answer");
    assert_eq!((reply.len(), reply.failures().count()), (ops.len(), 0));
    for (op, outcome) in ops.iter().zip(reply.outcomes()) {
        model.check(&op.op(), outcome);
    }
}

/// Issues one operation by itself and holds its outcome against the model.
async fn issue(client: &Client, model: &mut Model, op: &DrawnOp) {
    let told = "an answer";
    let mut op = op.op();
    op.version_wanted = matches!(op.action, Action::Get | Action::CompareAndSwap { .. });
    match op.action {
        Action::Get => match client.get_with_version(op.key).await.expect(told) {
            Some((value, version)) => {
                model.check(&op, Outcome::Value { value: &value, version: Some(version) });
            }
            None => model.check(&op, Outcome::NotFound),
        },
        Action::Put { value } => {
            client.put(op.key, value).await.expect(told);
            model.check(&op, Outcome::Done { version: None });
        }
        Action::Delete => match client.delete(op.key).await.expect(told) {
            true => model.check(&op, Outcome::Done { version: None }),
            false => model.check(&op, Outcome::NotFound),
        },
        Action::CompareAndSwap { expected, value } => {
            match client.compare_and_swap(op.key, expected, value).await.expect(told) {
                Ok(version) => model.check(&op, Outcome::Done { version: Some(version) }),
                Err(current) => model.check(&op, Outcome::VersionMismatch { current }),
            }
        }
        Action::Add { delta } => model.check_single_add(&op, client.add(op.key, delta).await),
        Action::Edit(edit) => panic!("nobody issues {edit:?}"),
    }
}

/// The nodes hold what the model holds, no more and no less.
async fn assert_agree(cluster: &Cluster, client: &Client, model: &mut Model) {
    let sum = |pick: fn(&StoreStats) -> u64| -> u64 {
        (0..cluster.endpoints().len()).map(|node| pick(&cluster.stats(node).store)).sum()
    };
    assert_eq!(sum(|store| store.records), model.len() as u64);
    assert_eq!(sum(|store| store.payload_bytes), model.payload_bytes());
    for keys in model.keys().chunks(500) {
        let ops: Vec<_> = keys.iter().map(|key| DrawnOp::get(key)).collect();
        execute(client, model, &ops).await;
    }
}

async fn random_run(cluster: &mut Cluster, seed: u64, batches: u32) {
    let client = cluster.client().await;
    let (mut model, mut draw) = (Model::default(), Draw::new(seed));
    for round in 0..batches {
        let ops = draw.batch(&model);
        if round % 4 == 3 {
            for op in ops.iter().take(10) {
                issue(&client, &mut model, op).await;
            }
        } else {
            execute(&client, &mut model, &ops).await;
        }
    }
    assert_agree(cluster, &client, &mut model).await;
    // Almost everything goes, and the rest stays.
    let doomed: Vec<_> = model.keys().iter().skip(7).map(|key| DrawnOp::delete(key)).collect();
    for ops in doomed.chunks(1_000) {
        execute(&client, &mut model, ops).await;
    }
    assert_agree(cluster, &client, &mut model).await;
}

#[test]
fn random_operations_agree_with_a_map_on_tcp() {
    for_each_seed(6, |seed| {
        on_each_cluster(Wire::Tcp, seed, async |cluster| random_run(cluster, seed, 60).await);
    });
}

#[test]
fn random_operations_agree_with_a_map_on_shm() {
    for_each_seed(6, |seed| {
        on_each_cluster(Wire::Shm, seed, async |cluster| random_run(cluster, seed, 60).await);
    });
}

#[test]
fn random_operations_agree_with_a_map_on_sim() {
    for_each_seed(30, |seed| {
        on_each_cluster(Wire::Sim, seed, async |cluster| random_run(cluster, seed, 40).await);
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn random_operations_agree_with_a_map_on_rdma() {
    for_each_seed(1, |seed| {
        on_each_cluster(Wire::Rdma, seed, async |cluster| random_run(cluster, seed, 60).await);
    });
}

/// Sizes of records around every boundary: classes, spans, buffers, limits.
async fn boundaries(cluster: &mut Cluster) {
    let client = cluster.client().await;
    let (mut model, bytes) = (Model::default(), draw::bytes(8 << 20));
    let sizes = draw::boundary_sizes();
    for (number, size) in sizes.iter().enumerate() {
        let other = sizes[sizes.len() - 1 - number];
        let key = number.to_string();
        // One key goes through all sizes; another size each gets a key of its own, and the large ones go again.
        let mut ops = vec![
            DrawnOp::put(key.as_bytes(), &bytes[..*size]),
            DrawnOp::put(b"one", &bytes[..other]),
            DrawnOp::get(key.as_bytes()),
            DrawnOp::get(b"one"),
        ];
        if *size > 100_000 {
            ops.push(DrawnOp::delete(key.as_bytes()));
        }
        // What does not fit a frame with others goes alone.
        for together in if size + other > 7 << 20 { ops.chunks(1) } else { ops.chunks(5) } {
            execute(&client, &mut model, together).await;
        }
    }
    for key in [0, 1, 17, 1_000, 65_534, 65_535] {
        for value in [0, 1, 100] {
            let (key, value) = (&bytes[..key], &bytes[..value]);
            execute(&client, &mut model, &[DrawnOp::put(key, value), DrawnOp::get(key)]).await;
        }
    }
    assert_agree(cluster, &client, &mut model).await;
}

#[test]
fn records_of_every_boundary_size_cross_the_wire() {
    for wire in Wire::ALL {
        on_each_cluster(wire, 1, boundaries);
    }
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn records_of_every_boundary_size_cross_rdma() {
    on_each_cluster(Wire::Rdma, 1, boundaries);
}
