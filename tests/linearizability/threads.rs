//! Threads on real transports: some with connections of their own, and tasks that share one client.
#![forbid(unsafe_code)]

use crate::recorded::Recorded;
use crate::support::checker::assert_linearizable;
use crate::support::cluster::{identity, rdma_endpoint};
use crate::support::history::{History, Recorder, Span};
use crate::workload::Workload;
use freight::client::{Client, ClientConfig};
use freight::server::{Clock, Node, NodeConfig};
use freight::shard::IndexKind;
use freight::transport::{Endpoint, Scheme};
use std::ops::Range;
use std::time::Instant;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, LocalSet};

const BATCHES: Workload =
    Workload { keys: 10, calls: 1_000, batch_ops_max: 24, singles_percent: 10, dropped_percent: 1, edits_percent: 15 };
const SINGLES: Workload = Workload { singles_percent: 90, calls: 800, batch_ops_max: 4, ..BATCHES };

fn node(scheme: Scheme, folder: &TempDir, index: IndexKind, clock: &Clock, life: u64) -> Node {
    let endpoint = match scheme {
        Scheme::Shm => format!("shm://{}/{life}.sock", folder.path().display()),
        Scheme::Rdma => rdma_endpoint(),
        _ => "tcp://127.0.0.1:0".to_owned(),
    };
    let mut config = NodeConfig::new(vec![endpoint.parse().expect("an endpoint")], identity(1, life));
    (config.threads, config.cores, config.index, config.shards) = (2, Vec::new(), index, Some(4));
    (config.insecure, config.clock) = (scheme == Scheme::Rdma, clock.clone());
    Node::start(config).expect("a node on this machine")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Plays a part on one thread, as so many tasks with one client.
fn thread(client: Option<Client>, endpoints: &[Endpoint], recorder: &Recorder, part: Part) {
    let runtime = runtime();
    let connecting = Client::connect(endpoints, ClientConfig::default());
    let client = client.unwrap_or_else(|| runtime.block_on(connecting).expect("the nodes run"));
    let local = LocalSet::new();
    for id in part.ids {
        let recorded = Recorded::new(id, client.clone(), recorder);
        local.spawn_local(async move { part.workload.run(&recorded, u64::from(id)).await });
    }
    runtime.block_on(local);
}

struct Part {
    ids: Range<u32>,
    workload: Workload,
}

/// Three threads with a connection each, and two whose tasks all go through one coalescing client.
fn play(nodes: &[Node], clock: Clock) -> History {
    let endpoints: Vec<Endpoint> = nodes.iter().map(|node| node.endpoints()[0].clone()).collect();
    let recorder = Recorder::timed(move || {
        let now = clock.now();
        Span { min: now, max: now }
    });
    runtime().block_on(async {
        let shared = Client::connect(&endpoints, ClientConfig::default()).await.expect("the nodes run");
        let own = (0..3).map(|id| (None, Part { ids: id..id + 1, workload: BATCHES }));
        let sharing = [10, 20].map(|id| (Some(shared.clone()), Part { ids: id..id + 8, workload: SINGLES }));
        let mut threads = JoinSet::new();
        for (client, part) in own.chain(sharing) {
            let (endpoints, recorder) = (endpoints.clone(), recorder.clone());
            threads.spawn_blocking(move || thread(client, &endpoints, &recorder, part));
        }
        threads.join_all().await;
    });
    recorder.history()
}

fn histories_are_linearizable(scheme: Scheme, index: IndexKind, nodes: u64) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let begun = Instant::now();
    let clock = Clock::new(move || 1 + begun.elapsed().as_millis() as u64);
    let nodes: Vec<_> = (1..=nodes).map(|life| node(scheme, &folder, index, &clock, life)).collect();
    let history = play(&nodes, clock);
    println!("{scheme}, {index}: {} operations on {} keys", history.op_count(), history.calls.len());
    assert_linearizable(&history);
    nodes.into_iter().for_each(Node::drain);
}

#[test]
fn histories_of_threads_on_one_node_are_linearizable_over_tcp() {
    histories_are_linearizable(Scheme::Tcp, IndexKind::Buckets, 1);
}

#[test]
fn histories_of_threads_on_one_node_are_linearizable_over_shm() {
    histories_are_linearizable(Scheme::Shm, IndexKind::Buckets, 1);
}

#[cfg(feature = "leapfrog")]
#[test]
fn histories_of_threads_on_one_node_with_the_other_index_are_linearizable() {
    histories_are_linearizable(Scheme::Tcp, IndexKind::Leapfrog, 1);
}

#[test]
fn histories_of_threads_on_three_nodes_are_linearizable_over_tcp() {
    histories_are_linearizable(Scheme::Tcp, IndexKind::Buckets, 3);
}

#[test]
fn histories_of_threads_on_three_nodes_are_linearizable_over_shm() {
    histories_are_linearizable(Scheme::Shm, IndexKind::Buckets, 3);
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn histories_of_threads_on_one_node_are_linearizable_over_rdma() {
    histories_are_linearizable(Scheme::Rdma, IndexKind::Buckets, 1);
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn histories_of_threads_on_three_nodes_are_linearizable_over_rdma() {
    histories_are_linearizable(Scheme::Rdma, IndexKind::Buckets, 3);
}
