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
//! The queue (`queue.rs`) holds what somebody waits for and no more: who goes away takes its operation along, unsent.
//! Nothing leaves it before there is a link that takes the frame at once: what left it is sent.
#![forbid(unsafe_code)]

use super::again::{Begun, Lost, begin};
use super::alarm::Alarms;
use super::carried::Carried;
use super::flight::Flight;
use super::node::{Exchange, NodeClient, Ready};
use super::queue::{Alarm, Answer, CARRIERS_MAX, OPS_MAX, Place, Queue};
use super::routing::Router;
use super::session::Sequence;
use super::share::check as check_reply;
use super::{BatchError, ClientError, Unsent};
use crate::limits;
use crate::op::{Action, Edit, Edited, Op, Outcome, Time, Version};
use crate::transport::Frame;
use crate::wire::{ReplyView, RequestBuilder};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::Instant;

const _: () = assert!(OPS_MAX <= limits::FRAME_OPS_MAX as usize);

/// An operation that owns its bytes.
#[derive(Debug)]
pub(super) struct Single {
    pub(super) key: Box<[u8]>,
    pub(super) action: SingleAction,
    /// Of the map by which it came to its node.
    pub(super) epoch: u64,
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

    /// Bytes of its key and its value.
    pub(super) fn bytes(&self) -> usize {
        let value = match &self.action {
            SingleAction::Put(value) | SingleAction::CompareAndSwap(_, value) | SingleAction::Edit(_, value) => {
                value.len()
            }
            _ => 0,
        };
        self.key.len() + value
    }
}

/// The singles of one node.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    queue: Queue,
    alarms: Alarms,
}

impl Coalescer {
    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Issues an operation and waits for its outcome. Dropping the future abandons it: what waits is never sent, what
    /// is in flight may still take effect.
    pub(super) async fn issue(
        &self,
        (node, router): (&Arc<NodeClient>, &Arc<Router>),
        epoch: u64,
        key: &[u8],
        action: SingleAction,
        deadline: Instant,
    ) -> Answer {
        let single = Single { key: key.into(), action, epoch };
        check(&single)?;
        let kept_by = Alarm { runtime: Handle::current().id(), at: deadline };
        let (mut single, mut issued) = (Some(single), Issued { queue: &self.queue, place: None });
        poll_fn(|cx| {
            if let Some(single) = single.take() {
                let (place, wanted) = self.queue.push(single, kept_by, cx.waker());
                issued.place = Some(place);
                if wanted.carrier {
                    let (node, router) = (Arc::clone(node), Arc::clone(router));
                    tokio::spawn(Carrying { node, router, in_flight: 0, finished: false }.run());
                }
                if wanted.alarm {
                    self.alarms.set(node, kept_by);
                }
                if !wanted.carrier && !wanted.alarm {
                    return Poll::Pending;
                }
                // Where the runtime is ending, its tasks ended as they were spawned.
            }
            issued.poll(cx)
        })
        .await
    }
}

/// An operation that was issued. Dropped, it takes along what has not been carried.
struct Issued<'a> {
    queue: &'a Queue,
    /// `None` before it is there, and once it was answered.
    place: Option<Place>,
}

impl Issued<'_> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Answer> {
        let place = self.place.expect("it is polled until it is answered");
        let answer = self.queue.poll(place, cx);
        self.place = Some(place).filter(|_| answer.is_pending());
        answer
    }
}

impl Drop for Issued<'_> {
    fn drop(&mut self) {
        self.place.into_iter().for_each(|place| self.queue.leave(place));
    }
}

/// A task that empties a queue.
struct Carrying {
    node: Arc<NodeClient>,
    router: Arc<Router>,
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

    fn queue(&self) -> &Queue {
        self.node.coalescer().queue()
    }

    /// Whether anything waits; if not, the task ends.
    fn is_wanted(&mut self) -> bool {
        let landed = std::mem::take(&mut self.in_flight);
        self.finished = !self.queue().goes_on(landed);
        !self.finished
    }

    /// Carries a frame's worth and tells the callers.
    async fn carry(&mut self) {
        let ready = self.node.ready(self.node.deadline()).await;
        if let Err(ClientError::NotSent { source: Unsent::Late(_), .. }) = ready {
            // Who has waited as long is late; who came later still has time.
            return self.queue().end_late(Instant::now(), |unanswered| self.node.late_for(unanswered));
        }
        // Who waits for a node that cannot be reached is told at once.
        let singles = self.queue().take(if ready.is_ok() { CARRIERS_MAX } else { 1 });
        self.in_flight = singles.len();
        let flight = Flight::new(Arc::clone(&self.node), singles);
        let had_company = self.queue().has_two_carriers();
        let sent = match ready {
            Ok(ready) if flight.is_empty() => return ready.cancel(),
            Ok(ready) => exchange(&self.node, ready, &flight).await,
            Err(error) => Sent::Ended(Err(error)),
        };
        if had_company && !self.queue().has_two_carriers() {
            // Both frames were answered at once: who waited for the other one issues, and is sent, before those of
            // this one do.
            yield_now().await;
        }
        match sent {
            Sent::Ended(Ok(frame)) => flight.tell_all(|index| Ok(Answered { frame: frame.clone(), index })),
            Sent::Ended(Err(error)) => flight.tell_all(|_| Err(error.clone())),
            // Who comes next need not wait for a node that may be gone. It ends by the deadline.
            Sent::Lost(lost, request, sequence) => {
                let router = Arc::clone(&self.router);
                tokio::spawn(Carried::new(router, request, Arc::new(sequence), flight).deliver(lost));
            }
        }
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        if !self.finished {
            // Dropped with its runtime.
            self.queue().carrier_ended(self.in_flight, || self.node.not_sent(Unsent::RuntimeEnded));
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
async fn exchange(node: &NodeClient, ready: Ready, flight: &Flight) -> Sent {
    let sequence = node.sequence();
    let request = match frame(node, &ready, flight, sequence.as_ref()) {
        Ok(request) => request,
        Err(error) => {
            ready.cancel();
            return Sent::Ended(Err(error.into()));
        }
    };
    match begin(node, ready, node.deadline(), &request, sequence.is_some()).await {
        Begun::Lost(lost) => Sent::Lost(lost, request, sequence.expect("only with a number it is sent again")),
        Begun::Ended(Exchange::Answered(frame, link)) => {
            let checked = check_reply(&link, &frame, flight.ops()).map(drop);
            Sent::Ended(checked.map(|()| frame))
        }
        Begun::Ended(Exchange::Unsent(error) | Exchange::Unknown(error)) => Sent::Ended(Err(error)),
    }
}

fn frame(node: &NodeClient, ready: &Ready, flight: &Flight, sequence: Option<&Sequence>) -> Result<Frame, BatchError> {
    let link = ready.link();
    let bytes = flight.singles().map(|single| single.bytes() + 16).sum::<usize>() + 64;
    let buffer = link.lend(bytes).ok_or(BatchError::OutOfMemory { needed: bytes as u64 })?;
    let mut builder = RequestBuilder::new(buffer, flight.ops(), link.node().frame_bytes_max)?;
    for single in flight.singles() {
        match single.action {
            SingleAction::Get { version_wanted: false } => builder.push_get(&single.key[..])?,
            _ => builder.push(&single.op())?,
        }
    }
    let origin = node.origin(ready.request());
    let (buffer, frame_bytes) = builder.finish(sequence.map_or(origin, |sequence| sequence.origin(origin)));
    Ok(Frame::new(buffer, frame_bytes))
}
