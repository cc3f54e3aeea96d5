//! What eviction is worth and what it costs: hit ratios beside LRU, and puts where memory is full beside others.
//!
//! ```text
//!   cargo bench --bench eviction                 both tables
//!   cargo bench --bench eviction -- --hits       hit ratios alone; --requests 4000000, --memory-mib 16, --seed 1
//!   cargo bench --bench eviction -- --puts       puts alone; --rounds 7
//! ```
//!
//! A request gets a key, and puts it where it is not found. LRU is simulated, with as many records as the store held
//! with s3-fifo; keys are ten times as many. In the scans' trace every third request is one of a scan over keys that no
//! one else asks for; its ratio is that of the other requests.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::op::{Action, Op, Outcome, Outcomes};
use freight::op_list::OpList;
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Keys beyond this are those of scans.
const SCANNED: u64 = 1 << 40;

const VALUE: [u8; 50] = [7; 50];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |name: &str, otherwise: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        let value = at.and_then(|at| arguments.get(at + 1));
        value.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} {text}: not a number")))
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if !has("--puts") {
        hits(number("--requests", 4_000_000), number("--memory-mib", 16), number("--seed", 1));
    }
    if !has("--hits") {
        puts(number("--rounds", 7) as usize);
    }
}

fn store(bytes_max: u64, shards: u32, eviction: Eviction) -> Store {
    let hash_secret = std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ 0xA5);
    let budget = Arc::new(Budget::new(bytes_max));
    Store::new(StoreConfig { shards, index: IndexKind::Buckets, hash_secret, budget, eviction }).expect("a valid store")
}

/// Remembers the last outcome.
#[derive(Default)]
struct Last {
    was_found: bool,
}

impl Outcomes for Last {
    fn set(&mut self, _index: u32, outcome: Outcome<'_>) {
        assert!(outcome != Outcome::OutOfMemory, "a store that evicts has room");
        self.was_found = matches!(outcome, Outcome::Value { .. });
    }
}

/// A cache that is asked for keys.
trait Cache {
    /// Whether the key is there; it is from now on.
    fn request(&mut self, key: u64) -> bool;
    fn records(&self) -> u64;
}

struct Real {
    store: Store,
    scratch: Scratch,
    batch: OpList,
}

impl Real {
    fn new(bytes_max: u64, eviction: Eviction) -> Self {
        Self { store: store(bytes_max, 1, eviction), scratch: Scratch::new(0), batch: OpList::new() }
    }

    fn execute(&mut self, key: &[u8], action: Action<'_>) -> bool {
        let mut last = Last::default();
        self.batch.clear();
        self.batch.push(Op { key, action, version_wanted: false });
        self.store.execute(&self.batch, 0, &mut last, &mut self.scratch);
        last.was_found
    }
}

impl Cache for Real {
    fn request(&mut self, key: u64) -> bool {
        let key = format!("{key:016}");
        let is_hit = self.execute(key.as_bytes(), Action::Get);
        if !is_hit {
            self.execute(key.as_bytes(), Action::Put { value: &VALUE });
        }
        is_hit
    }

    fn records(&self) -> u64 {
        self.store.stats().records
    }
}

/// LRU by the book: a list of all keys, the latest first.
struct Lru {
    capacity: usize,
    places: HashMap<u64, usize>,
    /// Key, previous and next place; place 0 is the list's both ends.
    nodes: Vec<(u64, usize, usize)>,
}

impl Lru {
    fn new(capacity: u64) -> Self {
        Self { capacity: capacity as usize, places: HashMap::new(), nodes: vec![(u64::MAX, 0, 0)] }
    }

    fn unlink(&mut self, place: usize) {
        let (_, previous, next) = self.nodes[place];
        self.nodes[previous].2 = next;
        self.nodes[next].1 = previous;
    }

    fn link_first(&mut self, place: usize) {
        let first = self.nodes[0].2;
        (self.nodes[place].1, self.nodes[place].2) = (0, first);
        self.nodes[first].1 = place;
        self.nodes[0].2 = place;
    }
}

impl Cache for Lru {
    fn request(&mut self, key: u64) -> bool {
        if let Some(place) = self.places.get(&key).copied() {
            self.unlink(place);
            self.link_first(place);
            return true;
        }
        let place = if self.places.len() < self.capacity {
            self.nodes.push((key, 0, 0));
            self.nodes.len() - 1
        } else {
            let last = self.nodes[0].1;
            self.unlink(last);
            self.places.remove(&self.nodes[last].0);
            self.nodes[last].0 = key;
            last
        };
        self.link_first(place);
        self.places.insert(key, place);
        false
    }

    fn records(&self) -> u64 {
        self.places.len() as u64
    }
}

/// Ranks by their exact shares.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: u64, theta: f64) -> Self {
        let mut sum = 0.0;
        let mut add = |rank: u64| {
            sum += (rank as f64).powf(-theta);
            sum
        };
        Self((1..=keys).map(&mut add).collect())
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> u64 {
        let at = random.random::<f64>() * self.0.last().expect("there are keys");
        self.0.partition_point(|sum| *sum < at) as u64
    }
}

fn hits(requests: u64, memory_mib: u64, seed: u64) {
    let bytes_max = memory_mib << 20;
    let capacity = {
        let mut cache = Real::new(bytes_max, Eviction::S3Fifo);
        (0..bytes_max / 40).for_each(|key| _ = cache.request(key));
        cache.records()
    };
    let keys = 10 * capacity;
    println!("{keys} keys, about {capacity} records fit, {requests} requests, the first half to warm up, seed {seed}");
    println!("{:<22} {:>9} {:>9} {:>9}   {:>22}", "hits of requests", "s3-fifo", "LRU", "random", "records of each");
    for (name, theta, scans) in [
        ("Zipf 0.8", 0.8, false),
        ("Zipf 0.99", 0.99, false),
        ("Zipf 1.2", 1.2, false),
        ("Zipf 0.99 and scans", 0.99, true),
    ] {
        let zipf = Zipf::new(keys, theta);
        let run = |cache: &mut dyn Cache| ratio(cache, &zipf, scans, requests, seed);
        let [mut fifo, mut random] =
            [Eviction::S3Fifo, Eviction::Random].map(|eviction| Real::new(bytes_max, eviction));
        let of_fifo = run(&mut fifo);
        let mut lru = Lru::new(fifo.records());
        let (of_lru, of_random) = (run(&mut lru), run(&mut random));
        let records = format!("{} {} {}", fifo.records(), lru.records(), random.records());
        println!("{name:<22} {of_fifo:>9.4} {of_lru:>9.4} {of_random:>9.4}   {records:>22}");
    }
}

/// The share of hits in the second half of the requests that are no scan's.
fn ratio(cache: &mut dyn Cache, zipf: &Zipf, scans: bool, requests: u64, seed: u64) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut counted, mut hits, mut scanned) = (0, 0, 0);
    for number in 0..requests {
        if scans && number % 3 == 0 {
            cache.request(SCANNED + scanned);
            scanned += 1;
            continue;
        }
        let is_hit = cache.request(zipf.draw(&mut random));
        if number >= requests / 2 {
            counted += 1;
            hits += u64::from(is_hit);
        }
    }
    hits as f64 / f64::from(counted)
}

/// Records that a put's round writes, all of new keys.
const ROUND_RECORDS: u64 = 400_000;

fn puts(rounds: usize) {
    const BATCH: u64 = 1_000;
    println!(
        "\nputs of new keys, 16 and 50 bytes, batches of {BATCH}, 8 shards, {rounds} rounds: median (least - most)"
    );
    println!("{:<34} {:>24}", "M puts/s", "");
    for (name, eviction, is_full) in [
        ("none, below", Eviction::None, false),
        ("s3-fifo, below", Eviction::S3Fifo, false),
        ("random, below", Eviction::Random, false),
        ("s3-fifo, full", Eviction::S3Fifo, true),
        ("random, full", Eviction::Random, true),
    ] {
        let mut rates: Vec<f64> = (0..rounds)
            .map(|_| {
                let store = store(if is_full { 48 << 20 } else { u64::MAX }, 8, eviction);
                let (mut scratch, mut last, mut batch) = (Scratch::new(0), Last::default(), OpList::new());
                let mut put = |first: u64| {
                    batch.clear();
                    for key in first..first + BATCH {
                        let key = format!("{key:016}");
                        batch.push(Op {
                            key: key.as_bytes(),
                            action: Action::Put { value: &VALUE },
                            version_wanted: false,
                        });
                    }
                    let began = Instant::now();
                    store.execute(&batch, 0, &mut last, &mut scratch);
                    began.elapsed().as_secs_f64()
                };
                // As many records are there as fit, where it is to be full.
                let warm = 2 * ROUND_RECORDS;
                (0..warm).step_by(BATCH as usize).for_each(|first| _ = put(first));
                let seconds: f64 = (warm..warm + ROUND_RECORDS).step_by(BATCH as usize).map(&mut put).sum();
                assert_eq!(store.stats().records_evicted > ROUND_RECORDS, is_full);
                ROUND_RECORDS as f64 / seconds / 1e6
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        let (least, median, most) = (rates[0], rates[rounds / 2], rates[rounds - 1]);
        println!("{name:<34} {:>24}", format!("{median:.2} ({least:.2} - {most:.2})"));
    }
}
