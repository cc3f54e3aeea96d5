//! Operations picked from a batch that is dealt: for whoever wants to know which keys are hot.
#![forbid(unsafe_code)]

use super::execute::{Entry, Scratch};
use crate::hash::KeyHasher;
use crate::hot_keys::{Sampled, Sampler};
use crate::op::{Action, Batch, Position};

impl Scratch {
    /// The same, whose batches are sampled.
    #[must_use]
    pub fn sampled_by(mut self, sampler: Option<Sampler>) -> Self {
        self.sampler = sampler;
        self
    }

    /// Samples the batch that was dealt last: a subtraction for most of them.
    #[inline(always)]
    pub(super) fn sample(&mut self, batch: &impl Batch, hasher: &KeyHasher) {
        let ops = batch.op_count();
        if let Some(mut sampler) = self.sampler.take_if(|sampler| !sampler.passes(ops)) {
            // In the order of the bins: where its operation stands needs no look at the others.
            sampler.sample(ops, |at| match self.dealt(at) {
                Ok(entry) => Some(sampled(batch, entry)),
                Err(beyond) => self.repeats.position(beyond).map(|position| sampled_get(batch, hasher, position)),
            });
            self.sampler = Some(sampler);
        }
    }

    /// One of the operations that are dealt, counted bin by bin, or how far beyond them all it is.
    fn dealt(&self, at: u64) -> Result<&Entry, usize> {
        let mut at = at as usize;
        for shard in &self.visits {
            let bin = self.bin(*shard);
            match bin.get(at) {
                None => at -= bin.len(),
                Some(entry) => return Ok(entry),
            }
        }
        Err(at)
    }
}

fn sampled_get<'a>(batch: &'a impl Batch, hasher: &KeyHasher, position: Position) -> Sampled<'a> {
    let key = batch.plain_get(position);
    Sampled { hash: hasher.index_hash(key), key, is_write: false }
}

fn sampled<'a>(batch: &'a impl Batch, entry: &Entry) -> Sampled<'a> {
    let hash = entry.hash();
    if entry.is_plain_get() {
        return Sampled { hash, key: batch.plain_get(entry.position()), is_write: false };
    }
    let op = batch.op(entry.position());
    let is_write = match op.action {
        Action::Get => false,
        Action::Edit(edit) => !edit.only_reads(),
        Action::Put { .. } | Action::Delete | Action::CompareAndSwap { .. } | Action::Add { .. } => true,
    };
    Sampled { hash, key: op.key, is_write }
}
