//! Changes of a cluster: each brings the newest map on, as often as that takes.
#![forbid(unsafe_code)]

use super::moving::{Moving, bring_to};
use super::{MoveError, MoverConfig};
use crate::client::{ClientConfig, Control};
use crate::map::{Id, MapNode, MapStore, MapStoreError, ShardMap};
use crate::slots::SlotSet;
use crate::transport::Endpoint;
use crate::wire::MoveStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How often a move of the same slots is begun, where what came in between may pass.
const TRIES_MAX: u32 = 5;

/// The pause before it is begun anew.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long a node is waited for that has no part in a change, and is merely told of it.
const TOLD_WAIT: Duration = Duration::from_secs(1);

/// What happens during a change.
#[derive(Debug)]
pub enum Progress {
    /// Slots begin to move with their records.
    Began {
        /// From here.
        from: Endpoint,
        /// To here.
        to: Endpoint,
        /// These.
        slots: SlotSet,
    },
    /// They have moved.
    Moved {
        /// The epoch of the map that says so.
        epoch: u64,
        /// Bytes of records handed over.
        bytes: u64,
        /// How long nobody served them.
        paused: Duration,
    },
    /// Slots were given to a node without records: nobody's, or a dead node's.
    Given {
        /// To this one.
        to: Endpoint,
        /// These.
        slots: SlotSet,
        /// Whether they were a dead node's.
        are_lost: bool,
    },
    /// A move did not take place and is begun anew.
    Again {
        /// Why.
        error: MoveError,
    },
}

/// Changes who owns what. One change at a time.
#[derive(Debug)]
pub struct Mover {
    store: Arc<dyn MapStore>,
    config: MoverConfig,
    moving: Option<Moving>,
    /// Whether it has put a map there that only who asks the same keeper can know.
    has_marked: bool,
}

impl Mover {
    /// Changes the map that a keeper keeps.
    #[must_use]
    pub fn new(store: Arc<dyn MapStore>, config: MoverConfig) -> Self {
        Self { store, config, moving: None, has_marked: false }
    }

    /// Moves slots to a node, with their records, from whoever owns them by the newest map. Those of nobody, and of
    /// nodes that are `dead`, come without records. Where the future is dropped, [`Mover::give_up`] ends what was
    /// begun.
    ///
    /// # Errors
    /// Why not all of them moved; those of other old owners may have.
    pub async fn move_slots(
        &mut self,
        slots: &SlotSet,
        to: Id,
        dead: &[Id],
        told: &mut dyn FnMut(&Progress),
    ) -> Result<(), MoveError> {
        let mut tries = 0;
        loop {
            let map = self.newest().await?;
            let epoch = map.epoch();
            let place = map.place_of(to).ok_or(MoveError::NoNode { incarnation: to, epoch })?;
            let left = slots.without(&map.slots_of(place));
            let Some(slot) = left.ranges().next().map(|range| *range.start()) else { return Ok(()) };
            if !self.has_marked {
                self.mark(&map).await?;
                continue;
            }
            let owner = map.owner(slot);
            let part = owner.map_or_else(|| unowned(&map), |from| map.slots_of(from)).shared(&left);
            let error = match owner {
                Some(from) if !dead.contains(&map.nodes()[from].incarnation) => {
                    match self.move_part(&map, (from, place), part, told).await {
                        Ok(()) => {
                            tries = 0;
                            continue;
                        }
                        Err(error) => error,
                    }
                }
                _ => match self.give(&map, owner, place, part, told).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
            };
            tries += 1;
            if tries == TRIES_MAX || !may_pass(&error) {
                return Err(error);
            }
            if let MoveError::Refused { status: MoveStatus::Frozen, .. } = error {
                // A mover died there. Whoever is faster, it or this: the next map ends its move.
                self.mark(&map).await?;
            }
            told(&Progress::Again { error });
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Puts a map with the same owners and a higher epoch there: a node that comes to work with it asks the same
    /// keeper, not another one that happens to keep the same map, like a copy of the file. Only of such nodes it is the
    /// map alone that says who owns what.
    async fn mark(&mut self, map: &ShardMap) -> Result<(), MoveError> {
        match self.replace(map, &map.fenced()?).await {
            Ok(()) => self.has_marked = true,
            // Somebody was faster; what is there now is marked next.
            Err(MoveError::Overtaken { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn move_part(
        &mut self,
        map: &Arc<ShardMap>,
        (from, to): (usize, usize),
        slots: SlotSet,
        told: &mut dyn FnMut(&Progress),
    ) -> Result<(), MoveError> {
        let [old, new] = [from, to].map(|place| map.nodes()[place].addresses[0].clone());
        told(&Progress::Began { from: old, to: new, slots: slots.clone() });
        let id = Id::random().map_err(MoveError::Random)?;
        let moving = self.moving.insert(Moving::new(&self.store, map, (from, to), slots, id, &self.config));
        let ran = moving.run().await;
        let ended = if ran.is_ok() { Ok(true) } else { moving.cancel().await };
        let (bytes, paused) = (moving.bytes, moving.paused());
        self.moving = None;
        match (ended?, ran) {
            (true, _) => told(&Progress::Moved { epoch: map.epoch() + 1, bytes, paused }),
            (false, ran) => return ran,
        }
        Ok(())
    }

    /// Gives slots to a node without records.
    async fn give(
        &self,
        map: &ShardMap,
        owner: Option<usize>,
        to: usize,
        slots: SlotSet,
        told: &mut dyn FnMut(&Progress),
    ) -> Result<(), MoveError> {
        if let Some(owner) = owner {
            self.check_dead(&map.nodes()[owner]).await?;
        }
        // It may still hold what it gave up before it read the newest map.
        bring_to(&self.control(&map.nodes()[to]), map.epoch(), self.config.patience).await?;
        let next = map.moved(&slots, to, None)?;
        self.replace(map, &next).await?;
        bring_to(&self.control(&next.nodes()[to]), next.epoch(), self.config.patience).await?;
        let to = map.nodes()[to].addresses[0].clone();
        told(&Progress::Given { to, slots, are_lost: owner.is_some() });
        Ok(())
    }

    /// Makes sure that a node that is said to be dead does not answer.
    async fn check_dead(&self, node: &MapNode) -> Result<(), MoveError> {
        match bring_to(&self.control(node), 0, Duration::ZERO).await {
            Err(MoveError::Unreachable { .. }) => Ok(()),
            // Whatever it says, it says something.
            _ => Err(MoveError::Alive { endpoint: node.addresses[0].clone() }),
        }
    }

    /// Ends the move that was under way when a future was dropped; gives whether it took place.
    ///
    /// # Errors
    /// It is not known; the nodes will find out by themselves.
    pub async fn give_up(&mut self) -> Result<bool, MoveError> {
        match self.moving.take() {
            Some(mut moving) => moving.cancel().await,
            None => Ok(false),
        }
    }

    /// Brings a node into the map, with no slots.
    ///
    /// # Errors
    /// Why not.
    pub async fn add(&self, node: MapNode) -> Result<(), MoveError> {
        let map = self.newest().await?;
        let next = map.with_node(node.clone())?;
        self.replace(&map, &next).await?;
        bring_to(&self.control(&node), next.epoch(), self.config.patience).await
    }

    /// Takes a node that owns nothing out of the map.
    ///
    /// # Errors
    /// Why not: it may own slots.
    pub async fn forget(&self, incarnation: Id) -> Result<(), MoveError> {
        let map = self.newest().await?;
        let epoch = map.epoch();
        let place = map.place_of(incarnation).ok_or(MoveError::NoNode { incarnation, epoch })?;
        let slots = map.slots_of(place);
        if slots != SlotSet::NONE {
            return Err(MoveError::OwnsSlots { incarnation, slots: slots.count() });
        }
        let next = map.without_node(place)?;
        self.replace(&map, &next).await?;
        // The map names it no more: whether it hears so is of no account to anybody.
        let _told = bring_to(&self.control(&map.nodes()[place]), next.epoch(), TOLD_WAIT).await;
        Ok(())
    }

    /// Tells every node of the newest map that there is one; gives those that do not come to work with it.
    ///
    /// # Errors
    /// There is no map.
    pub async fn tell_all(&self) -> Result<Vec<MoveError>, MoveError> {
        let map = self.newest().await?;
        let mut behind = Vec::new();
        for node in map.nodes() {
            let told = bring_to(&self.control(node), map.epoch(), TOLD_WAIT.min(self.config.patience)).await;
            behind.extend(told.err());
        }
        Ok(behind)
    }

    /// The newest map.
    ///
    /// # Errors
    /// There is none.
    pub async fn newest(&self) -> Result<Arc<ShardMap>, MoveError> {
        self.store.load().await?.ok_or(MoveError::NoMap)
    }

    async fn replace(&self, map: &ShardMap, next: &ShardMap) -> Result<(), MoveError> {
        match self.store.replace(map.epoch(), next).await {
            Err(MapStoreError::Conflict { got, .. }) => Err(MoveError::Overtaken { epoch: got }),
            replaced => Ok(replaced?),
        }
    }

    fn control(&self, node: &MapNode) -> Control {
        Control::new(node, &ClientConfig { deadline: TOLD_WAIT, ..self.config.client.clone() })
    }
}

fn unowned(map: &ShardMap) -> SlotSet {
    let owned = (0..map.nodes().len()).fold(SlotSet::NONE, |owned, place| owned.joined(&map.slots_of(place)));
    SlotSet::ALL.without(&owned)
}

/// Whether the same move may take place when it is begun anew.
fn may_pass(error: &MoveError) -> bool {
    match error {
        MoveError::Overtaken { .. } => true,
        MoveError::Refused { status, .. } => {
            matches!(status, MoveStatus::NoMove | MoveStatus::OtherEpoch | MoveStatus::Frozen)
        }
        _ => false,
    }
}
