//! Batches as flat bytes, drawn beforehand, and a reply buffer to copy values into.
#![forbid(unsafe_code)]

use freight::hash::Key;
use freight::op::{Action, Batch, Op, Outcome, Outcomes, Position};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) const KEY_BYTES: usize = 24;
pub(crate) const VALUE_BYTES: usize = 128;

/// A frame-like batch: a byte an operation (is it a put?), then keys and values side by side.
#[derive(Clone, Default)]
pub(crate) struct FlatBatch {
    is_put: Vec<u8>,
    bytes: Vec<u8>,
}

impl FlatBatch {
    pub(crate) fn push(&mut self, record: usize, put: Option<u8>) {
        self.is_put.push(put.is_some().into());
        self.bytes.extend_from_slice(&key(record));
        if let Some(fill) = put {
            self.bytes.extend_from_slice(&[fill; VALUE_BYTES]);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.is_put.clear();
        self.bytes.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.is_put.len()
    }

    /// The operations in order, for contenders that know no batches.
    pub(crate) fn ops(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut rest = &self.bytes[..];
        self.is_put.iter().map(move |is_put| {
            let (key, after) = rest.split_at(KEY_BYTES);
            let (value, after) = after.split_at(usize::from(*is_put) * VALUE_BYTES);
            rest = after;
            (key, (*is_put == 1).then_some(value))
        })
    }
}

impl Batch for FlatBatch {
    fn op_count(&self) -> u32 {
        self.is_put.len() as u32
    }

    #[inline]
    fn for_each_key<'a>(&'a self, mut visit: impl FnMut(Position, Key<'a>, bool)) {
        let mut offset = 0;
        for (index, is_put) in self.is_put.iter().enumerate() {
            let position = Position { index: index as u32, offset: offset as u32 };
            visit(position, Key::at_front(&self.bytes[offset..], KEY_BYTES), *is_put == 0);
            offset += KEY_BYTES + usize::from(*is_put) * VALUE_BYTES;
        }
    }

    #[inline]
    fn op(&self, position: Position) -> Op<'_> {
        let (key, after) = self.bytes[position.offset as usize..].split_at(KEY_BYTES);
        let is_put = self.is_put[position.index as usize] == 1;
        let action = if is_put { Action::Put { value: &after[..VALUE_BYTES] } } else { Action::Get };
        Op { key, action, version_wanted: false }
    }

    #[inline]
    fn plain_get(&self, position: Position) -> &[u8] {
        &self.bytes[position.offset as usize..][..KEY_BYTES]
    }
}

/// A reply-like buffer: eight bytes an outcome, values one after the other.
pub(crate) struct Reply {
    outcomes: Vec<[u32; 2]>,
    values: Vec<u8>,
    used: usize,
    pub(crate) hits: u64,
}

impl Reply {
    pub(crate) fn new(ops: usize) -> Self {
        Self { outcomes: vec![[0; 2]; ops], values: vec![0; ops * VALUE_BYTES], used: 0, hits: 0 }
    }

    pub(crate) fn begin(&mut self) {
        self.used = 0;
    }

    #[inline]
    pub(crate) fn value(&mut self, index: usize, value: &[u8]) {
        self.outcomes[index] = [self.used as u32, value.len() as u32];
        self.values[self.used..self.used + value.len()].copy_from_slice(value);
        self.used += value.len();
        self.hits += 1;
    }

    #[inline]
    pub(crate) fn other(&mut self, index: usize, code: u32) {
        self.outcomes[index] = [u32::MAX, code];
    }
}

impl Outcomes for Reply {
    const TELLS_AGAIN: bool = true;

    #[inline]
    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Value { value, .. } => self.value(index as usize, value),
            Outcome::Done { .. } => self.other(index as usize, 1),
            Outcome::NotFound => self.other(index as usize, 2),
            Outcome::OutOfMemory => self.other(index as usize, 3),
            _ => self.other(index as usize, 4),
        }
    }

    #[inline]
    fn set_again(&mut self, index: u32, first: u32) {
        let [told, bytes] = self.outcomes[first as usize].map(|number| number as usize);
        if told == u32::MAX as usize {
            return self.other(index as usize, bytes as u32);
        }
        self.outcomes[index as usize] = [self.used as u32, bytes as u32];
        self.values.copy_within(told..told + bytes, self.used);
        self.used += bytes;
        self.hits += 1;
    }
}

pub(crate) fn key(record: usize) -> [u8; KEY_BYTES] {
    let mut key = *b"user00000000000000000000";
    let mut rest = record;
    for digit in key.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Fills a batch with puts of records `first` and up.
pub(crate) fn load(batch: &mut FlatBatch, first: usize, count: usize) {
    batch.clear();
    (first..first + count).for_each(|record| batch.push(record, Some(record as u8)));
}

/// Draws batches: Zipf 0.99 over `records`, 95 % reads.
pub(crate) fn draw(records: usize, batches: usize, ops: usize, seed: u64) -> Vec<FlatBatch> {
    let flat = |drawn: Vec<(usize, bool)>| {
        let mut batch = FlatBatch::default();
        drawn.into_iter().for_each(|(record, put)| batch.push(record, put.then_some(record as u8)));
        batch
    };
    draw_records(records, batches, ops, seed).into_iter().map(flat).collect()
}

/// Draws the same as records, and whether each is written.
pub(crate) fn draw_records(records: usize, batches: usize, ops: usize, seed: u64) -> Vec<Vec<(usize, bool)>> {
    let zipf = Zipf::new(records, 0.99);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut one = || (zipf.draw(random.random()), random.random::<f64>() < 0.05);
    (0..batches).map(|_| (0..ops).map(|_| one()).collect()).collect()
}

/// Zipf by Gray et al., "Quickly generating billion-record synthetic databases" (1994), as YCSB draws it.
struct Zipf {
    records: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
    half: f64,
}

impl Zipf {
    fn new(records: usize, theta: f64) -> Self {
        let zeta = |n: usize| (1..=n).map(|i| (i as f64).powf(-theta)).sum::<f64>();
        let (all, two, n) = (zeta(records), zeta(2), records as f64);
        let eta = (1.0 - (2.0 / n).powf(1.0 - theta)) / (1.0 - two / all);
        Self { records: n, alpha: 1.0 / (1.0 - theta), zeta: all, eta, half: 0.5_f64.powf(theta) }
    }

    fn draw(&self, uniform: f64) -> usize {
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + self.half {
            return 1;
        }
        let rank = self.records * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as usize).min(self.records as usize - 1)
    }
}
