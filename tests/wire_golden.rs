//! Golden frames hold the format: builders write them byte for byte, views read them.
//!
//! The bytes in `tests/golden` were laid out by hand after `docs/WIRE_FORMAT.md`, not taken from the builders.
#![forbid(unsafe_code)]

mod golden;

use freight::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MIN};
use freight::op::{
    Action, Batch as _, Carried, Condition, Content, Edit, Edited, Expiry, Op, Outcome, Outcomes as _, Time,
};
use freight::wire::{
    self, Capabilities, FrameKind, Handed, Header, Hello, HelloReply, Inspect, Inspected, MoveBody, MoveChunk,
    MoveCommand, MoveReplyBody, MoveReplyView, MoveStatus, MoveView, Origin, Refusal, RefusalCode, ReplyBuilder,
    ReplyView, RequestBuilder, RequestView, WireError, WireLimitView,
};
use std::num::NonZeroU64;

const ORIGIN: Origin = Origin { request: 7, session: 0, sequence: 0, acknowledged_up_to: 0, map_epoch: 0 };
const SESSION: Origin =
    Origin { request: 258, session: 0x1122_3344_5566_7788, sequence: 12, acknowledged_up_to: 10, map_epoch: 5 };

/// The first instant of 2026.
const NEW_YEAR: Time = 1_767_225_600_000;

/// Builder and view agree with a golden request.
fn holds_request(name: &str, origin: Origin, ops: &[Op<'_>]) {
    let golden = golden::frame(name);
    let mut builder = RequestBuilder::new(Vec::new(), 3, FRAME_BYTES_MIN).expect("room");
    ops.iter().for_each(|op| builder.push(op).expect("room"));
    let (mut built, bytes) = builder.finish(origin);
    built.truncate(bytes as usize);
    assert_eq!(built, golden, "{name}");
    let view = RequestView::parse(&golden).expect("valid");
    assert_eq!(view.ops().collect::<Vec<_>>(), ops, "{name}");
    assert_eq!(view.header().origin(), origin, "{name}");
}

/// Builder and view agree with a golden reply whose payload stands in the given order.
fn holds_reply(name: &str, origin: Origin, order: &[u32], outcomes: &[Outcome<'_>]) {
    holds_reply_at(name, origin, 0, order, outcomes);
}

/// As [`holds_reply`], of a node that tells its time.
fn holds_reply_at(name: &str, origin: Origin, time: Time, order: &[u32], outcomes: &[Outcome<'_>]) {
    let golden = golden::frame(name);
    let builder = ReplyBuilder::new(Vec::new(), outcomes.len() as u32, FRAME_BYTES_MIN).expect("room");
    let mut builder = builder.at(time);
    order.iter().for_each(|index| builder.set(*index, outcomes[*index as usize]));
    let (mut built, bytes) = builder.finish(origin);
    built.truncate(bytes as usize);
    assert_eq!(built, golden, "{name}");
    let view = ReplyView::parse(&golden).expect("valid");
    assert_eq!(view.outcomes().collect::<Vec<_>>(), outcomes, "{name}");
    assert_eq!((view.header().origin(), view.header().time.get()), (origin, time), "{name}");
}

fn op<'a>(key: &'a [u8], action: Action<'a>) -> Op<'a> {
    Op { key, action, version_wanted: false }
}

fn op_versioned<'a>(key: &'a [u8], action: Action<'a>) -> Op<'a> {
    Op { key, action, version_wanted: true }
}

#[test]
fn requests_are_the_golden_bytes() {
    let swap = |expected, value| Action::CompareAndSwap { expected, value };
    let put = |value| Action::Put { value };
    holds_request("request_empty", ORIGIN, &[]);
    holds_request("request_get", ORIGIN, &[op(b"key", Action::Get), op_versioned(b"key", Action::Get)]);
    holds_request("request_put", ORIGIN, &[op(b"key", put(b"value")), op_versioned(b"", put(b""))]);
    holds_request("request_delete", ORIGIN, &[op(b"key", Action::Delete)]);
    let swaps = [op_versioned(b"key", swap(300, b"new")), op(b"fresh", swap(0, b"value"))];
    holds_request("request_compare_and_swap", ORIGIN, &swaps);
    let adds = [op(b"hits", Action::Add { delta: 1 }), op_versioned(b"n", Action::Add { delta: i64::MIN })];
    holds_request("request_add", ORIGIN, &adds);
    holds_request("example_request", ORIGIN, &[op_versioned(b"key", put(b"value")), op(b"key", Action::Get)]);
    let sooner = Edit::new(Content::Append(b"more"), Expiry::At(NEW_YEAR)).on(Condition::IfExpiringSooner);
    let edits = [
        op(b"key", Action::Edit(Edit::new(Content::Write(b"value"), Expiry::After(5_000)))),
        op_versioned(b"key", Action::Edit(sooner.wanting_value())),
        op(b"k", Action::Edit(Edit::new(Content::Remove, Expiry::Clear).on(Condition::IfExpiring))),
        op_versioned(b"key", Action::Edit(Edit::READ)),
    ];
    holds_request("request_edit", ORIGIN, &edits);
    let batch = [
        op(b"alpha", Action::Get),
        op_versioned(b"beta", put(b"two words")),
        op(b"gamma", Action::Delete),
        op_versioned(b"delta", swap(7, b"swapped")),
        op(b"counter", Action::Add { delta: -3 }),
    ];
    holds_request("request_batch", SESSION, &batch);
    holds_part("request_retry_part", &[batch[1], batch[4]], &[1, 4]);
}

/// Builder and view agree with a golden part of a request that was sent before.
fn holds_part(name: &str, ops: &[Op<'_>], indices: &[u16]) {
    let golden = golden::frame(name);
    let mut builder = RequestBuilder::new(Vec::new(), 5, FRAME_BYTES_MIN).expect("room");
    ops.iter().for_each(|op| builder.push(op).expect("room"));
    let (mut built, bytes) = builder.finish_retry(SESSION, indices).expect("room");
    built.truncate(bytes as usize);
    assert_eq!(built, golden, "{name}");
    let view = RequestView::parse(&golden).expect("valid");
    assert_eq!(view.ops().collect::<Vec<_>>(), ops, "{name}");
    let first: Vec<_> = (0..view.op_count()).map(|index| view.first_index(index)).collect();
    assert_eq!(first, indices.iter().map(|index| u32::from(*index)).collect::<Vec<_>>(), "{name}");
    assert!(view.header().is_retry());
}

#[test]
fn a_copy_that_is_sent_again_is_the_golden_bytes() {
    let add = [op(b"hits", Action::Add { delta: 1 })];
    let mut builder = RequestBuilder::new(Vec::new(), 1, FRAME_BYTES_MIN).expect("room");
    builder.push(&add[0]).expect("room");
    let (mut copy, bytes) = builder.finish(Origin { request: 3, acknowledged_up_to: 2, map_epoch: 1, ..SESSION });
    copy.truncate(bytes as usize);
    wire::mark_retry(&mut copy, SESSION);
    assert_eq!(copy, golden::frame("request_retry"));
    let view = RequestView::parse(&copy).expect("valid");
    assert_eq!((view.header().origin(), view.header().is_retry(), view.first_index(0)), (SESSION, true, 0));
    assert_eq!(view.ops().collect::<Vec<_>>(), add);
}

#[test]
fn replies_are_the_golden_bytes() {
    let value = |value, version| Outcome::Value { value, version };
    holds_reply("reply_empty", ORIGIN, &[], &[]);
    let values = [value(b"hello", None), value(b"", None), value(b"world", Some(9))];
    holds_reply("reply_value", ORIGIN, &[0, 1, 2], &values);
    let done = [Outcome::Done { version: None }, Outcome::Done { version: Some(u64::MAX) }];
    holds_reply("reply_done", ORIGIN, &[0, 1], &done);
    let counters =
        [Outcome::Counter { value: -3, version: None }, Outcome::Counter { value: i64::MAX, version: Some(8) }];
    holds_reply("reply_counter", ORIGIN, &[0, 1], &counters);
    holds_reply("reply_not_found", ORIGIN, &[0], &[Outcome::NotFound]);
    let mismatches = [Outcome::VersionMismatch { current: 301 }, Outcome::VersionMismatch { current: 0 }];
    holds_reply("reply_version_mismatch", ORIGIN, &[0, 1], &mismatches);
    holds_reply("reply_not_a_number", ORIGIN, &[0], &[Outcome::NotANumber]);
    holds_reply("reply_counter_overflow", ORIGIN, &[0], &[Outcome::CounterOverflow]);
    holds_reply("reply_out_of_memory", ORIGIN, &[0], &[Outcome::OutOfMemory]);
    holds_reply("reply_full", ORIGIN, &[0], &[Outcome::ReplyFull]);
    let epoch = Origin { map_epoch: 5, ..ORIGIN };
    holds_reply("reply_wrong_node", epoch, &[0], &[Outcome::WrongNode]);
    holds_reply("reply_unknown", ORIGIN, &[0], &[Outcome::Unknown]);
    let untouched = Edited {
        is_done: false,
        was_there: true,
        is_there: true,
        value: None,
        value_bytes: 5,
        deadline: None,
        version: None,
    };
    let appended = Edited {
        is_done: true,
        value: Some(b"value"),
        value_bytes: 9,
        deadline: NonZeroU64::new(NEW_YEAR),
        version: NonZeroU64::new(9),
        ..untouched
    };
    let edited = [
        appended,
        untouched,
        Edited { is_done: true, is_there: false, value_bytes: 0, ..untouched },
        Edited { value_bytes: 5, version: NonZeroU64::new(8), ..appended },
        Edited { is_done: true, was_there: false, is_there: false, value_bytes: 0, ..untouched },
    ];
    holds_reply_at("reply_edited", ORIGIN, NEW_YEAR - 10_000, &[4, 1, 2, 0, 3], &edited.map(Outcome::Edited));
    holds_reply("reply_value_too_long", ORIGIN, &[0], &[Outcome::ValueTooLong]);
    holds_reply("example_reply", ORIGIN, &[0, 1], &[Outcome::Done { version: Some(42) }, value(b"value", None)]);
    let batch = [
        value(b"a value", None),
        Outcome::Done { version: Some(17) },
        Outcome::Counter { value: 41, version: None },
        Outcome::NotFound,
        Outcome::VersionMismatch { current: 18 },
        Outcome::NotANumber,
        Outcome::CounterOverflow,
        Outcome::OutOfMemory,
        Outcome::ReplyFull,
        value(b"another", Some(19)),
    ];
    let origin = Origin { acknowledged_up_to: 0, ..SESSION };
    holds_reply("reply_batch", origin, &[9, 8, 2, 3, 4, 0, 1, 5, 6, 7], &batch);
}

#[test]
fn hellos_are_the_golden_bytes() {
    let hello = Hello::new(FRAME_BYTES_DEFAULT, Capabilities(5));
    assert_eq!(wire::hello(&hello), golden::frame("hello"));
    assert_eq!(Hello::parse(&golden::frame("hello")), Ok(&hello));
    let later = golden::frame("hello_authenticated");
    let later = Hello::parse(&later).expect("valid");
    assert_eq!((later.version_max, later.authentication_method.get()), (3, 7));
    let reply = HelloReply {
        version: 1,
        reserved: 0,
        cpu: HelloReply::CPU_NONE.into(),
        frame_bytes_max: FRAME_BYTES_DEFAULT.into(),
        capabilities: 4.into(),
        incarnation: std::array::from_fn(|index| index as u8),
        frames_in_flight_max: 16.into(),
        permissions: HelloReply::WIRE_LIMIT.into(),
    };
    assert_eq!(wire::hello_reply(&reply), golden::frame("hello_reply"));
    assert_eq!(HelloReply::parse(&golden::frame("hello_reply")), Ok(&reply));
}

#[test]
fn refusals_are_the_golden_bytes() {
    let refusals = [
        ("version", RefusalCode::Version, "protocol version 2, this side speaks 1"),
        ("connections", RefusalCode::Connections, "1024 connections, no more are taken"),
        ("unauthorized", RefusalCode::Unauthorized, "this node asks for authentication"),
        ("malformed", RefusalCode::Malformed, "operation 3: unknown operation code 9"),
        ("draining", RefusalCode::Draining, "the node is shutting down"),
        ("forbidden", RefusalCode::Forbidden, "wire-limit frames are not allowed here"),
        ("memory", RefusalCode::Memory, "no memory left for connections"),
    ];
    for (name, code, text) in refusals {
        let golden = golden::frame(&format!("refusal_{name}"));
        assert_eq!(wire::refusal(code, text), golden, "{name}");
        assert_eq!(Refusal::parse(&golden), Ok(Refusal { code, text }), "{name}");
    }
}

#[test]
fn authentication_frames_are_the_golden_bytes() {
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let mut hello = Hello::new(FRAME_BYTES_MIN, Capabilities(0));
    hello.authentication_method = 1.into();
    let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    assert_eq!(wire::hello_with(&hello, first), golden::frame("hello_scram"));
    assert_eq!(wire::hello_message(&golden::frame("hello_scram")), Ok(&first[..]));
    let asked = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096").into_bytes();
    assert_eq!(wire::challenge(&asked), golden::frame("challenge"));
    assert_eq!(wire::challenge_message(&golden::frame("challenge")), Ok(&asked[..]));
    let last = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").into_bytes();
    assert_eq!(wire::proof(&last), golden::frame("proof"));
    assert_eq!(wire::proof_message(&golden::frame("proof")), Ok(&last[..]));
    let frame = golden::frame("hello_reply_scram");
    let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(wire::hello_reply_message(&frame), Ok(&signature[..]));
    assert_eq!(wire::hello_reply_with(HelloReply::parse(&frame).expect("valid"), signature), frame);
    let text = "not allowed: it takes the right to write, and user 'user' has only read";
    assert_eq!(wire::denial(7, text), golden::frame("denial"));
    assert_eq!(wire::denial_text(&golden::frame("denial")), Ok(text));
}

#[test]
fn statistics_and_wire_limit_frames_are_the_golden_bytes() {
    assert_eq!(wire::stats_request(3), golden::frame("stats"));
    assert_eq!(wire::stats_reply(3, r#"{"records":1}"#), golden::frame("stats_reply"));
    assert_eq!(wire::stats_text(&golden::frame("stats_reply")), Ok(r#"{"records":1}"#));
    let mut request = vec![0; 80];
    wire::wire_limit_request(&mut request, 4, 80, 72);
    assert_eq!(request, golden::frame("wire_limit"));
    assert_eq!(WireLimitView::parse(&request), Ok(WireLimitView { reply_bytes: 72 }));
    let mut reply = vec![0xAB; 72];
    wire::wire_limit_reply(&mut reply, 4, 72);
    assert_eq!(reply, golden::frame("wire_limit_reply"));
}

/// Builder and view agree with a golden reply to a step of a move.
fn holds_move_reply(name: &str, body: &MoveReplyBody, carried: &[Handed<'_>]) -> Vec<u8> {
    let mut chunk = MoveChunk::new(Vec::new()).expect("room");
    assert!(carried.iter().all(|carried| chunk.push(*carried)), "{name}");
    let (mut reply, bytes) = chunk.finish(5, body);
    reply.truncate(bytes as usize);
    assert_eq!(reply, golden::frame(name), "{name}");
    assert!(MoveReplyView::parse(&reply).expect("valid").entries().eq(carried.iter().copied()), "{name}");
    reply
}

#[test]
fn moves_are_the_golden_bytes() {
    let id = std::array::from_fn(|index| index as u8);
    let carried = [
        Handed::Record(Carried { key: b"key", version: 42, value: b"value", deadline: None }),
        Handed::Record(Carried { key: b"gone", version: 0, value: b"", deadline: None }),
        Handed::Completions(&[1, 0]),
    ];
    let body = MoveReplyBody {
        status: MoveStatus::Done.code(),
        reserved: [0; 7],
        epoch: 5.into(),
        keys_left: 7.into(),
        version_max: 43.into(),
    };
    let reply = holds_move_reply("move_reply", &body, &carried);
    let view = MoveReplyView::parse(&reply).expect("valid");
    assert_eq!((view.status, view.keys_left(), *view.body), (MoveStatus::Done, Some(7), body));
    // What a reply brings is handed on as it is.
    let import = wire::move_request(6, &MoveBody::new(MoveCommand::Import, id, 5, 4, 0), view.payload);
    assert_eq!(import, golden::frame("move_import"));
    let view = MoveView::parse(&import).expect("valid");
    assert!(view.entries().eq(carried) && view.slots().is_none());
    let next = wire::move_request(5, &MoveBody::new(MoveCommand::ExportNext, id, 5, 3, 2), &[]);
    assert_eq!(next, golden::frame("move_next"));
    let view = MoveView::parse(&next).expect("valid");
    assert_eq!((view.command, view.body.sequence.get(), view.body.argument.get()), (MoveCommand::ExportNext, 3, 2));
    let expiring = Carried { key: b"key", version: 42, value: b"value", deadline: Some(NEW_YEAR) };
    holds_move_reply("move_reply_expiring", &MoveReplyBody { keys_left: 0.into(), ..body }, &[expiring.into()]);
}

#[test]
fn frames_that_look_inside_are_the_golden_bytes() {
    for (name, request, asked) in [
        ("inspect", 9, Inspect::ProfileBegin { seconds: 10 }),
        ("inspect_take", 10, Inspect::ProfileTake { offset: 256 }),
    ] {
        assert_eq!(asked.frame(request), golden::frame(name), "{name}");
        assert_eq!(Inspect::parse(&golden::frame(name)), Ok(asked), "{name}");
    }
    for (name, request, told) in [
        ("inspect_reply", 10, Inspected::Here { bytes_total: 260, bytes: b"\x1f\x8b\x08\0" }),
        ("inspect_reply_forbidden", 9, Inspected::Forbidden("started without --allow-profile")),
    ] {
        assert_eq!(told.frame(request), golden::frame(name), "{name}");
        assert_eq!(Inspected::parse(&golden::frame(name)), Ok(told), "{name}");
    }
}

/// Parses a frame as the kind its header names.
fn parse(frame: &[u8]) -> Result<(), WireError> {
    let (_, kind, _) = Header::split(frame)?;
    match kind {
        FrameKind::Hello => Hello::parse(frame).map(drop),
        FrameKind::HelloReply => HelloReply::parse(frame).map(drop),
        FrameKind::Request => RequestView::parse(frame).map(drop),
        FrameKind::Reply => ReplyView::parse(frame).map(drop),
        FrameKind::Refusal => Refusal::parse(frame).map(drop),
        FrameKind::StatsReply => wire::stats_text(frame).map(drop),
        FrameKind::WireLimit => WireLimitView::parse(frame).map(drop),
        FrameKind::Move => MoveView::parse(frame).map(drop),
        FrameKind::MoveReply => MoveReplyView::parse(frame).map(drop),
        FrameKind::Challenge => wire::challenge_message(frame).map(drop),
        FrameKind::Proof => wire::proof_message(frame).map(drop),
        FrameKind::Denial => wire::denial_text(frame).map(drop),
        FrameKind::Inspect => Inspect::parse(frame).map(drop),
        FrameKind::InspectReply => Inspected::parse(frame).map(drop),
        FrameKind::Stats | FrameKind::WireLimitReply => Ok(()),
    }
}

#[test]
fn this_code_and_the_python_decoder_name_the_same_errors() {
    let mut malformed = 0;
    for name in golden::names() {
        let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let decoding = std::fs::read_to_string(path).expect("a decoding stands beside each frame");
        match (decoding.strip_prefix("error: "), parse(&golden::frame(&name))) {
            (None, Ok(())) => {}
            (Some(line), Err(error)) => {
                let expected = line.trim_end();
                assert_eq!(format!("{error:?}").split(' ').next(), Some(expected), "{name}: {error:?}, {line}");
                malformed += 1;
            }
            (line, parsed) => panic!("{name}: {line:?} {parsed:?}"),
        }
    }
    assert!(malformed >= 18, "{malformed} malformed frames");
}

#[test]
fn every_golden_frame_is_cut_out_of_a_stream() {
    for name in golden::names().iter().filter(|name| !name.starts_with("malformed_")) {
        let frame = golden::frame(name);
        assert_eq!(wire::frame_bytes(&frame, FRAME_BYTES_MIN), Ok(Some(frame.len() as u32)), "{name}");
    }
}

/// The document's examples are the golden frames: the hex that stands in front of each of its lines.
#[test]
fn the_documents_examples_are_the_golden_bytes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/WIRE_FORMAT.md");
    let text = std::fs::read_to_string(path).expect("the document is there");
    let is_byte = |word: &&str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
    let (_, examples) = text.split_once("## A worked example").expect("the document ends with examples");
    let rows = examples.lines().filter_map(|line| line.strip_prefix("    "));
    let bytes: Vec<u8> = rows
        .flat_map(|row| row.split("   ").next().unwrap_or_default().split(' ').take_while(is_byte))
        .map(|byte| u8::from_str_radix(byte, 16).expect("checked"))
        .collect();
    assert_eq!(bytes, [golden::frame("example_request"), golden::frame("example_reply")].concat());
}
