//! What it costs a node to know its hot keys.
#![forbid(unsafe_code)]

use crate::batches::{BATCH_OPS, keys};
use freight::budget::Budget;
use freight::hot_keys::{HotKeys, Sampled, Sampler};
use std::hint::black_box;
use std::sync::Arc;

/// One operation in so many, as nodes do unless told otherwise.
pub(crate) const EVERY: u32 = 1_024;

/// A sampler of a node of one thread.
pub(crate) fn sampler() -> Sampler {
    HotKeys::new(EVERY, 1, &Arc::new(Budget::new(u64::MAX))).expect("there is no cap").sampler(0, 1)
}

/// As many batches as another path has operations: what is counted an operation is a batch of them here. Keys are those
/// of a scan, each of which takes the place of another: nothing costs more.
pub(crate) fn batch() -> Box<dyn FnMut()> {
    let (mut sampler, keys, mut number) = (sampler(), keys(), 0_u64);
    Box::new(move || {
        for _ in 0..BATCH_OPS {
            if sampler.passes(black_box(BATCH_OPS)) {
                continue;
            }
            number += 1;
            sampler.sample(BATCH_OPS, |at| {
                let hash = (number << 32 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Some(Sampled { hash, key: keys.get(at as usize)?, is_write: false })
            });
        }
    })
}
