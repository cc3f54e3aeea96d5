//! Histories written by hand: for each kind of operation one that a store may show and one that it may not.
#![forbid(unsafe_code)]

use crate::support::checker::{Checker, Violation};
use crate::support::history::{Call, OwnedOutcome};
use crate::words::*;

#[test]
fn an_empty_history_is_linearizable() {
    accepted([]);
}

#[test]
fn keys_start_absent() {
    accepted([at(1, 2, get_nothing()), at(3, 4, delete_nothing()), at(5, 6, mismatch(7, 0))]);
    rejected([at(1, 2, get("a"))]);
    rejected([at(1, 2, delete())]);
}

#[test]
fn a_read_sees_the_last_write() {
    accepted([at(1, 2, put("a")), at(3, 4, put("b")), at(5, 6, get("b"))]);
}

#[test]
fn a_stale_read_is_caught() {
    rejected([at(1, 2, put("a")), at(3, 4, put("b")), at(5, 6, get("a"))]);
    rejected([at(1, 2, put("a")), at(3, 4, get_nothing())]);
}

#[test]
fn reads_during_a_write_see_either_value_but_never_go_back() {
    let write = || [at(1, 2, put("a")), at(3, 20, put("b"))];
    accepted(write().into_iter().chain([at(4, 5, get("a")), at(6, 7, get("b")), at(8, 9, get("b"))]));
    accepted(write().into_iter().chain([at(4, 9, get("b")), at(5, 8, get("a"))]));
    rejected(write().into_iter().chain([at(4, 5, get("b")), at(6, 7, get("a"))]));
}

#[test]
fn concurrent_writes_take_effect_in_an_order_that_all_reads_agree_on() {
    let writes = || [at(1, 20, put("a")), at(1, 20, put("b")), at(1, 20, put("c"))];
    accepted(writes().into_iter().chain([at(2, 3, get("c")), at(4, 5, get("a")), at(6, 7, get("b"))]));
    rejected(writes().into_iter().chain([at(2, 3, get("c")), at(4, 5, get("a")), at(6, 7, get("c"))]));
}

#[test]
fn a_lost_update_is_caught() {
    // Both swaps claim to have replaced version 1.
    rejected([at(1, 2, put_at("a", 1)), at(3, 9, swap(1, "b")), at(4, 8, swap(1, "c"))]);
    accepted([at(1, 2, put_at("a", 1)), at(3, 9, swap_at(1, "b", 2)), at(4, 8, mismatch(1, 2))]);
    // A write that was answered and then never seen.
    rejected([at(1, 2, put("a")), at(3, 4, put("b")), at(5, 6, put("c")), at(7, 8, get("b"))]);
}

#[test]
fn a_swap_succeeds_only_on_the_version_it_expects() {
    accepted([at(1, 2, put_at("a", 5)), at(3, 4, swap_at(5, "b", 9)), at(5, 6, get_at("b", 9))]);
    rejected([at(1, 2, put_at("a", 5)), at(3, 4, swap(4, "b"))]);
    rejected([at(1, 2, put_at("a", 5)), at(3, 4, mismatch(5, 5))]);
    rejected([at(1, 2, put_at("a", 5)), at(3, 4, mismatch(4, 6))]);
    rejected([at(1, 2, put_at("a", 5)), at(3, 4, mismatch(5, 0))]);
}

#[test]
fn a_swap_that_expects_version_0_creates_a_record() {
    accepted([at(1, 2, swap_at(0, "a", 3)), at(3, 4, get_at("a", 3)), at(5, 6, mismatch(0, 3))]);
    rejected([at(1, 2, put("a")), at(3, 4, swap(0, "b"))]);
    rejected([at(1, 9, swap(0, "a")), at(2, 8, swap(0, "b"))]);
}

#[test]
fn an_add_counted_twice_is_caught() {
    accepted([at(1, 2, add(5, 5)), at(3, 4, add(-7, -2)), at(5, 6, get("-2"))]);
    rejected([at(1, 2, add(1, 1)), at(3, 4, add(1, 3))]);
    rejected([at(1, 2, add(1, 1)), at(3, 4, get("2"))]);
    rejected([at(1, 9, add(1, 1)), at(2, 8, add(1, 1))]);
}

#[test]
fn adds_count_from_any_decimal_text() {
    accepted([at(1, 2, put("41")), at(3, 4, add(1, 42)), at(5, 6, get("42"))]);
    accepted([at(1, 2, put("x")), at(3, 4, add_to_text(1)), at(5, 6, get("x"))]);
    rejected([at(1, 2, put("41")), at(3, 4, add_to_text(1))]);
    rejected([at(1, 2, put("x")), at(3, 4, add(1, 1))]);
    rejected([at(1, 2, add_to_text(1))]);
}

#[test]
fn other_spellings_of_a_number_are_texts() {
    for text in ["007", "+7", "-0", "", " 7"] {
        accepted([at(1, 2, put(text)), at(3, 4, add_to_text(1)), at(5, 6, get(text))]);
        rejected([at(1, 2, put(text)), at(3, 4, add(1, 8))]);
    }
    rejected([at(1, 2, put("007")), at(3, 4, get("7"))]);
}

#[test]
fn an_add_overflows_only_where_it_must() {
    accepted([at(1, 2, add(i64::MAX, i64::MAX)), at(3, 4, add_overflows(1)), at(5, 6, add(0, i64::MAX))]);
    rejected([at(1, 2, add(i64::MAX - 1, i64::MAX - 1)), at(3, 4, add_overflows(1))]);
}

#[test]
fn a_delete_that_resurrects_is_caught() {
    accepted([at(1, 2, put("a")), at(3, 4, delete()), at(5, 6, get_nothing()), at(7, 8, delete_nothing())]);
    rejected([at(1, 2, put("a")), at(3, 4, delete()), at(5, 6, get("a"))]);
    rejected([at(1, 2, put("a")), at(3, 4, delete()), at(5, 6, delete())]);
    rejected([at(1, 2, put("a")), at(3, 4, delete_nothing())]);
}

#[test]
fn a_batch_takes_effect_in_order() {
    accepted([at(1, 2, [put("a"), get("a"), put("b"), get("b"), delete(), get_nothing()])]);
    rejected([at(1, 2, [put("a"), put("b"), get("a")])]);
    rejected([at(1, 2, [put("a"), put("b")]), at(3, 4, get("a"))]);
    rejected([at(1, 2, [get("a"), put("a")])]);
}

#[test]
fn nothing_comes_between_a_batch_s_operations_on_one_key() {
    rejected([at(1, 9, [put("a"), get("b")]), at(2, 8, put("b"))]);
    rejected([at(1, 9, [put("a"), put("b")]), at(2, 8, get("a"))]);
    accepted([at(1, 9, [put("a"), put("b")]), at(2, 8, get_nothing()), at(3, 7, get("b"))]);
}

#[test]
fn one_record_has_one_version() {
    accepted([at(1, 2, put("a")), at(3, 4, get_at("a", 7)), at(5, 6, get_at("a", 7))]);
    rejected([at(1, 2, put("a")), at(3, 4, get_at("a", 7)), at(5, 6, get_at("a", 8))]);
    rejected([at(1, 2, put_at("a", 7)), at(3, 4, get_at("a", 8))]);
}

#[test]
fn versions_are_never_reused() {
    rejected([at(1, 2, put_at("a", 7)), at(3, 4, put_at("b", 7))]);
    rejected([at(1, 2, put_at("a", 7)), at(3, 4, put_at("b", 6))]);
    rejected([at(1, 2, put_at("a", 7)), at(3, 4, delete()), at(5, 6, put_at("a", 7))]);
    rejected([at(1, 2, add_at(1, 1, 7)), at(3, 4, add_at(1, 2, 7))]);
    // Two unseen versions lie between 7 and what comes next.
    rejected([at(1, 2, put_at("a", 7)), at(3, 4, [put("b"), put("c")]), at(5, 6, put_at("d", 9))]);
    accepted([at(1, 2, put_at("a", 7)), at(3, 4, [put("b"), put("c")]), at(5, 6, put_at("d", 10))]);
}

#[test]
fn versions_order_concurrent_writes() {
    let writes = || [at(1, 9, put_at("a", 8)), at(1, 9, put_at("b", 7))];
    accepted(writes().into_iter().chain([at(10, 11, get("a"))]));
    rejected(writes().into_iter().chain([at(10, 11, get("b"))]));
}

#[test]
fn a_lost_write_may_have_happened() {
    accepted([at(1, 2, put("a")), lost(3, put("b")), at(5, 6, get("b"))]);
    accepted([at(1, 2, put("a")), lost(3, put("b")), at(5, 6, get("a"))]);
    accepted([at(1, 2, put("a")), lost(3, delete()), at(5, 6, get_nothing())]);
    accepted([at(1, 2, put_at("a", 4)), lost(3, swap(4, "b")), at(5, 6, get("b"))]);
    accepted([lost(1, add(2, 0)), lost(1, add(2, 0)), lost(1, add(5, 0)), at(5, 6, get("4"))]);
}

#[test]
fn a_lost_write_may_happen_late_but_never_early() {
    accepted([at(1, 2, put("a")), lost(3, put("b")), at(5, 6, get("a")), at(70, 80, get("b"))]);
    rejected([at(1, 2, put("a")), at(3, 4, get("b")), lost(5, put("b"))]);
}

#[test]
fn a_lost_write_happens_once() {
    rejected([at(1, 2, put("a")), lost(3, put("b")), at(5, 6, get("b")), at(7, 8, put("c")), at(9, 10, get("b"))]);
    rejected([lost(1, add(2, 0)), at(3, 4, get("4"))]);
    rejected([at(1, 2, put_at("a", 4)), lost(3, swap(4, "b")), at(5, 6, get("b")), at(7, 8, get("a"))]);
}

#[test]
fn a_lost_write_does_nothing_else() {
    rejected([at(1, 2, put("a")), lost(3, put("b")), at(5, 6, get("c"))]);
    rejected([at(1, 2, put_at("a", 4)), lost(3, swap(5, "b")), at(5, 6, get("b"))]);
    rejected([at(1, 2, put("x")), lost(3, add(1, 0)), at(5, 6, get("1"))]);
}

#[test]
fn a_lost_batch_happens_as_a_whole_or_not_at_all() {
    let batch = || [at(1, 2, put("a")), lost(3, [put("b"), put("c")])];
    accepted(batch().into_iter().chain([at(5, 6, get("a"))]));
    accepted(batch().into_iter().chain([at(5, 6, get("c"))]));
    let torn = || batch().into_iter().chain([at(5, 6, get("b"))]);
    rejected(torn());
    // Unless the node may have refused its second half.
    let capped = Checker { memory_capped: true, ..Checker::default() };
    assert!(capped.check(&history(torn())).is_ok());
}

#[test]
fn an_unknown_outcome_within_an_answered_batch_is_left_open() {
    let batch = |seen| [at(1, 2, [put("a"), but(put("b"), OwnedOutcome::Unknown)]), at(3, 4, get(seen))];
    accepted(batch("a"));
    accepted(batch("b"));
    rejected(batch("c"));
}

#[test]
fn what_was_refused_or_not_executed_changes_nothing() {
    accepted([at(1, 2, [but(put("a"), OwnedOutcome::OutOfMemory), get_nothing()])]);
    rejected([at(1, 2, but(put("a"), OwnedOutcome::OutOfMemory)), at(3, 4, get("a"))]);
    accepted([at(1, 2, [but(get("a"), OwnedOutcome::ReplyFull), put("b")]), at(3, 4, get("b"))]);
    accepted([at(1, 2, but(put("a"), OwnedOutcome::NotSent)), at(3, 4, get_nothing())]);
    rejected([at(1, 2, but(put("a"), OwnedOutcome::NotSent)), at(3, 4, get("a"))]);
}

const EVICTING: Checker = Checker { evicting: true, ..Checker::DEFAULT };

#[track_caller]
fn accepted_where_records_are_evicted<const N: usize>(calls: [Call; N]) {
    if let Err(violation) = EVICTING.check(&history(calls.clone())) {
        panic!("{violation}");
    }
    rejected(calls);
}

#[track_caller]
fn rejected_where_records_are_evicted<const N: usize>(calls: [Call; N]) {
    assert!(EVICTING.check(&history(calls)).is_err(), "no eviction explains this");
}

#[test]
fn an_evicted_record_is_absent_for_everybody_and_never_comes_back() {
    accepted_where_records_are_evicted([at(1, 2, put("a")), at(3, 4, get_nothing()), at(5, 6, delete_nothing())]);
    accepted_where_records_are_evicted([at(1, 2, [put("a"), get("a"), get_nothing()])]);
    rejected_where_records_are_evicted([at(1, 2, put("a")), at(3, 4, get_nothing()), at(5, 6, get("a"))]);
    rejected_where_records_are_evicted([at(1, 2, put("a")), at(3, 4, put("b")), at(5, 6, get("a"))]);
    rejected_where_records_are_evicted([at(1, 2, put("a")), at(3, 4, [get_nothing(), delete()])]);
    rejected_where_records_are_evicted([at(1, 2, get("a"))]);
}

#[test]
fn changes_behind_an_eviction_find_nothing() {
    accepted_where_records_are_evicted([at(1, 2, put("7")), at(3, 4, add(1, 1)), at(5, 6, get("1"))]);
    accepted_where_records_are_evicted([at(1, 2, put_at("a", 7)), at(3, 4, mismatch(7, 0)), at(5, 6, swap(0, "b"))]);
    rejected_where_records_are_evicted([at(1, 2, put("7")), at(3, 4, [get_nothing(), add(1, 8)])]);
    rejected_where_records_are_evicted([at(1, 2, put_at("a", 7)), at(3, 4, [mismatch(7, 0), swap(7, "b")])]);
}

#[test]
fn the_version_of_an_evicted_record_is_never_drawn_again() {
    let again = |version| [at(1, 2, put_at("a", 7)), at(3, 4, get_nothing()), at(5, 6, put_at("b", version))];
    rejected_where_records_are_evicted(again(7));
    rejected_where_records_are_evicted(again(6));
    accepted_where_records_are_evicted(again(8));
}

#[test]
fn a_record_that_may_have_expired_late_may_have_been_deleted_early() {
    // The search tries first that the delete came first, and the get met the deadline: then the last put was too early.
    let calls = |put_by| {
        [
            at(1, 2, put("a")),
            during(1, 5, at(3, 20, delete())),
            during(1, 5, at(4, 6, put("b"))),
            during(1, 5, at(5, 20, write_until("c", 10))),
            during(5, 12, at(7, 30, get_nothing())),
            during(6, put_by, at(21, 22, put("d"))),
        ]
    };
    accepted(calls(8));
    accepted(calls(12));
    let first = |call: Call| if call.invoke == 3 { Call { ret: Some(3), ..call } } else { call };
    let delete_first = |put_by| calls(put_by).map(first);
    accepted(delete_first(12));
    rejected(delete_first(8));
}

#[test]
fn an_outcome_that_an_operation_cannot_have_is_named() {
    let impossible = [
        but(get("a"), OwnedOutcome::OutOfMemory),
        but(get("a"), OwnedOutcome::Done { version: None }),
        but(put("a"), OwnedOutcome::ReplyFull),
        but(put("a"), OwnedOutcome::NotFound),
        but(put("a"), OwnedOutcome::Done { version: Some(0) }),
        but(delete(), OwnedOutcome::Done { version: Some(7) }),
        but(swap(1, "a"), OwnedOutcome::NotFound),
        but(add(1, 1), OwnedOutcome::Done { version: None }),
    ];
    for step in impossible {
        let violation = Checker::default().check(&history([at(1, 2, [put("a"), step])]));
        assert!(matches!(violation, Err(Violation::ImpossibleOutcome { step: 1, .. })), "{violation:?}");
    }
}

#[test]
fn a_violation_shows_the_smallest_prefix_and_its_last_calls() {
    let calls = [
        at(1, 2, put_at("a", 4)),
        at(3, 9, put("b")),
        at(5, 6, get("b")),
        at(7, 12, get("a")),
        at(10, 13, get("b")),
        at(14, 15, put("z")),
    ];
    let violation = rejected(calls);
    let Violation::NotLinearizable { prefix_calls, .. } = &violation else { panic!("{violation}") };
    assert_eq!(*prefix_calls, 5);
    let text = violation.to_string();
    assert!(text.contains("client 4 [7..12] get -> \"a\"  <- at the latest now"), "{text}");
    assert!(text.contains("client 3 [5..6] get -> \"b\""), "{text}");
    assert!(text.contains("the record \"b\", version >= #5"), "{text}");
    assert!(!text.contains("\"z\""), "{text}");
}

#[test]
fn a_search_that_grows_too_large_gives_up() {
    let puts = (0..20).map(|i| at(1, 99, put(&i.to_string())));
    let history = history(puts.chain([at(100, 101, get("none of them"))]));
    let small = Checker { configurations_max: 1_000, ..Checker::default() };
    assert!(matches!(small.check(&history), Err(Violation::GaveUp { configurations: 1_000, .. })));
}
