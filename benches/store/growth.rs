//! The slowest batch while the store grows from nothing.
#![forbid(unsafe_code)]

use crate::contenders::{Contender, freight};
use crate::throughput::seconds;
use crate::workload::{FlatBatch, Reply, load};
use freight::shard::{IndexKind, Scratch};
use rustix::time::ClockId;

pub(crate) fn run(records: usize, batch_ops: usize, clock: ClockId) {
    println!("puts of {records} new records in batches of {batch_ops}; microseconds a batch");
    println!("{:<12} {:>8} {:>8} {:>8} {:>8}   five slowest, at records", "index", "p50", "p99", "p99.9", "max");
    for index in IndexKind::BUILT.iter().copied() {
        let store = freight(index, 16);
        let (mut batch, mut reply, mut scratch) = (FlatBatch::default(), Reply::new(batch_ops), Scratch::new(0));
        let mut latencies_us = Vec::with_capacity(records / batch_ops);
        for first in (0..records).step_by(batch_ops) {
            load(&mut batch, first, batch_ops);
            reply.begin();
            let begin = seconds(clock);
            Contender::execute(&store, &batch, &mut reply, &mut scratch);
            latencies_us.push(((seconds(clock) - begin) * 1e6, first));
        }
        let mut sorted = latencies_us.clone();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let quantile = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize].0;
        let slowest: Vec<String> =
            sorted.iter().rev().take(5).map(|(us, first)| format!("{us:.0} ({first})")).collect();
        println!(
            "{:<12} {:>8.0} {:>8.0} {:>8.0} {:>8.0}   {}",
            format!("{index:?}").to_lowercase(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            quantile(1.0),
            slowest.join(", ")
        );
        let stats = store.stats();
        let (moved, growths) = (stats.index_cells_moved_max, stats.index_growths);
        println!("{:<12} {growths} growths, at most {moved} index cells moved by one operation", "");
    }
}
