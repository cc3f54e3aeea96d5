//! Steps of moves and their replies: what is written is read, and every way to be wrong has its error.
#![forbid(unsafe_code)]

use freight::limits::{MOVE_CHUNK_BYTES, MOVE_ENTRIES_MAX, MOVE_VERSION_MAX, VALUE_BYTES_MAX};
use freight::op::Carried;
use freight::wire::{
    MoveBody, MoveChunk, MoveCommand, MoveReplyBody, MoveReplyView, MoveStatus, MoveView, WireError, move_request,
};

const COMMANDS: [MoveCommand; 8] = [
    MoveCommand::ExportBegin,
    MoveCommand::ExportNext,
    MoveCommand::Freeze,
    MoveCommand::ImportBegin,
    MoveCommand::Import,
    MoveCommand::ImportFinish,
    MoveCommand::End,
    MoveCommand::Look,
];

fn step(command: MoveCommand, argument: u64, payload: &[u8]) -> Vec<u8> {
    move_request(1, &MoveBody::new(command, [7; 16], 5, 3, argument), payload)
}

fn entry(version: u64, value_bytes: u32, key_bytes: u16, kind: u8, reserved: u8) -> Vec<u8> {
    let (version, value, key) = (version.to_le_bytes(), value_bytes.to_le_bytes(), key_bytes.to_le_bytes());
    [&version[..], &value, &key, &[kind, reserved]].concat()
}

/// The error of a step that brings these bytes.
fn import_error(payload: &[u8]) -> WireError {
    MoveView::parse(&step(MoveCommand::Import, 0, payload)).expect_err("malformed")
}

#[test]
fn every_step_is_read_as_written() {
    for command in COMMANDS {
        let is_begin = matches!(command, MoveCommand::ExportBegin | MoveCommand::ImportBegin);
        let payload = if is_begin { vec![3; 2048] } else { Vec::new() };
        let frame = step(command, 9, &payload);
        let view = MoveView::parse(&frame).expect("valid");
        assert_eq!((view.command, view.body.id, view.body.epoch.get()), (command, [7; 16], 5));
        assert_eq!((view.body.sequence.get(), view.body.argument.get()), (3, 9));
        assert_eq!(view.slots().map(|slots| &slots[..]), is_begin.then_some(&payload[..]));
        // Nothing but what it takes.
        let longer = step(command, 9, &[&payload[..], &[0]].concat());
        assert!(MoveView::parse(&longer).is_err(), "{command:?}");
    }
}

#[test]
fn steps_that_make_no_sense_are_refused() {
    for code in [0, 9, 255] {
        let mut frame = step(MoveCommand::Look, 0, &[]);
        frame[64] = code;
        assert_eq!(MoveView::parse(&frame).expect_err("none"), WireError::BadBody { what: "move command" });
    }
    let mut frame = step(MoveCommand::Look, 0, &[]);
    frame[71] = 1;
    assert_eq!(MoveView::parse(&frame).expect_err("reserved"), WireError::ReservedNotZero { offset: 65 });
    let short = step(MoveCommand::ExportBegin, 0, &[0; 2047]);
    let mismatch = WireError::PayloadMismatch { used: 2048, payload: 2047 };
    assert_eq!(MoveView::parse(&short).expect_err("too few slots"), mismatch);
    let finish = step(MoveCommand::ImportFinish, MOVE_VERSION_MAX + 1, &[]);
    assert_eq!(MoveView::parse(&finish).expect_err("too high"), WireError::BadBody { what: "version" });
    let mut cut = step(MoveCommand::Look, 0, &[]);
    cut.truncate(64 + 47);
    cut[8] = 64 + 47;
    assert_eq!(MoveView::parse(&cut).expect_err("cut"), WireError::Truncated { needed: 48, got: 47 });
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let bad = WireError::BadBody { what: "entry of a move" };
    for wrong in [
        entry(0, 0, 0, 1, 0),
        entry(MOVE_VERSION_MAX + 1, 0, 0, 1, 0),
        entry(1, 0, 0, 2, 0),
        entry(1, 0, 0, 0, 0),
        entry(1, 0, 0, 3, 0),
        entry(1, 0, 0, 1, 1),
    ] {
        assert_eq!(import_error(&wrong), bad, "{wrong:?}");
    }
    let long = WireError::ValueTooLong { index: 0, got: VALUE_BYTES_MAX + 1, max: VALUE_BYTES_MAX };
    assert_eq!(import_error(&entry(1, VALUE_BYTES_MAX + 1, 0, 1, 0)), long);
    assert_eq!(import_error(&entry(0, 1, 0, 2, 0)), WireError::ValueTooLong { index: 0, got: 1, max: 0 });
    let (payload_begin, begin) = (112, 112);
    let outside = |end, payload_end| WireError::OutOfFrame { index: 0, begin, end, payload_begin, payload_end };
    assert_eq!(import_error(&[0; 15]), outside(128, 127));
    assert_eq!(import_error(&[entry(1, 2, 1, 1, 0), vec![9; 2]].concat()), outside(131, 130));
    let many = entry(0, 0, 0, 2, 0).repeat(MOVE_ENTRIES_MAX as usize + 1);
    let too_many = WireError::TooManyOps { got: MOVE_ENTRIES_MAX + 1, max: MOVE_ENTRIES_MAX };
    assert_eq!(import_error(&many), too_many);
}

fn reply(status: u8) -> Vec<u8> {
    let (epoch, keys_left, version_max) = (5.into(), u64::MAX.into(), 0.into());
    let body = MoveReplyBody { status, reserved: [0; 7], epoch, keys_left, version_max };
    let (mut frame, bytes) = MoveChunk::new(Vec::new()).expect("room").finish(1, &body);
    frame.truncate(bytes as usize);
    frame
}

#[test]
fn every_status_is_read_as_written_and_no_other() {
    let statuses = [
        MoveStatus::Done,
        MoveStatus::NoMove,
        MoveStatus::OtherEpoch,
        MoveStatus::BadSlots,
        MoveStatus::Frozen,
        MoveStatus::OutOfOrder,
        MoveStatus::OutOfMemory,
        MoveStatus::NoKeeper,
        MoveStatus::BadCompletions,
    ];
    for status in statuses {
        let frame = reply(status.code());
        let view = MoveReplyView::parse(&frame).expect("valid");
        assert_eq!((view.status, view.keys_left(), view.entries().count()), (status, None, 0));
    }
    let bad = WireError::BadBody { what: "status of a move" };
    assert_eq!(MoveReplyView::parse(&reply(10)).expect_err("none"), bad);
    let mut reserved = reply(1);
    reserved[70] = 1;
    assert_eq!(MoveReplyView::parse(&reserved).expect_err("reserved"), WireError::ReservedNotZero { offset: 65 });
}

#[test]
fn a_chunk_is_full_at_its_bounds_but_takes_one_record_of_any_size() {
    let mut chunk = MoveChunk::new(Vec::new()).expect("room");
    assert!((0..MOVE_ENTRIES_MAX).all(|_| chunk.push(Carried { key: b"k", version: 0, value: b"", deadline: None })));
    assert!(!chunk.push(Carried { key: b"k", version: 0, value: b"", deadline: None }));
    let (key, value) = (vec![1; 65_535], vec![2; VALUE_BYTES_MAX as usize]);
    let mut chunk = MoveChunk::new(Vec::new()).expect("room");
    assert!(chunk.push(Carried { key: &key, version: 1, value: &value, deadline: None }));
    assert!(!chunk.push(Carried { key: b"", version: 1, value: b"", deadline: None }));
    let half = vec![3; MOVE_CHUNK_BYTES as usize / 2];
    let mut chunk = MoveChunk::new(Vec::new()).expect("room");
    assert!(chunk.push(Carried { key: b"a", version: 1, value: &half, deadline: None }));
    assert!(!chunk.push(Carried { key: b"b", version: 1, value: &half, deadline: None }) && !chunk.out_of_memory);
}
