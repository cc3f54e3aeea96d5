//! Lenders of one connection. They know it weakly: what they lent keeps it not open.
#![forbid(unsafe_code)]

use super::pool::RegisteredPool;
use super::queue::Half;
use super::shared::Shared;
use crate::transport::{Buffer, Lender, Memory};
use std::sync::{Arc, Weak};

/// Lends what frames are built in, and looks at what has come back before it registers more.
#[derive(Debug)]
pub(super) struct ToSend {
    pub(super) pool: Arc<RegisteredPool>,
    pub(super) shared: Weak<Shared>,
}

impl Lender for ToSend {
    fn lend(self: Arc<Self>, bytes: usize) -> Option<Buffer> {
        if !self.pool.has_kept(bytes)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.look(Half::Sender, |_| ());
        }
        Arc::clone(&self.pool).lend(bytes)
    }

    fn grow(&self, memory: &mut Memory, bytes: usize) -> bool {
        self.pool.grow(memory, bytes)
    }

    fn take_back(&self, memory: Memory) {
        self.pool.take_back(memory);
    }
}

/// Takes receive buffers back from frames that were read in place.
#[derive(Debug)]
pub(super) struct InPlace(pub(super) Weak<Shared>);

impl Lender for InPlace {
    fn take_back(&self, memory: Memory) {
        // Without a connection the span is the last claim on its slab, and dropped.
        let (Memory::Registered(span), Some(shared)) = (memory, self.0.upgrade()) else { return };
        shared.give_back(span);
    }
}
