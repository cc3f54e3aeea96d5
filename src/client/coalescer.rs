//! Single operations that many tasks issue at once, made into batches without a timer.
//!
//! ```text
//!   idle wire:  operation ----------------------------> frame of one
//!   busy wire:  operations that arrive meanwhile, queued > one frame as soon as the reply is there
//! ```
//!
//! One frame of a node's singles is in flight at a time, so that an idle wire carries an operation at once, and
//! under load batches grow by themselves.
#![forbid(unsafe_code)]

use super::node::{Exchange, NodeClient};
use super::{BatchError, ClientError};
use crate::limits;
use crate::op::{Action, Op, Outcome, Version};
use crate::transport::Frame;
use crate::wire::{Origin, ReplyView, RequestBuilder, WireError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Notify, oneshot};

/// Most operations of one coalesced frame: beyond that a batch gains nothing and its first caller waits.
const OPS_MAX: usize = 4096;

/// Bytes of keys and values after which a coalesced frame is sent.
const BYTES_MAX: usize = 1 << 20;

const _: () = assert!(OPS_MAX <= limits::FRAME_OPS_MAX as usize);

/// An operation that owns its bytes.
#[derive(Debug)]
pub(super) struct Single {
    key: Box<[u8]>,
    action: SingleAction,
    done: oneshot::Sender<Result<Answered, ClientError>>,
}

/// [`Action`] with bytes of its own.
#[derive(Debug)]
pub(super) enum SingleAction {
    Get,
    Put(Box<[u8]>),
    Delete,
    CompareAndSwap(Version, Box<[u8]>),
    Add(i64),
}

/// An outcome: where it stands in the frame that brought it.
#[derive(Debug)]
pub(super) struct Answered {
    frame: Frame,
    index: u32,
}

impl Answered {
    pub(super) fn outcome(&self) -> Outcome<'_> {
        ReplyView::parsed(&self.frame).outcome(self.index)
    }
}

impl Single {
    fn op(&self) -> Op<'_> {
        let action = match &self.action {
            SingleAction::Get => Action::Get,
            SingleAction::Put(value) => Action::Put { value },
            SingleAction::Delete => Action::Delete,
            SingleAction::CompareAndSwap(expected, value) => Action::CompareAndSwap { expected: *expected, value },
            SingleAction::Add(delta) => Action::Add { delta: *delta },
        };
        Op { key: &self.key, action, version_wanted: matches!(action, Action::Get | Action::CompareAndSwap { .. }) }
    }

    fn bytes(&self) -> usize {
        let value = match &self.action {
            SingleAction::Put(value) | SingleAction::CompareAndSwap(_, value) => value.len(),
            _ => 0,
        };
        self.key.len() + value
    }
}

/// The queue of one node's singles and the task that empties it.
#[derive(Debug)]
pub(super) struct Coalescer {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Vec<Single>>,
    arrived: Notify,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Vec<Single>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is waiting, up to one frame's worth, in the order of arrival.
    fn take(&self) -> Vec<Single> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let fits = waiting.iter().take(OPS_MAX).take_while(|single| {
            bytes += single.bytes();
            bytes <= BYTES_MAX
        });
        // One that is larger by itself goes alone.
        let count = fits.count().max(1).min(waiting.len());
        if count == waiting.len() {
            return std::mem::take(&mut *waiting);
        }
        waiting.drain(..count).collect()
    }
}

impl Coalescer {
    /// A queue for `node`, emptied on the current runtime until the node is dropped.
    pub(super) fn start(node: Weak<NodeClient>) -> Self {
        let queue = Arc::new(Queue::default());
        tokio::spawn(run(node, Arc::clone(&queue)));
        Self { queue }
    }

    /// Issues an operation and waits for its outcome. Dropping the future abandons it: it may still take effect.
    pub(super) async fn issue(
        &self,
        node: &NodeClient,
        key: &[u8],
        action: SingleAction,
    ) -> Result<Answered, ClientError> {
        let (done, answered) = oneshot::channel();
        let single = Single { key: key.into(), action, done };
        check(&single)?;
        self.queue.lock().push(single);
        self.queue.arrived.notify_one();
        answered.await.unwrap_or_else(|_| {
            let reason = "the runtime of its tasks ended".to_owned();
            Err(ClientError::Lost { endpoint: node.endpoint().clone(), reason })
        })
    }
}

impl Drop for Coalescer {
    fn drop(&mut self) {
        // Wakes the task, which finds its node gone.
        self.queue.arrived.notify_one();
    }
}

/// Refuses what no frame can hold, so that it cannot spoil the frame of others.
fn check(single: &Single) -> Result<(), BatchError> {
    if single.key.len() > limits::KEY_BYTES_MAX as usize {
        return Err(BatchError::KeyTooLong { got: single.key.len(), max: limits::KEY_BYTES_MAX });
    }
    match &single.action {
        SingleAction::Put(value) | SingleAction::CompareAndSwap(_, value)
            if value.len() > limits::VALUE_BYTES_MAX as usize =>
        {
            Err(BatchError::ValueTooLong { got: value.len(), max: limits::VALUE_BYTES_MAX })
        }
        _ => Ok(()),
    }
}

async fn run(node: Weak<NodeClient>, queue: Arc<Queue>) {
    loop {
        let singles = queue.take();
        if singles.is_empty() {
            if node.strong_count() == 0 {
                return;
            }
            queue.arrived.notified().await;
            continue;
        }
        let Some(node) = node.upgrade() else { return };
        carry(&node, singles).await;
    }
}

/// Carries singles in one frame and tells their callers.
async fn carry(node: &NodeClient, singles: Vec<Single>) {
    let outcome = exchange(node, &singles).await;
    match outcome {
        Ok(frame) => {
            for (index, single) in (0..).zip(singles) {
                // The caller may have gone away.
                let _gone = single.done.send(Ok(Answered { frame: frame.clone(), index }));
            }
        }
        Err(error) => {
            for single in singles {
                let _gone = single.done.send(Err(error.clone()));
            }
        }
    }
}

async fn exchange(node: &NodeClient, singles: &[Single]) -> Result<Frame, ClientError> {
    let link = node.link();
    let bytes = singles.iter().map(|single| single.bytes() + 16).sum::<usize>() + 64;
    let buffer = link.lend(bytes).ok_or(BatchError::OutOfMemory { needed: bytes as u64 })?;
    let mut builder = RequestBuilder::new(buffer, singles.len() as u32, link.node().frame_bytes_max)?;
    for single in singles {
        builder.push(&single.op())?;
    }
    let finish = |request| {
        let (buffer, frame_bytes) = builder.finish(Origin { request, ..Origin::default() });
        Frame::new(buffer, frame_bytes)
    };
    match node.exchange(node.deadline(), finish).await {
        Exchange::Answered(frame) => {
            let view = ReplyView::parse(&frame).map_err(|source| node.malformed(source))?;
            if view.op_count() as usize != singles.len() {
                return Err(node.malformed(WireError::BadBody { what: "operation count" }));
            }
            Ok(frame)
        }
        Exchange::Unsent(error) | Exchange::Unknown(error) => Err(error),
    }
}
