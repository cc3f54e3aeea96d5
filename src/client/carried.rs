//! Single operations of one frame whose connection was lost: sent again together, until each has its answer.
//!
//! To their node while it is theirs, and from there, under the number of their frame, to whom newer maps name.
//! Together, as each by itself would cost both ends a look at all of the frame.
#![forbid(unsafe_code)]

use super::again::Lost;
use super::coalescer::Answered;
use super::flight::Flight;
use super::link::Link;
use super::node::Exchange;
use super::reply::Unplaced;
use super::routing::{Cause, Router};
use super::session::Sequence;
use super::share::check;
use super::{ClientError, kept};
use crate::op::Outcome;
use crate::transport::Frame;
use std::sync::Arc;

/// The operations of a frame.
pub(super) struct Carried {
    router: Arc<Router>,
    request: Frame,
    sequence: Arc<Sequence>,
    flight: Flight,
}

impl Carried {
    pub(super) fn new(router: Arc<Router>, request: Frame, sequence: Arc<Sequence>, flight: Flight) -> Self {
        Self { router, request, sequence, flight }
    }

    /// Sends them until each has its answer, or no map helps.
    pub(super) async fn deliver(mut self, lost: Lost) {
        let ended = self.carry(lost).await;
        let endpoint = self.flight.node().endpoint();
        let error = ended.err().unwrap_or_else(|| ClientError::Forgotten { endpoint: endpoint.clone() });
        self.flight.tell_all(|_| Err(error.clone()));
    }

    /// Tells those that are answered. The others may have taken effect.
    async fn carry(&mut self, lost: Lost) -> Result<(), ClientError> {
        let node = self.flight.node();
        let deadline = node.deadline();
        let mut cause = match lost.deliver(node, deadline, &self.request, &self.sequence).await {
            Exchange::Answered(frame, link) => self.take(&frame, &link)?,
            Exchange::Unsent(_) => Cause::Unsent,
            Exchange::Unknown(error) => return Err(error),
        };
        // By a map that is newer than the oldest of theirs some of them may be another's.
        let mut epoch = self.flight.singles().map(|single| single.epoch).min().unwrap_or_default();
        for round in 0.. {
            let ops = self.flight.untold();
            if ops.is_empty() {
                break;
            }
            let Ok(routing) = self.router.next(epoch, cause, round, deadline).await else { break };
            epoch = routing.epoch();
            let (request, sequence) = (self.request.clone(), Some(Arc::clone(&self.sequence)));
            let kept = Unplaced { request, ops, cause, sequence };
            for (mut part, places) in kept::send(&kept, &routing, self.router.config(), deadline).await? {
                match part.unplaced.take() {
                    Some(left) => cause = left.cause,
                    None => places.into_iter().for_each(|(op, index)| self.flight.tell(op, part.answered(index))),
                }
            }
        }
        Ok(())
    }

    /// Tells what a reply to all of them says; why some are left.
    fn take(&mut self, frame: &Frame, link: &Link) -> Result<Cause, ClientError> {
        let view = check(link, frame, self.flight.ops())?;
        // What its node does not own may have taken effect before.
        for (index, _) in (0..).zip(view.outcomes()).filter(|(_, outcome)| *outcome != Outcome::WrongNode) {
            self.flight.tell(index, Ok(Answered { frame: frame.clone(), index }));
        }
        Ok(Cause::WrongNode { epoch: view.header().map_epoch.get() })
    }
}
