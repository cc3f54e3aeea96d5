//! One node's share of a batch: sent, answered, and asked again for what a full reply left out.
#![forbid(unsafe_code)]

use super::again::{Delivered, deliver};
use super::link::Link;
use super::node::{Exchange, NodeClient};
use super::reply::{Failure, Part, Unplaced};
use super::routing::{Cause, Router};
use super::session::Sequence;
use super::{BatchError, ClientError};
use crate::limits::FRAME_BYTES_MIN;
use crate::op::{Batch as _, Outcome};
use crate::transport::{Buffer, Frame, Lender};
use crate::wire::{ReplyView, RequestBuilder, RequestView, Status, WireError};
use std::sync::Arc;
use tokio::time::Instant;

/// Begins the frame of a node, or of nobody.
pub(super) fn begin(
    node: Option<&Arc<NodeClient>>,
    router: &Router,
    ops_expected: u32,
) -> Result<RequestBuilder<Buffer>, BatchError> {
    match node {
        Some(node) => begin_for(node, ops_expected),
        None => begin_in(|bytes| Arc::clone(&router.pool).lend(bytes), ops_expected, FRAME_BYTES_MIN),
    }
}

pub(super) fn begin_for(node: &NodeClient, ops_expected: u32) -> Result<RequestBuilder<Buffer>, BatchError> {
    begin_in(|bytes| node.lend_any(bytes), ops_expected, node.frame_bytes_max())
}

fn begin_in(
    lend: impl FnOnce(usize) -> Option<Buffer>,
    ops_expected: u32,
    frame_bytes_max: u32,
) -> Result<RequestBuilder<Buffer>, BatchError> {
    // A first guess at keys; values make the buffer grow.
    let bytes = 64 + 20 * ops_expected as usize;
    let buffer = lend(bytes).ok_or(BatchError::OutOfMemory { needed: bytes as u64 })?;
    RequestBuilder::new(buffer, ops_expected, frame_bytes_max)
}

/// The share that nobody owns: not sent.
pub(super) fn unowned(builder: Option<RequestBuilder<Buffer>>, error: ClientError) -> Part {
    let Some(builder) = builder.filter(|builder| builder.op_count() > 0) else { return Part::default() };
    let failure = Failure { endpoint: None, error };
    let mut part = Part::failed(Outcome::NotSent, failure);
    part.unplaced = Some(all_of(builder, Cause::NoOwner));
    part
}

/// Every operation of a frame that was not sent.
fn all_of(builder: RequestBuilder<Buffer>, cause: Cause) -> Unplaced {
    let ops = (0..builder.op_count()).collect();
    let (buffer, frame_bytes) = builder.finish(Default::default());
    Unplaced { request: Frame::new(buffer, frame_bytes), ops, cause, sequence: None }
}

/// Executes one node's share, asking again for what a full reply left out. Where the client has a map, what the node
/// does not own or take is left unplaced.
pub(super) async fn execute(
    node: &Arc<NodeClient>,
    builder: Option<RequestBuilder<Buffer>>,
    deadline: Instant,
    reply_bytes_max: u64,
    is_mapped: bool,
) -> Result<Part, ClientError> {
    // A refused push may have begun a frame that holds nothing.
    let Some(builder) = builder.filter(|builder| builder.op_count() > 0) else { return Ok(Part::default()) };
    let ready = match node.ready(deadline).await {
        Ok(ready) => ready,
        Err(error) => {
            let mut part = failed(node, error, Outcome::NotSent)?;
            part.unplaced = is_mapped.then(|| all_of(builder, Cause::Unsent));
            return Ok(part);
        }
    };
    let sequence = node.sequence();
    let request = finish(node, builder, ready.request(), sequence.as_ref());
    let Delivered { exchange, is_again } = deliver(node, ready, deadline, &request, sequence.as_ref()).await;
    let sent = Sent { request, sequence: sequence.filter(|_| is_again).map(Arc::new) };
    settle(node, exchange, sent, deadline, reply_bytes_max, is_mapped).await
}

/// A share that was sent.
pub(super) struct Sent {
    pub(super) request: Frame,
    /// Its number, where it was sent more than once.
    pub(super) sequence: Option<Arc<Sequence>>,
}

/// Takes what came of sending a share, asks again for what a full reply left out, and sorts out what the node did not
/// take.
pub(super) async fn settle(
    node: &Arc<NodeClient>,
    exchange: Exchange,
    sent: Sent,
    deadline: Instant,
    reply_bytes_max: u64,
    is_mapped: bool,
) -> Result<Part, ClientError> {
    let Sent { request, sequence } = sent;
    let op_count = op_count(&request);
    let (reply, link) = match exchange {
        Exchange::Answered(reply, link) => (reply, link),
        Exchange::Unsent(error) => {
            let outcome = if sequence.is_some() { Outcome::Unknown } else { Outcome::NotSent };
            let is_denied = error.is_denied();
            let mut part = failed(node, error, outcome)?;
            let ops = (0..op_count).collect();
            part.unplaced =
                (is_mapped && !is_denied).then_some(Unplaced { request, ops, cause: Cause::Unsent, sequence });
            return Ok(part);
        }
        Exchange::Unknown(error) => return failed(node, error, Outcome::Unknown),
    };
    let view = check(&link, &reply, op_count)?;
    let (mut missing, has_left_changes) = missing(&link, &request, view)?;
    let mut is_wrong = view.has_wrong_node();
    let is_forgotten = view.has_unknown();
    // A reply that is not full is the rule; everything else asks again.
    let mut part = Part::new(request.frame_bytes(), reply);
    if has_left_changes {
        part.fail(node.endpoint(), ClientError::ReplyFull);
    }
    while !missing.is_empty() {
        let (got, max) = (part.bytes_received(), reply_bytes_max);
        if got >= max {
            let error = ClientError::ReplyTooLarge { got, max };
            part.fail(node.endpoint(), error);
            break;
        }
        let again = match rebuild(node, &request, &missing) {
            Ok(again) => again,
            // What has taken effect stands.
            Err(error) => {
                part.fail(node.endpoint(), error.into());
                break;
            }
        };
        let mut sent = None;
        let exchange = node.exchange(deadline, |number| sent.insert(finish(node, again, number, None)).clone()).await;
        match exchange {
            Exchange::Answered(reply, link) => {
                is_wrong |= check(&link, &reply, missing.len() as u32)?.has_wrong_node();
                let (asked, bytes_sent) = (missing.len(), sent.map_or(0, |frame| frame.frame_bytes()));
                missing = part.fill(missing, bytes_sent, reply);
                // One value always fits a reply: a node without room for any has no memory for one.
                if missing.len() == asked {
                    part.fail(node.endpoint(), ClientError::OutOfMemory);
                    break;
                }
            }
            // A get that was not answered changed nothing: it stays `ReplyFull`, and the failure says why.
            Exchange::Unsent(error) | Exchange::Unknown(error) => {
                part.fail(node.endpoint(), error);
                break;
            }
        }
    }
    if is_forgotten {
        part.fail(node.endpoint(), ClientError::Forgotten { endpoint: node.endpoint().clone() });
    }
    if sequence.is_some() {
        part.set_again();
    }
    if is_wrong {
        part.sort_out_wrong_node(node.endpoint(), request, is_mapped, sequence);
    }
    Ok(part)
}

fn op_count(request: &Frame) -> u32 {
    RequestView::parsed(request).op_count()
}

/// What a reply left out and is asked again, and whether it left out changes: those are not, for what stands behind
/// them on their keys was executed. Nothing but what brings a value may be left out: whatever else was may have taken
/// effect.
fn missing(link: &Link, request: &Frame, reply: ReplyView<'_>) -> Result<(Vec<u32>, bool), ClientError> {
    let (mut missing, mut has_changes) = (Vec::new(), false);
    if !reply.has_reply_full() {
        return Ok((missing, has_changes));
    }
    let view = RequestView::parse(request).expect("the view reads what the builder wrote");
    for (index, (op, outcome)) in (0..).zip(view.ops().zip(reply.outcomes())) {
        match op.action {
            _ if outcome != Outcome::ReplyFull => {}
            action if action.wants_value() && action.only_reads() => missing.push(index),
            action if action.wants_value() => has_changes = true,
            _ => return Err(link.malformed(WireError::BadStatus { index, got: Status::ReplyFull as u8 })),
        }
    }
    Ok((missing, has_changes))
}

fn finish(node: &NodeClient, builder: RequestBuilder<Buffer>, request: u64, sequence: Option<&Sequence>) -> Frame {
    let origin = node.origin(request);
    let origin = sequence.map_or(origin, |sequence| sequence.origin(origin));
    let (buffer, frame_bytes) = builder.finish(origin);
    Frame::new(buffer, frame_bytes)
}

pub(super) fn failed(node: &NodeClient, error: ClientError, outcome: Outcome<'static>) -> Result<Part, ClientError> {
    let failure = |error| Failure { endpoint: Some(node.endpoint().clone()), error };
    match error {
        // Of a node that a map names, this concerns its own operations alone.
        ClientError::MemoryLost { .. } if node.is_named() => Ok(Part::failed(outcome, failure(error))),
        ClientError::MemoryLost { .. } | ClientError::Malformed { .. } => Err(error),
        error => Ok(Part::failed(outcome, failure(error))),
    }
}

/// The reply as a view, if it answers that many operations.
pub(super) fn check<'a>(link: &Link, reply: &'a Frame, expected: u32) -> Result<ReplyView<'a>, ClientError> {
    let view = ReplyView::parse(reply).map_err(|source| link.malformed(source))?;
    match view.op_count() {
        got if got == expected => Ok(view),
        got => Err(link.malformed(WireError::WrongOpCount { got, expected })),
    }
}

/// A request of those operations of another that are listed.
fn rebuild(node: &NodeClient, request: &Frame, indices: &[u32]) -> Result<RequestBuilder<Buffer>, BatchError> {
    let view = RequestView::parse(request).expect("the view reads what the builder wrote");
    let mut builder = begin_for(node, indices.len() as u32)?;
    let mut wanted = indices.iter().copied().peekable();
    for (index, op) in (0..).zip(view.ops()) {
        if wanted.next_if_eq(&index).is_some() {
            builder.push(&op)?;
        }
    }
    Ok(builder)
}
