//! The wire's paths: a request built, validated and read, a reply built, validated and read.
#![forbid(unsafe_code)]

use crate::batches::{BATCH_OPS, ORIGIN, VALUE, keys, mostly_gets, request, request_in};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::metrics::OutcomeCounts;
use freight::op::{Action, Batch, Outcome, Outcomes};
use freight::wire::{ReplyBuilder, ReplyView, RequestBuilder, RequestView, count_outcomes};
use std::hint::black_box;

/// A request built in a buffer that is used again.
pub(crate) fn request_build() -> Box<dyn FnMut()> {
    let keys = keys();
    let mut buffer = Vec::new();
    Box::new(move || (buffer, _) = black_box(request_in(std::mem::take(&mut buffer), black_box(&keys), mostly_gets)))
}

/// Gets alone, by the short path that a batch of them takes.
pub(crate) fn request_build_gets() -> Box<dyn FnMut()> {
    let keys = keys();
    let mut buffer = Vec::new();
    Box::new(move || {
        let mut builder = RequestBuilder::new(std::mem::take(&mut buffer), BATCH_OPS, FRAME_BYTES_DEFAULT)
            .expect("a vector always grows");
        for key in black_box(&keys) {
            builder.push_get(key).expect("the batch is far below the frame limit");
        }
        (buffer, _) = black_box(builder.finish(ORIGIN));
    })
}

/// A request validated.
pub(crate) fn request_parse() -> Box<dyn FnMut()> {
    let frame = request(&keys(), mostly_gets);
    Box::new(move || {
        black_box(RequestView::parse(black_box(&frame)).expect("the builder's frames are valid"));
    })
}

/// A request validated and read: every key, then every operation by its position.
pub(crate) fn request_read() -> Box<dyn FnMut()> {
    let frame = request(&keys(), mostly_gets);
    Box::new(move || {
        let view = RequestView::parse(black_box(&frame)).expect("the builder's frames are valid");
        view.for_each_key(|position, key, is_plain_get| {
            black_box(key);
            if is_plain_get {
                black_box(view.plain_get(position));
            } else {
                black_box(view.op(position));
            }
        });
    })
}

/// A reply built in a buffer that is used again.
pub(crate) fn reply_build() -> Box<dyn FnMut()> {
    let mut buffer = Vec::new();
    Box::new(move || (buffer, _) = black_box(reply_in(std::mem::take(&mut buffer))))
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

/// What became of each operation, counted from both frames as a node does for its metrics.
pub(crate) fn count() -> Box<dyn FnMut()> {
    let request = request(&keys(), mostly_gets);
    let (mut reply, frame_bytes) = reply_in(Vec::new());
    reply.truncate(frame_bytes as usize);
    let counts = OutcomeCounts::default();
    Box::new(move || {
        count_outcomes(black_box(&request), black_box(&reply), |kind, result, ops| counts.add(kind, result, ops));
    })
}

/// The reply to a batch of mostly gets, all found.
fn reply_in(buffer: Vec<u8>) -> (Vec<u8>, u32) {
    let mut builder = ReplyBuilder::new(buffer, BATCH_OPS, FRAME_BYTES_DEFAULT).expect("a vector always grows");
    for number in 0..BATCH_OPS {
        let outcome = match mostly_gets(number) {
            Action::Get => Outcome::Value { value: &VALUE, version: None },
            _ => Outcome::Done { version: None },
        };
        builder.set(number, black_box(outcome));
    }
    builder.finish(ORIGIN)
}
