//! What the wire format costs: nanoseconds an operation to build, validate and walk frames.
//!
//! usage: cargo bench --bench wire
//!
//! Batches of 10,000 operations with 24-byte keys and 128-byte values. Each line rotates through eight distinct
//! frames (so that they come from beyond the first-level cache, as they do behind a socket) and gives the median
//! of its rounds with the range from the 10th to the 90th percentile. It counts this thread's processor time, so
//! that other work on the machine disturbs it less; `scripts/instructions` counts what no other work disturbs.
#![forbid(unsafe_code)]

use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Batch as _, Op, Outcome, Outcomes as _};
use freight::wire::{Origin, ReplyBuilder, ReplyView, RequestBuilder, RequestView};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::time::Duration;

const OPS: u32 = 10_000;
const KEY_BYTES: usize = 24;
const VALUE_BYTES: usize = 128;
const FRAMES: usize = 8;
const ROUND_TIME: Duration = Duration::from_millis(10);
const ROUNDS: usize = 41;

/// One in `puts_every` operations is a put; 0 for none.
struct Workload {
    name: &'static str,
    puts_every: u32,
}

fn main() {
    println!("ns/op, median [p10 p90]; {OPS} operations a frame, {KEY_BYTES}-byte keys, {VALUE_BYTES}-byte values");
    let workloads = [("gets", 0), ("95/5", 20), ("puts", 1)];
    for workload in workloads.map(|(name, puts_every)| Workload { name, puts_every }) {
        bench_requests(&workload);
        bench_replies(&workload);
    }
}

fn bench_requests(workload: &Workload) {
    let keys: Vec<[u8; KEY_BYTES]> = (0..OPS * FRAMES as u32).map(key).collect();
    let value = [b'v'; VALUE_BYTES];
    let ops = |frame: usize| {
        let keys = keys.iter().skip(frame * OPS as usize).take(OPS as usize);
        (0..).zip(keys).map(|(i, key)| {
            let put = workload.puts_every > 0 && i % workload.puts_every == 0;
            let action = if put { Action::Put { value: &value } } else { Action::Get };
            Op { key, action, version_wanted: false }
        })
    };
    let mut lent: Vec<Vec<u8>> = vec![vec![0; 2 << 20]; FRAMES];
    measure(workload, "request build", |frame| {
        let mut builder =
            RequestBuilder::new(std::mem::take(&mut lent[frame]), OPS, FRAME_BYTES_DEFAULT).expect("a vector grows");
        for op in ops(frame) {
            builder.push(&op).expect("far below the limit");
        }
        (lent[frame], _) = builder.finish(Origin::default());
    });
    let frames: Vec<Vec<u8>> = (0..FRAMES).map(|frame| request(ops(frame))).collect();
    measure(workload, "request parse", |frame| {
        black_box(RequestView::parse(&frames[frame]).expect("valid"));
    });
    let views: Vec<RequestView<'_>> = frames.iter().map(|frame| RequestView::parse(frame).expect("valid")).collect();
    let mut positions = Vec::with_capacity(OPS as usize);
    measure(workload, "request keys", |frame| {
        positions.clear();
        views[frame].for_each_key(|position, key, _| {
            black_box(key);
            positions.push(position);
        });
    });
    measure(workload, "request op at", |frame| {
        // Positions hold for any frame of one shape.
        for position in &positions {
            black_box(views[frame].op(*position));
        }
    });
}

/// A key of decimal digits.
fn key(number: u32) -> [u8; KEY_BYTES] {
    format!("{number:0KEY_BYTES$}").into_bytes().try_into().expect("as wide as a key")
}

fn bench_replies(workload: &Workload) {
    let value = [b'v'; VALUE_BYTES];
    let outcome = |i: u32| {
        let put = workload.puts_every > 0 && i.is_multiple_of(workload.puts_every);
        if put { Outcome::Done { version: None } } else { Outcome::Value { value: &value, version: None } }
    };
    // Outcomes come up shard by shard: in strides, not in request order.
    let order: Vec<u32> = (0..16).flat_map(|shard| (shard..OPS).step_by(16)).collect();
    let mut lent: Vec<Vec<u8>> = vec![vec![0; 2 << 20]; FRAMES];
    measure(workload, "reply build", |frame| {
        let mut builder =
            ReplyBuilder::new(std::mem::take(&mut lent[frame]), OPS, FRAME_BYTES_DEFAULT).expect("a vector grows");
        for i in &order {
            builder.set(*i, outcome(*i));
        }
        (lent[frame], _) = builder.finish(Origin::default());
    });
    let mut builder = ReplyBuilder::new(Vec::new(), OPS, FRAME_BYTES_DEFAULT).expect("a vector grows");
    order.iter().for_each(|i| builder.set(*i, outcome(*i)));
    let (mut frame, bytes) = builder.finish(Origin::default());
    frame.truncate(bytes as usize);
    let frames = vec![frame; FRAMES];
    measure(workload, "reply parse", |frame| {
        black_box(ReplyView::parse(&frames[frame]).expect("valid"));
    });
    let views: Vec<ReplyView<'_>> = frames.iter().map(|frame| ReplyView::parse(frame).expect("valid")).collect();
    measure(workload, "reply outcomes", |frame| {
        for outcome in views[frame].outcomes() {
            black_box(outcome);
        }
    });
}

fn request<'a>(ops: impl Iterator<Item = Op<'a>>) -> Vec<u8> {
    let mut builder = RequestBuilder::new(Vec::new(), OPS, FRAME_BYTES_DEFAULT).expect("a vector grows");
    for op in ops {
        builder.push(&op).expect("far below the limit");
    }
    let (mut frame, bytes) = builder.finish(Origin::default());
    frame.truncate(bytes as usize);
    frame
}

/// Prints the time of `work`, which handles one whole frame, an operation.
fn measure(workload: &Workload, name: &str, mut work: impl FnMut(usize)) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (begin, mut frames) = (thread_time(), 0_usize);
            while thread_time() - begin < ROUND_TIME {
                (0..FRAMES).for_each(&mut work);
                frames += FRAMES;
            }
            (thread_time() - begin).as_secs_f64() * 1e9 / (frames as f64 * f64::from(OPS))
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let at = |percent: usize| rounds[ROUNDS * percent / 100];
    println!("{:>5}  {name:<15} {:6.2}  [{:.2} {:.2}]", workload.name, at(50), at(10), at(90));
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
