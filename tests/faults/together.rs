//! Requests that arrive together are answered together, and each has the reply that it would have alone.
#![forbid(unsafe_code)]

use crate::raw::{Raw, node, op, request};
use freight::op::{Action, Outcome};
use freight::wire::{RefusalCode, ReplyView, stats_request, stats_text};

/// Adds to one counter, and gets a record of the request's own.
fn counting(number: u64, adds: u32) -> Vec<u8> {
    let key = number.to_le_bytes();
    let mut ops = vec![op(&key, Action::Get)];
    ops.extend((0..adds).map(|_| op(b"counter", Action::Add { delta: 1 })));
    request(number, &ops)
}

/// Expects the reply to such a request, when the counter was at `before`.
#[track_caller]
fn expect_counted(raw: &mut Raw, number: u64, adds: u32, before: i64) {
    let frame = raw.frame().expect("a reply");
    let reply = ReplyView::parse(&frame).expect("a reply");
    assert_eq!((reply.header().request.get(), reply.op_count()), (number, adds + 1));
    let counted = (1..=i64::from(adds)).map(|add| Outcome::Counter { value: before + add, version: None });
    assert!(reply.outcomes().eq([Outcome::NotFound].into_iter().chain(counted)), "request {number}");
}

#[test]
fn requests_in_one_write_take_effect_in_their_order_and_are_answered_in_it() {
    let node = node(|_| {});
    let mut raw = Raw::connect(&node);
    // Many at a time, empty ones, and some that are long.
    let adds = |number: u64| if number % 50 == 4 { 5_000 } else { (number % 5) as u32 * 20 };
    let count = 200;
    let mut bytes: Vec<u8> = (0..count).flat_map(|number| counting(number, adds(number))).collect();
    bytes.extend(request(count, &[]));
    raw.send(&bytes);
    let mut before = 0;
    for number in 0..count {
        expect_counted(&mut raw, number, adds(number), before);
        before += i64::from(adds(number));
    }
    let frame = raw.frame().expect("a reply");
    assert_eq!(ReplyView::parse(&frame).expect("a reply").header().request.get(), count);
    let stats = node.stats();
    assert_eq!(stats.frames, count + 1);
    assert_eq!(stats.operations, count + (0..count).map(|number| u64::from(adds(number))).sum::<u64>());
    assert_eq!(stats.bytes_received, bytes.len() as u64);
    node.drain();
}

#[test]
fn a_frame_of_another_kind_keeps_its_place_between_requests() {
    let node = node(|_| {});
    let mut raw = Raw::connect(&node);
    raw.send(&[counting(0, 3), counting(1, 3), stats_request(7).to_vec(), counting(2, 3), counting(3, 3)].concat());
    expect_counted(&mut raw, 0, 3, 0);
    expect_counted(&mut raw, 1, 3, 3);
    let frame = raw.frame().expect("statistics");
    assert!(stats_text(&frame).expect("statistics").contains("\"operations\":8"), "of the requests before it");
    expect_counted(&mut raw, 2, 3, 6);
    expect_counted(&mut raw, 3, 3, 9);
    node.drain();
}

#[test]
fn what_came_before_a_malformed_request_is_answered_before_the_refusal() {
    let node = node(|_| {});
    for broken in [0, 1, 3] {
        let mut raw = Raw::connect(&node);
        let mut malformed = request(9, &[op(b"counter", Action::Add { delta: 1_000 })]);
        // No such operation.
        malformed[64] = 99;
        let mut frames: Vec<_> = (0..4).map(|number| counting(number, 0)).collect();
        frames.insert(broken, malformed);
        raw.send(&frames.concat());
        (0..broken as u64).for_each(|number| expect_counted(&mut raw, number, 0, 0));
        raw.expect_refusal(RefusalCode::Malformed);
    }
    assert_eq!(node.stats().store.records, 0, "nothing of a malformed request was executed");
    node.drain();
}
