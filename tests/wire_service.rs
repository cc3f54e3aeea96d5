//! Hellos, refusals, statistics and wire-limit frames: what is written is read, what makes no sense is refused.
#![forbid(unsafe_code)]

use freight::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use freight::wire::{
    self, Capabilities, Hello, HelloReply, Inspect, Inspected, Refusal, RefusalCode, WireError, WireLimitView,
};

fn hello() -> Vec<u8> {
    wire::hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities(5)))
}

fn hello_reply_body() -> HelloReply {
    HelloReply {
        version: wire::PROTOCOL_VERSION,
        reserved: 0,
        cpu: HelloReply::CPU_NONE.into(),
        frame_bytes_max: FRAME_BYTES_DEFAULT.into(),
        capabilities: 4.into(),
        incarnation: *b"0123456789abcdef",
        frames_in_flight_max: 16.into(),
        permissions: HelloReply::WIRE_LIMIT.into(),
    }
}

fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// A frame made longer or shorter, its header telling the truth about it.
fn resized(mut frame: Vec<u8>, bytes: usize) -> Vec<u8> {
    frame.resize(bytes, 7);
    with(frame, 8, &(bytes as u32).to_le_bytes())
}

#[test]
fn a_hello_is_read_as_written() {
    let frame = hello();
    let hello = Hello::parse(&frame).expect("valid");
    assert_eq!((hello.version_min, hello.version_max), (1, 1));
    assert_eq!((hello.frame_bytes_max.get(), hello.capabilities.get()), (FRAME_BYTES_DEFAULT, 5));
    assert_eq!(HelloReply::parse(&wire::hello_reply(&hello_reply_body())), Ok(&hello_reply_body()));
}

#[test]
fn bytes_behind_a_fixed_body_belong_to_later_versions() {
    assert!(Hello::parse(&resized(hello(), 100)).is_ok());
    assert!(HelloReply::parse(&resized(wire::hello_reply(&hello_reply_body()), 200)).is_ok());
}

#[test]
fn a_body_cut_short_is_truncated() {
    let cut = resized(hello(), 64 + 23);
    assert_eq!(Hello::parse(&cut), Err(WireError::Truncated { needed: 24, got: 23 }));
    let cut = resized(wire::hello_reply(&hello_reply_body()), 64 + 39);
    assert_eq!(HelloReply::parse(&cut), Err(WireError::Truncated { needed: 40, got: 39 }));
    let cut = resized(wire::refusal(RefusalCode::Version, ""), 65);
    assert_eq!(Refusal::parse(&cut), Err(WireError::Truncated { needed: 2, got: 1 }));
}

#[test]
fn reserved_fields_are_zero() {
    assert_eq!(Hello::parse(&with(hello(), 87, &[1])), Err(WireError::ReservedNotZero { offset: 80 }));
    let reply = with(wire::hello_reply(&hello_reply_body()), 65, &[1]);
    assert_eq!(HelloReply::parse(&reply), Err(WireError::ReservedNotZero { offset: 65 }));
}

#[test]
fn a_version_range_goes_upwards() {
    assert_eq!(Hello::parse(&with(hello(), 64, &[2])), Err(WireError::BadBody { what: "version range" }));
    let newer = with(hello(), 65, &[9]);
    assert_eq!(Hello::parse(&newer).expect("speaks 1 to 9").version_max, 9);
}

#[test]
fn a_reply_in_another_version_is_refused() {
    let reply = with(wire::hello_reply(&hello_reply_body()), 64, &[2]);
    assert_eq!(HelloReply::parse(&reply), Err(WireError::BadVersion { got: 2 }));
}

#[test]
fn frame_limits_that_builders_could_not_keep_are_refused() {
    for got in [0, FRAME_BYTES_MIN - 1, FRAME_BYTES_MAX + 1, u32::MAX] {
        let error = WireError::BadFrameLimit { got, min: FRAME_BYTES_MIN, max: FRAME_BYTES_MAX };
        assert_eq!(Hello::parse(&with(hello(), 68, &got.to_le_bytes())), Err(error));
        let reply = with(wire::hello_reply(&hello_reply_body()), 68, &got.to_le_bytes());
        assert_eq!(HelloReply::parse(&reply), Err(error));
    }
}

#[test]
fn a_node_allows_at_least_one_frame_in_flight() {
    let reply = with(wire::hello_reply(&hello_reply_body()), 96, &[0; 4]);
    assert_eq!(HelloReply::parse(&reply), Err(WireError::BadBody { what: "number of frames in flight" }));
}

#[test]
fn every_refusal_is_read_as_written() {
    let codes = [
        RefusalCode::Version,
        RefusalCode::Connections,
        RefusalCode::Unauthorized,
        RefusalCode::Malformed,
        RefusalCode::Draining,
        RefusalCode::Forbidden,
        RefusalCode::Memory,
    ];
    for code in codes {
        let frame = wire::refusal(code, "straßenbahn");
        assert_eq!(Refusal::parse(&frame), Ok(Refusal { code, text: "straßenbahn" }));
    }
}

#[test]
fn unknown_refusals_and_unreadable_texts_are_errors() {
    let frame = wire::refusal(RefusalCode::Memory, "text");
    assert_eq!(Refusal::parse(&with(frame.clone(), 64, &[0])), Err(WireError::BadBody { what: "refusal code" }));
    assert_eq!(Refusal::parse(&with(frame.clone(), 64, &[8])), Err(WireError::BadBody { what: "refusal code" }));
    assert_eq!(Refusal::parse(&with(frame, 66, &[0xFF])), Err(WireError::BadBody { what: "refusal text" }));
}

#[test]
fn a_refusal_cannot_write_to_a_terminal_or_forge_a_log_line() {
    let frame = wire::refusal(RefusalCode::Malformed, "one\nline\u{1b}[2J");
    assert_eq!(Refusal::parse(&frame).expect("valid").text, "one line [2J");
    let forged = with(frame, 69, b"\n");
    assert_eq!(Refusal::parse(&forged), Err(WireError::BadBody { what: "refusal text" }));
}

#[test]
fn statistics_are_text() {
    let frame = wire::stats_reply(3, r#"{"records":0}"#);
    assert_eq!(wire::stats_text(&frame), Ok(r#"{"records":0}"#));
    assert_eq!(wire::stats_text(&with(frame, 64, &[0xC0])), Err(WireError::BadBody { what: "statistics" }));
}

#[test]
fn a_wire_limit_request_names_the_size_of_its_reply() {
    let mut frame = vec![9; 200];
    wire::wire_limit_request(&mut frame, 4, 200, 300);
    assert_eq!(WireLimitView::parse(&frame), Ok(WireLimitView { reply_bytes: 300 }));
    for got in [0, 63, FRAME_BYTES_MAX + 1] {
        let error = WireError::BadFrameBytes { got, min: 64, max: FRAME_BYTES_MAX };
        assert_eq!(WireLimitView::parse(&with(frame.clone(), 64, &got.to_le_bytes())), Err(error));
    }
    let cut = resized(frame, 67);
    assert_eq!(WireLimitView::parse(&cut), Err(WireError::Truncated { needed: 4, got: 3 }));
}

#[test]
fn what_is_asked_and_told_of_a_nodes_inside_is_read_as_written() {
    let seconds = 60;
    for asked in [Inspect::HotKeys, Inspect::ProfileBegin { seconds }, Inspect::ProfileTake { offset: 16 << 20 }] {
        assert_eq!(Inspect::parse(&asked.frame(7)), Ok(asked));
    }
    for told in [
        Inspected::Here { bytes_total: 3, bytes: b"\0\xff\n" },
        Inspected::Here { bytes_total: 16 << 20, bytes: b"" },
        Inspected::NotYet,
        Inspected::Forbidden("a"),
        Inspected::Busy("b"),
        Inspected::Nothing(""),
        Inspected::Failed("c"),
    ] {
        assert_eq!(Inspected::parse(&told.frame(7)), Ok(told));
    }
    let line = Inspected::Failed("two\nlines\x1b[2J").frame(7);
    assert_eq!(Inspected::parse(&line), Ok(Inspected::Failed("two lines [2J")));
}

#[test]
fn questions_and_answers_that_make_no_sense_are_refused() {
    let reserved = WireError::ReservedNotZero { offset: 65 };
    let bad = |what| WireError::BadBody { what };
    let begin = Inspect::ProfileBegin { seconds: 1 }.frame(7);
    for (at, bytes, error) in [
        (65, &[1][..], reserved),
        (67, &[1], reserved),
        (64, &[0], bad("command to inspect")),
        (64, &[4], bad("command to inspect")),
        (64, &[1], bad("length of a profile")),
        (68, &[0], bad("length of a profile")),
        (68, &[61], bad("length of a profile")),
        (72, &[1], bad("offset in a profile")),
    ] {
        assert_eq!(Inspect::parse(&with(begin.clone(), at, bytes)), Err(error), "{at} {bytes:?}");
    }
    let take = Inspect::ProfileTake { offset: 1 << 24 }.frame(7);
    assert_eq!(Inspect::parse(&with(take, 72, &[1])), Err(bad("offset in a profile")));
    assert_eq!(Inspect::parse(&resized(begin, 79)), Err(WireError::Truncated { needed: 16, got: 15 }));
    let here = Inspected::Here { bytes_total: 4, bytes: b"four" }.frame(7);
    for (at, bytes, error) in [
        (71, &[1][..], reserved),
        (64, &[2], bad("length of what was inspected")),
        (72, &[3], bad("length of what was inspected")),
        (75, &[2], bad("length of what was inspected")),
    ] {
        assert_eq!(Inspected::parse(&with(here.clone(), at, bytes)), Err(error), "{at} {bytes:?}");
    }
    let line = Inspected::Busy("line").frame(7);
    assert_eq!(Inspected::parse(&with(line.clone(), 80, b"\x1b")), Err(bad("text of an answer")));
    assert_eq!(Inspected::parse(&with(line.clone(), 80, &[0xC0])), Err(bad("text of an answer")));
    for status in [0, 2, 7] {
        assert_eq!(Inspected::parse(&with(line.clone(), 64, &[status])), Err(bad("status of what was inspected")));
    }
}
