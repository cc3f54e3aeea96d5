//! Sending again what a batch's nodes did not own, or could not take, to whom a newer map names.
//!
//! Operations on one key were left out together, and they are sent again together and in their order. What had its
//! outcome keeps it. Of what may have taken effect nothing is sent again but what keeps its number (`kept.rs`), and
//! nothing behind it.
#![forbid(unsafe_code)]

use super::batch::{Batch, Route, all};
use super::kept::{self, Placed};
use super::reply::{Failure, Part, Reply, Unplaced};
use super::routing::{Cause, Router, Routing};
use super::{BatchError, ClientConfig, ClientError};
use crate::op::{Op, Outcome};
use crate::wire::RequestView;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// A batch of one round, and which operations it holds, in their order.
struct Rest {
    batch: Batch,
    ops: Vec<usize>,
}

/// What became of the operations of one round.
enum Pushed {
    /// It stands in the batch that is sent next.
    Sent,
    /// Its node's frame is full: another round.
    Left,
    /// No frame holds it.
    Never(BatchError),
}

impl Reply {
    /// Sends what is unplaced until all of it has an outcome, or no map helps.
    pub(super) async fn resend(
        &mut self,
        router: &Arc<Router>,
        mut routing: Arc<Routing>,
        config: &ClientConfig,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        if self.routes.is_empty() {
            self.routes = (0..self.op_count).map(|index| Route { part: 0, index }).collect();
        }
        for round in 0.. {
            let Some(cause) = self.cause() else { break };
            match router.next(routing.epoch(), cause, round, deadline).await {
                Ok(next) => routing = next,
                Err(error) => {
                    self.give_up(error.as_ref());
                    break;
                }
            }
            let first = self.parts.len();
            self.send_round(router, &routing, config, deadline).await?;
            // The lost frame may yet take effect: what its frame had no room for may not go before it.
            if let Some(error) = self.lost_since(first)
                && self.has_left()
            {
                self.give_up(Some(&error));
                break;
            }
        }
        Ok(())
    }

    /// Why a part from `first` on may or may not have taken effect, if there is one that is not sent again.
    fn lost_since(&self, first: usize) -> Option<ClientError> {
        let is_lost = |part: &&Part| part.outcome == Some(Outcome::Unknown) && part.unplaced.is_none();
        let lost = self.parts[first..].iter().find(is_lost)?;
        lost.failure.as_ref().map(|failure| failure.error.clone())
    }

    /// Whether a frame had no room for some of what is unplaced.
    fn has_left(&self) -> bool {
        let is_left = |unplaced: &Unplaced| unplaced.cause == Cause::FrameFull;
        self.parts.iter().any(|part| part.unplaced.as_ref().is_some_and(is_left))
    }

    /// Why what is unplaced is, by the cause that has to be waited for longest.
    fn cause(&self) -> Option<Cause> {
        self.parts.iter().filter_map(|part| Some(part.unplaced.as_ref()?.cause)).max_by_key(Cause::urgency)
    }

    /// Sends all that is unplaced once: what keeps its number, each frame by itself, and the rest as one batch.
    async fn send_round(
        &mut self,
        router: &Arc<Router>,
        routing: &Arc<Routing>,
        config: &ClientConfig,
        deadline: Instant,
    ) -> Result<(), ClientError> {
        let mut unplaced: Vec<_> = self.parts.iter_mut().map(|part| part.unplaced.take()).collect();
        for (part, _) in self.parts.iter_mut().zip(&unplaced).filter(|(_, unplaced)| unplaced.is_some()) {
            if part.outcome.is_some() {
                // No answer, and so of these operations alone: they are on their way again.
                part.failure = None;
            }
        }
        let kept = unplaced.iter_mut().map(|place| place.take_if(|there| there.sequence.is_some()));
        let kept: Vec<_> = (0..).zip(kept).filter_map(|(index, kept)| Some((index, kept?))).collect();
        let rest = self.rest(unplaced, !kept.is_empty(), router, routing);
        let kept_sent = kept.iter().map(|(_, kept)| kept::send(kept, routing, config, deadline)).collect();
        let (kept_sent, sent) = tokio::join!(all(kept_sent), rest.batch.execute_parts(config, deadline));
        for ((index, _), sent) in kept.iter().zip(kept_sent?) {
            self.place_kept(*index, sent);
        }
        let (parts, routes, op_count) = sent?;
        let first = self.parts.len() as u32;
        let identity = (0..op_count).map(|index| Route { part: 0, index });
        let routes = if routes.is_empty() { identity.collect() } else { routes };
        for (op, route) in rest.ops.into_iter().zip(routes) {
            self.routes[op] = Route { part: first + route.part, ..route };
        }
        self.parts.extend(parts);
        Ok(())
    }

    /// A batch of what keeps no number. What finds no room stays unplaced: so does, where anything `is_kept`, what
    /// found none before, as it may be on the same keys and comes behind.
    fn rest(
        &mut self,
        unplaced: Vec<Option<Unplaced>>,
        is_kept: bool,
        router: &Arc<Router>,
        routing: &Arc<Routing>,
    ) -> Rest {
        let is_held =
            |there: &Option<Unplaced>| is_kept && there.as_ref().is_some_and(|there| there.cause == Cause::FrameFull);
        let held: Vec<_> = unplaced.iter().map(is_held).collect();
        let count = unplaced.iter().flatten().map(|unplaced| unplaced.ops.len()).sum::<usize>();
        let mut rest = Rest { batch: Batch::by(Arc::clone(routing), router, count as u32), ops: Vec::new() };
        let (mut left, mut never) = (Vec::new(), Vec::new());
        // Behind an operation that did not fit comes none of its part: those on its key may be among them.
        let mut full = vec![false; routing.parts()];
        in_order(&self.routes, &unplaced, |op_index, op| {
            let (from, part) = (self.routes[op_index], routing.part_of(op.key));
            let is_begun = rest.batch.has_begun(part);
            let is_left = full[part] || held[from.part as usize];
            match if is_left { Pushed::Left } else { push(&mut rest.batch, op, is_begun) } {
                Pushed::Sent => rest.ops.push(op_index),
                Pushed::Left => {
                    full[part] |= !held[from.part as usize];
                    left.push(from);
                }
                Pushed::Never(error) => never.push((op_index, error)),
            }
        });
        for (index, (part, unplaced)) in (0..).zip(self.parts.iter_mut().zip(unplaced)) {
            let Some(mut unplaced) = unplaced else { continue };
            unplaced.ops = left.iter().filter(|route| route.part == index).map(|route| route.index).collect();
            unplaced.cause = Cause::FrameFull;
            part.unplaced = (!unplaced.ops.is_empty()).then_some(unplaced);
        }
        for (op, error) in never {
            self.routes[op] = Route { part: self.parts.len() as u32, index: 0 };
            self.parts.push(Part::failed(Outcome::NotSent, Failure { endpoint: None, error: error.into() }));
        }
        rest
    }

    /// Takes what came of sending what a part kept.
    fn place_kept(&mut self, index: u32, sent: Vec<Placed>) {
        let mut to = BTreeMap::new();
        for (part, places) in sent {
            let new = self.parts.len() as u32;
            to.extend(places.into_iter().map(|(place, index)| (place, Route { part: new, index })));
            self.parts.push(part);
        }
        for route in self.routes.iter_mut().filter(|route| route.part == index) {
            if let Some(new) = to.get(&route.index) {
                *route = *new;
            }
        }
    }

    /// What is unplaced stays unsent, or unknown where it keeps its number: for the reason given, or for the one that
    /// its part has already.
    fn give_up(&mut self, error: Option<&ClientError>) {
        let unplaced: Vec<_> = self.parts.iter_mut().map(|part| part.unplaced.take()).collect();
        let mut ops = Vec::new();
        in_order(&self.routes, &unplaced, |op, _| ops.push(op));
        let said = || self.parts.iter().rev().find_map(|part| Some(part.failure.as_ref()?.error.clone()));
        let Some(error) = error.cloned().or_else(said) else { return };
        let is_kept = |part: u32| unplaced[part as usize].as_ref().is_some_and(|unplaced| unplaced.sequence.is_some());
        for (outcome, kept) in [(Outcome::NotSent, false), (Outcome::Unknown, true)] {
            let (failed, mut moved) = (self.parts.len(), false);
            for op in &ops {
                let from = self.routes[*op].part;
                let has_reason = |part: &Part| part.outcome.is_some() && part.failure.is_some();
                if (from as usize) < unplaced.len() && is_kept(from) == kept && !has_reason(&self.parts[from as usize])
                {
                    moved = true;
                    self.routes[*op].part = failed as u32;
                }
            }
            if moved {
                self.parts.push(Part::failed(outcome, Failure { endpoint: None, error: error.clone() }));
            }
        }
    }
}

fn push(batch: &mut Batch, op: &Op<'_>, is_begun: bool) -> Pushed {
    match batch.push(op) {
        Ok(()) => Pushed::Sent,
        Err(_) if is_begun => Pushed::Left,
        Err(error) => Pushed::Never(error),
    }
}

/// Visits the unplaced operations in the order of the batch, each with its index there.
fn in_order(routes: &[Route], unplaced: &[Option<Unplaced>], mut visit: impl FnMut(usize, &Op<'_>)) {
    let ops = unplaced.iter().map(|unplaced| {
        let view = RequestView::parse(&unplaced.as_ref()?.request).expect("the view reads what the builder wrote");
        Some((0_u32..).zip(view.ops()))
    });
    let mut ops: Vec<_> = ops.collect();
    let mut wanted: Vec<_> =
        unplaced.iter().map(|unplaced| unplaced.iter().flat_map(|unplaced| &unplaced.ops).peekable()).collect();
    for (op_index, route) in routes.iter().enumerate() {
        let Some(Some(ops)) = ops.get_mut(route.part as usize) else { continue };
        if wanted[route.part as usize].next_if(|index| **index == route.index).is_none() {
            continue;
        }
        // In a frame operations stand in the order of the batch.
        let (_, op) = ops.find(|(index, _)| *index == route.index).expect("it stands in its frame");
        visit(op_index, &op);
    }
}
