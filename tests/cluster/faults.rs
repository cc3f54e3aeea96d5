//! Histories under every kind of fault are linearizable; those of planted bugs are not.
#![forbid(unsafe_code)]

use crate::load::{Clients, Load};
use crate::nemesis::{Count, Kind, Nemesis, schedule, wait_until};
use crate::network::{Network, in_a_network};
use crate::nodes::{Cluster, Plan};
use crate::support::checker::{Checker, Violation, assert_linearizable};
use crate::support::for_each_seed;
use crate::support::history::{History, OwnedOutcome};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Operations of a run at least.
const OPS: u64 = 50_000;

/// A run of a nemesis: what the clients were told, and how often each kind of fault was felt.
fn run(
    network: &Network,
    plan: Plan,
    load: Load,
    (seed, kinds, rounds, ops): (u64, &[Kind], usize, u64),
) -> (History, BTreeMap<Kind, Count>) {
    let mut cluster = Cluster::start(network, plan);
    let rounds = schedule(seed, kinds, rounds, &cluster);
    let clients = Clients::start(&cluster, load, seed);
    let mut nemesis = Nemesis {
        cluster: &mut cluster,
        felt: &clients.felt,
        random: ChaCha8Rng::seed_from_u64(seed + 1),
        counts: BTreeMap::new(),
        renews: load.mapped,
    };
    nemesis.run(&rounds);
    let counts = nemesis.counts;
    wait_until("enough operations", || clients.felt.ops.load(Ordering::Relaxed) >= ops);
    (clients.end(), counts)
}

#[test]
fn histories_of_a_cluster_under_every_kind_of_fault_are_linearizable() {
    const NAME: &str = "faults::histories_of_a_cluster_under_every_kind_of_fault_are_linearizable";
    for_each_seed(1, |seed| {
        in_a_network(NAME, seed, |network| {
            println!("seed {seed}");
            let (history, counts) = run(network, Plan::DEFAULT, Load::DEFAULT, (seed, &Kind::ALL, 40, OPS));
            let outcomes = history.calls.values().flatten().flat_map(|call| &call.steps).map(|(_, outcome)| outcome);
            let of = |wanted: OwnedOutcome| outcomes.clone().filter(|outcome| **outcome == wanted).count();
            let (ops, unsent, unknown) = (history.op_count(), of(OwnedOutcome::NotSent), of(OwnedOutcome::Unknown));
            println!("{ops} operations on {} keys: {unsent} not sent, {unknown} unknown", history.calls.len());
            counts.iter().for_each(|(kind, count)| println!("{kind:?}: {count:?}"));
            for kind in Kind::ALL {
                assert!(counts.get(&kind).is_some_and(|count| count.felt > 0), "{kind:?} never hurt anybody");
            }
            assert!(ops as u64 >= OPS && 2 * (unsent + unknown) < ops, "too few answers to judge");
            assert_linearizable(&history);
        });
    });
}

/// Whether the checker finds a planted bug in a run.
fn assert_caught(history: &History) {
    match Checker::default().check(history) {
        Err(violation @ (Violation::NotLinearizable { .. } | Violation::ImpossibleOutcome { .. })) => {
            println!("{violation}");
        }
        verdict => panic!("{} operations, and the bug is not seen: {verdict:?}", history.op_count()),
    }
}

/// Nodes without a map answer for every slot: what a client with the old map is told is out of date.
#[test]
fn an_answer_from_a_stale_map_is_caught() {
    for_each_seed(1, |seed| {
        in_a_network("faults::an_answer_from_a_stale_map_is_caught", seed, |network| {
            let plan = Plan { mapped: false, stale: std::time::Duration::from_millis(500), ..Plan::DEFAULT };
            let (history, _) = run(network, plan, Load::DEFAULT, (seed, &[Kind::MoveSlots], 4, 5_000));
            assert_caught(&history);
        });
    });
}

/// Nodes and clients without a map, and clients that go on after a loss: an empty node's answers are misses.
#[test]
fn an_empty_restarted_node_that_answers_misses_is_caught() {
    for_each_seed(1, |seed| {
        in_a_network("faults::an_empty_restarted_node_that_answers_misses_is_caught", seed, |network| {
            let plan = Plan { mapped: false, ..Plan::DEFAULT };
            let load = Load { mapped: false, ..Load::DEFAULT };
            let (history, _) = run(network, plan, load, (seed, &[Kind::Kill], 4, 5_000));
            assert_caught(&history);
        });
    });
}
