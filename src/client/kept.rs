//! What is left of a frame that was sent more than once, and whose node does not own it any more: it goes to its new
//! owner under the number that it had, as it may have been executed before its slots moved.
//!
//! ```text
//!   frame, as first built   op 0 | op 1 | op 2 | op 3 | op 4 | op 5
//!   to one owner            op 0 | op 2   and   op 3 | op 5   in pieces, where one frame does not hold all,
//!   to another              op 4                              as each says where its operations stood
//!   left, in the same frame op 1                              what nobody owns, or its node does not
//! ```
//!
//! Those on one key stay together and in their order: a node that executed them answers them together. Never together
//! with operations of another frame: their numbers differ. Those on its keys are all in it.
#![forbid(unsafe_code)]

use super::again::again;
use super::batch::all;
use super::node::{Exchange, NodeClient};
use super::reply::{Failure, Part, Unplaced};
use super::routing::{Cause, Routing};
use super::session::Sequence;
use super::share::{Sent, begin_for, failed, settle};
use super::{BatchError, ClientConfig, ClientError, Loss};
use crate::op::{Batch as _, Op, Outcome};
use crate::transport::Frame;
use crate::wire::RequestView;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

/// A part, and where in it each of its operations is answered, by its place in the frame that is kept.
pub(super) type Placed = (Part, Vec<(u32, u32)>);

/// Sends each operation of what keeps its number to whom the map names, side by side. What is not answered is left
/// unplaced in a part of its own, in the frame that it was in.
///
/// # Errors
/// A node that sent what is no reply.
///
/// # Panics
/// Where it has no number.
pub(super) async fn send(
    kept: &Unplaced,
    routing: &Routing,
    config: &ClientConfig,
    deadline: Instant,
) -> Result<Vec<Placed>, ClientError> {
    let sequence = kept.sequence.as_ref().expect("it keeps its number");
    let view = RequestView::parse(&kept.request).expect("the view reads what the builder wrote");
    let mut ops = BTreeMap::<usize, Ops<'_>>::new();
    let mut wanted = kept.ops.iter().peekable();
    for (index, op) in (0..).zip(view.ops()) {
        if wanted.next_if(|wanted| **wanted == index).is_some() {
            ops.entry(routing.part_of(op.key)).or_default().push((index, op));
        }
    }
    let unowned = ops.remove(&routing.nodes.len()).unwrap_or_default();
    let shares = ops.into_iter().map(|(owner, ops)| Share { node: &routing.nodes[owner], ops, first: view, sequence });
    let sent = all(shares.map(|share| share.send(config, deadline)).collect()).await?;
    let mut left = Left::default();
    if !unowned.is_empty() {
        let failure = Failure { endpoint: None, error: routing.no_owner() };
        left.add(unowned.iter().map(|(index, _)| *index), Cause::NoOwner, Some(failure));
    }
    let mut placed = Vec::new();
    for (parts, left_there) in sent {
        placed.extend(parts);
        if let Some(cause) = left_there.cause {
            left.add(left_there.ops, cause, left_there.failure);
        }
    }
    placed.extend(left.into_placed(kept, sequence));
    Ok(placed)
}

/// What is not answered, by its place in the frame that is kept.
#[derive(Default)]
struct Left {
    ops: Vec<u32>,
    cause: Option<Cause>,
    failure: Option<Failure>,
}

impl Left {
    fn add(&mut self, ops: impl IntoIterator<Item = u32>, cause: Cause, failure: Option<Failure>) {
        self.ops.extend(ops);
        self.cause = self.cause.into_iter().chain([cause]).max_by_key(Cause::urgency);
        self.failure = failure.or(self.failure.take());
    }

    fn into_placed(mut self, kept: &Unplaced, sequence: &Arc<Sequence>) -> Option<Placed> {
        let cause = self.cause?;
        self.ops.sort_unstable();
        let places = self.ops.iter().map(|index| (*index, *index)).collect();
        let (request, sequence) = (kept.request.clone(), Some(Arc::clone(sequence)));
        Some((Part::left(Unplaced { request, ops: self.ops, cause, sequence }, self.failure), places))
    }
}

/// Operations, each with its place in the frame that is kept.
type Ops<'a> = Vec<(u32, Op<'a>)>;

/// Operations for one node.
struct Share<'a> {
    node: &'a Arc<NodeClient>,
    ops: Ops<'a>,
    first: RequestView<'a>,
    sequence: &'a Arc<Sequence>,
}

impl<'a> Share<'a> {
    async fn send(mut self, config: &ClientConfig, deadline: Instant) -> Result<(Vec<Placed>, Left), ClientError> {
        let (mut placed, mut left, mut pieces) = (Vec::new(), Left::default(), vec![std::mem::take(&mut self.ops)]);
        while let Some(ops) = pieces.pop() {
            let mut places: Vec<_> = ops.iter().zip(0..).map(|((index, _), at)| (*index, at)).collect();
            let request = match self.build(&ops) {
                Ok(request) => request,
                Err(BatchError::FrameFull { .. }) if let Some((one, other)) = halves(&ops) => {
                    pieces.extend([other, one]);
                    continue;
                }
                Err(error) => {
                    placed.push((failed(self.node, error.into(), Outcome::Unknown)?, places));
                    continue;
                }
            };
            let answered = again(self.node, None, deadline, &request, self.sequence).await;
            let exchange = answered.unwrap_or_else(|| Exchange::Unknown(self.unknown(deadline)));
            let sent = Sent { request, sequence: Some(Arc::clone(self.sequence)) };
            let mut part = settle(self.node, exchange, sent, deadline, config.reply_bytes_max, true).await?;
            let is_answered = part.outcome.is_none();
            if let Some(unplaced) = part.unplaced.take() {
                let mut again = unplaced.ops.iter().peekable();
                let there = places.extract_if(.., |(_, at)| again.next_if(|index| **index == *at).is_some());
                let failure = part.failure.take_if(|_| !is_answered);
                left.add(there.map(|(index, _)| index), unplaced.cause, failure);
            }
            if is_answered || !places.is_empty() {
                placed.push((part, places));
            }
        }
        Ok((placed, left))
    }

    /// Why it is not known what became of it: it may have been executed before it came here.
    fn unknown(&self, deadline: Instant) -> ClientError {
        if Instant::now() >= deadline { self.node.late() } else { self.node.lost(Loss::Moved) }
    }

    fn build(&self, ops: &[(u32, Op<'a>)]) -> Result<Frame, BatchError> {
        let mut builder = begin_for(self.node, ops.len() as u32)?;
        ops.iter().try_for_each(|(_, op)| builder.push(op))?;
        let first = |(index, _): &(u32, Op<'_>)| self.first.first_index(*index) as u16;
        let indices: Vec<u16> = ops.iter().map(first).collect();
        // Each copy that is sent gets a number of its own.
        let (buffer, frame_bytes) = builder.finish_retry(self.sequence.origin(self.node.origin(0)), &indices)?;
        Ok(Frame::new(buffer, frame_bytes))
    }
}

/// Operations on some of the keys, and those on the others, both in their order; `None` where all are on one.
fn halves<'a>(ops: &[(u32, Op<'a>)]) -> Option<(Ops<'a>, Ops<'a>)> {
    let keys: BTreeSet<&[u8]> = ops.iter().map(|(_, op)| op.key).collect();
    let middle = *keys.iter().nth(keys.len() / 2)?;
    (keys.len() > 1).then(|| ops.iter().copied().partition(|(_, op)| op.key < middle))
}
