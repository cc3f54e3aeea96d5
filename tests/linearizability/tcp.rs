//! Threads on real sockets: some with connections of their own, and tasks that share one client.
#![forbid(unsafe_code)]

use crate::recorded::Recorded;
use crate::support::checker::assert_linearizable;
use crate::support::cluster::identity;
use crate::support::history::{History, Recorder};
use crate::workload::Workload;
use freight::client::{Client, ClientConfig};
use freight::server::{Node, NodeConfig};
use freight::shard::IndexKind;
use freight::transport::Endpoint;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

const BATCHES: Workload =
    Workload { keys: 10, calls: 1_000, batch_ops_max: 24, singles_percent: 10, dropped_percent: 1 };
const SINGLES: Workload = Workload { singles_percent: 90, calls: 800, batch_ops_max: 4, ..BATCHES };

fn node(index: IndexKind, life: u64) -> Node {
    let mut config = NodeConfig::new(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], identity(1, life));
    (config.threads, config.cores, config.index, config.shards) = (2, Vec::new(), index, Some(4));
    Node::start(config).expect("a node on loopback")
}

/// A thread with a client of its own, used by `tasks` tasks at once.
fn thread(endpoints: &[Endpoint], recorder: &Recorder, workload: Workload, first_id: u32, tasks: u32) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connecting = Client::connect(endpoints, ClientConfig::default());
    let client = runtime.block_on(connecting).expect("the nodes run");
    let local = LocalSet::new();
    for id in first_id..first_id + tasks {
        let recorded = Recorded::new(id, client.clone(), recorder);
        local.spawn_local(async move { workload.run(&recorded, u64::from(id)).await });
    }
    runtime.block_on(local);
}

fn play(nodes: &[Node]) -> History {
    let endpoints: Vec<Endpoint> = nodes.iter().map(|node| node.endpoints()[0].clone()).collect();
    let recorder = Recorder::new();
    std::thread::scope(|scope| {
        for id in 0..3 {
            let (endpoints, recorder) = (&endpoints, &recorder);
            scope.spawn(move || thread(endpoints, recorder, BATCHES, id, 1));
        }
        for id in [10, 20] {
            let (endpoints, recorder) = (&endpoints, &recorder);
            scope.spawn(move || thread(endpoints, recorder, SINGLES, id, 8));
        }
    });
    recorder.history()
}

fn histories_are_linearizable(index: IndexKind, nodes: u64) {
    let nodes: Vec<_> = (1..=nodes).map(|life| node(index, life)).collect();
    let history = play(&nodes);
    println!("{index}: {} operations on {} keys", history.op_count(), history.calls.len());
    assert_linearizable(&history);
    nodes.into_iter().for_each(Node::drain);
}

#[test]
fn histories_of_threads_on_one_node_are_linearizable() {
    histories_are_linearizable(IndexKind::Buckets, 1);
}

#[cfg(feature = "leapfrog")]
#[test]
fn histories_of_threads_on_one_node_with_the_other_index_are_linearizable() {
    histories_are_linearizable(IndexKind::Leapfrog, 1);
}

#[test]
fn histories_of_threads_on_three_nodes_are_linearizable() {
    histories_are_linearizable(IndexKind::Buckets, 3);
}
