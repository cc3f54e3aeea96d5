//! How far the shards' locks carry, past the cores of this machine: a model, its figures, and a check of it.
//!
//! A thread holds a shard's lock while it executes the operations of its batch on it. The hottest shard has the most
//! popular key, `p` of all operations, and its share of the others: `s = p + (1 - p) / shards`. Its lock is held
//!
//! ```text
//!   h = p * hot + (1 - p) / shards * cold      nanoseconds for each operation of all
//! ```
//!
//! and is held by one thread at a time, so no number of cores does more than `1 / h`. `hot` and `cold` are how long the
//! lock is held for an operation on the most popular key, and on the others: two threads that share one shard do
//! `1 / hot` and `1 / cold` together, for what each does outside hides behind the other. Take large batches
//! (`--batch 10000`): each waits for a sleeping thread to wake. A core that does nothing else does `1 / w`.
//!
//! Threads that wait find the gets of a batch that repeat another one, which are told without a lock: only `firsts` of
//! the operations, counted in the batches that are drawn, then hold it. A thread's table misses some of the repeats of
//! seldom keys, so that of those there are a few more.
#![forbid(unsafe_code)]

use crate::contenders::{Contender, freight};
use crate::throughput::{Settings, fill, round, sorted};
use crate::workload::{FlatBatch, Reply, draw_records};
use freight::op::{Outcome, Outcomes};
use freight::shard::{IndexKind, Scratch, Store};
use std::collections::HashSet;

/// What a server has.
const CORES: [usize; 5] = [4, 8, 16, 32, 64];

/// Shards for each of a node's threads, as `freight serve` makes them.
const SHARDS_PER_CORE: usize = 4;

pub(crate) fn run(settings: &Settings) {
    let Settings { records, batch, rounds, seed, .. } = *settings;
    println!("{records} records, batch {batch}, Zipf 0.99, seed {seed}");
    let drawn = draw_records(records, settings.batches(), batch, seed);
    let all = flat(&drawn, |_| true);
    let hot = flat(&drawn.iter().map(|ops| vec![(0, false); ops.len()]).collect::<Vec<_>>(), |_| true);
    let cold = flat(&drawn, |record| record != 0);
    let ops: usize = drawn.iter().map(Vec::len).sum();
    let popular = drawn.iter().flatten().filter(|(record, _)| *record == 0).count() as f64 / ops as f64;
    let all_ns = ns_an_op(settings, settings.shards, std::slice::from_ref(&all));
    let [hot_ns, cold_ns] = [&hot, &cold].map(|pool| ns_an_op(settings, 1, &[pool.clone(), pool.clone()]));
    println!(
        "{rounds} rounds, ns an operation: {all_ns:.1}; locked: most popular key {hot_ns:.1}, others {cold_ns:.1}"
    );
    println!("most popular key: {:.1} % of operations", 100.0 * popular);
    let [hot_firsts, cold_firsts] = firsts(&drawn);
    println!("firsts: {:.1} % of operations on it, {:.1} % of the others\n", 100.0 * hot_firsts, 100.0 * cold_firsts);

    let held = |shards: usize, [hot_firsts, cold_firsts]: [f64; 2]| {
        popular * hot_firsts * hot_ns + (1.0 - popular) / shards as f64 * cold_firsts * cold_ns
    };
    println!(
        "{:>6} {:>7} {:>20} {:>20} {:>8} {:>20} {:>8}",
        "cores", "shards", "cores could, M op/s", "lock allows, M op/s", "busy", "of firsts", "busy"
    );
    for cores in CORES {
        let shards = cores * SHARDS_PER_CORE;
        let demand = 1e3 * cores as f64 / all_ns;
        let [all, firsts] = [[1.0; 2], [hot_firsts, cold_firsts]].map(|part| 1e3 / held(shards, part));
        let busy = |cap: f64| format!("{:.0} %", 100.0 * demand / cap);
        println!(
            "{cores:>6} {shards:>7} {demand:>20.0} {all:>20.0} {:>8} {firsts:>20.0} {:>8}",
            busy(all),
            busy(firsts)
        );
    }

    println!("\nChecked here, M op/s of two threads");
    println!("{:>6} {:>12} {:>12} {:>24} {:>24}", "shards", "model", "one thread", "each executed", "as it comes");
    for shards in [1, 2, 4, 16] {
        let store = Each(freight(IndexKind::Buckets, shards as u32));
        fill(&store, records);
        let one = sorted(&mut rates(settings, &store, std::slice::from_ref(&all))).0;
        let mut figures: [Vec<f64>; 2] = Default::default();
        // In turns, so that what the machine does meanwhile befalls both.
        for _ in 0..rounds {
            let pools = [all.clone(), all.clone()];
            figures[0].push(rate(settings, &store, &pools));
            figures[1].push(rate(settings, &store.0, &pools));
        }
        let [each, told] = figures.each_mut().map(|figures| {
            let (median, least, most) = sorted(figures);
            format!("{median:.1} ({least:.1} - {most:.1})")
        });
        let model = (2.0 * one).min(1e3 / held(shards, [1.0; 2]));
        println!("{shards:>6} {model:>12.1} {one:>12.1} {each:>24} {told:>24}");
    }
    println!("\nMore threads than cores, 16 shards, M op/s of all");
    let store = freight(IndexKind::Buckets, settings.shards as u32);
    fill(&store, records);
    for threads in [1, 2, 4, 8, 16] {
        let (median, least, most) = sorted(&mut rates(settings, &store, &vec![all.clone(); threads]));
        println!("{threads:>6} threads {median:>8.1} ({least:.1} - {most:.1})");
    }
}

/// A store that executes each operation by itself, whoever waits.
struct Each(Store);

impl Contender for Each {
    fn execute(&self, batch: &FlatBatch, reply: &mut Reply, scratch: &mut Scratch) {
        self.0.execute(batch, 0, &mut Once(reply), scratch);
    }
}

/// A reply that tells nothing again.
struct Once<'a>(&'a mut Reply);

impl Outcomes for Once<'_> {
    #[inline]
    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        self.0.set(index, outcome);
    }
}

/// Which part of the operations on the most popular record, and of the others, is no get that repeats another one.
fn firsts(drawn: &[Vec<(usize, bool)>]) -> [f64; 2] {
    let (mut all, mut firsts) = ([0_u64; 2], [0_u64; 2]);
    for ops in drawn {
        let mut seen = HashSet::new();
        for (record, is_put) in ops {
            if *is_put {
                seen.remove(record);
            }
            let is_first = *is_put || seen.insert(*record);
            let kind = usize::from(*record != 0);
            all[kind] += 1;
            firsts[kind] += u64::from(is_first);
        }
    }
    [0, 1].map(|kind| firsts[kind] as f64 / all[kind] as f64)
}

fn flat(drawn: &[Vec<(usize, bool)>], is_wanted: impl Fn(usize) -> bool) -> Vec<FlatBatch> {
    let one = |ops: &Vec<(usize, bool)>| {
        let mut batch = FlatBatch::default();
        let wanted = ops.iter().filter(|(record, _)| is_wanted(*record));
        wanted.for_each(|(record, put)| batch.push(*record, put.then_some(*record as u8)));
        batch
    };
    drawn.iter().map(one).collect()
}

/// Of a thread for each pool together.
fn ns_an_op(settings: &Settings, shards: usize, pools: &[Vec<FlatBatch>]) -> f64 {
    let store = Each(freight(IndexKind::Buckets, shards as u32));
    fill(&store, settings.records);
    1e3 / sorted(&mut rates(settings, &store, pools)).0
}

fn rates(settings: &Settings, store: &dyn Contender, pools: &[Vec<FlatBatch>]) -> Vec<f64> {
    (0..settings.rounds).map(|_| rate(settings, store, pools)).collect()
}

fn rate(settings: &Settings, store: &dyn Contender, pools: &[Vec<FlatBatch>]) -> f64 {
    round(store, pools, settings.round_ms as u64, settings.clock)
}
