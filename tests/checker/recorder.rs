//! The recorder keeps what happened: instants, keys, order within a batch, and what was lost.
#![forbid(unsafe_code)]

use crate::support::checker::assert_linearizable;
use crate::support::history::{OwnedOp, OwnedOutcome, Recorder};
use freight::op::{Action, Op, Outcome};
use std::collections::HashMap;
use std::sync::Mutex;

fn op<'a>(key: &'a str, action: Action<'a>) -> Op<'a> {
    Op { key: key.as_bytes(), action, version_wanted: false }
}

#[test]
fn a_batch_becomes_one_ordered_call_a_key() {
    let recorder = Recorder::new();
    let ops = [
        op("a", Action::Put { value: b"1" }),
        op("b", Action::Get),
        op("a", Action::Add { delta: 2 }),
        op("a", Action::Delete),
    ];
    let token = recorder.begin(9, &ops);
    token.finish([
        Outcome::Done { version: None },
        Outcome::NotFound,
        Outcome::Counter { value: 3, version: Some(8) },
        Outcome::Done { version: None },
    ]);
    let history = recorder.history();
    assert_eq!(history.op_count(), 4);
    assert_eq!(history.calls.len(), 2);
    let [call] = &history.calls[b"a".as_slice()][..] else { panic!("one call on a") };
    assert_eq!((call.client, call.invoke, call.ret), (9, 0, Some(1)));
    assert_eq!(
        call.to_string(),
        "client 9 [0..1] put \"1\" -> done, add 2 -> 3 #8, delete -> done",
        "in request order"
    );
    assert_linearizable(&history);
}

#[test]
fn a_lost_or_dropped_token_records_unknown_outcomes_without_a_return() {
    let recorder = Recorder::new();
    recorder.begin(1, &[op("a", Action::Get)]).lost();
    drop(recorder.begin(1, &[op("a", Action::Delete)]));
    recorder.begin(1, &[op("a", Action::Delete)]).finish([Outcome::Unknown]);
    let history = recorder.history();
    let calls = &history.calls[b"a".as_slice()];
    assert_eq!(calls.len(), 3);
    for call in calls {
        assert_eq!((call.ret, &call.steps[0].1), (None, &OwnedOutcome::Unknown));
    }
    assert_eq!(calls[1].steps[0].0, OwnedOp::Delete);
}

#[test]
fn the_clock_is_the_caller_s() {
    let recorder = Recorder::with_clock(|| 77);
    recorder.begin(1, &[op("a", Action::Get)]).finish([Outcome::NotFound]);
    let history = recorder.history();
    let call = &history.calls[b"a".as_slice()][0];
    assert_eq!((call.invoke, call.ret), (77, Some(77)));
}

#[test]
fn threads_on_a_locked_map_are_linearizable() {
    let recorder = Recorder::new();
    let map = Mutex::new(HashMap::<String, i64>::new());
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (recorder, map) = (recorder.clone(), &map);
            scope.spawn(move || {
                for round in 0..500 {
                    let key = format!("key {}", round % 7);
                    let token = recorder.begin(client, &[op(&key, Action::Add { delta: 1 })]);
                    let value = {
                        let mut map = map.lock().expect("no thread panics");
                        let counter = map.entry(key).or_insert(0);
                        *counter += 1;
                        *counter
                    };
                    token.finish([Outcome::Counter { value, version: None }]);
                }
            });
        }
    });
    let history = recorder.history();
    assert_eq!(history.op_count(), 2_000);
    assert_linearizable(&history);
}
