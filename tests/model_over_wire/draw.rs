//! Operations drawn from a seed: all kinds, keys that meet again within a batch, sizes at the boundaries.
#![forbid(unsafe_code)]

use crate::model::Model;
use freight::op::{Action, Op, Version};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An operation that owns its bytes.
pub(crate) struct DrawnOp {
    key: Vec<u8>,
    action: DrawnAction,
    version_wanted: bool,
}

enum DrawnAction {
    Get,
    Put(Vec<u8>),
    Delete,
    CompareAndSwap(Version, Vec<u8>),
    Add(i64),
}

impl DrawnOp {
    fn new(key: &[u8], action: DrawnAction) -> Self {
        Self { key: key.to_vec(), action, version_wanted: true }
    }

    pub(crate) fn get(key: &[u8]) -> Self {
        Self::new(key, DrawnAction::Get)
    }

    pub(crate) fn put(key: &[u8], value: &[u8]) -> Self {
        Self::new(key, DrawnAction::Put(value.to_vec()))
    }

    pub(crate) fn delete(key: &[u8]) -> Self {
        Self::new(key, DrawnAction::Delete)
    }

    pub(crate) fn op(&self) -> Op<'_> {
        let action = match &self.action {
            DrawnAction::Get => Action::Get,
            DrawnAction::Put(value) => Action::Put { value },
            DrawnAction::Delete => Action::Delete,
            DrawnAction::CompareAndSwap(expected, value) => Action::CompareAndSwap { expected: *expected, value },
            DrawnAction::Add(delta) => Action::Add { delta: *delta },
        };
        Op { key: &self.key, action, version_wanted: self.version_wanted }
    }
}

pub(crate) struct Draw {
    random: ChaCha8Rng,
    bytes: Vec<u8>,
    boundary_sizes: Vec<usize>,
}

impl Draw {
    pub(crate) fn new(seed: u64) -> Self {
        let boundary_sizes = boundary_sizes().into_iter().filter(|size| *size <= 66_000).collect();
        Self { random: ChaCha8Rng::seed_from_u64(seed), bytes: bytes(1 << 17), boundary_sizes }
    }

    /// A batch of 0 to 400 operations. Versions that it expects are mostly those the model knows.
    pub(crate) fn batch(&mut self, model: &Model) -> Vec<DrawnOp> {
        (0..self.random.random_range(0..400)).map(|_| self.op(model)).collect()
    }

    fn op(&mut self, model: &Model) -> DrawnOp {
        let key = self.key();
        let action = match self.random.random_range(0..16) {
            0..4 => DrawnAction::Get,
            4..8 => DrawnAction::Put(self.value()),
            8..10 => DrawnAction::Delete,
            10..13 => {
                let guess = self.random.random_range(0..200);
                let known = model.version(&key).filter(|_| self.random.random_range(0..4) > 0);
                DrawnAction::CompareAndSwap(known.unwrap_or(guess), self.value())
            }
            _ => DrawnAction::Add([1, -1, 5, i64::MAX, i64::MIN, -9][self.random.random_range(0..6)]),
        };
        DrawnOp { key, action, version_wanted: self.random.random() }
    }

    /// A third of the keys are few and meet again in one batch; a few are empty or very long.
    fn key(&mut self) -> Vec<u8> {
        match self.random.random_range(0..300) {
            0 => Vec::new(),
            1 => self.bytes[..65_535].to_vec(),
            2 => self.bytes[..self.random.random_range(0..3_000)].to_vec(),
            3..100 => format!("hot {}", self.random.random_range(0..8)).into_bytes(),
            _ => self.random.random_range(0..5_000).to_string().into_bytes(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let numbers = [&b"7"[..], b"-3", b"9223372036854775806", b"01", b"+1", b"", b"x"];
        let size = match self.random.random_range(0..40) {
            0..8 => return numbers[self.random.random_range(0..numbers.len())].to_vec(),
            8 => self.boundary_sizes[self.random.random_range(0..self.boundary_sizes.len())],
            _ => self.random.random_range(0..700),
        };
        let begin = self.random.random_range(0..1_000);
        self.bytes[begin..begin + size].to_vec()
    }
}

/// Bytes whose every stretch is different.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    (0..count as u32).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// Value sizes whose records lie on both sides of every size class's end, of the last shared slot and of the limits.
pub(crate) fn boundary_sizes() -> Vec<usize> {
    let edges = [16, 512, 1_024, 4_096, 16_384, 65_536, 262_144, 1 << 20, 2 << 20];
    let mut sizes: Vec<usize> = edges.iter().flat_map(|edge| (edge - 14..edge + 4).step_by(2)).collect();
    sizes.extend((16..64).step_by(5).flat_map(|slots| [65_536 / slots, 262_144 / slots, (1 << 20) / slots]));
    sizes.extend([0, 1, 2, (8 << 20) - 1, 8 << 20]);
    sizes
}
