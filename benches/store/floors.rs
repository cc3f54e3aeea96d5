//! What this machine allows, whoever writes the store: the floors that `profiles/BUDGET.md` is held against.
//!
//! ```text
//!   copy       a block to another place: in the nearest cache, and past every cache
//!   load       one that the next one depends on, anywhere in as much memory as the records take
//!   fetch      values of the default workload by their number, copied one behind the other: no key, no hash, no index
//! ```
//!
//! Memory is in huge pages where the kernel grants them, as the store's is.
#![forbid(unsafe_code)]

use crate::throughput::{Settings, seconds, sorted};
use crate::workload::{VALUE_BYTES, draw_records};
use freight::pages::Pages;
use rustix::time::ClockId;
use std::hint::black_box;

/// Bytes between the values of two records: as a record of a short key and 128 bytes lies in a slab.
const STRIDE_BYTES: usize = 152;

const CACHED_BYTES: usize = 16 << 10;
const LARGE_BYTES: usize = 128 << 20;
const LINE_BYTES: usize = 64;
const PAGE_BYTES: usize = 2 << 20;

pub(crate) fn run(settings: &Settings) {
    let Settings { records, batch, rounds, seed, clock, .. } = *settings;
    println!("{records} records, {batch} values a reply, seed {seed}, one thread");
    println!("{rounds} rounds: median (least - most)");
    let mut from = pages(LARGE_BYTES.max(records * STRIDE_BYTES));
    let mut to = pages(LARGE_BYTES);
    from.fill(1);
    to.fill(1);
    for (name, block) in [("copy in cache, GB/s", CACHED_BYTES), ("copy past caches, GB/s", LARGE_BYTES)] {
        tell(name, (0..rounds).map(|_| copy_gb_per_s(&from, &mut to, block, clock)).collect());
    }
    let replies = draw_records(records, settings.batches(), batch, seed);
    tell("fetch of a value, ns", (0..rounds).map(|_| fetch_ns(&from, &mut to, &replies, clock)).collect());
    // Writes over the records' memory: last.
    let lines = records * STRIDE_BYTES / LINE_BYTES;
    link(&mut from, lines);
    tell("load that waits for another, ns", (0..rounds).map(|_| load_ns(&from, lines, clock)).collect());
}

fn pages(bytes: usize) -> Pages {
    Pages::map(bytes.next_multiple_of(PAGE_BYTES)).expect("as much memory as the bench needs")
}

fn tell(name: &str, mut figures: Vec<f64>) {
    let (median, least, most) = sorted(&mut figures);
    println!("{name:<34} {median:.2} ({least:.2} - {most:.2})");
}

fn copy_gb_per_s(from: &[u8], to: &mut [u8], block: usize, clock: ClockId) -> f64 {
    let times = (4 * LARGE_BYTES / block).max(4);
    let begin = seconds(clock);
    for _ in 0..times {
        to[..block].copy_from_slice(&from[..block]);
        black_box(&mut *to);
    }
    (times * block) as f64 / (seconds(clock) - begin) / 1e9
}

fn fetch_ns(from: &[u8], to: &mut [u8], replies: &[Vec<(usize, bool)>], clock: ClockId) -> f64 {
    let begin = seconds(clock);
    for reply in replies {
        for ((record, _), value) in reply.iter().zip(to.chunks_exact_mut(VALUE_BYTES)) {
            value.copy_from_slice(&from[record * STRIDE_BYTES..][..VALUE_BYTES]);
        }
        black_box(&mut *to);
    }
    let values: usize = replies.iter().map(Vec::len).sum();
    (seconds(clock) - begin) * 1e9 / values as f64
}

/// Makes one circle of all lines, far from each other: the step is odd to their number and no fetcher's guess.
fn link(memory: &mut [u8], lines: usize) {
    let step = (lines * 618 / 1000..).find(|step| gcd(*step, lines) == 1).expect("some number has no common divisor");
    for line in 0..lines {
        let next = ((line + step) % lines) as u64;
        memory[line * LINE_BYTES..][..8].copy_from_slice(&next.to_le_bytes());
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn load_ns(memory: &[u8], lines: usize, clock: ClockId) -> f64 {
    let loads = lines.min(1_000_000);
    let begin = seconds(clock);
    let mut line = 0;
    for _ in 0..loads {
        let word = memory[line * LINE_BYTES..].first_chunk().expect("a line has eight bytes");
        line = u64::from_le_bytes(*word) as usize;
    }
    black_box(line);
    (seconds(clock) - begin) * 1e9 / loads as f64
}
