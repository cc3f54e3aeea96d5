//! The operations of one lane, drawn before the clock starts.
//!
//! A lane is one batch in flight: a worker of depth 3 has three. Each lane draws its own batches, at least its share
//! of a thousand a worker, and issues them in a circle. A batch is read from front to back once, when its frame is
//! built (and once more when values are verified), so a pool is one string of bytes without an index:
//!
//! ```text
//!   named    | kind 2 bits, length 6 bits | key | kind, length | key | ...          about 5 bytes an operation
//!   recent   | insert 1 bit, distance 31 bits | ...                                      4 bytes an operation
//! ```
//!
//! The recent form is YCSB D's. An insert must name a record that was never there, also on the second turn of the
//! circle, so keys can't be written down: an entry says how many records were inserted since, and the key is named
//! when the frame is built. "Since" counts this lane's inserts and then the records loaded, so that every record
//! asked for has been acknowledged, which is what YCSB's acknowledged counter is for.
#![forbid(unsafe_code)]

use super::workload::{Chooser, Key, KeyNames, Kind, Popularity, Workload};
use crate::hash;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Distinct batches a worker, at least.
pub const BATCHES_MIN: u32 = 1_000;

/// Distinct operations a worker, about at least, so that small batches don't replay a few keys from the cache.
pub const OPS_MIN: u32 = 1_000_000;

/// As many of all workers together do as well.
pub const OPS_OF_ALL_MIN: u32 = 10_000_000;

const DISTANCE_BITS: u32 = 31;
const LENGTH_BITS: u32 = 6;

/// What to draw.
#[derive(Debug, Clone, Copy)]
pub struct PoolSpec {
    /// The mix and the keys.
    pub workload: Workload,
    /// Records loaded.
    pub records: u64,
    /// Skew.
    pub theta: f64,
    /// Operations a batch.
    pub batch: u32,
    /// Batches in flight a worker, each a lane of its own.
    pub depth: u32,
    /// Lanes of the whole run.
    pub lanes: u32,
    /// The run's seed.
    pub seed: u64,
}

impl PoolSpec {
    /// Batches that each lane draws.
    #[must_use]
    pub fn batches_a_lane(&self) -> u32 {
        let workers = self.lanes.div_ceil(self.depth);
        let ops = OPS_MIN.min(OPS_OF_ALL_MIN.div_ceil(workers));
        BATCHES_MIN.max(ops.div_ceil(self.batch)).div_ceil(self.depth)
    }

    /// Memory that the pool of one lane takes, at most about, in bytes.
    #[must_use]
    pub fn bytes_about(&self) -> u64 {
        let ops = u64::from(self.batches_a_lane()) * u64::from(self.batch);
        let last_key = Key::of(self.workload.keys, self.records - 1);
        ops * if self.workload.popularity == Popularity::Latest { 4 } else { last_key.as_bytes().len() as u64 + 1 }
    }
}

/// The batches of one lane.
#[derive(Debug)]
pub struct Pool {
    entries: Entries,
    batches: u32,
    batch: u32,
}

#[derive(Debug)]
enum Entries {
    Named(Vec<u8>),
    Recent(Recent),
}

#[derive(Debug)]
struct Recent {
    entries: Vec<u32>,
    keys: KeyNames,
    records: u64,
    lane: u64,
    lanes: u64,
}

/// Where in its pool a lane is. Copy it to walk the same batch twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    batch: u32,
    offset: usize,
    inserted: u64,
}

/// One place in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A get.
    Get,
    /// A put.
    Put,
}

/// Takes operations in order. A closure does; a type of its own can have its method inlined wherever it is called.
pub(super) trait Visit<E> {
    /// Takes one; an error ends the walk.
    fn visit(&mut self, step: Step, key: hash::Key<'_>) -> Result<(), E>;
}

impl<E, F: FnMut(Step, hash::Key<'_>) -> Result<(), E>> Visit<E> for F {
    #[inline(always)]
    fn visit(&mut self, step: Step, key: hash::Key<'_>) -> Result<(), E> {
        self(step, key)
    }
}

impl Pool {
    /// Draws the pool of lane `lane`: the same for the same spec and lane, another for any other lane.
    #[must_use]
    pub fn draw(spec: &PoolSpec, lane: u32) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(spec.seed);
        random.set_stream(u64::from(lane));
        let batches = spec.batches_a_lane();
        let chooser = Chooser::new(spec.workload.popularity, spec.records, spec.theta);
        let entries = match chooser {
            Chooser::Ranked(zipf) => draw_named(spec, &mut random, |random| zipf.draw(random)),
            Chooser::Scattered(scrambled) => draw_named(spec, &mut random, |random| scrambled.draw(random)),
            Chooser::Latest(zipf) => draw_recent(spec, &mut random, zipf, lane),
        };
        Self { entries, batches, batch: spec.batch }
    }

    /// Visits the operations of the batch at `from`, in order, and returns where the next batch begins.
    ///
    /// # Errors
    /// The first error of the visitor, at once.
    #[inline]
    pub(super) fn walk<E>(&self, from: Cursor, visit: impl Visit<E>) -> Result<Cursor, E> {
        let after = match &self.entries {
            Entries::Named(bytes) => walk_named(bytes, self.batch, from, visit)?,
            Entries::Recent(recent) => recent.walk(self.batch, from, visit)?,
        };
        if after.batch == self.batches {
            // Inserts go on counting: a second turn inserts records of its own.
            return Ok(Cursor { inserted: after.inserted, ..Cursor::default() });
        }
        Ok(after)
    }

    /// Distinct batches in the pool.
    #[must_use]
    pub fn batches(&self) -> u32 {
        self.batches
    }

    /// Memory the pool takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.entries {
            Entries::Named(bytes) => bytes.capacity() as u64,
            Entries::Recent(recent) => 4 * recent.entries.capacity() as u64,
        }
    }
}

#[inline]
fn walk_named<E>(bytes: &[u8], batch: u32, from: Cursor, mut visitor: impl Visit<E>) -> Result<Cursor, E> {
    let mut rest = &bytes[from.offset..];
    for _ in 0..batch {
        let (&tag, after) = rest.split_first().expect("a pool holds whole batches");
        let key = hash::Key::at_front(after, usize::from(tag & ((1 << LENGTH_BITS) - 1)));
        rest = &after[key.len()..];
        let kind = tag >> LENGTH_BITS;
        if kind != PUT {
            visitor.visit(Step::Get, key)?;
        }
        if kind != GET {
            visitor.visit(Step::Put, key)?;
        }
    }
    Ok(Cursor { batch: from.batch + 1, offset: bytes.len() - rest.len(), inserted: 0 })
}

const GET: u8 = 0;
const PUT: u8 = 1;
const GET_THEN_PUT: u8 = 2;

impl Recent {
    #[inline]
    fn walk<E>(&self, batch: u32, from: Cursor, mut visitor: impl Visit<E>) -> Result<Cursor, E> {
        let after = from.offset + batch as usize;
        let mut inserted = from.inserted;
        for entry in &self.entries[from.offset..after] {
            if entry >> DISTANCE_BITS == 1 {
                visitor.visit(Step::Put, Key::of(self.keys, self.own(inserted)).as_bytes().into())?;
                inserted += 1;
            } else {
                visitor.visit(Step::Get, Key::of(self.keys, self.number(inserted, *entry)).as_bytes().into())?;
            }
        }
        Ok(Cursor { batch: from.batch + 1, offset: after, inserted })
    }

    /// The record that `distance` others followed, as this lane sees it.
    #[inline]
    fn number(&self, inserted: u64, distance: u32) -> u64 {
        let distance = u64::from(distance);
        if distance < inserted { self.own(inserted - 1 - distance) } else { self.records - 1 - (distance - inserted) }
    }

    /// The record of this lane's insert `index`; lanes take turns, so that no two insert the same.
    #[inline]
    fn own(&self, index: u64) -> u64 {
        self.records + index * self.lanes + self.lane
    }
}

fn draw_named(spec: &PoolSpec, random: &mut ChaCha8Rng, mut choose: impl FnMut(&mut ChaCha8Rng) -> u64) -> Entries {
    let ops = u64::from(spec.batches_a_lane()) * u64::from(spec.batch);
    let mut bytes = Vec::with_capacity(spec.bytes_about() as usize);
    for _ in 0..ops {
        let kind = match spec.workload.draw_kind(random) {
            Kind::Read => GET,
            Kind::Update | Kind::Insert => PUT,
            Kind::ReadModifyWrite => GET_THEN_PUT,
        };
        let key = Key::of(spec.workload.keys, choose(random));
        let key = key.as_bytes();
        bytes.push(kind << LENGTH_BITS | key.len() as u8);
        bytes.extend_from_slice(key);
    }
    bytes.shrink_to_fit();
    Entries::Named(bytes)
}

fn draw_recent(spec: &PoolSpec, random: &mut ChaCha8Rng, mut zipf: super::zipf::Zipf, lane: u32) -> Entries {
    let ops = u64::from(spec.batches_a_lane()) * u64::from(spec.batch);
    let entries = (0..ops)
        .map(|_| match spec.workload.draw_kind(random) {
            Kind::Read => zipf.draw(random) as u32,
            Kind::Update | Kind::Insert | Kind::ReadModifyWrite => {
                zipf.grow();
                1 << DISTANCE_BITS
            }
        })
        .collect();
    Entries::Recent(Recent {
        entries,
        keys: spec.workload.keys,
        records: spec.records,
        lane: u64::from(lane),
        lanes: u64::from(spec.lanes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workload::WorkloadName;
    use std::collections::HashSet;
    use std::convert::Infallible;

    fn spec(name: WorkloadName, batch: u32, depth: u32) -> PoolSpec {
        let workload = Workload::of(name);
        PoolSpec { workload, records: 1000, theta: 0.99, batch, depth, lanes: 4, seed: 1 }
    }

    fn steps(pool: &Pool, from: Cursor) -> (Vec<(Step, Vec<u8>)>, Cursor) {
        let mut steps = Vec::new();
        let after = pool.walk(from, |step: Step, key: hash::Key<'_>| {
            steps.push((step, key.to_vec()));
            Ok::<_, Infallible>(())
        });
        (steps, after.unwrap())
    }

    #[test]
    fn a_worker_has_a_thousand_batches_and_a_million_operations() {
        assert_eq!(spec(WorkloadName::Freight, 10_000, 1).batches_a_lane(), 1000);
        assert_eq!(spec(WorkloadName::Freight, 10_000, 3).batches_a_lane(), 334);
        assert_eq!(spec(WorkloadName::Freight, 1, 1).batches_a_lane(), 1_000_000);
        assert_eq!(spec(WorkloadName::Freight, 100, 2).batches_a_lane(), 5000);
        let crowd = |lanes, batch| PoolSpec { lanes, ..spec(WorkloadName::Freight, batch, 2) }.batches_a_lane();
        assert_eq!(crowd(2 * 10, 1), 500_000);
        assert_eq!(crowd(2 * 1_000, 1), 5_000, "ten million together");
        assert_eq!(crowd(2 * 100_000, 1), 500, "a thousand batches");
    }

    #[test]
    fn a_pool_is_the_same_for_a_seed_and_another_for_another_lane() {
        let spec = spec(WorkloadName::Freight, 1000, 2);
        let first = |lane| steps(&Pool::draw(&spec, lane), Cursor::default()).0;
        assert_eq!(first(0), first(0));
        assert_ne!(first(0), first(1));
    }

    #[test]
    fn a_walk_comes_round_to_the_first_batch() {
        let pool = Pool::draw(&spec(WorkloadName::Freight, 1000, 2), 0);
        let (first, mut cursor) = steps(&pool, Cursor::default());
        assert_eq!(first.len(), 1000);
        for _ in 1..pool.batches() {
            let (next, after) = steps(&pool, cursor);
            assert_ne!(next, first);
            cursor = after;
        }
        assert_eq!(steps(&pool, cursor).0, first);
    }

    #[test]
    fn a_read_modify_write_is_a_get_and_a_put_of_one_key() {
        let pool = Pool::draw(&spec(WorkloadName::YcsbF, 1000, 2), 0);
        let (steps, _) = steps(&pool, Cursor::default());
        let puts: Vec<usize> = (0..steps.len()).filter(|i| steps[*i].0 == Step::Put).collect();
        assert_eq!(steps.len() - puts.len(), 1000, "every operation reads");
        assert!((400..600).contains(&puts.len()));
        assert!(puts.iter().all(|i| steps[i - 1] == (Step::Get, steps[*i].1.clone())));
    }

    #[test]
    fn inserts_are_of_new_records_and_reads_of_old_ones_on_every_turn() {
        let spec = spec(WorkloadName::YcsbD, 1000, 2);
        let mut known: HashSet<Vec<u8>> =
            (0..spec.records).map(|number| Key::of(KeyNames::User, number).as_bytes().to_vec()).collect();
        let pool = Pool::draw(&spec, 2);
        let mut cursor = Cursor::default();
        for _ in 0..pool.batches() * 2 + 1 {
            let (steps, after) = steps(&pool, cursor);
            for (step, key) in steps {
                assert_eq!(step == Step::Put, known.insert(key));
            }
            cursor = after;
        }
        // Another lane inserts none of these.
        let mut cursor = Cursor::default();
        let other = Pool::draw(&spec, 3);
        for _ in 0..other.batches() {
            let (steps, after) = steps(&other, cursor);
            assert!(steps.iter().filter(|(step, _)| *step == Step::Put).all(|(_, key)| !known.contains(key)));
            cursor = after;
        }
    }

    #[test]
    fn memory_is_about_five_bytes_an_operation() {
        let mut spec = spec(WorkloadName::Freight, 1000, 1);
        spec.records = 1_000_000;
        let pool = Pool::draw(&spec, 0);
        assert!((4_000_000..6_000_000).contains(&pool.bytes()), "{} bytes", pool.bytes());
    }
}
