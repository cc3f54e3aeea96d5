//! Histories under every kind of fault are linearizable; those of planted bugs are not.
#![forbid(unsafe_code)]

use crate::kinds::{Kind, schedule};
use crate::load::{Clients, Load};
use crate::maps::Keeper;
use crate::nemesis::{Counts, Nemesis, wait_until};
use crate::network::{Network, in_a_network};
use crate::nodes::{Cluster, Plan};
use crate::support::checker::{Checker, Violation, assert_linearizable};
use crate::support::for_each_seed;
use crate::support::history::{History, OwnedOutcome};
use std::sync::atomic::Ordering;

/// Operations of a run at least.
const OPS: u64 = 50_000;

/// A run of a nemesis: what the clients were told, and how often each kind of fault was felt.
fn run(
    network: &Network,
    plan: Plan,
    load: Load,
    (seed, kinds, rounds, ops): (u64, &[Kind], usize, u64),
) -> (History, Counts) {
    let mut cluster = Cluster::start(network, plan);
    let rounds = schedule(seed, kinds, rounds, &cluster);
    if kinds.contains(&Kind::Move) {
        Clients::fill(&cluster);
    }
    let clients = Clients::start(&cluster, load, seed);
    let mut nemesis = Nemesis::new(&mut cluster, &clients.felt, seed, load.mapped);
    nemesis.run(&rounds);
    let counts = nemesis.counts;
    wait_until("enough operations", || clients.felt.ops.load(Ordering::Relaxed) >= ops);
    (clients.end(), counts)
}

/// Runs with faults of these kinds are linearizable, and each kind is felt.
fn assert_linearizable_under(name: &str, keeper: Keeper, kinds: &[Kind], rounds: usize, ops: u64) {
    for_each_seed(1, |seed| {
        in_a_network(name, seed, |network| {
            println!("seed {seed}");
            let plan = Plan { keeper, ..Plan::DEFAULT };
            let (history, counts) = run(network, plan, Load::DEFAULT, (seed, kinds, rounds, ops));
            let outcomes = history.calls.values().flatten().flat_map(|call| &call.steps).map(|(_, outcome)| outcome);
            let of = |wanted: OwnedOutcome| outcomes.clone().filter(|outcome| **outcome == wanted).count();
            let (asked, unsent, unknown) = (history.op_count(), of(OwnedOutcome::NotSent), of(OwnedOutcome::Unknown));
            println!("{asked} operations on {} keys: {unsent} not sent, {unknown} unknown", history.calls.len());
            for ((kind, at_a_move), count) in &counts {
                println!("{kind:?}{}: {count:?}", if *at_a_move { " at a move" } else { "" });
                assert!(count.felt > 0, "{kind:?} never hurt anybody, at a move: {at_a_move}");
            }
            let missing = kinds.iter().find(|kind| !counts.contains_key(&(**kind, false)));
            assert!(missing.is_none(), "{missing:?} never came");
            assert!(asked as u64 >= ops && 2 * (unsent + unknown) < asked, "too few answers to judge");
            assert_linearizable(&history);
        });
    });
}

#[test]
fn histories_of_a_cluster_under_every_kind_of_fault_are_linearizable() {
    const NAME: &str = "faults::histories_of_a_cluster_under_every_kind_of_fault_are_linearizable";
    assert_linearizable_under(NAME, Keeper::Etcd, &Kind::ALL, 40, OPS);
}

#[test]
fn histories_of_a_cluster_with_its_map_in_files_are_linearizable() {
    const NAME: &str = "faults::histories_of_a_cluster_with_its_map_in_files_are_linearizable";
    assert_linearizable_under(NAME, Keeper::Files, &Kind::IN_FILES, 25, OPS / 5);
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
            let (history, _) = run(network, plan, Load::DEFAULT, (seed, &[Kind::Give], 4, 5_000));
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
