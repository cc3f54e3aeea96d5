//! Planted bugs: the whole chain of client, recorder and checker catches a node that breaks its promise.
#![forbid(unsafe_code)]

use crate::clocks::Clocks;
use crate::faulty::{Bug, FaultyNode};
use crate::once::cutting;
use crate::sim::{network, play_to};
use crate::support::checker::{Checker, Violation};
use crate::support::cluster::Wire;
use crate::support::for_each_seed;
use crate::support::history::History;
use crate::workload::Workload;
use freight::client::ClientConfig;
use freight::transport::Endpoint;
use freight::transport::sim::Network;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::LocalSet;

const WORKLOAD: Workload =
    Workload { keys: 4, calls: 30, batch_ops_max: 6, singles_percent: 40, dropped_percent: 2, edits_percent: 0 };

/// How often a node evicts that evicts, and who judges it.
const EVICTED_PERCENT: u32 = 10;
const EVICTING: Checker = Checker { evicting: true, ..Checker::DEFAULT };

/// Enough of what a bug breaks.
fn workload(bug: Option<Bug>) -> Workload {
    match bug {
        None => Workload { edits_percent: 20, ..WORKLOAD },
        Some(bug) if Bug::OF_EVICTION.contains(&bug) => Workload { calls: 60, ..WORKLOAD },
        Some(bug) if Bug::OF_EXPIRY.contains(&bug) => Workload { calls: 100, edits_percent: 30, ..WORKLOAD },
        Some(_) => WORKLOAD,
    }
}

/// What clients of a faulty node are told, which may evict.
fn history(bug: Option<Bug>, evicted_percent: u32, seed: u64) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let name = format!("faulty-{bug:?}-{seed}-{}", random.random::<u32>());
    let mut config = network(&mut random, seed);
    if bug.is_some_and(|bug| Bug::OF_RETRIES.contains(&bug)) {
        config = cutting(&mut random, seed);
    }
    let network = Network::create(&name, config);
    let endpoint: Endpoint = format!("sim://{}/node", network.name()).parse().expect("an endpoint");
    Wire::Sim.runtime().block_on(LocalSet::new().run_until(async {
        // A clock that may be wrong excuses what expires late.
        let clocks = Clocks::new(seed, if bug == Some(Bug::ExpiredRead) { 0 } else { 20 });
        FaultyNode::start(&endpoint, bug, evicted_percent, clocks.clock(), seed).await;
        play_to(clocks.recorder(), &[endpoint], &ClientConfig::default(), workload(bug), seed).await
    }))
}

#[test]
fn the_node_without_a_bug_is_believed() {
    for_each_seed(40, |seed| {
        if let Err(violation) = Checker::default().check(&history(None, 0, seed)) {
            panic!("{violation}");
        }
    });
}

#[test]
fn the_node_that_evicts_and_has_no_bug_is_believed() {
    for_each_seed(40, |seed| {
        if let Err(violation) = EVICTING.check(&history(None, EVICTED_PERCENT, seed)) {
            panic!("{violation}");
        }
    });
}

#[test]
fn planted_bugs_are_caught() {
    for bug in Bug::ALL.into_iter().chain(Bug::OF_RETRIES).chain(Bug::OF_EXPIRY).chain(Bug::OF_EVICTION) {
        let evicts = Bug::OF_EVICTION.contains(&bug);
        let (checker, evicted_percent) = if evicts { (EVICTING, EVICTED_PERCENT) } else { (Checker::default(), 0) };
        let (mut caught, mut runs) = (0, 0);
        for_each_seed(30, |seed| {
            let verdict = checker.check(&history(Some(bug), evicted_percent, seed));
            assert!(!matches!(verdict, Err(Violation::GaveUp { .. })), "{bug:?}: {verdict:?}");
            caught += u32::from(verdict.is_err());
            runs += 1;
        });
        println!("{bug:?}: caught in {caught} of {runs} histories");
        assert!(2 * caught > runs, "{bug:?}: caught in only {caught} of {runs} histories");
    }
}
