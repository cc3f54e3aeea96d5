//! The verdicts of another checker, `todc-utils`, on histories too large for brute force. It knows neither lost calls
//! nor unseen versions, so it is asked where every call is answered and every write shows its version.
#![forbid(unsafe_code)]

use crate::execution::{Plan, execute};
use crate::mutation::mutate;
use crate::random::shown;
use crate::store::{Record, version, without_version};
use crate::support::checker::Checker;
use crate::support::for_each_seed;
use crate::support::history::{Call, OwnedOp, OwnedOutcome};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

struct Store;

impl Specification for Store {
    type State = Record;
    type Operation = Vec<(OwnedOp, OwnedOutcome)>;

    fn init() -> Record {
        Record::default()
    }

    fn apply(steps: &Self::Operation, before: &Record) -> (bool, Record) {
        let mut record = before.clone();
        for (op, outcome) in steps {
            // A delete draws no version that anybody sees; neither does what writes nothing.
            let draw = version(outcome).unwrap_or(0);
            let writes = matches!(outcome, OwnedOutcome::Done { .. } | OwnedOutcome::Counter { .. });
            if writes && *op != OwnedOp::Delete && draw <= record.drawn {
                return (false, before.clone());
            }
            let real = record.execute(op, draw.max(record.drawn + 1), 0);
            if *outcome != real && *outcome != without_version(real) {
                return (false, before.clone());
            }
        }
        (true, record)
    }
}

#[test]
fn verdicts_are_those_of_another_checker() {
    let (mut accepted, mut rejected) = (0, 0);
    for_each_seed(400, |seed| {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let plan = Plan {
            clients: random.random_range(2..=6),
            keys: 1,
            batches: random.random_range(20..=60),
            batch_ops_max: random.random_range(1..=3),
            values: random.random_range(1..=10),
            reads_percent: random.random_range(20..=60),
            lost_percent: 0,
            versions_percent: 100,
            edits_percent: 0,
            evicted_percent: 0,
            bug: None,
        };
        let mut history = execute(plan, seed);
        for mutations in 0..4 {
            for calls in history.calls.values().filter(|calls| calls.iter().all(is_plain)) {
                let truth = WGLChecker::<Store>::is_linearizable(theirs(calls));
                let verdict = Checker::default().check(&history);
                assert_eq!(verdict.is_ok(), truth, "{mutations} mutations: {verdict:?}\n{}", shown(&history));
                *if truth { &mut accepted } else { &mut rejected } += 1;
            }
            mutate(&mut history, &mut random);
        }
    });
    println!("accepted {accepted}, rejected {rejected}");
}

/// Whether every operation was carried out, and every write shows the version it drew.
fn is_plain(call: &Call) -> bool {
    call.ret.is_some()
        && call.steps.iter().all(|(op, outcome)| match outcome {
            OwnedOutcome::Done { version } | OwnedOutcome::Counter { version, .. } => {
                version.is_some() || *op == OwnedOp::Delete
            }
            OwnedOutcome::OutOfMemory | OwnedOutcome::ReplyFull | OwnedOutcome::Unknown => false,
            _ => true,
        })
}

/// The calls as a history of `todc-utils`: by instant, beginnings before ends, as they overlap if they touch.
fn theirs(calls: &[Call]) -> History<Vec<(OwnedOp, OwnedOutcome)>> {
    let mut actions = Vec::new();
    for (process, call) in calls.iter().enumerate() {
        actions.push(((call.invoke, 0), (process, Action::Call(call.steps.clone()))));
        actions.push(((call.ret.expect("all are answered"), 1), (process, Action::Response(call.steps.clone()))));
    }
    actions.sort_by_key(|(instant, _)| *instant);
    History::from_actions(actions.into_iter().map(|(_, action)| action).collect())
}
