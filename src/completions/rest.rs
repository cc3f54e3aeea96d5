//! A frame of which a part is known already.
#![forbid(unsafe_code)]

use crate::hash::Key;
use crate::op::{Batch, Op, Position};
use std::collections::HashSet;

/// Which operations of a batch are changes, gets that want a version, or gets of such an operation's key.
pub(super) fn may_be_changed(batch: &impl Batch) -> Vec<bool> {
    let mut changed = HashSet::new();
    batch.for_each_key(|_, key, is_plain_get| {
        if !is_plain_get {
            changed.insert(key.as_bytes());
        }
    });
    let mut marked = vec![false; batch.op_count() as usize];
    batch.for_each_key(|position, key, _| marked[position.index as usize] = changed.contains(key.as_bytes()));
    marked
}

/// A batch without the operations that have their outcome already.
pub(super) struct Rest<'a, B> {
    batch: &'a B,
    answered: &'a [bool],
}

impl<'a, B: Batch> Rest<'a, B> {
    pub(super) fn new(batch: &'a B, answered: &'a [bool]) -> Self {
        debug_assert_eq!(answered.len(), batch.op_count() as usize);
        Self { batch, answered }
    }
}

impl<B: Batch> Batch for Rest<'_, B> {
    fn op_count(&self) -> u32 {
        self.batch.op_count()
    }

    fn for_each_key<'a>(&'a self, mut visit: impl FnMut(Position, Key<'a>, bool)) {
        self.batch.for_each_key(|position, key, is_plain_get| {
            if !self.answered[position.index as usize] {
                visit(position, key, is_plain_get);
            }
        });
    }

    fn op(&self, position: Position) -> Op<'_> {
        self.batch.op(position)
    }

    fn plain_get(&self, position: Position) -> &[u8] {
        self.batch.plain_get(position)
    }

    fn first_index(&self, index: u32) -> u32 {
        self.batch.first_index(index)
    }
}
