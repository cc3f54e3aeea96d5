//! Deadlines and edits, fact by fact. The model test draws them at random.
#![forbid(unsafe_code)]

use super::support::{execute, execute_at, op, store};
use freight::limits::VALUE_BYTES_MAX;
use freight::op::{Action, Condition, Content, Edit, Edited, Expiry, Op, Outcome, Outcomes, Time};
use freight::op_list::OpList;
use freight::shard::{IndexKind, Scratch, Store};
use std::num::NonZeroU64;

/// A store of one shard, of each index.
fn each_store(check: impl Fn(Store)) {
    for index in IndexKind::BUILT {
        check(store(*index, 1, u64::MAX));
    }
}

fn edit(edit: Edit<'_>) -> Op<'_> {
    Op { key: b"k", action: Action::Edit(edit), version_wanted: false }
}

/// A put that expires.
fn put(value: &[u8], expiry: Expiry) -> Edit<'_> {
    Edit::new(Content::Write(value), expiry)
}

fn touch(condition: Condition, expiry: Expiry) -> Edit<'static> {
    Edit::new(Content::Keep, expiry).on(condition)
}

fn append(bytes: &[u8]) -> Edit<'_> {
    Edit::new(Content::Append(bytes), Expiry::Keep)
}

/// What an edit at a time is told.
fn told(store: &Store, now: Time, what: Edit<'_>) -> (bool, Option<Vec<u8>>, Option<Time>) {
    let outcomes = execute_at(store, now, [edit(what)]);
    let Outcome::Edited(Edited { is_done, value, deadline, .. }) = outcomes.outcome(0) else {
        panic!("{what:?}: {outcomes:?}")
    };
    (is_done, value.map(<[u8]>::to_vec), deadline.map(NonZeroU64::get))
}

fn value(store: &Store, now: Time) -> Option<Vec<u8>> {
    match execute_at(store, now, [Op { version_wanted: false, ..op(b"k", Action::Get) }]).outcome(0) {
        Outcome::Value { value, version: None } => Some(value.to_vec()),
        Outcome::NotFound => None,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_record_is_there_before_its_deadline_and_absent_from_it_on() {
    each_store(|store| {
        assert_eq!(told(&store, 100, put(b"v", Expiry::After(50))), (true, None, Some(150)));
        assert_eq!(value(&store, 149), Some(b"v".to_vec()));
        assert_eq!(told(&store, 149, Edit::READ), (true, Some(b"v".to_vec()), Some(150)));
        assert_eq!(value(&store, 150), None);
        assert_eq!(told(&store, 150, Edit::READ), (true, None, None));
    });
}

#[test]
fn a_late_batch_with_an_earlier_time_brings_nothing_back() {
    each_store(|store| {
        told(&store, 100, put(b"v", Expiry::At(150)));
        assert_eq!(value(&store, 150), None);
        assert_eq!(value(&store, 149), None, "it was seen gone");
        assert_eq!(
            told(&store, 120, put(b"v", Expiry::After(10))).2,
            Some(160),
            "time stands still, and does not go back"
        );
    });
}

#[test]
fn every_operation_finds_an_expired_record_absent() {
    let expired = |check: fn(&Store)| {
        each_store(|store| {
            told(&store, 0, put(b"7", Expiry::At(10)));
            check(&store);
            assert_eq!(store.stats().records_expired, 1);
        });
    };
    expired(|store| {
        let outcomes = execute_at(store, 10, [op(b"k", Action::Get), op(b"k", Action::Delete)]);
        assert!(outcomes.iter().all(|outcome| outcome == Outcome::NotFound));
        assert_eq!(store.stats().records, 0, "a change takes its memory back");
    });
    expired(|store| {
        let swaps = [1, 0].map(|expected| op(b"k", Action::CompareAndSwap { expected, value: b"new" }));
        let outcomes = execute_at(store, 10, swaps);
        assert_eq!(outcomes.outcome(0), Outcome::VersionMismatch { current: 0 });
        assert!(matches!(outcomes.outcome(1), Outcome::Done { version: Some(2..) }));
        assert_eq!(value(store, Time::MAX), Some(b"new".to_vec()), "it has no deadline");
    });
    expired(|store| {
        let outcomes = execute_at(store, 10, [op(b"k", Action::Add { delta: 5 })]);
        assert!(matches!(outcomes.outcome(0), Outcome::Counter { value: 5, .. }));
        assert_eq!(value(store, Time::MAX), Some(b"5".to_vec()), "it counts from 0, without a deadline");
    });
    expired(|store| {
        execute_at(store, 10, [op(b"k", Action::Put { value: b"new" })]);
        assert_eq!(value(store, Time::MAX), Some(b"new".to_vec()));
    });
    expired(|store| {
        assert_eq!(told(store, 10, append(b"new")), (true, None, None));
        assert_eq!(value(store, Time::MAX), Some(b"new".to_vec()));
    });
}

#[test]
fn puts_and_swaps_end_a_deadline_and_adds_keep_it() {
    each_store(|store| {
        for (action, deadline) in [
            (Action::Put { value: b"1" }, None),
            (Action::Add { delta: 1 }, Some(50)),
            (Action::CompareAndSwap { expected: 5, value: b"1" }, None),
        ] {
            told(&store, 0, put(b"1", Expiry::At(50)));
            execute(&store, [op(b"k", action)]);
            assert_eq!(told(&store, 0, Edit::READ).2, deadline, "{action:?}");
        }
    });
}

#[test]
fn a_deadline_that_is_reached_already_removes_the_record() {
    each_store(|store| {
        for what in [touch(Condition::IfPresent, Expiry::At(10)), put(b"new", Expiry::After(0))] {
            told(&store, 0, put(b"v", Expiry::Keep));
            let outcomes = execute_at(&store, 10, [edit(what)]);
            let Outcome::Edited(edited) = outcomes.outcome(0) else { panic!("{outcomes:?}") };
            assert_eq!((edited.is_done, edited.was_there, edited.is_there), (true, true, false));
            assert_eq!((value(&store, 10), store.stats().records), (None, 0));
        }
        assert_eq!(store.stats().records_expired, 0, "nobody waited for those");
    });
}

/// What Redis's SET, SETNX, GETSET, GETDEL and GETEX need, each in one edit.
#[test]
fn sets_are_conditional_and_tell_what_was_there() {
    each_store(|store| {
        let set = |condition, content, expiry| Edit::new(content, expiry).on(condition).wanting_value();
        let (absent, present) = (Condition::IfAbsent, Condition::IfPresent);
        let one = Some(b"1".to_vec());
        assert_eq!(told(&store, 0, set(present, Content::Write(b"0"), Expiry::Clear)), (false, None, None));
        assert_eq!(told(&store, 0, set(absent, Content::Write(b"1"), Expiry::Clear)), (true, None, None));
        assert_eq!(told(&store, 0, set(absent, Content::Write(b"2"), Expiry::Clear)), (false, one.clone(), None));
        assert_eq!(told(&store, 0, set(present, Content::Write(b"2"), Expiry::After(9))), (true, one, Some(9)));
        let two = Some(b"2".to_vec());
        assert_eq!(told(&store, 0, set(present, Content::Write(b"3"), Expiry::Keep)), (true, two, Some(9)));
        let three = Some(b"3".to_vec());
        assert_eq!(told(&store, 0, set(present, Content::Keep, Expiry::Clear)), (true, three.clone(), None));
        assert_eq!(told(&store, 0, set(Condition::Always, Content::Remove, Expiry::Keep)), (true, three, None));
        assert_eq!(told(&store, 0, set(Condition::Always, Content::Remove, Expiry::Keep)), (true, None, None));
        assert_eq!(value(&store, 0), None);
    });
}

/// What Redis's EXPIRE with NX, XX, GT and LT and PERSIST need.
#[test]
fn deadlines_are_set_on_conditions() {
    use Condition::{IfExpiring, IfExpiringSooner, IfLasting, IfLater, IfPresent, IfSooner};
    let done = [
        // What there is, what is asked, and what must hold for it to be done.
        (None, Expiry::At(50), vec![IfPresent, IfLasting, IfSooner]),
        (Some(50), Expiry::At(40), vec![IfPresent, IfExpiring, IfSooner, IfExpiringSooner]),
        (Some(50), Expiry::At(50), vec![IfPresent, IfExpiring]),
        (Some(50), Expiry::At(60), vec![IfPresent, IfExpiring, IfLater]),
        (Some(50), Expiry::Clear, vec![IfPresent, IfExpiring, IfLater]),
        (None, Expiry::Clear, vec![IfPresent, IfLasting]),
    ];
    each_store(|store| {
        for condition in [IfPresent, IfLasting, IfExpiring, IfLater, IfSooner, IfExpiringSooner] {
            for (before, expiry, conditions) in &done {
                told(&store, 0, put(b"v", before.map_or(Expiry::Clear, Expiry::At)));
                let after = match expiry {
                    Expiry::At(time) => Some(*time),
                    _ => None,
                };
                let is_done = conditions.contains(&condition);
                let deadline = if is_done { after } else { *before };
                assert_eq!(told(&store, 0, touch(condition, *expiry)), (is_done, None, deadline), "{condition:?}");
            }
            told(&store, 0, Edit::new(Content::Remove, Expiry::Keep));
            assert_eq!(told(&store, 0, touch(condition, Expiry::At(50))), (false, None, None), "{condition:?}: absent");
        }
    });
}

#[test]
fn appends_grow_a_value_up_to_the_longest_and_keep_its_deadline() {
    each_store(|store| {
        let length = |what: Edit<'_>| match execute_at(&store, 0, [edit(what)]).outcome(0) {
            Outcome::Edited(edited) => Some((edited.value_bytes, edited.deadline.map(NonZeroU64::get))),
            Outcome::ValueTooLong => None,
            outcome => panic!("{outcome:?}"),
        };
        assert_eq!(length(append(b"")), Some((0, None)), "an absent record is made");
        assert_eq!(length(append(b"one")), Some((3, None)));
        told(&store, 0, touch(Condition::IfPresent, Expiry::At(50)));
        let (mut bytes, mut step) = (3, 1);
        while bytes + step <= VALUE_BYTES_MAX as usize {
            bytes += step;
            assert_eq!(length(append(&vec![b'x'; step])), Some((bytes as u32, Some(50))));
            step = step * 2 + 1;
        }
        let rest = vec![b'y'; VALUE_BYTES_MAX as usize - bytes + 1];
        assert_eq!(length(append(&rest)), None);
        assert_eq!(length(append(&rest[1..])), Some((VALUE_BYTES_MAX, Some(50))));
        let mut expected = b"one".to_vec();
        expected.resize(bytes, b'x');
        expected.resize(VALUE_BYTES_MAX as usize, b'y');
        assert!(value(&store, 0).expect("it is there") == expected);
    });
}

#[test]
fn edits_draw_versions_where_they_change_something() {
    each_store(|store| {
        let versions = |what: Edit<'_>| {
            let outcomes = execute_at(&store, 0, [op(b"k", Action::Edit(what)), op(b"k", Action::Get)]);
            let Outcome::Edited(edited) = outcomes.outcome(0) else { panic!("{outcomes:?}") };
            let Outcome::Value { version, .. } = outcomes.outcome(1) else { panic!("{outcomes:?}") };
            assert_eq!(edited.version.map(NonZeroU64::get), version, "{what:?}");
            version
        };
        assert_eq!(versions(put(b"v", Expiry::At(50))), Some(1));
        assert_eq!(versions(put(b"v", Expiry::At(50))), Some(2));
        assert_eq!(versions(touch(Condition::Always, Expiry::At(60))), Some(3));
        assert_eq!(versions(touch(Condition::Always, Expiry::At(60))), Some(3), "nothing changed");
        assert_eq!(versions(touch(Condition::IfLasting, Expiry::At(70))), Some(3), "nothing was to be done");
        assert_eq!(versions(Edit::READ), Some(3));
        assert_eq!(versions(touch(Condition::Always, Expiry::Clear)), Some(4));
        assert_eq!(versions(append(b"w")), Some(5));
    });
}

/// Takes no outcome of an edit.
struct Full(Vec<String>);

impl Outcomes for Full {
    fn set(&mut self, _: u32, outcome: Outcome<'_>) {
        self.0.push(format!("{outcome:?}"));
    }

    fn has_room(&mut self, value_bytes: usize) -> bool {
        value_bytes < 5
    }
}

#[test]
fn an_edit_whose_outcome_does_not_fit_is_not_executed() {
    each_store(|store| {
        told(&store, 0, put(b"value", Expiry::Clear));
        let swap = put(b"new", Expiry::Clear).wanting_value();
        let mut full = Full(Vec::new());
        store.execute(&OpList::from_iter([edit(swap), edit(Edit::READ)]), 0, &mut full, &mut Scratch::new(0));
        assert_eq!(full.0, ["ReplyFull", "ReplyFull"]);
        assert_eq!(value(&store, 0), Some(b"value".to_vec()));
    });
}

#[test]
fn a_deadline_takes_eight_bytes_where_there_is_one() {
    let bytes = |expiry| {
        let store = store(IndexKind::Buckets, 1, u64::MAX);
        let keys: Vec<String> = (0..100_000).map(|number| format!("{number:010}")).collect();
        let put = |key| Op { key, action: Action::Edit(put(&[7; 100], expiry)), version_wanted: false };
        for keys in keys.chunks(1_000) {
            execute(&store, keys.iter().map(|key| put(key.as_bytes())));
        }
        let stats = store.stats();
        assert_eq!((stats.records, stats.payload_bytes), (100_000, 11_000_000));
        stats.slab_bytes / 100_000
    };
    let lasting = bytes(Expiry::Clear);
    assert!((128..136).contains(&lasting), "{lasting} bytes: 14 of header and 110 in a slot of 128");
    let expiring = bytes(Expiry::At(1));
    assert_eq!(expiring, lasting + 8, "a slot of 136");
}
