//! Single operations that many tasks issue at once, made into batches without a timer.
//!
//! ```text
//!   idle wire:  operation ----------------------------> frame of one
//!   busy wire:  operations that arrive meanwhile, queued > one frame as soon as a reply is there
//! ```
//!
//! Two frames of a node's singles are in flight at a time, so that an idle wire carries an operation at once, and
//! under load batches grow by themselves. A frame takes half of all operations that are in flight or wait: so while the
//! node executes one half, the callers of the other issue their next. A task carries frame after frame while
//! anything waits, on the runtime of whoever found too few of them; should that end, the other carries what waits;
//! if there is none it is not sent, and the next operation starts another.
//! The queue holds what somebody waits for and no more: who goes away takes its operation along, unsent. Nothing leaves
//! it before there is a link that takes the frame at once: what left it is sent.
#![forbid(unsafe_code)]

use super::again::{Begun, Lost, begin};
use super::carried::Carried;
use super::node::{Exchange, NodeClient, Ready};
use super::routing::Router;
use super::session::Sequence;
use super::share::check as check_reply;
use super::{BatchError, ClientError, Loss, Unsent};
use crate::limits;
use crate::op::{Action, Edit, Edited, Op, Outcome, Time, Version};
use crate::transport::Frame;
use crate::wire::{ReplyView, RequestBuilder};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// Most operations of one coalesced frame: beyond that a batch gains nothing and its first caller waits.
const OPS_MAX: usize = 4096;

/// Frames of singles in flight to a node.
const CARRIERS_MAX: usize = 2;

/// Bytes of keys and values after which a coalesced frame is sent.
const BYTES_MAX: usize = 1 << 20;

const _: () = assert!(OPS_MAX <= limits::FRAME_OPS_MAX as usize);

/// An operation that owns its bytes.
#[derive(Debug)]
pub(super) struct Single {
    key: Box<[u8]>,
    action: SingleAction,
    /// Of the map by which it came to its node.
    pub(super) epoch: u64,
    done: oneshot::Sender<Result<Answered, ClientError>>,
}

/// [`Action`] with bytes of its own.
#[derive(Debug)]
pub(super) enum SingleAction {
    Get {
        version_wanted: bool,
    },
    Put(Box<[u8]>),
    Delete,
    CompareAndSwap(Version, Box<[u8]>),
    Add(i64),
    /// With the bytes that it writes or appends.
    Edit(Edit<'static>, Box<[u8]>),
}

/// An outcome: where it stands in the frame that brought it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) frame: Frame,
    pub(super) index: u32,
}

impl Answered {
    /// The epoch of the map that the node works with.
    pub(super) fn epoch(&self) -> u64 {
        ReplyView::parsed(&self.frame).header().map_epoch.get()
    }

    /// The node's time as it executed the frame.
    pub(super) fn time(&self) -> Time {
        ReplyView::parsed(&self.frame).header().time.get()
    }

    pub(super) fn outcome(&self) -> Outcome<'_> {
        ReplyView::parsed(&self.frame).outcome(self.index)
    }

    /// Whether the frame that left this get out had room for none: one value always fits, if there is memory.
    pub(super) fn without_any_value(&self) -> bool {
        let view = ReplyView::parsed(&self.frame);
        let brings =
            |outcome| matches!(outcome, Outcome::Value { .. } | Outcome::Edited(Edited { value: Some(_), .. }));
        !view.outcomes().any(brings)
    }
}

impl Single {
    /// Tells its caller what came of it; he may have gone away.
    pub(super) fn tell(self, answer: Result<Answered, ClientError>) {
        let _gone = self.done.send(answer);
    }

    fn op(&self) -> Op<'_> {
        let action = match &self.action {
            SingleAction::Get { .. } => Action::Get,
            SingleAction::Put(value) => Action::Put { value },
            SingleAction::Delete => Action::Delete,
            SingleAction::CompareAndSwap(expected, value) => Action::CompareAndSwap { expected: *expected, value },
            SingleAction::Add(delta) => Action::Add { delta: *delta },
            SingleAction::Edit(edit, bytes) => Action::Edit(edit.with_bytes(bytes)),
        };
        let version_wanted = matches!(
            self.action,
            SingleAction::Get { version_wanted: true } | SingleAction::CompareAndSwap(..) | SingleAction::Edit(..)
        );
        Op { key: &self.key, action, version_wanted }
    }

    fn bytes(&self) -> usize {
        let value = match &self.action {
            SingleAction::Put(value) | SingleAction::CompareAndSwap(_, value) | SingleAction::Edit(_, value) => {
                value.len()
            }
            _ => 0,
        };
        self.key.len() + value
    }
}

/// The queue of one node's singles and how many tasks are carrying them.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    queue: Arc<Mutex<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order of arrival, by number.
    waiting: BTreeMap<u64, Single>,
    /// Number of the next.
    next: u64,
    /// Tasks that carry, and operations in flight with them.
    carriers: usize,
    in_flight: usize,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    fn push(&mut self, single: Single) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, single);
        number
    }

    /// Takes a frame's worth of what is waiting, in the order of arrival, where all is for so many frames.
    fn take(&mut self, frames: usize) -> Vec<Single> {
        let mut bytes = 0;
        let share = (self.in_flight + self.waiting.len()).div_ceil(frames);
        let fits = self.waiting.values().take(share.min(OPS_MAX)).take_while(|single| {
            bytes += single.bytes();
            bytes <= BYTES_MAX
        });
        // One that is larger by itself goes alone.
        let count = fits.count().max(1);
        let left = match self.waiting.keys().nth(count).copied() {
            Some(first) => self.waiting.split_off(&first),
            None => BTreeMap::new(),
        };
        let taken = std::mem::replace(&mut self.waiting, left);
        self.in_flight += taken.len();
        taken.into_values().collect()
    }
}

/// An operation's place in the queue. Dropped, it takes along what has not been carried.
struct Place<'a> {
    queue: &'a Mutex<Queue>,
    number: u64,
}

impl Place<'_> {
    /// Whether the operation was still there, and now is not.
    fn leave(&self) -> bool {
        lock(self.queue).waiting.remove(&self.number).is_some()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Coalescer {
    /// Issues an operation and waits for its outcome. Dropping the future abandons it: what waits is never sent, what
    /// is in flight may still take effect.
    pub(super) async fn issue(
        &self,
        (node, router): (&Arc<NodeClient>, &Arc<Router>),
        epoch: u64,
        key: &[u8],
        action: SingleAction,
        deadline: Instant,
    ) -> Result<Answered, ClientError> {
        let (done, answered) = oneshot::channel();
        let single = Single { key: key.into(), action, epoch, done };
        check(&single)?;
        let place = self.push(node, router, single);
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => {
                // What was answered was carried: its place is nobody's, and needs no lock to be left.
                std::mem::forget(place);
                answer
            }
            Ok(Err(_)) => Err(node.lost(Loss::RuntimeEnded)),
            Err(_) if place.leave() => Err(node.not_sent_in_time()),
            Err(_) => Err(node.late()),
        }
    }

    fn push(&self, node: &Arc<NodeClient>, router: &Arc<Router>, single: Single) -> Place<'_> {
        let mut queue = lock(&self.queue);
        let number = queue.push(single);
        let too_few = queue.carriers < CARRIERS_MAX;
        queue.carriers += usize::from(too_few);
        // A runtime that is ending drops the task inside `spawn`, and the task's own drop takes the lock.
        drop(queue);
        if too_few {
            let (node, router, queue) = (Arc::clone(node), Arc::clone(router), Arc::clone(&self.queue));
            tokio::spawn(Carrying { node, router, queue, in_flight: 0, finished: false }.run());
        }
        Place { queue: &self.queue, number }
    }
}

/// A task that empties a queue.
struct Carrying {
    node: Arc<NodeClient>,
    router: Arc<Router>,
    queue: Arc<Mutex<Queue>>,
    /// Operations in flight with it.
    in_flight: usize,
    finished: bool,
}

impl Carrying {
    async fn run(mut self) {
        while self.is_wanted() {
            self.carry().await;
        }
    }

    /// Whether anything waits; if not, the task ends.
    fn is_wanted(&mut self) -> bool {
        let mut queue = lock(&self.queue);
        queue.in_flight -= std::mem::take(&mut self.in_flight);
        self.finished = queue.waiting.is_empty();
        queue.carriers -= usize::from(self.finished);
        !self.finished
    }

    /// Whether another task carries too.
    fn has_company(&self) -> bool {
        lock(&self.queue).carriers > 1
    }

    /// Carries a frame's worth and tells the callers.
    async fn carry(&mut self) {
        let ready = self.node.ready(self.node.deadline()).await;
        if let Err(ClientError::NotSent { source: Unsent::Late(_), .. }) = ready {
            // Who has waited as long has left by itself, and who came later still has time.
            return;
        }
        // Who waits for a node that cannot be reached is told at once.
        let singles = lock(&self.queue).take(if ready.is_ok() { CARRIERS_MAX } else { 1 });
        self.in_flight = singles.len();
        let had_company = self.has_company();
        let sent = match ready {
            Ok(ready) if singles.is_empty() => return ready.cancel(),
            Ok(ready) => exchange(&self.node, ready, &singles).await,
            Err(error) => Sent::Ended(Err(error)),
        };
        if had_company && !self.has_company() {
            // Both frames were answered at once: who waited for the other one issues, and is sent, before those of
            // this one do.
            yield_now().await;
        }
        match sent {
            Sent::Ended(Ok(frame)) => {
                for (index, single) in (0..).zip(singles) {
                    single.tell(Ok(Answered { frame: frame.clone(), index }));
                }
            }
            Sent::Ended(Err(error)) => singles.into_iter().for_each(|single| single.tell(Err(error.clone()))),
            // Who comes next need not wait for a node that may be gone. It ends by the deadline.
            Sent::Lost(lost, request, sequence) => {
                let (node, router) = (Arc::clone(&self.node), Arc::clone(&self.router));
                tokio::spawn(Carried::new(node, router, request, Arc::new(sequence), singles).deliver(lost));
            }
        }
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Dropped with its runtime: who waits is told if nobody else carries, and who comes next starts another.
        let mut queue = lock(&self.queue);
        queue.carriers -= 1;
        queue.in_flight -= self.in_flight;
        if queue.carriers > 0 {
            return;
        }
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        for single in waiting.into_values() {
            single.tell(Err(self.node.not_sent(Unsent::RuntimeEnded)));
        }
    }
}

/// Refuses what no frame can hold, so that it cannot spoil the frame of others.
fn check(single: &Single) -> Result<(), BatchError> {
    if single.key.len() > limits::KEY_BYTES_MAX as usize {
        return Err(BatchError::KeyTooLong { got: single.key.len(), max: limits::KEY_BYTES_MAX });
    }
    match &single.action {
        SingleAction::Put(value) | SingleAction::CompareAndSwap(_, value) | SingleAction::Edit(_, value)
            if value.len() > limits::VALUE_BYTES_MAX as usize =>
        {
            Err(BatchError::ValueTooLong { got: value.len(), max: limits::VALUE_BYTES_MAX })
        }
        _ => Ok(()),
    }
}

/// How sending singles for the first time ended.
enum Sent {
    Ended(Result<Frame, ClientError>),
    /// The connection was lost: with the request and its number, to be sent again.
    Lost(Lost, Frame, Sequence),
}

/// Sends singles in one frame, at once, and waits for the reply to them all.
async fn exchange(node: &NodeClient, ready: Ready, singles: &[Single]) -> Sent {
    let sequence = node.sequence();
    let request = match frame(node, &ready, singles, sequence.as_ref()) {
        Ok(request) => request,
        Err(error) => {
            ready.cancel();
            return Sent::Ended(Err(error.into()));
        }
    };
    match begin(node, ready, node.deadline(), &request, sequence.is_some()).await {
        Begun::Lost(lost) => Sent::Lost(lost, request, sequence.expect("only with a number it is sent again")),
        Begun::Ended(Exchange::Answered(frame, link)) => {
            let checked = check_reply(&link, &frame, singles.len() as u32).map(drop);
            Sent::Ended(checked.map(|()| frame))
        }
        Begun::Ended(Exchange::Unsent(error) | Exchange::Unknown(error)) => Sent::Ended(Err(error)),
    }
}

fn frame(
    node: &NodeClient,
    ready: &Ready,
    singles: &[Single],
    sequence: Option<&Sequence>,
) -> Result<Frame, BatchError> {
    let link = ready.link();
    let bytes = singles.iter().map(|single| single.bytes() + 16).sum::<usize>() + 64;
    let buffer = link.lend(bytes).ok_or(BatchError::OutOfMemory { needed: bytes as u64 })?;
    let mut builder = RequestBuilder::new(buffer, singles.len() as u32, link.node().frame_bytes_max)?;
    for single in singles {
        match single.action {
            SingleAction::Get { version_wanted: false } => builder.push_get(&single.key[..])?,
            _ => builder.push(&single.op())?,
        }
    }
    let origin = node.origin(ready.request());
    let (buffer, frame_bytes) = builder.finish(sequence.map_or(origin, |sequence| sequence.origin(origin)));
    Ok(Frame::new(buffer, frame_bytes))
}
