//! Finding records: our index, the leapfrog crate, hashbrown, DashMap and papaya, on one thread.
//!
//! usage: cargo bench --bench index
//!
//! A million records with keys of 24 bytes and values of 128; batches of 1,000 gets, uniform. `found` copies each value
//! into a reply, as a node would; `absent` asks for keys that are not there, which is the index and little else. Our
//! indexes are measured through a store of one shard, for that is all that there is to see from outside.
//! `leapfrog_crate` is the bare crate: numbers for numbers, no keys to compare and no values to copy.
#![forbid(unsafe_code)]

#[path = "store/contenders.rs"]
mod contenders;
#[path = "store/workload.rs"]
#[expect(dead_code, reason = "the bench of the store draws more")]
mod workload;

use contenders::{Contender, Hashbrown, freight};
use divan::counter::ItemsCount;
use freight::shard::{IndexKind, Scratch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use workload::{FlatBatch, Reply, load};

const RECORDS: usize = 1_000_000;
const BATCH: usize = 1_000;

/// Distinct batches: about as many operations as records, so that caches are as cold as in a run.
const BATCHES: usize = 500;

fn main() {
    divan::main();
}

/// Which keys are asked for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Found,
    Absent,
}

const ASKED: [Asked; 2] = [Asked::Found, Asked::Absent];

#[divan::bench(args = ASKED)]
fn freight_buckets(bencher: divan::Bencher<'_, '_>, asked: Asked) {
    gets(bencher, asked, &freight(IndexKind::Buckets, 1));
}

#[cfg(feature = "leapfrog")]
#[divan::bench(args = ASKED)]
fn freight_leapfrog(bencher: divan::Bencher<'_, '_>, asked: Asked) {
    gets(bencher, asked, &freight(IndexKind::Leapfrog, 1));
}

#[divan::bench(args = ASKED)]
fn hashbrown_boxed(bencher: divan::Bencher<'_, '_>, asked: Asked) {
    gets(bencher, asked, &Hashbrown::default());
}

#[divan::bench(args = ASKED)]
fn dashmap_boxed(bencher: divan::Bencher<'_, '_>, asked: Asked) {
    gets(bencher, asked, &dashmap::DashMap::<Box<[u8]>, Box<[u8]>>::default());
}

#[divan::bench(args = ASKED)]
fn papaya_boxed(bencher: divan::Bencher<'_, '_>, asked: Asked) {
    gets(bencher, asked, &papaya::HashMap::<Box<[u8]>, Box<[u8]>>::new());
}

#[cfg(feature = "leapfrog")]
#[divan::bench(args = ASKED)]
fn leapfrog_crate(bencher: divan::Bencher<'_, '_>, asked: Asked) {
    let map = leapfrog::LeapMap::with_capacity(2 * RECORDS);
    (0..RECORDS as u64).for_each(|record| _ = map.insert(record, record));
    let drawn = numbers(asked);
    let mut batches = drawn.chunks(BATCH).cycle();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        let batch = batches.next().expect("a cycle has no end");
        batch.iter().filter_map(|record| map.get(&(*record as u64))?.value()).sum::<u64>()
    });
}

fn gets(bencher: divan::Bencher<'_, '_>, asked: Asked, store: &dyn Contender) {
    let (mut reply, mut scratch) = (Reply::new(BATCH), Scratch::new(0));
    let mut put = FlatBatch::default();
    for first in (0..RECORDS).step_by(BATCH) {
        load(&mut put, first, BATCH);
        reply.begin();
        store.execute(&put, &mut reply, &mut scratch);
    }
    let batch = |numbers: &[usize]| {
        let mut batch = FlatBatch::default();
        numbers.iter().for_each(|record| batch.push(*record, None));
        batch
    };
    let batches: Vec<FlatBatch> = numbers(asked).chunks(BATCH).map(batch).collect();
    let mut batches = batches.iter().cycle();
    let mut asked_for = 0;
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        reply.begin();
        store.execute(batches.next().expect("a cycle has no end"), &mut reply, &mut scratch);
        asked_for += BATCH as u64;
    });
    let found = if matches!(asked, Asked::Found) { asked_for } else { 0 };
    assert_eq!(reply.hits, found, "{asked:?} of {asked_for}");
}

/// The records asked for, batch after batch.
fn numbers(asked: Asked) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let beyond = if matches!(asked, Asked::Absent) { RECORDS } else { 0 };
    (0..BATCHES * BATCH).map(|_| beyond + random.random_range(0..RECORDS)).collect()
}
