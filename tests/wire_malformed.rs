//! Every way a request or a reply can be wrong has its error, with the numbers that say where.
//!
//! Each test takes a valid frame and changes as little of it as makes it wrong. `wire_service.rs` does the same
//! for the other frames.
#![forbid(unsafe_code)]

use freight::limits;
use freight::op::{Action, Condition, Content, Edit, Edited, Expiry, Op, Outcome, Outcomes as _};
use freight::wire::{self, Header, Origin, ReplyBuilder, ReplyView, RequestBuilder, RequestView, WireError};
use std::num::NonZeroU64;

const LIMIT: u32 = limits::FRAME_BYTES_MIN;

fn request(ops: &[Op<'_>]) -> Vec<u8> {
    let mut builder = RequestBuilder::new(Vec::new(), 1, LIMIT).expect("room");
    ops.iter().for_each(|op| builder.push(op).expect("room"));
    let (mut frame, bytes) = builder.finish(Origin::default());
    frame.truncate(bytes as usize);
    frame
}

fn op<'a>(key: &'a [u8], action: Action<'a>) -> Op<'a> {
    Op { key, action, version_wanted: false }
}

fn get() -> Vec<u8> {
    request(&[op(b"key", Action::Get)])
}

fn put() -> Vec<u8> {
    request(&[op(b"key", Action::Put { value: b"value" })])
}

fn reply(outcomes: &[Outcome<'_>]) -> Vec<u8> {
    let mut builder = ReplyBuilder::new(Vec::new(), outcomes.len() as u32, LIMIT).expect("room");
    (0..).zip(outcomes).for_each(|(index, outcome)| builder.set(index, *outcome));
    let (mut frame, bytes) = builder.finish(Origin::default());
    frame.truncate(bytes as usize);
    frame
}

/// A valid frame with some bytes replaced.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The error of a header, which cutting a stream and parsing a whole frame must give alike.
fn header_error(frame: &[u8]) -> WireError {
    let error = Header::split(frame).expect_err("malformed");
    assert_eq!(wire::frame_bytes(frame, limits::FRAME_BYTES_MAX), Err(error));
    error
}

#[test]
fn fewer_bytes_than_a_header_are_no_frame_yet() {
    let frame = get();
    for length in 0..64 {
        assert_eq!(wire::frame_bytes(&frame[..length], LIMIT), Ok(None), "{length} bytes");
        let error = Header::split(&frame[..length]).expect_err("no header");
        assert_eq!(error, WireError::Truncated { needed: 64, got: length as u64 });
    }
    assert_eq!(wire::frame_bytes(&frame[..64], LIMIT), Ok(Some(frame.len() as u32)));
}

#[test]
fn bytes_behind_a_frame_are_not_called_a_cut() {
    let mut frame = get();
    frame.extend_from_slice(b"more");
    let bytes = frame.len() as u64;
    let error = RequestView::parse(&frame).expect_err("four bytes too many");
    assert_eq!(error, WireError::TrailingBytes { frame: bytes - 4, got: bytes });
}

#[test]
fn another_protocol_is_refused_at_its_first_bytes() {
    assert_eq!(wire::frame_bytes(b"", LIMIT), Ok(None));
    assert_eq!(wire::frame_bytes(b"FRG", LIMIT), Ok(None));
    assert_eq!(wire::frame_bytes(b"G", LIMIT), Err(WireError::BadMagic { got: 0x47 }));
    assert_eq!(wire::frame_bytes(b"FRESH", LIMIT), Err(WireError::BadMagic { got: 0x5345_5246 }));
    assert_eq!(header_error(&with(get(), 0, b"HTTP")), WireError::BadMagic { got: 0x5054_5448 });
}

#[test]
fn another_version_is_refused_at_its_byte() {
    assert_eq!(wire::frame_bytes(b"FRGT\x01", LIMIT), Ok(None));
    assert_eq!(wire::frame_bytes(b"FRGT\x02", LIMIT), Err(WireError::BadVersion { got: 2 }));
    assert_eq!(header_error(&with(get(), 4, &[0])), WireError::BadVersion { got: 0 });
}

#[test]
fn operations_are_counted_in_requests_and_replies_only() {
    for frame in [wire::stats_request(1), wire::stats_reply(1, "{}")] {
        assert_eq!(header_error(&with(frame, 12, &[1])), WireError::ReservedNotZero { offset: 12 });
    }
}

#[test]
fn unknown_kinds_lengths_flags_and_counts_are_refused() {
    assert_eq!(header_error(&with(get(), 5, &[0])), WireError::BadKind { got: 0 });
    assert_eq!(header_error(&with(get(), 5, &[255])), WireError::BadKind { got: 255 });
    for flags in [2, 4, 5, 8] {
        assert_eq!(header_error(&with(get(), 6, &[flags])), WireError::ReservedNotZero { offset: 6 }, "{flags}");
    }
    assert_eq!(header_error(&with(reply(&[]), 6, &[1])), WireError::ReservedNotZero { offset: 6 });
    assert_eq!(header_error(&with(get(), 63, &[1])), WireError::ReservedNotZero { offset: 56 });
    let (min, max) = (64, limits::FRAME_BYTES_MAX);
    assert_eq!(header_error(&with(get(), 8, &[63, 0, 0, 0])), WireError::BadFrameBytes { got: 63, min, max });
    assert_eq!(header_error(&with(get(), 8, &[255; 4])), WireError::BadFrameBytes { got: u32::MAX, min, max });
    let many = with(get(), 12, &[1, 0, 1, 0]);
    assert_eq!(header_error(&many), WireError::TooManyOps { got: 65_537, max: 65_536 });
}

#[test]
fn a_frame_above_the_receivers_own_limit_is_refused() {
    let frame = get();
    let got = frame.len() as u32;
    let error = wire::frame_bytes(&frame, got - 1).expect_err("one byte too long");
    assert_eq!(error, WireError::BadFrameBytes { got, min: 64, max: got - 1 });
    assert_eq!(wire::frame_bytes(&frame, got), Ok(Some(got)));
}

#[test]
fn a_frame_of_another_kind_is_unexpected() {
    let (request, reply) = (get(), reply(&[]));
    assert_eq!(RequestView::parse(&reply).expect_err("reply"), WireError::UnexpectedKind { got: 4, expected: 3 });
    assert_eq!(ReplyView::parse(&request).expect_err("request"), WireError::UnexpectedKind { got: 3, expected: 4 });
    assert_eq!(wire::Hello::parse(&request), Err(WireError::UnexpectedKind { got: 3, expected: 1 }));
    assert_eq!(wire::HelloReply::parse(&request), Err(WireError::UnexpectedKind { got: 3, expected: 2 }));
    assert_eq!(wire::Refusal::parse(&request), Err(WireError::UnexpectedKind { got: 3, expected: 5 }));
    assert_eq!(wire::stats_text(&request), Err(WireError::UnexpectedKind { got: 3, expected: 7 }));
    assert_eq!(wire::WireLimitView::parse(&request), Err(WireError::UnexpectedKind { got: 3, expected: 8 }));
}

fn request_error(frame: &[u8]) -> WireError {
    RequestView::parse(frame).expect_err("malformed")
}

#[test]
fn a_count_beyond_the_frame_is_refused_before_anything_is_read() {
    let error = request_error(&with(get(), 12, &[0, 0, 1, 0]));
    assert_eq!(error, WireError::Truncated { needed: 65_536 * 4, got: 7 });
    let error = ReplyView::parse(&with(reply(&[Outcome::NotFound]), 12, &[2])).expect_err("two descriptors");
    assert_eq!(error, WireError::Truncated { needed: 16, got: 8 });
}

#[test]
fn unknown_operations_and_flags_are_refused() {
    assert_eq!(request_error(&with(get(), 64, &[0])), WireError::BadOpCode { index: 0, got: 0 });
    assert_eq!(request_error(&with(get(), 64, &[7])), WireError::BadOpCode { index: 0, got: 7 });
    assert_eq!(request_error(&with(get(), 65, &[4])), WireError::BadFlags { index: 0, got: 4 });
}

#[test]
fn an_edit_that_says_nothing_known_is_refused() {
    let put = Edit::new(Content::Write(b"value"), Expiry::After(5_000)).on(Condition::IfAbsent);
    let frame = |edit: Edit<'_>| request(&[op(b"key", Action::Edit(edit))]);
    assert!(RequestView::parse(&frame(put)).is_ok());
    // Descriptor 64-67; condition, content, expiry, 0 at 68-71; length of the value 72-75; time 76-83.
    for (at, byte) in [(68, 8), (69, 4), (70, 4), (71, 1)] {
        assert_eq!(request_error(&with(frame(put), at, &[byte])), WireError::BadEdit { index: 0 }, "{byte} at {at}");
    }
    for content in [0, 3] {
        let error = request_error(&with(frame(put), 69, &[content]));
        assert_eq!(error, WireError::BadEdit { index: 0 }, "content {content} has no value");
    }
    for expiry in [0, 1] {
        let error = request_error(&with(frame(put), 70, &[expiry]));
        assert_eq!(error, WireError::BadEdit { index: 0 }, "expiry {expiry} has no time");
    }
    assert_eq!(request_error(&with(frame(put), 65, &[4])), WireError::BadFlags { index: 0, got: 4 });
    let read = frame(Edit::new(Content::Keep, Expiry::Keep));
    assert!(RequestView::parse(&read).is_ok());
    assert_eq!(request_error(&with(read, 65, &[2])), WireError::BadEdit { index: 0 }, "a get says so shorter");
    let (got, max) = ((8 << 20) + 1, 8 << 20);
    let error = request_error(&with(frame(put), 72, &u32::to_le_bytes(got)));
    assert_eq!(error, WireError::ValueTooLong { index: 0, got, max });
}

#[test]
fn an_edits_outcome_that_says_nothing_known_is_refused() {
    let edited = Edited {
        is_done: true,
        was_there: false,
        is_there: true,
        value: None,
        value_bytes: 5,
        deadline: None,
        version: NonZeroU64::new(1),
    };
    // Descriptor 64-71, version 72-79; facts at 80, deadline 81-87, length now 88-91, value 92-96.
    let without = reply(&[Outcome::Edited(edited)]);
    let before = reply(&[Outcome::Edited(Edited { value: Some(b"value"), ..edited })]);
    for frame in [&without, &before] {
        assert!(ReplyView::parse(frame).is_ok());
        for (at, byte, what) in [(72, 0, "no version"), (80, 8, "facts")] {
            let error = reply_error(&with(frame.clone(), at, &[byte]));
            assert_eq!(error, WireError::BadEdit { index: 0 }, "{what}");
        }
        let (got, max) = ((8 << 20) + 1, 8 << 20);
        let long = with(frame.clone(), 65, &u32::to_le_bytes(got)[..3]);
        assert_eq!(reply_error(&long), WireError::ValueTooLong { index: 0, got, max });
    }
    assert_eq!(reply_error(&with(before.clone(), 91, &[1])), WireError::BadEdit { index: 0 }, "a longer value now");
    let outside = |end| WireError::OutOfFrame { index: 0, begin: 72, end, payload_begin: 72, payload_end: 97 };
    assert_eq!(reply_error(&with(before.clone(), 65, &[6])), outside(98));
    assert_eq!(reply_error(&with(before.clone(), 64, &[0x8C])), WireError::PayloadMismatch { used: 16, payload: 25 });
    assert_eq!(reply_error(&with(before, 65, &[4])), WireError::PayloadMismatch { used: 24, payload: 25 });
}

#[test]
fn first_indices_that_do_not_grow_or_do_not_fit_are_refused() {
    let part = |indices: [u16; 3]| {
        let mut frame = request(&[op(b"a", Action::Get), op(b"b", Action::Get), op(b"c", Action::Get)]);
        frame.splice(64..64, indices.into_iter().flat_map(u16::to_le_bytes));
        let bytes = frame.len() as u32;
        with(with(frame, 6, &[3]), 8, &bytes.to_le_bytes())
    };
    assert!(RequestView::parse(&part([0, 1, u16::MAX])).is_ok());
    assert_eq!(request_error(&part([0, 1, 1])), WireError::BadIndex { index: 2, got: 1, before: 1 });
    assert_eq!(request_error(&part([9, 3, 10])), WireError::BadIndex { index: 1, got: 3, before: 9 });
    let cut = with(with(get(), 6, &[3]), 12, &[4]);
    assert_eq!(request_error(&cut), WireError::Truncated { needed: 8, got: 7 });
}

#[test]
fn lengths_beyond_the_frame_are_refused_where_they_stand() {
    // A get: descriptor 64-67, key 68-70.
    let key = WireError::OutOfFrame { index: 0, begin: 68, end: 72, payload_begin: 68, payload_end: 71 };
    assert_eq!(request_error(&with(get(), 66, &[4])), key);
    // A put: descriptor 64-67, length of the value 68-71, key 72-74, value 75-79.
    let value = WireError::OutOfFrame { index: 0, begin: 75, end: 81, payload_begin: 68, payload_end: 80 };
    assert_eq!(request_error(&with(put(), 68, &[6])), value);
    let (got, max) = ((8 << 20) + 1, 8 << 20);
    assert_eq!(request_error(&with(put(), 68, &u32::to_le_bytes(got))), WireError::ValueTooLong { index: 0, got, max });
    // An add where a get was: the operand does not fit.
    let operand = WireError::OutOfFrame { index: 0, begin: 68, end: 76, payload_begin: 68, payload_end: 71 };
    assert_eq!(request_error(&with(get(), 64, &[5])), operand);
}

#[test]
fn bytes_that_no_operation_uses_are_refused() {
    assert_eq!(request_error(&with(get(), 66, &[2])), WireError::PayloadMismatch { used: 2, payload: 3 });
    assert_eq!(request_error(&with(put(), 68, &[4])), WireError::PayloadMismatch { used: 11, payload: 12 });
}

fn reply_error(frame: &[u8]) -> WireError {
    ReplyView::parse(frame).expect_err("malformed")
}

fn value(value: &[u8]) -> Outcome<'_> {
    Outcome::Value { value, version: None }
}

#[test]
fn unknown_statuses_are_refused() {
    let frame = reply(&[Outcome::NotFound]);
    assert_eq!(reply_error(&with(frame.clone(), 64, &[0])), WireError::BadStatus { index: 0, got: 0 });
    assert_eq!(reply_error(&with(frame, 64, &[15])), WireError::BadStatus { index: 0, got: 15 });
}

#[test]
fn statuses_and_versions_go_together() {
    let mismatch = reply(&[Outcome::VersionMismatch { current: 1 }]);
    assert_eq!(reply_error(&with(mismatch, 64, &[5])), WireError::BadStatus { index: 0, got: 5 });
    for status in [4, 6, 7, 8, 9, 10, 11, 14] {
        let done = reply(&[Outcome::Done { version: Some(1) }]);
        let got = status | 0x80;
        assert_eq!(reply_error(&with(done, 64, &[got])), WireError::BadStatus { index: 0, got });
    }
}

#[test]
fn statuses_and_lengths_go_together() {
    for status in [2, 4, 6, 7, 8, 9, 11, 14] {
        let error = reply_error(&with(reply(&[value(b"v")]), 64, &[status]));
        assert_eq!(error, WireError::ValueTooLong { index: 0, got: 1, max: 0 });
    }
    let counter = reply(&[Outcome::Counter { value: 1, version: None }]);
    assert_eq!(reply_error(&with(counter, 65, &[7])), WireError::BadCounter { index: 0, got: 7 });
    let (got, max) = ((8 << 20) + 1, 8 << 20);
    let long = with(reply(&[value(b"v")]), 65, &u32::to_le_bytes(got)[..3]);
    assert_eq!(reply_error(&long), WireError::ValueTooLong { index: 0, got, max });
}

#[test]
fn values_outside_the_payload_are_refused() {
    let frame = reply(&[value(b"value")]);
    let outside = |begin, end| WireError::OutOfFrame { index: 0, begin, end, payload_begin: 72, payload_end: 77 };
    assert_eq!(reply_error(&with(frame.clone(), 68, &[71])), outside(71, 76));
    assert_eq!(reply_error(&with(frame.clone(), 68, &[73])), outside(73, 78));
    assert_eq!(reply_error(&with(frame.clone(), 68, &[255; 4])), outside(u32::MAX.into(), u64::from(u32::MAX) + 5));
    assert_eq!(reply_error(&with(frame.clone(), 65, &[6])), outside(72, 78));
    assert_eq!(reply_error(&with(frame, 65, &[4])), WireError::PayloadMismatch { used: 4, payload: 5 });
}

#[test]
fn values_that_overlap_are_refused_though_their_lengths_add_up() {
    let frame = reply(&[value(b"one"), value(b"two"), value(b"three")]);
    // Values at 88, 91 and 94; the last begins two bytes early, or the first lies upon the second.
    let error = reply_error(&with(frame.clone(), 84, &[92]));
    assert_eq!(error, WireError::Overlap { index: 2, begin: 92, end: 94 });
    let error = reply_error(&with(frame, 68, &[91]));
    assert_eq!(error, WireError::Overlap { index: 1, begin: 91, end: 94 });
}

/// Every way to lay values of 1 to 3 bytes into a payload that their lengths add up to.
#[test]
fn exactly_the_layouts_without_overlap_are_taken() {
    let mut taken = 0;
    for lengths in (0..81).map(|n| [n % 3 + 1, n / 3 % 3 + 1, n / 9 % 3 + 1, n / 27 + 1]) {
        let outcomes = lengths.map(|length| value(&b"abc"[..length]));
        let frame = reply(&outcomes);
        let payload = frame.len() - 96;
        for code in 0..payload.pow(4) {
            let mut frame = frame.clone();
            let mut used = vec![0; payload + 3];
            for (index, length) in lengths.into_iter().enumerate() {
                let at = code / payload.pow(index as u32) % payload;
                frame[68 + 8 * index] = 96 + at as u8;
                used[at..at + length].iter_mut().for_each(|n| *n += 1);
            }
            let whole = used[..payload].iter().all(|n| *n == 1) && used[payload..] == [0; 3];
            assert_eq!(ReplyView::parse(&frame).is_ok(), whole, "{lengths:?}: {:?}", &frame[64..96]);
            taken += usize::from(whole);
        }
    }
    // 4! orders of the values for each of the 81 choices of lengths.
    assert_eq!(taken, 24 * 81);
}

/// Two of many values moved towards each other or apart, so that lengths and centre stay as they were.
#[test]
fn values_that_are_moved_by_the_same_distance_are_refused() {
    let frame = reply(&[value(b"12345678"); 40]);
    for (first, second) in (0..40).flat_map(|first| (0..40).map(move |second| (first, second))) {
        for distance in 1..8 {
            let mut moved = frame.clone();
            let offset = |op: usize| 64 + 8 * 40 + 8 * op;
            let shift = |op: usize, to: usize| (68 + 8 * op, (to as u32).to_le_bytes());
            for (at, to) in [shift(first, offset(first) + distance), shift(second, offset(second) - distance)] {
                moved[at..at + 4].copy_from_slice(&to);
            }
            let error = reply_error(&moved);
            let refused = matches!(error, WireError::Overlap { .. } | WireError::OutOfFrame { .. });
            assert!(refused, "{first} and {second} by {distance}: {error:?}");
        }
    }
}
