//! A batch being built: one frame a node, in memory that the node's transport lent.
#![forbid(unsafe_code)]

use super::reply::{Parts, Reply};
use super::routing::{Router, Routing};
use super::share::{begin, execute, unowned};
use super::{BatchError, ClientConfig, ClientError};
use crate::hash::Key;
use crate::limits::FRAME_OPS_MAX;
use crate::op::{Action, Content, Edit, Expiry, Op, Version};
use crate::transport::Buffer;
use crate::wire::RequestBuilder;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Operations on their way to a client's nodes. A batch belongs to the client that made it.
#[derive(Debug)]
pub struct Batch {
    routing: Arc<Routing>,
    router: Arc<Router>,
    /// A frame a node, and one for what nobody owns.
    builders: SmallVec<[Option<RequestBuilder<Buffer>>; 1]>,
    /// Part and place in its frame of each operation; empty where one node owns all.
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
    pub(super) fn new(router: &Arc<Router>, ops_expected: u32) -> Self {
        Self::by(router.routing(), router, ops_expected)
    }

    /// A batch that goes by a routing of this router's.
    pub(super) fn by(routing: Arc<Routing>, router: &Arc<Router>, ops_expected: u32) -> Self {
        let nodes = routing.nodes.len().max(1) as u32;
        let ops_expected = ops_expected.min(FRAME_OPS_MAX.saturating_mul(nodes));
        let share = ops_expected / nodes;
        let routes = Vec::with_capacity(if routing.is_single() { 0 } else { ops_expected as usize });
        // Hashing deals operations unevenly: a little more than the even share saves most moves.
        let ops_expected = if nodes == 1 { ops_expected } else { share + share / 8 + 1 };
        let builders = (0..routing.parts()).map(|_| None).collect();
        Self { routing, router: Arc::clone(router), builders, routes, ops_expected, op_count: 0 }
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
    #[inline(never)]
    pub fn push(&mut self, op: &Op<'_>) -> Result<(), BatchError> {
        let part = self.routing.part_of(op.key);
        let builder = match &mut self.builders[part] {
            Some(builder) => builder,
            empty => empty.insert(begin(self.routing.nodes.get(part), &self.router, self.ops_expected)?),
        };
        let index = builder.op_count();
        builder.push(op)?;
        self.placed(part, index);
        Ok(())
    }

    #[inline(always)]
    fn placed(&mut self, part: usize, index: u32) {
        if !self.routing.is_single() {
            self.routes.push(Route { part: part as u32, index });
        }
        self.op_count += 1;
    }

    /// Appends a get. A [`Key`] with bytes ahead is quicker than a slice where short keys of many lengths follow each
    /// other in memory.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline(always)]
    pub fn get<'k>(&mut self, key: impl Into<Key<'k>>) -> Result<(), BatchError> {
        let key = key.into();
        let part = self.routing.part_of(key);
        // A frame begun that has room is the rule in a loop of gets.
        if let Some(builder) = &mut self.builders[part] {
            let index = builder.op_count();
            if builder.push_get_in_place(key) {
                self.placed(part, index);
                return Ok(());
            }
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

    /// Appends a put of a value that is there for so long, from when its node executes it on. A part of a millisecond
    /// counts as one.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn put_expiring(&mut self, key: &[u8], value: &[u8], lifetime: Duration) -> Result<(), BatchError> {
        self.edit(key, Edit::new(Content::Write(value), Expiry::in_no_less_than(lifetime)))
    }

    /// Appends a change of a record's deadline alone.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn touch(&mut self, key: &[u8], expiry: Expiry) -> Result<(), BatchError> {
        self.edit(key, Edit::new(Content::Keep, expiry))
    }

    /// Appends a get that returns the record's deadline too.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn get_with_deadline(&mut self, key: &[u8]) -> Result<(), BatchError> {
        self.edit(key, Edit::READ)
    }

    /// Appends a change of value and deadline in one step. One that wants the value before, and changes something, is
    /// not executed where the reply has no room for that value: it stays `ReplyFull`.
    ///
    /// # Errors
    /// As [`Batch::push`].
    #[inline]
    pub fn edit(&mut self, key: &[u8], edit: Edit<'_>) -> Result<(), BatchError> {
        self.push(&Op { key, action: Action::Edit(edit), version_wanted: false })
    }

    /// Whether the frame of a part holds operations.
    pub(super) fn has_begun(&self, part: usize) -> bool {
        self.builders[part].as_ref().is_some_and(|builder| builder.op_count() > 0)
    }

    pub(super) async fn execute(self, config: &ClientConfig) -> Result<Reply, ClientError> {
        let deadline = config.deadline_from_now();
        let (router, routing) = (Arc::clone(&self.router), Arc::clone(&self.routing));
        let (parts, routes, op_count) = self.execute_parts(config, deadline).await?;
        let mut reply = Reply::new(parts, routes, op_count);
        if reply.has_unplaced() {
            reply.resend(&router, routing, config, deadline).await?;
        }
        Ok(reply)
    }

    /// Sends each part to its node, once: the parts, the part and place of each operation, and their number.
    pub(super) async fn execute_parts(
        self,
        config: &ClientConfig,
        deadline: Instant,
    ) -> Result<(Parts, Vec<Route>, u32), ClientError> {
        let Self { routing, router, builders, routes, op_count, .. } = self;
        let (max, is_mapped) = (config.reply_bytes_max, router.is_mapped());
        let mut builders = builders.into_iter();
        let shares = routing.nodes.iter().zip(builders.by_ref());
        let mut shares = shares.map(|(node, builder)| execute(node, builder, deadline, max, is_mapped));
        let mut parts: Parts = if routing.is_single() {
            smallvec![shares.next().expect("one node").await?]
        } else {
            all(shares.collect()).await?.into()
        };
        // What is left is nobody's.
        parts.extend(builders.map(|builder| unowned(builder, routing.no_owner())));
        Ok((parts, routes, op_count))
    }
}

/// Runs futures side by side on this task and collects what comes of them.
pub(super) async fn all<T, F: Future<Output = Result<T, ClientError>>>(futures: Vec<F>) -> Result<Vec<T>, ClientError> {
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
