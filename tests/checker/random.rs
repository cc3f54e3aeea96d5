//! Random executions: those of an atomic store are accepted, and all verdicts are those of brute force.
#![forbid(unsafe_code)]

use crate::execution::{Bug, Plan, execute};
use crate::mutation::mutate;
use crate::oracle;
use crate::support::checker::{Checker, Violation, assert_linearizable};
use crate::support::for_each_seed;
use crate::support::history::{Call, History, OwnedOp, OwnedOutcome};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PLAN: Plan = Plan {
    clients: 8,
    keys: 5,
    batches: 200,
    batch_ops_max: 6,
    values: 1_000,
    reads_percent: 50,
    lost_percent: 0,
    versions_percent: 30,
    edits_percent: 0,
    evicted_percent: 0,
    bug: None,
};

/// A different small plan each time, so that no corner is left out.
fn small_plan(random: &mut ChaCha8Rng) -> Plan {
    Plan {
        clients: random.random_range(2..=4),
        keys: 1,
        batches: random.random_range(2..=7),
        batch_ops_max: random.random_range(1..=3),
        values: random.random_range(1..=4),
        reads_percent: random.random_range(20..=60),
        lost_percent: [0, 10, 30][random.random_range(0..3)],
        versions_percent: [0, 30, 100][random.random_range(0..3)],
        edits_percent: [0, 0, 30, 60][random.random_range(0..4)],
        evicted_percent: [0, 0, 10, 40][random.random_range(0..4)],
        bug: None,
    }
}

#[test]
fn executions_of_an_atomic_store_are_accepted() {
    for_each_seed(200, |seed| assert_linearizable(&execute(PLAN, seed)));
}

#[test]
fn executions_with_lost_batches_are_accepted() {
    for_each_seed(200, |seed| assert_linearizable(&execute(Plan { lost_percent: 2, ..PLAN }, seed)));
}

#[test]
fn ambiguous_executions_are_accepted() {
    let plan = Plan { values: 4, versions_percent: 0, lost_percent: 1, ..PLAN };
    for_each_seed(200, |seed| assert_linearizable(&execute(plan, seed)));
}

#[test]
fn executions_on_records_that_expire_are_accepted() {
    let plan = Plan { edits_percent: 40, reads_percent: 60, ..PLAN };
    for_each_seed(200, |seed| assert_linearizable(&execute(plan, seed)));
    for_each_seed(100, |seed| assert_linearizable(&execute(Plan { lost_percent: 1, ..plan }, seed)));
    // On one key, the same calls in another order often leave records that differ in nothing but when they went.
    let crowded = Plan { clients: 12, keys: 1, batch_ops_max: 2, ..plan };
    for versions_percent in [30, 100] {
        for_each_seed(1_000, |seed| assert_linearizable(&execute(Plan { versions_percent, ..crowded }, seed)));
    }
}

/// The checker of stores that evict.
const EVICTING: Checker = Checker { evicting: true, ..Checker::DEFAULT };

#[test]
fn executions_of_a_store_that_evicts_are_accepted_as_such_and_not_as_another_s() {
    let plan = Plan { evicted_percent: 5, edits_percent: 20, ..PLAN };
    for_each_seed(200, |seed| {
        for lost_percent in [0, 1] {
            let history = execute(Plan { lost_percent, ..plan }, seed);
            assert!(EVICTING.check(&history).is_ok(), "{:?}", EVICTING.check(&history));
            assert!(Checker::default().check(&history).is_err(), "nothing was seen to go");
        }
    });
}

#[test]
fn verdicts_are_those_of_brute_force() {
    let (mut accepted, mut rejected) = (0, 0);
    for_each_seed(6_000, |seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let plan = small_plan(&mut random);
        let mut history = execute(plan, seed);
        let original = history.clone();
        for mutations in 0..4 {
            for calls in history.calls.values().filter(|calls| !calls.iter().any(guesses)) {
                // An execution without eviction is one of a store that may evict, too.
                let evicting = plan.evicted_percent > 0 || random.random();
                let checker = Checker { memory_capped: random.random(), evicting, ..Checker::default() };
                let truth = oracle::linearizable(calls, &checker);
                assert!(truth || mutations > 0, "brute force rejects an atomic execution:\n{}", shown(&original));
                let verdict = checker.check(&history);
                assert_eq!(
                    verdict.is_ok(),
                    truth,
                    "{checker:?}, {mutations} mutations: {verdict:?}\n{}",
                    shown(&history)
                );
                *if truth { &mut accepted } else { &mut rejected } += 1;
            }
            mutate(&mut history, &mut random);
        }
    });
    println!("accepted {accepted}, rejected {rejected}");
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(accepted > 4_000 && rejected > 4_000, "accepted {accepted}, rejected {rejected}: too one-sided");
    }
}

#[test]
fn planted_bugs_are_caught() {
    for bug in Bug::ALL.into_iter().chain(Bug::OF_EXPIRY).chain(Bug::OF_EVICTION) {
        let evicting = Bug::OF_EVICTION.contains(&bug);
        let (mut caught, mut runs) = (0, 0);
        for_each_seed(40, |seed| {
            let plan = match bug {
                Bug::LostHalf => Plan { lost_percent: 10, keys: 2, ..PLAN },
                Bug::EvictedComesBack | Bug::EvictedVersionReused => Plan { evicted_percent: 10, ..PLAN },
                Bug::ExpiredRead | Bug::DeadlineForgotten => Plan { edits_percent: 30, batches: 400, ..PLAN },
                _ => Plan { lost_percent: 1, ..PLAN },
            };
            let checker = Checker { evicting, ..Checker::default() };
            let verdict = checker.check(&execute(Plan { bug: Some(bug), ..plan }, seed));
            assert!(!matches!(verdict, Err(Violation::GaveUp { .. })), "{bug:?}: {verdict:?}");
            caught += u32::from(verdict.is_err());
            runs += 1;
        });
        println!("{bug:?}: caught in {caught} of {runs} executions");
        assert!(2 * caught > runs, "{bug:?}: caught in only {caught} of {runs} executions");
    }
}

/// Whether a lost batch swaps on a version that it may itself have drawn, or twice: there the model allows too much.
fn guesses(call: &Call) -> bool {
    call.steps[1..].iter().any(|(op, outcome)| {
        matches!(op, OwnedOp::CompareAndSwap { expected: 1.., .. }) && *outcome == OwnedOutcome::Unknown
    })
}

pub(crate) fn shown(history: &History) -> String {
    history.calls.values().flatten().map(|call| format!("{call}\n")).collect()
}
