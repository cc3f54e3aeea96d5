//! A reply: the frames that came back, read in request order.
#![forbid(unsafe_code)]

use super::ClientError;
use super::batch::Route;
use super::coalescer::Answered;
use super::routing::Cause;
use super::session::Sequence;
use crate::op::{Outcome, Time};
use crate::transport::{Endpoint, Frame};
use crate::wire::{ReplyOutcomes, ReplyView};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// Why a node's operations have no outcome.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The node; `None` where the map names none.
    pub endpoint: Option<Endpoint>,
    /// Why.
    pub error: ClientError,
}

impl Failure {
    /// Whether an answer came for which there was no memory.
    pub(crate) fn is_for_memory(&self) -> bool {
        matches!(self.error, ClientError::NoReplyMemory { .. })
    }
}

/// The outcomes of a batch. Borrowed values live in the frames it holds; they are lent again when it is dropped.
#[derive(Debug)]
pub struct Reply {
    pub(super) parts: Parts,
    /// Which part answers an operation, and where; empty where the first answers all.
    pub(super) routes: Vec<Route>,
    pub(super) op_count: u32,
}

/// The outcomes of a batch, in request order.
#[derive(Debug, Clone)]
pub enum Outcomes<'a> {
    /// All in one frame, in its order.
    Whole(ReplyOutcomes<'a>),
    /// In several frames.
    Scattered {
        /// The reply.
        reply: &'a Reply,
        /// Index of the next outcome.
        next: usize,
    },
}

impl<'a> Iterator for Outcomes<'a> {
    type Item = Outcome<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Outcome<'a>> {
        match self {
            Self::Whole(outcomes) => outcomes.next(),
            Self::Scattered { reply, next } => reply.take_outcome(next),
        }
    }

    /// Decides once, not once an outcome, where they are.
    #[inline(always)]
    fn fold<T, F: FnMut(T, Outcome<'a>) -> T>(self, start: T, each: F) -> T {
        match self {
            Self::Whole(outcomes) => outcomes.fold(start, each),
            Self::Scattered { reply, next } => (next..reply.len()).map(|index| reply.outcome(index)).fold(start, each),
        }
    }
}

/// The shares of a batch, in place where one node has all.
pub(super) type Parts = SmallVec<[Part; 1]>;

/// One node's share.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// The first frame answers the share in its order; further ones what it left out.
    frames: SmallVec<[Frame; 1]>,
    /// Which frame answers an operation, and where; empty where the first answers all.
    places: Vec<Route>,
    /// The outcome of every operation, where the node answered none.
    pub(super) outcome: Option<Outcome<'static>>,
    pub(super) failure: Option<Failure>,
    bytes_sent: u64,
    /// What another node shall be asked.
    pub(super) unplaced: Option<Unplaced>,
    /// The frame was sent more than once: what a node says that it does not own may have taken effect before.
    is_again: bool,
}

/// Operations that were not executed, and go to whom a newer map names.
#[derive(Debug)]
pub(super) struct Unplaced {
    /// The frame that holds them.
    pub(super) request: Frame,
    /// Their places in it, in order.
    pub(super) ops: Vec<u32>,
    pub(super) cause: Cause,
    /// The number of a frame that was sent more than once, and keeps it: what is left of it may have taken effect.
    pub(super) sequence: Option<Arc<Sequence>>,
}

impl Reply {
    pub(super) fn new(parts: Parts, routes: Vec<Route>, op_count: u32) -> Self {
        Self { parts, routes, op_count }
    }

    /// Whether anything waits for a newer map.
    pub(super) fn has_unplaced(&self) -> bool {
        self.parts.iter().any(|part| part.unplaced.is_some())
    }

    /// Number of outcomes, one an operation.
    #[must_use]
    pub fn len(&self) -> usize {
        self.op_count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.op_count == 0
    }

    /// The outcomes in request order.
    #[inline]
    #[must_use]
    pub fn outcomes(&self) -> Outcomes<'_> {
        // One node that answered everything in one frame is the fast path: the frame's own order.
        match &self.parts[..] {
            [Part { frames, places, outcome: None, is_again: false, .. }]
                if places.is_empty() && !frames.is_empty() =>
            {
                Outcomes::Whole(ReplyView::parsed(&frames[0]).outcomes())
            }
            _ => Outcomes::Scattered { reply: self, next: 0 },
        }
    }

    /// The outcome of one operation.
    ///
    /// # Panics
    /// Past the last operation.
    #[must_use]
    pub fn outcome(&self, index: usize) -> Outcome<'_> {
        assert!(index < self.len(), "operation {index} of {}", self.len());
        match self.routes.get(index) {
            Some(route) => self.parts[route.part as usize].outcome(route.index),
            None => self.parts[0].outcome(index as u32),
        }
    }

    /// The node's time as it answered an operation, what its deadline is to be held against; 0 where none answered.
    ///
    /// # Panics
    /// Past the last operation.
    #[must_use]
    pub fn time(&self, index: usize) -> Time {
        assert!(index < self.len(), "operation {index} of {}", self.len());
        match self.routes.get(index) {
            Some(route) => self.parts[route.part as usize].time(route.index),
            None => self.parts[0].time(index as u32),
        }
    }

    fn take_outcome(&self, next: &mut usize) -> Option<Outcome<'_>> {
        let index = *next;
        *next += 1;
        (index < self.len()).then(|| self.outcome(index))
    }

    /// Nodes whose operations are `NotSent`, `Unknown` or still `ReplyFull`, and why.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.parts.iter().filter_map(|part| part.failure.as_ref())
    }

    /// Frames that came back, those asked for again included.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.parts.iter().map(|part| part.frames.len() as u64).sum()
    }

    /// Bytes of all frames sent.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes_sent).sum()
    }

    /// Bytes of all frames received.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.parts.iter().map(Part::bytes_received).sum()
    }
}

impl Part {
    pub(super) fn new(bytes_sent: u32, reply: Frame) -> Self {
        Self { frames: smallvec![reply], bytes_sent: u64::from(bytes_sent), ..Self::default() }
    }

    pub(super) fn failed(outcome: Outcome<'static>, failure: Failure) -> Self {
        Self { outcome: Some(outcome), failure: Some(failure), ..Self::default() }
    }

    /// What keeps its number and is not answered yet.
    pub(super) fn left(unplaced: Unplaced, failure: Option<Failure>) -> Self {
        Self { outcome: Some(Outcome::Unknown), failure, unplaced: Some(unplaced), ..Self::default() }
    }

    pub(super) fn fail(&mut self, node: &Endpoint, error: ClientError) {
        self.failure = Some(Failure { endpoint: Some(node.clone()), error });
    }

    /// Leaves unplaced what the node does not own; without a map to place it by, a failure says so.
    #[cold]
    pub(super) fn sort_out_wrong_node(
        &mut self,
        node: &Endpoint,
        request: Frame,
        is_mapped: bool,
        sequence: Option<Arc<Sequence>>,
    ) {
        let epochs = self.frames.iter().map(|frame| ReplyView::parsed(frame).header().map_epoch.get());
        let epoch = epochs.max().unwrap_or_default();
        if is_mapped {
            let op_count = ReplyView::parsed(&self.frames[0]).op_count();
            let ops = (0..op_count).filter(|index| self.told(*index) == Outcome::WrongNode).collect();
            self.unplaced = Some(Unplaced { request, ops, cause: Cause::WrongNode { epoch }, sequence });
        } else {
            let endpoint = node.clone();
            self.fail(node, ClientError::WrongNode { endpoint, epoch });
        }
    }

    pub(super) fn bytes_received(&self) -> u64 {
        self.frames.iter().map(|frame| u64::from(frame.frame_bytes())).sum()
    }

    /// Takes a reply to the operations in `asked`; returns those that are still left out.
    pub(super) fn fill(&mut self, asked: Vec<u32>, bytes_sent: u32, reply: Frame) -> Vec<u32> {
        if self.places.is_empty() {
            let op_count = ReplyView::parsed(&self.frames[0]).op_count();
            self.places = (0..op_count).map(|index| Route { part: 0, index }).collect();
        }
        let part = self.frames.len() as u32;
        let mut missing = Vec::new();
        for ((index, outcome), op) in (0..).zip(ReplyView::parsed(&reply).outcomes()).zip(asked) {
            if outcome == Outcome::ReplyFull {
                missing.push(op);
            } else {
                self.places[op as usize] = Route { part, index };
            }
        }
        self.bytes_sent += u64::from(bytes_sent);
        self.frames.push(reply);
        missing
    }

    /// Where an operation is answered, or why it is not.
    pub(super) fn answered(&self, index: u32) -> Result<Answered, ClientError> {
        if self.outcome.is_some() {
            return Err(self.failure.as_ref().expect("what was not answered says why").error.clone());
        }
        let place = self.place(index);
        Ok(Answered { frame: self.frames[place.part as usize].clone(), index: place.index })
    }

    /// From here on what a node does not own counts as unknown.
    pub(super) fn set_again(&mut self) {
        self.is_again = true;
    }

    fn outcome(&self, index: u32) -> Outcome<'_> {
        match self.told(index) {
            Outcome::WrongNode if self.is_again => Outcome::Unknown,
            outcome => outcome,
        }
    }

    fn time(&self, index: u32) -> Time {
        let place = self.places.get(index as usize).copied().unwrap_or(Route { part: 0, index });
        self.frames.get(place.part as usize).map_or(0, |frame| ReplyView::parsed(frame).header().time.get())
    }

    /// What its node said.
    fn told(&self, index: u32) -> Outcome<'_> {
        if let Some(outcome) = self.outcome {
            return outcome;
        }
        let place = self.place(index);
        ReplyView::parsed(&self.frames[place.part as usize]).outcome(place.index)
    }

    fn place(&self, index: u32) -> Route {
        self.places.get(index as usize).copied().unwrap_or(Route { part: 0, index })
    }
}
