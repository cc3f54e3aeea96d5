//! What is left of a frame that was sent more than once, and whose node does not own it any more: it goes to its new
//! owner under the number that it had, as it may have been executed before its slots moved.
//!
//! Never together with operations of another frame: their numbers differ. Those on its keys are all in it.
#![forbid(unsafe_code)]

use super::again::{Delivered, deliver};
use super::node::{Exchange, NodeClient};
use super::reply::{Failure, Part, Unplaced};
use super::routing::{Cause, Routing};
use super::session::Sequence;
use super::share::{Sent, begin_for, failed, settle};
use super::{BatchError, ClientConfig, ClientError};
use crate::op::{Batch as _, Op, Outcome};
use crate::transport::Frame;
use crate::wire::RequestView;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Sends each operation to whom the map names: a part for each node, and the places that its operations had in the
/// frame they come from.
///
/// # Errors
/// A node that sent what is no reply.
pub(super) async fn send(
    kept: &Unplaced,
    sequence: &Arc<Sequence>,
    routing: &Routing,
    config: &ClientConfig,
    deadline: Instant,
) -> Result<Vec<(Part, Vec<u32>)>, ClientError> {
    let view = RequestView::parse(&kept.request).expect("the view reads what the builder wrote");
    let mut shares = BTreeMap::<usize, Vec<(u32, Op<'_>)>>::new();
    let mut wanted = kept.ops.iter().peekable();
    for (index, op) in (0..).zip(view.ops()) {
        if wanted.next_if(|wanted| **wanted == index).is_some() {
            shares.entry(routing.part_of(op.key)).or_default().push((index, op));
        }
    }
    let mut parts = Vec::new();
    for (owner, share) in shares {
        let places: Vec<u32> = share.iter().map(|(index, _)| *index).collect();
        let part = match routing.nodes.get(owner) {
            Some(node) => {
                let share = Share { node, ops: &share, first: view };
                share.send(sequence, config, deadline).await?
            }
            None => {
                let failure = Failure { endpoint: None, error: routing.no_owner() };
                let mut part = Part::failed(Outcome::Unknown, failure);
                part.unplaced = Some(left(kept.request.clone(), places.clone(), Cause::NoOwner, sequence));
                part
            }
        };
        parts.push((part, places));
    }
    Ok(parts)
}

fn left(request: Frame, ops: Vec<u32>, cause: Cause, sequence: &Arc<Sequence>) -> Unplaced {
    Unplaced { request, ops, cause, sequence: Some(Arc::clone(sequence)) }
}

/// Operations for one node.
struct Share<'a> {
    node: &'a Arc<NodeClient>,
    ops: &'a [(u32, Op<'a>)],
    first: RequestView<'a>,
}

impl Share<'_> {
    async fn send(
        &self,
        sequence: &Arc<Sequence>,
        config: &ClientConfig,
        deadline: Instant,
    ) -> Result<Part, ClientError> {
        let ready = self.node.ready(deadline).await;
        let number = ready.as_ref().map_or(0, |ready| ready.request());
        // Without a link it is only kept.
        let request = match self.build(number, sequence) {
            Ok(request) => request,
            Err(error) => {
                ready.into_iter().for_each(|ready| ready.cancel());
                return failed(self.node, error.into(), Outcome::Unknown);
            }
        };
        let exchange = match ready {
            Ok(ready) => {
                let Delivered { exchange, .. } = deliver(self.node, ready, deadline, &request, Some(sequence)).await;
                exchange
            }
            Err(error) => Exchange::Unsent(error),
        };
        let sent = Sent { request, sequence: Some(Arc::clone(sequence)) };
        settle(self.node, exchange, sent, deadline, config.reply_bytes_max, true).await
    }

    fn build(&self, number: u64, sequence: &Sequence) -> Result<Frame, BatchError> {
        let mut builder = begin_for(self.node, self.ops.len() as u32)?;
        self.ops.iter().try_for_each(|(_, op)| builder.push(op))?;
        let first = |(index, _): &(u32, Op<'_>)| self.first.first_index(*index) as u16;
        let indices: Vec<u16> = self.ops.iter().map(first).collect();
        let (buffer, frame_bytes) = builder.finish_retry(sequence.origin(self.node.origin(number)), &indices)?;
        Ok(Frame::new(buffer, frame_bytes))
    }
}
