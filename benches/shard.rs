//! Executing batches on a store, by size and kind, on one thread.
//!
//! usage: cargo bench --bench shard
//!
//! A million records in 16 shards, keys of 24 bytes, values of 128, Zipf 0.99. Values read are copied into a reply.
//! `cargo bench --bench store` holds the same beside other maps, on one thread and two.
#![forbid(unsafe_code)]

#[path = "store/contenders.rs"]
mod contenders;
#[path = "store/workload.rs"]
#[expect(dead_code, reason = "the bench of the store draws more")]
mod workload;

use contenders::{Contender, freight};
use divan::counter::ItemsCount;
use freight::shard::{IndexKind, Scratch, Store};
use std::sync::LazyLock;
use workload::{FlatBatch, Reply, draw_records, load};

const RECORDS: usize = 1_000_000;
const OPS_DRAWN: usize = 400_000;
const BATCHES: [usize; 4] = [10, 100, 1_000, 10_000];

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let store = freight(IndexKind::Buckets, 16);
    let (mut batch, mut reply, mut scratch) = (FlatBatch::default(), Reply::new(1000), Scratch::new(0));
    for first in (0..RECORDS).step_by(1000) {
        load(&mut batch, first, 1000);
        reply.begin();
        Contender::execute(&store, &batch, &mut reply, &mut scratch);
    }
    store
});

fn main() {
    divan::main();
}

#[divan::bench(args = BATCHES)]
fn gets(bencher: divan::Bencher<'_, '_>, ops: usize) {
    execute(bencher, ops, |_| false);
}

/// As drawn: one in twenty is a put.
#[divan::bench(args = BATCHES)]
fn mixed(bencher: divan::Bencher<'_, '_>, ops: usize) {
    execute(bencher, ops, |is_put| is_put);
}

#[divan::bench(args = BATCHES)]
fn puts(bencher: divan::Bencher<'_, '_>, ops: usize) {
    execute(bencher, ops, |_| true);
}

fn execute(bencher: divan::Bencher<'_, '_>, ops: usize, is_put: impl Fn(bool) -> bool) {
    let flat = |drawn: Vec<(usize, bool)>| {
        let mut batch = FlatBatch::default();
        drawn.into_iter().for_each(|(record, put)| batch.push(record, is_put(put).then_some(record as u8)));
        batch
    };
    let batches: Vec<FlatBatch> = draw_records(RECORDS, OPS_DRAWN / ops, ops, 1).into_iter().map(flat).collect();
    let mut batches = batches.iter().cycle();
    let (mut reply, mut scratch) = (Reply::new(ops), Scratch::new(0));
    bencher.counter(ItemsCount::new(ops)).bench_local(|| {
        reply.begin();
        let batch = batches.next().expect("a cycle has no end");
        Contender::execute(&*STORE, batch, &mut reply, &mut scratch);
        batch.len()
    });
}
