//! What the wire format costs: building, validating and walking frames.
//!
//! usage: cargo bench --bench wire
//!
//! Frames of 10,000 operations with 24-byte keys and 128-byte values. Each bench rotates through eight distinct frames,
//! so that they come from beyond the first-level cache, as they do behind a socket. `scripts/instructions` counts what
//! no other work on the machine disturbs.
#![forbid(unsafe_code)]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Batch as _, Op, Outcome, Outcomes as _};
use freight::wire::{Origin, ReplyBuilder, ReplyView, RequestBuilder, RequestView};

const OPS: u32 = 10_000;
const KEY_BYTES: usize = 24;
const VALUE: [u8; 128] = [b'v'; 128];
const FRAMES: usize = 8;

/// What is in a frame.
#[derive(Debug, Clone, Copy)]
enum Mix {
    Gets,
    OnePutInTwenty,
    Puts,
}

const MIXES: [Mix; 3] = [Mix::Gets, Mix::OnePutInTwenty, Mix::Puts];

fn main() {
    divan::main();
}

impl Mix {
    fn is_put(self, op: u32) -> bool {
        match self {
            Self::Gets => false,
            Self::OnePutInTwenty => op.is_multiple_of(20),
            Self::Puts => true,
        }
    }

    fn op(self, op: u32, key: &[u8; KEY_BYTES]) -> Op<'_> {
        let action = if self.is_put(op) { Action::Put { value: &VALUE } } else { Action::Get };
        Op { key, action, version_wanted: false }
    }

    fn outcome(self, op: u32) -> Outcome<'static> {
        if self.is_put(op) { Outcome::Done { version: None } } else { Outcome::Value { value: &VALUE, version: None } }
    }
}

#[divan::bench(args = MIXES)]
fn request_build(bencher: Bencher<'_, '_>, mix: Mix) {
    let keys = keys();
    let mut lent: Vec<Vec<u8>> = vec![vec![0; 2 << 20]; FRAMES];
    frame_by_frame(bencher, |frame| {
        let mut builder = request_builder(std::mem::take(&mut lent[frame]));
        for (op, key) in (0..).zip(&keys[frame]) {
            builder.push(&mix.op(op, key)).expect("far below the limit");
        }
        (lent[frame], _) = builder.finish(Origin::default());
    });
}

#[divan::bench(args = MIXES)]
fn request_parse(bencher: Bencher<'_, '_>, mix: Mix) {
    let frames = requests(mix);
    frame_by_frame(bencher, |frame| {
        black_box(RequestView::parse(&frames[frame]).expect("valid"));
    });
}

#[divan::bench(args = MIXES)]
fn request_keys(bencher: Bencher<'_, '_>, mix: Mix) {
    let frames = requests(mix);
    let views: Vec<RequestView<'_>> = frames.iter().map(|frame| RequestView::parse(frame).expect("valid")).collect();
    frame_by_frame(bencher, |frame| {
        views[frame].for_each_key(|position, key, _| {
            black_box((position, key));
        });
    });
}

#[divan::bench(args = MIXES)]
fn request_op_at(bencher: Bencher<'_, '_>, mix: Mix) {
    let frames = requests(mix);
    let views: Vec<RequestView<'_>> = frames.iter().map(|frame| RequestView::parse(frame).expect("valid")).collect();
    // Positions hold for any frame of one shape.
    let mut positions = Vec::with_capacity(OPS as usize);
    views[0].for_each_key(|position, _, _| positions.push(position));
    frame_by_frame(bencher, |frame| {
        for position in &positions {
            black_box(views[frame].op(*position));
        }
    });
}

#[divan::bench(args = MIXES)]
fn reply_build(bencher: Bencher<'_, '_>, mix: Mix) {
    let order = order();
    let mut lent: Vec<Vec<u8>> = vec![vec![0; 2 << 20]; FRAMES];
    frame_by_frame(bencher, |frame| {
        let mut builder = reply_builder(std::mem::take(&mut lent[frame]));
        for op in &order {
            builder.set(*op, mix.outcome(*op));
        }
        (lent[frame], _) = builder.finish(Origin::default());
    });
}

#[divan::bench(args = MIXES)]
fn reply_parse(bencher: Bencher<'_, '_>, mix: Mix) {
    let frames = replies(mix);
    frame_by_frame(bencher, |frame| {
        black_box(ReplyView::parse(&frames[frame]).expect("valid"));
    });
}

#[divan::bench(args = MIXES)]
fn reply_outcomes(bencher: Bencher<'_, '_>, mix: Mix) {
    let frames = replies(mix);
    let views: Vec<ReplyView<'_>> = frames.iter().map(|frame| ReplyView::parse(frame).expect("valid")).collect();
    frame_by_frame(bencher, |frame| {
        for outcome in views[frame].outcomes() {
            black_box(outcome);
        }
    });
}

/// Measures `work`, which handles one whole frame.
fn frame_by_frame(bencher: Bencher<'_, '_>, mut work: impl FnMut(usize)) {
    let mut next = 0;
    bencher.counter(ItemsCount::new(OPS)).bench_local(|| {
        work(next % FRAMES);
        next += 1;
    });
}

/// Keys of decimal digits, each frame's.
fn keys() -> Vec<Vec<[u8; KEY_BYTES]>> {
    let key = |number: u32| format!("{number:0KEY_BYTES$}").into_bytes().try_into().expect("as wide as a key");
    (0..FRAMES as u32).map(|frame| (frame * OPS..(frame + 1) * OPS).map(key).collect()).collect()
}

fn requests(mix: Mix) -> Vec<Vec<u8>> {
    let request = |keys: &Vec<[u8; KEY_BYTES]>| {
        let mut builder = request_builder(Vec::new());
        (0..).zip(keys).for_each(|(op, key)| builder.push(&mix.op(op, key)).expect("far below the limit"));
        let (mut frame, bytes) = builder.finish(Origin::default());
        frame.truncate(bytes as usize);
        frame
    };
    keys().iter().map(request).collect()
}

fn replies(mix: Mix) -> Vec<Vec<u8>> {
    let mut builder = reply_builder(Vec::new());
    order().into_iter().for_each(|op| builder.set(op, mix.outcome(op)));
    let (mut frame, bytes) = builder.finish(Origin::default());
    frame.truncate(bytes as usize);
    vec![frame; FRAMES]
}

/// Outcomes come up shard by shard: in strides, not in request order.
fn order() -> Vec<u32> {
    (0..16).flat_map(|shard| (shard..OPS).step_by(16)).collect()
}

fn request_builder(memory: Vec<u8>) -> RequestBuilder<Vec<u8>> {
    RequestBuilder::new(memory, OPS, FRAME_BYTES_DEFAULT).expect("a vector grows")
}

fn reply_builder(memory: Vec<u8>) -> ReplyBuilder<Vec<u8>> {
    ReplyBuilder::new(memory, OPS, FRAME_BYTES_DEFAULT).expect("a vector grows")
}
