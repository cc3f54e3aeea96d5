//! One move of slots from one node to another, step by step.
#![forbid(unsafe_code)]

use super::{MoveError, MoverConfig};
use crate::client::{ClientError, Control, MoveReply};
use crate::map::{Id, MapStore, ShardMap};
use crate::slots::SlotSet;
use crate::wire::{MoveBody, MoveCommand, MoveStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What is left to hand over when the old owner gives the slots up, at most: keys, and bytes if they are as long as
/// those that came last. A frame or two of keys, a dozen of long values.
const KEYS_LEFT_MAX: u64 = 4_096;
const BYTES_LEFT_MAX: u64 = 4 << 20;

/// Frames, beyond those of the walk, after which it does so with however many: what changes faster than it is handed
/// over never becomes less.
const ROUNDS_MAX: u32 = 256;

/// The pause before a step that found no memory, or a keeper that gave no answer, is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Both nodes may be told that it is off.
    Copying,
    /// The map alone ends it.
    Frozen,
    /// Nothing is left to do.
    Over,
}

/// A move under way. Its steps are taken in order, [`Moving::run`] takes all; whoever stops in between calls
/// [`Moving::cancel`], or leaves it to the nodes.
#[derive(Debug)]
pub struct Moving {
    store: Arc<dyn MapStore>,
    map: Arc<ShardMap>,
    config: MoverConfig,
    id: Id,
    slots: SlotSet,
    to: usize,
    old: Control,
    new: Control,
    stage: Stage,
    /// Of the latest step to the old owner.
    exported: u64,
    /// The one of them whose reply arrived last.
    arrived: u64,
    /// Of the latest step to the new owner.
    imported: u64,
    version_max: u64,
    /// When the slots were given up, and for how long nobody served them.
    given_up: Option<Instant>,
    paused: Duration,
    /// Bytes of keys, values and what stands before them that were handed over so far.
    pub bytes: u64,
}

impl Moving {
    /// A move of slots between two nodes of the newest map, by their places in it. `id` names it: random bits.
    ///
    /// # Panics
    /// Where the map has no such nodes.
    #[must_use]
    pub fn new(
        store: &Arc<dyn MapStore>,
        map: &Arc<ShardMap>,
        (from, to): (usize, usize),
        slots: SlotSet,
        id: Id,
        config: &MoverConfig,
    ) -> Self {
        let [old, new] = [from, to].map(|place| Control::new(&map.nodes()[place], &config.client));
        Self {
            store: Arc::clone(store),
            map: Arc::clone(map),
            config: config.clone(),
            id,
            slots,
            to,
            old,
            new,
            stage: Stage::Copying,
            exported: 0,
            arrived: 0,
            imported: 0,
            version_max: 0,
            given_up: None,
            paused: Duration::ZERO,
            bytes: 0,
        }
    }

    /// How long nobody served the slots, as far as the mover can tell.
    #[must_use]
    pub fn paused(&self) -> Duration {
        self.paused
    }

    /// Takes all steps; the next map is in force when it returns.
    ///
    /// # Errors
    /// Why the move did not take place, or may not have.
    pub async fn run(&mut self) -> Result<(), MoveError> {
        self.begin().await?;
        self.copy().await?;
        self.freeze().await?;
        self.hand_over().await?;
        self.finish().await?;
        self.settle().await
    }

    /// The first step: both nodes work with the newest map, and make ready.
    ///
    /// # Errors
    /// Why they do not.
    pub async fn begin(&mut self) -> Result<(), MoveError> {
        let epoch = self.map.epoch();
        for control in [&self.old, &self.new] {
            bring_to(control, epoch, self.config.patience).await?;
        }
        let slots = self.slots.to_bytes();
        self.ask_old(MoveCommand::ExportBegin, &slots).await?;
        self.ask_new(MoveCommand::ImportBegin, 0, &slots).await
    }

    /// Copies every record once, and what changes meanwhile, until little is left. Both nodes serve.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub async fn copy(&mut self) -> Result<(), MoveError> {
        let mut rounds = 0;
        while rounds < ROUNDS_MAX {
            match self.relay().await? {
                Relayed { keys_left: None, .. } => {}
                Relayed { keys_left: Some(keys), bytes_each } => {
                    if keys <= KEYS_LEFT_MAX && keys * bytes_each <= BYTES_LEFT_MAX {
                        break;
                    }
                    rounds += 1;
                }
            }
        }
        Ok(())
    }

    /// The old owner gives the slots up: nobody serves them from now on.
    ///
    /// # Errors
    /// Why it does not, as far as is known.
    pub async fn freeze(&mut self) -> Result<(), MoveError> {
        // It may take the step, and the answer be lost.
        self.stage = Stage::Frozen;
        self.given_up = Some(Instant::now());
        self.ask_old(MoveCommand::Freeze, &[]).await.map(drop)
    }

    /// Hands over what is left: after this the new owner has everything.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub async fn hand_over(&mut self) -> Result<(), MoveError> {
        while self.relay().await?.keys_left != Some(0) {}
        Ok(())
    }

    /// Tells the new owner that this was all.
    ///
    /// # Errors
    /// Why it does not take that.
    pub async fn finish(&mut self) -> Result<(), MoveError> {
        self.imported += 1;
        self.ask_new(MoveCommand::ImportFinish, self.version_max, &[]).await
    }

    /// Puts the map that says so in the place of the one before, and tells both nodes.
    ///
    /// # Errors
    /// [`MoveError::Overtaken`] where another map came first; [`MoveError::Unsettled`] where that is not known.
    pub async fn settle(&mut self) -> Result<(), MoveError> {
        let next = self.map.moved(&self.slots, self.to, Some(self.id))?;
        self.replace(&next).await?;
        Ok(())
    }

    /// Ends the move, whatever it did: after this it took place as a whole, or not at all. Gives whether it did.
    ///
    /// # Errors
    /// It is not known; the nodes will find out by themselves.
    pub async fn cancel(&mut self) -> Result<bool, MoveError> {
        match self.stage {
            Stage::Over => Ok(false),
            Stage::Copying => {
                self.stage = Stage::Over;
                let body = self.body(MoveCommand::End, 0, 0);
                // Where a node does not hear it, its next map or move says the same.
                let _told = tokio::join!(self.old.ask(&body, &[]), self.new.ask(&body, &[]));
                Ok(false)
            }
            Stage::Frozen => {
                let fence = self.map.fenced()?;
                match self.replace(&fence).await {
                    Ok(took_place) => Ok(took_place),
                    Err(MoveError::Overtaken { .. }) => Ok(false),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Replaces the map by `next`, unless another did; gives whether the move took place by the map that is there now.
    async fn replace(&mut self, next: &ShardMap) -> Result<bool, MoveError> {
        let (epoch, patience) = (self.map.epoch(), self.config.patience);
        let until = Instant::now() + patience;
        let there = loop {
            let refused = match self.store.replace(epoch, next).await {
                Ok(()) => break Arc::new(next.clone()),
                Err(refused) => refused,
            };
            // Whatever it said: what is there now decides.
            match self.store.load().await {
                Ok(Some(there)) if there.epoch() > epoch => break there,
                _ if Instant::now() >= until => return Err(MoveError::Unsettled { patience, source: refused }),
                _ => sleep(AGAIN_AFTER).await,
            }
        };
        self.stage = Stage::Over;
        // The new owner first: until it knows, nobody serves. One that cannot be told finds out by itself.
        for control in [&self.new, &self.old] {
            if let Err(error) = bring_to(control, there.epoch(), patience).await {
                tracing::warn!("{error}");
            } else if self.paused == Duration::ZERO {
                self.paused = self.given_up.map_or(Duration::ZERO, |since| since.elapsed());
            }
        }
        let took_place = there.place_of(self.map.nodes()[self.to].incarnation);
        let took_place = took_place.is_some_and(|place| there.arrived_by(place) == Some(self.id));
        if !took_place && *there != *next {
            return Err(MoveError::Overtaken { epoch: there.epoch() });
        }
        Ok(took_place)
    }

    /// Hands one frame of records from the old owner to the new one.
    async fn relay(&mut self) -> Result<Relayed, MoveError> {
        let reply = self.ask_old(MoveCommand::ExportNext, &[]).await?;
        self.arrived = self.exported;
        let view = reply.view();
        self.version_max = view.body.version_max.get();
        if !view.payload.is_empty() {
            self.imported += 1;
            self.bytes += view.payload.len() as u64;
            self.ask_new(MoveCommand::Import, 0, view.payload).await?;
        }
        let bytes_each = view.payload.len() as u64 / view.entries().count().max(1) as u64;
        Ok(Relayed { keys_left: view.keys_left(), bytes_each })
    }

    fn body(&self, command: MoveCommand, sequence: u64, argument: u64) -> MoveBody {
        MoveBody::new(command, self.id.0, self.map.epoch(), sequence, argument)
    }

    async fn ask_old(&mut self, command: MoveCommand, payload: &[u8]) -> Result<MoveReply, MoveError> {
        let mut patience = Patience::new(self.config.patience);
        loop {
            // Each try has a number of its own: of two, the later counts.
            self.exported += u64::from(command == MoveCommand::ExportNext);
            let body = self.body(command, self.exported, self.arrived);
            if let Some(reply) = patience.judge(&self.old, self.old.ask(&body, payload).await).await? {
                return Ok(reply);
            }
        }
    }

    async fn ask_new(&self, command: MoveCommand, argument: u64, payload: &[u8]) -> Result<(), MoveError> {
        let mut patience = Patience::new(self.config.patience);
        let body = self.body(command, self.imported, argument);
        while patience.judge(&self.new, self.new.ask(&body, payload).await).await?.is_none() {}
        Ok(())
    }
}

/// A frame of records that arrived.
struct Relayed {
    /// Keys that are left then; `None` while not every record was handed over once.
    keys_left: Option<u64>,
    /// The mean length of what it brought.
    bytes_each: u64,
}

/// How long a node is asked the same.
struct Patience {
    until: Instant,
}

impl Patience {
    fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience }
    }

    /// An answer that counts; `None` where to try again.
    async fn judge(
        &mut self,
        control: &Control,
        answer: Result<MoveReply, ClientError>,
    ) -> Result<Option<MoveReply>, MoveError> {
        let endpoint = control.endpoint().clone();
        let (is_passing, error) = match answer {
            Ok(reply) => match reply.view().status {
                MoveStatus::Done => return Ok(Some(reply)),
                status => (status == MoveStatus::OutOfMemory, MoveError::Refused { endpoint, status }),
            },
            Err(source) => {
                let is_lasting = matches!(source, ClientError::MemoryLost { .. } | ClientError::Malformed { .. });
                (!is_lasting, MoveError::Unreachable { endpoint, source })
            }
        };
        if !is_passing || Instant::now() >= self.until {
            return Err(error);
        }
        sleep(AGAIN_AFTER).await;
        Ok(None)
    }
}

/// Asks a node to look for a newer map until it works with the one of `epoch`, or a newer one.
pub(super) async fn bring_to(control: &Control, epoch: u64, patience: Duration) -> Result<(), MoveError> {
    let body = MoveBody::new(MoveCommand::Look, [0; 16], 0, 0, 0);
    let until = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let mut patience = Patience { until };
        let Some(reply) = patience.judge(control, control.ask(&body, &[]).await).await? else { continue };
        let got = reply.view().body.epoch.get();
        if got >= epoch {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(MoveError::Behind { endpoint: control.endpoint().clone(), got, expected: epoch });
        }
        sleep(pause).await;
        pause = (2 * pause).min(AGAIN_AFTER);
    }
}
