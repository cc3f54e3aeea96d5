//! Sending a frame until it is answered: over lost connections, to the same life of its node, until the deadline.
//!
//! Only what carries a sequence is sent again, as its node executes that once. Once the first copy was sent, nothing
//! but an answer says what became of it: whatever ends the waiting otherwise leaves it unknown. A newer map ends it
//! only where it gives some of the frame to others.
#![forbid(unsafe_code)]

use super::backoff::Backoff;
use super::node::{Exchange, NodeClient, Ready};
use super::session::Sequence;
use super::{ClientError, Loss};
use crate::hash::slot;
use crate::op::Op;
use crate::transport::Frame;
use crate::wire::{RequestView, mark_retry};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How sending a frame until it was answered ended.
pub(super) struct Delivered {
    pub(super) exchange: Exchange,
    /// Whether copies may still be on their way on other connections.
    pub(super) is_again: bool,
}

/// Sends a request that carries the number of `ready`, and sends it again where its connection is lost.
pub(super) async fn deliver(
    node: &NodeClient,
    ready: Ready,
    deadline: Instant,
    request: &Frame,
    sequence: Option<&Sequence>,
) -> Delivered {
    match begin(node, ready, deadline, request, sequence.is_some()).await {
        Begun::Ended(exchange) => Delivered { exchange, is_again: false },
        Begun::Lost(lost) => {
            let sequence = sequence.expect("only with a number it is sent again");
            Delivered { exchange: lost.deliver(node, deadline, request, sequence).await, is_again: true }
        }
    }
}

/// How sending a frame for the first time ended.
pub(super) enum Begun {
    Ended(Exchange),
    /// Its connection was lost, and it may be sent again.
    Lost(Lost),
}

/// A frame whose connection was lost.
pub(super) struct Lost {
    error: ClientError,
    /// The life of its node that may have executed it.
    incarnation: [u8; 16],
}

/// Sends a request for the first time.
pub(super) async fn begin(
    node: &NodeClient,
    ready: Ready,
    deadline: Instant,
    request: &Frame,
    has_number: bool,
) -> Begun {
    let incarnation = ready.link().node().incarnation;
    match node.exchange_on(ready, deadline, request).await {
        Exchange::Unknown(error @ ClientError::Lost { .. }) if has_number => Begun::Lost(Lost { error, incarnation }),
        exchange => Begun::Ended(exchange),
    }
}

impl Lost {
    /// Sends it again until it is answered. `Unsent` where a newer map gives some of it to others, of which there is
    /// no telling whether it took effect.
    pub(super) async fn deliver(
        self,
        node: &NodeClient,
        deadline: Instant,
        request: &Frame,
        sequence: &Sequence,
    ) -> Exchange {
        let exchange = again(node, Some(self.incarnation), deadline, request, sequence).await;
        exchange.unwrap_or(Exchange::Unknown(self.error))
    }
}

/// Sends a request that was sent before, to that life of the node, or to the one that a map names. `None` where it was
/// not answered in time, or the node is another, or in the map no more.
pub(super) async fn again(
    node: &NodeClient,
    incarnation: Option<[u8; 16]>,
    deadline: Instant,
    request: &Frame,
    sequence: &Sequence,
) -> Option<Exchange> {
    let mut place = Place::of(node, request);
    let mut backoff = Backoff::new(node.config());
    loop {
        match place.share() {
            Share::Whole => {}
            // An orderly move may have taken the slots to another node.
            Share::Part => return Some(Exchange::Unsent(node.lost(Loss::Moved))),
            // One that the map names no longer took them along.
            Share::Gone => return None,
        }
        match node.ready(deadline).await {
            Ok(ready) if incarnation.is_none_or(|known| ready.link().node().incarnation == known) => {
                match node.exchange_on_copy(ready, deadline, request, sequence).await {
                    Some(answered @ Exchange::Answered(..)) => return Some(answered),
                    // It was lost once more, or refused for now.
                    Some(Exchange::Unknown(ClientError::Lost { .. }) | Exchange::Unsent(_)) => {}
                    Some(malformed @ Exchange::Unknown(ClientError::Malformed { .. })) => return Some(malformed),
                    Some(Exchange::Unknown(_)) | None => return None,
                }
            }
            Ok(ready) => {
                ready.cancel();
                return None;
            }
            Err(ClientError::MemoryLost { .. } | ClientError::NotSent { .. }) => return None,
            Err(unreachable) => {
                tracing::debug!("sent before, and not reached again: {unreachable}");
                if place.look(deadline).await {
                    continue;
                }
            }
        }
        backoff.failed();
        let wait = backoff.not_before().unwrap_or(deadline);
        if wait >= deadline {
            return None;
        }
        sleep_until(wait).await;
    }
}

/// What of a frame is its node's by a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Whole,
    /// Not all of it.
    Part,
    /// The map does not name the node.
    Gone,
}

/// A frame at its node, as maps come. None of them is taken for known: a frame that waits while one comes says its
/// epoch, and goes to the node that the one before named.
struct Place<'a> {
    node: &'a NodeClient,
    request: &'a Frame,
    /// The map that was gone by last.
    epoch: u64,
}

impl<'a> Place<'a> {
    fn of(node: &'a NodeClient, request: &'a Frame) -> Self {
        Self { node, request, epoch: 0 }
    }

    /// What of it is its node's by the newest map that anybody saw. All, where that is the one of the last time, and
    /// where there are no maps.
    fn share(&mut self) -> Share {
        let Some(keeper) = self.node.keeper() else { return Share::Whole };
        let map = keeper.newest();
        if map.epoch() == self.epoch {
            return Share::Whole;
        }
        self.epoch = map.epoch();
        let Some(place) = self.node.place_in(&map) else { return Share::Gone };
        let is_its = |op: Op<'_>| map.owner(slot(op.key)) == Some(place);
        // What is no batch is about no slot.
        let is_whole = RequestView::parse(self.request).map_or(true, |view| view.ops().all(is_its));
        if is_whole { Share::Whole } else { Share::Part }
    }

    /// Looks for a newer map; whether there is one.
    async fn look(&self, deadline: Instant) -> bool {
        match self.node.keeper() {
            Some(keeper) => keeper.look(deadline).await.epoch() > self.epoch,
            None => false,
        }
    }
}

impl NodeClient {
    /// Waits until a map gives some of a frame to others than this node: for ever, where there are no maps. Looks for
    /// a newer one now and then.
    pub(super) async fn moved(&self, request: &Frame, look_every: Duration) {
        let mut place = Place::of(self, request);
        while place.share() == Share::Whole {
            sleep(look_every).await;
            place.look(Instant::now() + look_every).await;
        }
    }

    /// Sends a copy of a request; `None` where there is no memory for it.
    async fn exchange_on_copy(
        &self,
        ready: Ready,
        deadline: Instant,
        request: &Frame,
        sequence: &Sequence,
    ) -> Option<Exchange> {
        let Some(mut buffer) = ready.link().lend(request.len()) else {
            ready.cancel();
            return None;
        };
        buffer[..request.len()].copy_from_slice(request);
        mark_retry(&mut buffer, sequence.origin(self.origin(ready.request())));
        let copy = Frame::new(buffer, request.frame_bytes());
        Some(self.exchange_on(ready, deadline, &copy).await)
    }
}
