//! Sending a frame until it is answered: over lost connections, to the same life of its node, until the deadline.
//!
//! Only what carries a sequence is sent again, as its node executes that once. Once the first copy was sent, nothing
//! but an answer says what became of it: whatever ends the waiting otherwise leaves it unknown.
#![forbid(unsafe_code)]

use super::ClientError;
use super::backoff::Backoff;
use super::node::{Exchange, NodeClient, Ready};
use super::session::Sequence;
use crate::transport::Frame;
use crate::wire::{RequestView, mark_retry};
use tokio::time::{Instant, sleep_until};

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
    match node.exchange_on(ready, deadline, request.clone()).await {
        Exchange::Unknown(error @ ClientError::Lost { .. }) if has_number => Begun::Lost(Lost { error, incarnation }),
        exchange => Begun::Ended(exchange),
    }
}

impl Lost {
    pub(super) fn error(&self) -> &ClientError {
        &self.error
    }

    /// Sends it again until it is answered. `Unsent` where a newer map that still names the node may know better.
    pub(super) async fn deliver(
        self,
        node: &NodeClient,
        deadline: Instant,
        request: &Frame,
        sequence: &Sequence,
    ) -> Exchange {
        let exchange = again(node, self.incarnation, deadline, request, sequence).await;
        exchange.unwrap_or(Exchange::Unknown(self.error))
    }
}

/// Sends a request again that was sent before; `None` where it was not answered in time, or the node is another.
async fn again(
    node: &NodeClient,
    incarnation: [u8; 16],
    deadline: Instant,
    request: &Frame,
    sequence: &Sequence,
) -> Option<Exchange> {
    let epoch = RequestView::parse(request).map_or(0, |view| view.header().map_epoch.get());
    let mut backoff = Backoff::new(node.config());
    loop {
        match node.ready(deadline).await {
            Ok(ready) if ready.link().node().incarnation == incarnation => {
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
            // An orderly move may have taken the slots to another node; one that the map names no longer took them
            // along.
            Err(unreachable) => match node.newest_map(deadline).await {
                Some(map) if map.epoch() > epoch => {
                    return node.is_named_by(&map).then_some(Exchange::Unsent(unreachable));
                }
                _ => tracing::debug!("sent before, and not reached again: {unreachable}"),
            },
        }
        backoff.failed();
        let wait = backoff.not_before().unwrap_or(deadline);
        if wait >= deadline {
            return None;
        }
        sleep_until(wait).await;
    }
}

impl NodeClient {
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
        Some(self.exchange_on(ready, deadline, copy).await)
    }
}
