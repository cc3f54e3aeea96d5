//! A batch being built: one frame a node, in memory that the node's transport lent.
#![forbid(unsafe_code)]

use super::link::Link;
use super::node::{Exchange, NodeClient};
use super::reply::{Failure, Part, Reply};
use super::{BatchError, ClientConfig, ClientError, node_of};
use crate::hash::Key;
use crate::limits::FRAME_OPS_MAX;
use crate::op::{Action, Op, Outcome, Version};
use crate::transport::{Buffer, Frame};
use crate::wire::{Origin, ReplyView, RequestBuilder, RequestView, Status, WireError};
use std::sync::Arc;
use tokio::time::Instant;

/// Operations on their way to a client's nodes. A batch belongs to the client that made it.
#[derive(Debug)]
pub struct Batch {
    nodes: Vec<Arc<NodeClient>>,
    builders: Vec<Option<RequestBuilder<Buffer>>>,
    /// Node and place in its frame of each operation; empty where there is one node.
    routes: Vec<Route>,
    ops_expected: u32,
    op_count: u32,
}

/// Where an operation went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) part: u32,
    pub(super) index: u32,
}

impl Batch {
    pub(super) fn new(nodes: &[Arc<NodeClient>], ops_expected: u32) -> Self {
        let ops_expected = ops_expected.min(FRAME_OPS_MAX.saturating_mul(nodes.len() as u32));
        let share = ops_expected / nodes.len() as u32;
        let routes = Vec::with_capacity(if nodes.len() == 1 { 0 } else { ops_expected as usize });
        // Hashing deals operations unevenly: a little more than the even share saves most moves.
        let ops_expected = if nodes.len() == 1 { ops_expected } else { share + share / 8 + 1 };
        let builders = nodes.iter().map(|_| None).collect();
        Self { nodes: nodes.to_vec(), builders, routes, ops_expected, op_count: 0 }
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.op_count as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.op_count == 0
    }

    /// Appends an operation; key and value are copied into the frame.
    ///
    /// # Errors
    /// Why it does not fit; the batch is as before and can be executed.
    #[inline]
    pub fn push(&mut self, op: &Op<'_>) -> Result<(), BatchError> {
        let part = if self.nodes.len() == 1 { 0 } else { node_of(op.key, self.nodes.len()) };
        let builder = match &mut self.builders[part] {
            Some(builder) => builder,
            empty => empty.insert(begin(&self.nodes[part], self.ops_expected)?),
        };
        let index = builder.op_count();
        builder.push(op)?;
        if self.nodes.len() > 1 {
            self.routes.push(Route { part: part as u32, index });
        }
        self.op_count += 1;
        Ok(())
    }

    /// Appends a get. A [`Key`] with bytes ahead is quicker than a slice where short keys of many lengths follow each
    /// other in memory.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn get<'k>(&mut self, key: impl Into<Key<'k>>) -> Result<(), BatchError> {
        let key = key.into();
        // One node and a frame begun is the rule in a loop of gets.
        if let [Some(builder)] = &mut self.builders[..] {
            builder.push_get(key)?;
            self.op_count += 1;
            return Ok(());
        }
        // Of several nodes likewise, once each has its frame.
        let part = node_of(key.as_bytes(), self.nodes.len());
        if self.nodes.len() > 1
            && let Some(builder) = &mut self.builders[part]
        {
            let index = builder.op_count();
            builder.push_get(key)?;
            self.routes.push(Route { part: part as u32, index });
            self.op_count += 1;
            return Ok(());
        }
        self.push(&Op { key: key.as_bytes(), action: Action::Get, version_wanted: false })
    }

    /// Appends a get that returns the record's version too.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn get_with_version(&mut self, key: &[u8]) -> Result<(), BatchError> {
        self.push(&Op { key, action: Action::Get, version_wanted: true })
    }

    /// Appends a put.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), BatchError> {
        self.push(&Op { key, action: Action::Put { value }, version_wanted: false })
    }

    /// Appends a delete.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn delete(&mut self, key: &[u8]) -> Result<(), BatchError> {
        self.push(&Op { key, action: Action::Delete, version_wanted: false })
    }

    /// Appends a compare-and-swap that returns the new version; `expected` 0 expects no record.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn compare_and_swap(&mut self, key: &[u8], expected: Version, value: &[u8]) -> Result<(), BatchError> {
        self.push(&Op { key, action: Action::CompareAndSwap { expected, value }, version_wanted: true })
    }

    /// Appends an add to a counter.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn add(&mut self, key: &[u8], delta: i64) -> Result<(), BatchError> {
        self.push(&Op { key, action: Action::Add { delta }, version_wanted: false })
    }

    pub(super) async fn execute(self, config: &ClientConfig) -> Result<Reply, ClientError> {
        let deadline = config.deadline_from_now();
        let (nodes, routes, op_count) = (self.nodes, self.routes, self.op_count);
        let builders = nodes.iter().zip(self.builders);
        let parts = builders.map(|(node, builder)| part(node, builder, deadline, config.reply_bytes_max));
        let parts = if nodes.len() == 1 {
            let mut parts = parts;
            vec![parts.next().expect("one node").await?]
        } else {
            all(parts.collect()).await?
        };
        Ok(Reply::new(parts, routes, op_count))
    }
}

fn begin(node: &NodeClient, ops_expected: u32) -> Result<RequestBuilder<Buffer>, BatchError> {
    let link = node.link();
    // A first guess at keys; values make the buffer grow.
    let bytes = 64 + 20 * ops_expected as usize;
    let buffer = link.lend(bytes).ok_or(BatchError::OutOfMemory { needed: bytes as u64 })?;
    RequestBuilder::new(buffer, ops_expected, link.node().frame_bytes_max)
}

/// Runs futures side by side on this task and collects what comes of them.
async fn all<F: Future<Output = Result<Part, ClientError>>>(futures: Vec<F>) -> Result<Vec<Part>, ClientError> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Some(Box::pin(future)), None)).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for (future, done) in &mut running {
            if let Some(pending) = future {
                match pending.as_mut().poll(cx) {
                    std::task::Poll::Ready(result) => (*future, *done) = (None, Some(result)),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().map(|(_, done)| done.expect("every future is ready")).collect()
}

/// Executes one node's share, asking again for what a full reply left out.
async fn part(
    node: &Arc<NodeClient>,
    builder: Option<RequestBuilder<Buffer>>,
    deadline: Instant,
    reply_bytes_max: u64,
) -> Result<Part, ClientError> {
    // A refused push may have begun a frame that holds nothing.
    let Some(builder) = builder.filter(|builder| builder.op_count() > 0) else { return Ok(Part::default()) };
    let op_count = builder.op_count();
    let mut sent = None;
    let exchange = node.exchange(deadline, |request| finish(builder, request, &mut sent)).await;
    let (reply, link) = match exchange {
        Exchange::Answered(reply, link) => (reply, link),
        Exchange::Unsent(error) => return failed(node, error, Outcome::NotSent),
        Exchange::Unknown(error) => return failed(node, error, Outcome::Unknown),
    };
    let request = sent.expect("an answered request was sent");
    // A reply that is not full is the rule; everything else asks again.
    let mut missing = missing(check(&link, &reply, op_count)?);
    let mut part = Part::new(request.frame_bytes(), reply);
    only_gets(&link, &request, &missing)?;
    while !missing.is_empty() {
        let (got, max) = (part.bytes_received(), reply_bytes_max);
        if got >= max {
            let error = ClientError::ReplyTooLarge { got, max };
            part.fail(Failure { endpoint: node.endpoint().clone(), error });
            break;
        }
        let again = match rebuild(node, &request, &missing) {
            Ok(again) => again,
            // What has taken effect stands.
            Err(error) => {
                part.fail(Failure { endpoint: node.endpoint().clone(), error: error.into() });
                break;
            }
        };
        let mut sent = None;
        let exchange = node.exchange(deadline, |number| finish(again, number, &mut sent)).await;
        match exchange {
            Exchange::Answered(reply, link) => {
                check(&link, &reply, missing.len() as u32)?;
                let (asked, bytes_sent) = (missing.len(), sent.map_or(0, |frame| frame.frame_bytes()));
                missing = part.fill(missing, bytes_sent, reply);
                // One value always fits a reply: a node without room for any has no memory for one.
                if missing.len() == asked {
                    part.fail(Failure { endpoint: node.endpoint().clone(), error: ClientError::OutOfMemory });
                    break;
                }
            }
            // A get that was not answered changed nothing: it stays `ReplyFull`, and the failure says why.
            Exchange::Unsent(error) | Exchange::Unknown(error) => {
                part.fail(Failure { endpoint: node.endpoint().clone(), error });
                break;
            }
        }
    }
    Ok(part)
}

/// Operations that a reply left out.
fn missing(reply: ReplyView<'_>) -> Vec<u32> {
    if !reply.has_reply_full() {
        return Vec::new();
    }
    let full = (0..).zip(reply.outcomes()).filter(|(_, outcome)| *outcome == Outcome::ReplyFull);
    full.map(|(index, _)| index).collect()
}

fn finish(builder: RequestBuilder<Buffer>, request: u64, sent: &mut Option<Frame>) -> Frame {
    let (buffer, frame_bytes) = builder.finish(Origin { request, ..Origin::default() });
    let frame = Frame::new(buffer, frame_bytes);
    *sent = Some(frame.clone());
    frame
}

fn failed(node: &NodeClient, error: ClientError, outcome: Outcome<'static>) -> Result<Part, ClientError> {
    match error {
        ClientError::MemoryLost { .. } | ClientError::Malformed { .. } => Err(error),
        error => Ok(Part::failed(outcome, Failure { endpoint: node.endpoint().clone(), error })),
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

/// Only a get is left out of a full reply: whatever else was may have taken effect, and is not sent again.
fn only_gets(link: &Link, request: &Frame, missing: &[u32]) -> Result<(), ClientError> {
    if missing.is_empty() {
        return Ok(());
    }
    let view = RequestView::parse(request).expect("the view reads what the builder wrote");
    let mut wanted = missing.iter().copied().peekable();
    let mut left_out = (0..).zip(view.ops()).filter(|(index, _)| wanted.next_if_eq(index).is_some());
    match left_out.find(|(_, op)| op.action != Action::Get) {
        Some((index, _)) => Err(link.malformed(WireError::BadStatus { index, got: Status::ReplyFull as u8 })),
        None => Ok(()),
    }
}

/// A request of those operations of another that are listed.
fn rebuild(node: &NodeClient, request: &Frame, indices: &[u32]) -> Result<RequestBuilder<Buffer>, BatchError> {
    let view = RequestView::parse(request).expect("the view reads what the builder wrote");
    let mut builder = begin(node, indices.len() as u32)?;
    let mut wanted = indices.iter().copied().peekable();
    for (index, op) in (0..).zip(view.ops()) {
        if wanted.next_if_eq(&index).is_some() {
            builder.push(&op)?;
        }
    }
    Ok(builder)
}
