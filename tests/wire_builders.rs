//! Builders: what does not fit is refused with the numbers, and what was built before stays.
#![forbid(unsafe_code)]

use freight::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX, FRAME_BYTES_MIN, FRAME_OPS_MAX, VALUE_BYTES_MAX};
use freight::op::{Action, Op, Outcome, Outcomes as _};
use freight::wire::{BuildError, FrameBuffer, Origin, ReplyBuilder, ReplyView, RequestBuilder, RequestView};
use std::ops::{Deref, DerefMut};

/// A lender with a fixed amount to lend, like a transport's registered memory.
#[derive(Debug)]
struct Lent {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Deref for Lent {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl FrameBuffer for Lent {
    fn grow(&mut self, bytes: usize) -> bool {
        bytes <= self.bytes_max && self.bytes.grow(bytes)
    }
}

fn lent(bytes: usize, bytes_max: usize) -> Lent {
    Lent { bytes: vec![0xA5; bytes], bytes_max }
}

const GET: Op<'static> = Op { key: b"key", action: Action::Get, version_wanted: false };

fn put(value: &[u8]) -> Op<'_> {
    Op { key: b"key", action: Action::Put { value }, version_wanted: false }
}

#[test]
fn too_long_keys_and_values_are_refused_with_their_lengths() {
    let mut builder = RequestBuilder::new(Vec::new(), 1, FRAME_BYTES_MAX).expect("room");
    let (key, value) = (vec![0; 65_536], vec![0; VALUE_BYTES_MAX as usize + 1]);
    let error = builder.push(&Op { key: &key, ..GET });
    assert_eq!(error, Err(BuildError::KeyTooLong { got: 65_536, max: 65_535 }));
    assert_eq!(builder.push(&put(&value)), Err(BuildError::ValueTooLong { got: value.len(), max: VALUE_BYTES_MAX }));
    assert_eq!(builder.op_count(), 0);
}

#[test]
fn a_frame_takes_65536_operations() {
    let mut builder = RequestBuilder::new(Vec::new(), FRAME_OPS_MAX, FRAME_BYTES_DEFAULT).expect("room");
    for _ in 0..FRAME_OPS_MAX {
        builder.push(&GET).expect("room");
    }
    assert_eq!(builder.push(&GET), Err(BuildError::TooManyOps { max: FRAME_OPS_MAX }));
    let (frame, bytes) = builder.finish(Origin::default());
    let view = RequestView::parse(&frame[..bytes as usize]).expect("valid");
    assert_eq!(view.ops().count(), FRAME_OPS_MAX as usize);
}

#[test]
fn a_record_of_maximal_size_fits_the_least_frame_limit_whatever_was_reserved() {
    let (key, value) = (vec![1; 65_535], vec![2; VALUE_BYTES_MAX as usize]);
    let action = Action::CompareAndSwap { expected: 1, value: &value };
    for ops_expected in [0, 1, FRAME_OPS_MAX, u32::MAX] {
        let mut builder = RequestBuilder::new(Vec::new(), ops_expected, FRAME_BYTES_MIN).expect("room");
        builder.push(&Op { key: &key, action, version_wanted: true }).expect("one record of maximal size");
        let error = builder.push(&put(&value)).expect_err("not two");
        assert!(matches!(error, BuildError::FrameFull { needed, max: FRAME_BYTES_MIN } if needed > 16 << 20));
        let (frame, bytes) = builder.finish(Origin::default());
        assert_eq!(bytes as usize, 64 + 4 + 12 + key.len() + value.len());
        assert_eq!(RequestView::parse(&frame[..bytes as usize]).expect("valid").ops().count(), 1);
    }
}

#[test]
fn reserved_descriptors_do_not_fill_a_frame() {
    let mut builder = RequestBuilder::new(Vec::new(), 1_000, 200).expect("room");
    builder.push(&GET).expect("an empty batch takes one small operation");
}

#[test]
fn a_lender_with_nothing_more_to_lend_means_out_of_memory() {
    let error = RequestBuilder::new(lent(64, 100), 100, FRAME_BYTES_MIN).expect_err("no room for descriptors");
    assert_eq!(error, BuildError::OutOfMemory { needed: 64 + 400 });
    let mut builder = RequestBuilder::new(lent(64, 100), 1, FRAME_BYTES_MIN).expect("room");
    builder.push(&put(b"0123456789")).expect("64 + 4 + 4 + 3 + 10 bytes");
    assert_eq!(builder.push(&put(b"0123456789")), Err(BuildError::OutOfMemory { needed: 106 }));
    let (frame, bytes) = builder.finish(Origin::default());
    let view = RequestView::parse(&frame[..bytes as usize]).expect("the batch is as before");
    assert_eq!(view.ops().collect::<Vec<_>>(), [put(b"0123456789")]);
    assert!(ReplyBuilder::new(lent(64, 100), 2, FRAME_BYTES_MIN).is_none());
}

#[test]
fn a_value_the_lender_has_no_room_for_becomes_reply_full() {
    let mut builder = ReplyBuilder::new(lent(64, 150), 2, FRAME_BYTES_MIN).expect("room");
    builder.set(1, Outcome::Value { value: &[1; 50], version: None });
    builder.set(0, Outcome::Value { value: &[2; 38], version: None });
    let (frame, bytes) = builder.finish(Origin::default());
    let view = ReplyView::parse(&frame[..bytes as usize]).expect("valid");
    assert_eq!(view.outcome(0), Outcome::Value { value: &[2; 38], version: None });
    assert_eq!(view.outcome(1), Outcome::ReplyFull);
}

#[test]
fn a_reply_keeps_to_the_frame_limit_in_a_buffer_that_is_larger() {
    let value = vec![3; VALUE_BYTES_MAX as usize];
    let mut builder = ReplyBuilder::new(vec![0; 32 << 20], 3, FRAME_BYTES_MIN).expect("room");
    for index in 0..3 {
        builder.set(index, Outcome::Value { value: &value, version: None });
    }
    let (frame, bytes) = builder.finish(Origin::default());
    assert!(bytes <= FRAME_BYTES_MIN, "{bytes} bytes");
    let view = ReplyView::parse(&frame[..bytes as usize]).expect("valid");
    assert_eq!((view.outcome(1), view.outcome(2)), (Outcome::ReplyFull, Outcome::ReplyFull));
}

#[test]
#[should_panic(expected = "each operation has one outcome")]
fn a_reply_with_an_operation_forgotten_is_a_bug() {
    let mut builder = ReplyBuilder::new(Vec::new(), 2, FRAME_BYTES_MIN).expect("room");
    builder.set(0, Outcome::NotFound);
    let _ = builder.finish(Origin::default());
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "operation 0 has its outcome already")]
fn a_reply_with_an_operation_answered_twice_is_a_bug() {
    let mut builder = ReplyBuilder::new(vec![7; 200], 2, FRAME_BYTES_MIN).expect("room");
    builder.set(0, Outcome::NotFound);
    builder.set(0, Outcome::NotFound);
}
