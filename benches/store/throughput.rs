//! Operations a second, every contender in turn, round after round.
#![forbid(unsafe_code)]

use crate::contenders::{Contender, Hashbrown, freight};
use crate::workload::{FlatBatch, Reply, draw, load};
use freight::shard::{IndexKind, Scratch};
use rustix::time::{ClockId, clock_gettime};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) struct Settings {
    pub(crate) records: usize,
    pub(crate) batch: usize,
    pub(crate) rounds: usize,
    pub(crate) round_ms: usize,
    pub(crate) shards: usize,
    pub(crate) only_store: bool,
    /// The threads' processor time, for machines that are not idle; else the wall's.
    pub(crate) clock: ClockId,
    pub(crate) seed: u64,
}

impl Settings {
    /// Batches drawn: about as many distinct operations in all, whatever their batch.
    pub(crate) fn batches(&self) -> usize {
        (400_000 / self.batch).max(16)
    }
}

struct Entrant {
    name: &'static str,
    store: Box<dyn Contender>,
    threads_max: usize,
    /// M op/s of each round, by threads - 1.
    rates: [Vec<f64>; 2],
}

pub(crate) fn run(settings: &Settings) {
    let Settings { records, batch, rounds, round_ms, shards, seed, clock, .. } = *settings;
    println!("{records} records, batch {batch}, {shards} shards, seed {seed}");
    println!("{rounds} rounds of {round_ms} ms: median (least - most)");
    let batches = settings.batches();
    let pools: Vec<Vec<FlatBatch>> =
        (0..2).map(|thread| draw(records, batches, batch, seed + 1000 * thread as u64)).collect();
    let mut entrants = entrants(settings);
    for entrant in &entrants {
        fill(entrant.store.as_ref(), records);
    }
    for _ in 0..rounds {
        for entrant in &mut entrants {
            for threads in 1..=entrant.threads_max {
                let rate = round(entrant.store.as_ref(), &pools[..threads], round_ms as u64, clock);
                entrant.rates[threads - 1].push(rate);
            }
        }
    }
    let by = if clock == ClockId::ThreadCPUTime { ", by processor time" } else { "" };
    println!("{:<34} {:>24} {:>24}", format!("M op/s{by}"), "one thread", "two threads");
    for entrant in &mut entrants {
        let [one, two] = entrant.rates.each_mut().map(|rates| summary(rates));
        println!("{:<34} {one:>24} {two:>24}", entrant.name);
    }
}

/// Executes a number of batches and looks at no clock: for counting instructions.
pub(crate) fn run_batches(settings: &Settings, count: usize) {
    let pool = draw(settings.records, count, settings.batch, settings.seed);
    let store = freight(IndexKind::Buckets, settings.shards as u32);
    fill(&store, settings.records);
    let (mut reply, mut scratch) = (Reply::new(settings.batch), Scratch::new(0));
    for batch in &pool {
        reply.begin();
        Contender::execute(&store, batch, &mut reply, &mut scratch);
    }
    println!("{} operations after {} puts", count * settings.batch, settings.records);
}

fn entrants(settings: &Settings) -> Vec<Entrant> {
    let entrant = |name, store, threads_max| Entrant { name, store, threads_max, rates: Default::default() };
    let shards = settings.shards as u32;
    let mut entrants = vec![entrant("freight, buckets", Box::new(freight(IndexKind::Buckets, shards)) as _, 2)];
    if settings.only_store {
        return entrants;
    }
    #[cfg(feature = "leapfrog")]
    entrants.push(entrant("freight, leapfrog", Box::new(freight(IndexKind::Leapfrog, shards)), 2));
    entrants.push(entrant("hashbrown, boxed keys and values", Box::<Hashbrown>::default(), 1));
    let dashmap = dashmap::DashMap::<Box<[u8]>, Box<[u8]>>::default();
    entrants.push(entrant("DashMap, boxed keys and values", Box::new(dashmap), 2));
    let papaya = papaya::HashMap::<Box<[u8]>, Box<[u8]>>::new();
    entrants.push(entrant("papaya, boxed keys and values", Box::new(papaya), 2));
    entrants
}

pub(crate) fn fill(store: &dyn Contender, records: usize) {
    let (mut batch, mut reply, mut scratch) = (FlatBatch::default(), Reply::new(1000), Scratch::new(0));
    for first in (0..records).step_by(1000) {
        load(&mut batch, first, 1000.min(records - first));
        reply.begin();
        store.execute(&batch, &mut reply, &mut scratch);
    }
}

/// Runs one thread for each pool; gives M op/s of all of them.
pub(crate) fn round(store: &dyn Contender, pools: &[Vec<FlatBatch>], milliseconds: u64, clock: ClockId) -> f64 {
    let (stop, barrier) = (AtomicBool::new(false), Barrier::new(pools.len() + 1));
    std::thread::scope(|scope| {
        let handles: Vec<_> = pools
            .iter()
            .enumerate()
            .map(|(thread, pool)| {
                let (stop, barrier) = (&stop, &barrier);
                scope.spawn(move || {
                    let ops_max = pool.iter().map(FlatBatch::len).max().unwrap_or(0);
                    let (mut reply, mut scratch) = (Reply::new(ops_max), Scratch::new(8 * thread as u32));
                    let mut done = 0;
                    barrier.wait();
                    let begin = seconds(clock);
                    for batch in pool.iter().cycle() {
                        reply.begin();
                        store.execute(batch, &mut reply, &mut scratch);
                        done += batch.len();
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                    let elapsed = seconds(clock) - begin;
                    assert!(reply.hits as f64 > 0.9 * done as f64, "reads must hit");
                    done as f64 / elapsed / 1e6
                })
            })
            .collect();
        barrier.wait();
        std::thread::sleep(Duration::from_millis(milliseconds));
        stop.store(true, Ordering::Relaxed);
        handles.into_iter().map(|handle| handle.join().expect("a bench may panic")).sum()
    })
}

/// What a clock shows.
pub(crate) fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn summary(rates: &mut [f64]) -> String {
    if rates.is_empty() {
        return "-".to_owned();
    }
    let (median, least, most) = sorted(rates);
    format!("{median:.1} ({least:.1} - {most:.1})")
}

/// Median, least and most.
pub(crate) fn sorted(figures: &mut [f64]) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}
