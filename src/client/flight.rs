//! The single operations of one frame: told what came of them, whatever becomes of the task that carries them.
#![forbid(unsafe_code)]

use super::Loss;
use super::coalescer::Single;
use super::node::NodeClient;
use super::queue::{Answer, Place};
use std::sync::Arc;

/// The operations of a frame. Dropped, with the runtime of the task that carries them, it tells those that were told
/// nothing that they are lost.
pub(super) struct Flight {
    node: Arc<NodeClient>,
    /// By their place in the frame, those that were told nothing yet.
    singles: Vec<Option<(Place, Single)>>,
}

impl Flight {
    pub(super) fn new(node: Arc<NodeClient>, singles: Vec<(Place, Single)>) -> Self {
        Self { node, singles: singles.into_iter().map(Some).collect() }
    }

    pub(super) fn node(&self) -> &NodeClient {
        &self.node
    }

    /// How many operations its frame has.
    pub(super) fn ops(&self) -> u32 {
        self.singles.len() as u32
    }

    pub(super) fn is_empty(&self) -> bool {
        self.singles.is_empty()
    }

    /// Those that were told nothing yet.
    pub(super) fn singles(&self) -> impl Iterator<Item = &Single> {
        self.singles.iter().flatten().map(|(_, single)| single)
    }

    /// Their places in the frame.
    pub(super) fn untold(&self) -> Vec<u32> {
        let untold = (0..).zip(&self.singles).filter(|(_, single)| single.is_some());
        untold.map(|(op, _)| op).collect()
    }

    /// Tells one what came of it.
    pub(super) fn tell(&mut self, op: u32, answer: Answer) {
        let (place, _) = self.singles[op as usize].take().expect("it is told once");
        self.node.coalescer().queue().tell([(place, answer)].into_iter());
    }

    /// Tells all that were told nothing yet, by their places in the frame.
    pub(super) fn tell_all(mut self, answer: impl Fn(u32) -> Answer) {
        self.tell_rest(answer);
    }

    fn tell_rest(&mut self, answer: impl Fn(u32) -> Answer) {
        let untold = (0..).zip(&self.singles).filter_map(|(op, single)| Some((single.as_ref()?.0, answer(op))));
        self.node.coalescer().queue().tell(untold);
        self.singles.clear();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.singles.is_empty() {
            let error = self.node.lost(Loss::RuntimeEnded);
            self.tell_rest(|_| Err(error.clone()));
        }
    }
}
