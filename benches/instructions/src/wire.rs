//! The wire's paths: a request built, validated and read, a reply built, validated and read.
#![forbid(unsafe_code)]

use crate::batches::{BATCH_OPS, VALUE, is_put, keys, ops};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Batch, Outcome, Outcomes};
use freight::wire::{Origin, ReplyBuilder, ReplyView, RequestBuilder, RequestView};
use std::hint::black_box;

const ORIGIN: Origin = Origin { request: 1, session: 0, sequence: 0, acknowledged_up_to: 0, map_epoch: 0 };

/// A request built in a buffer that is used again.
pub(crate) fn request_build() -> Box<dyn FnMut()> {
    let keys = keys(BATCH_OPS);
    let mut buffer = Vec::new();
    Box::new(move || {
        let mut builder = RequestBuilder::new(std::mem::take(&mut buffer), BATCH_OPS, FRAME_BYTES_DEFAULT)
            .expect("a vector always grows");
        for op in ops(&keys) {
            builder.push(black_box(&op)).expect("the batch is far below the frame limit");
        }
        (buffer, _) = black_box(builder.finish(ORIGIN));
    })
}

/// A request validated.
pub(crate) fn request_parse() -> Box<dyn FnMut()> {
    let frame = request();
    Box::new(move || {
        black_box(RequestView::parse(black_box(&frame)).expect("the builder's frames are valid"));
    })
}

/// A validated request read as the shards do: every key, then every operation by its position.
pub(crate) fn request_read() -> Box<dyn FnMut()> {
    let frame = request();
    Box::new(move || {
        let view = RequestView::parse(black_box(&frame)).expect("the builder's frames are valid");
        view.for_each_key(|position, key| {
            black_box(key);
            black_box(view.op(position));
        });
    })
}

/// A reply built in a buffer that is used again.
pub(crate) fn reply_build() -> Box<dyn FnMut()> {
    let mut buffer = Vec::new();
    Box::new(move || buffer = reply_in(std::mem::take(&mut buffer)).0)
}

/// A reply validated and read.
pub(crate) fn reply_read() -> Box<dyn FnMut()> {
    let (mut frame, frame_bytes) = reply_in(Vec::new());
    frame.truncate(frame_bytes as usize);
    Box::new(move || {
        let view = ReplyView::parse(black_box(&frame)).expect("the builder's frames are valid");
        for outcome in view.outcomes() {
            black_box(outcome);
        }
    })
}

fn request() -> Vec<u8> {
    let mut builder = RequestBuilder::new(Vec::new(), BATCH_OPS, FRAME_BYTES_DEFAULT).expect("a vector always grows");
    for op in ops(&keys(BATCH_OPS)) {
        builder.push(&op).expect("the batch is far below the frame limit");
    }
    let (mut frame, frame_bytes) = builder.finish(ORIGIN);
    frame.truncate(frame_bytes as usize);
    frame
}

fn reply_in(buffer: Vec<u8>) -> (Vec<u8>, u32) {
    let mut builder = ReplyBuilder::new(buffer, BATCH_OPS, FRAME_BYTES_DEFAULT).expect("a vector always grows");
    for number in 0..BATCH_OPS {
        let done = Outcome::Done { version: None };
        let outcome = if is_put(number) { done } else { Outcome::Value { value: &VALUE, version: None } };
        builder.set(number, black_box(outcome));
    }
    black_box(builder.finish(ORIGIN))
}
