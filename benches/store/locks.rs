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
#![forbid(unsafe_code)]

use crate::contenders::freight;
use crate::throughput::{Settings, fill, round, sorted};
use crate::workload::{FlatBatch, draw_records};
use freight::shard::{IndexKind, Store};

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
    println!("most popular key: {:.1} % of operations\n", 100.0 * popular);

    let held = |shards: usize| popular * hot_ns + (1.0 - popular) / shards as f64 * cold_ns;
    println!(
        "{:>6} {:>7} {:>22} {:>22} {:>10}",
        "cores", "shards", "cores could, M op/s", "lock allows, M op/s", "busy"
    );
    for cores in CORES {
        let shards = cores * SHARDS_PER_CORE;
        let (demand, cap) = (1e3 * cores as f64 / all_ns, 1e3 / held(shards));
        println!("{cores:>6} {shards:>7} {demand:>22.0} {cap:>22.0} {:>8.0} %", 100.0 * demand / cap);
    }

    println!("\nChecked here, M op/s");
    println!("{:>6} {:>22} {:>22} {:>26}", "shards", "model", "one thread", "two threads");
    for shards in [1, 2, 4, 16] {
        let store = freight(IndexKind::Buckets, shards as u32);
        fill(&store, records);
        let mut figures = [1, 2].map(|threads| rates(settings, &store, &vec![all.clone(); threads]));
        let [one, two] = figures.each_mut().map(|figures| sorted(figures));
        let model = (2.0 * one.0).min(1e3 / held(shards));
        println!("{shards:>6} {model:>22.1} {:>22.1} {:>11.1} ({:.1} - {:.1})", one.0, two.0, two.1, two.2);
    }
    println!("\nMore threads than cores, 16 shards, M op/s of all");
    let store = freight(IndexKind::Buckets, settings.shards as u32);
    fill(&store, records);
    for threads in [1, 2, 4, 8, 16] {
        let (median, least, most) = sorted(&mut rates(settings, &store, &vec![all.clone(); threads]));
        println!("{threads:>6} threads {median:>8.1} ({least:.1} - {most:.1})");
    }
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
    let store = freight(IndexKind::Buckets, shards as u32);
    fill(&store, settings.records);
    1e3 / sorted(&mut rates(settings, &store, pools)).0
}

fn rates(settings: &Settings, store: &Store, pools: &[Vec<FlatBatch>]) -> Vec<f64> {
    (0..settings.rounds).map(|_| round(store, pools, settings.round_ms as u64, settings.clock)).collect()
}
