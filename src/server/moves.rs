//! A node's side of a move of slots: it does the steps that a mover asks for, each at most once.
//!
//! ```text
//!   old owner    noting, copying --Freeze--> given up ---- newer map ----> swept out
//!                     `-- End, another export            `-- none in time: fenced (`follow.rs`), owned again
//!   new owner    empty, filling --ImportFinish--> finished -- map that names the move --> owned
//!                     `-- End, another import             `-- any other newer map: swept out
//! ```
//!
//! The map alone says whether a move took place. Steps are numbered, so that one that a broken connection still brings
//! does nothing: the old owner takes only higher numbers, the new one the next number, or the same again.
#![forbid(unsafe_code)]

use super::map::State;
use super::node::Shared;
use crate::completions::{self, ImportError};
use crate::hash;
use crate::map::Id;
use crate::op::{VERSION_ABSENT, Version};
use crate::session::{Session, SessionError};
use crate::shard::{Export, Ownership, Store};
use crate::slots::SlotSet;
use crate::wire::{FrameBuffer, Handed, Header, MoveChunk, MoveCommand, MoveReplyBody, MoveStatus, MoveView};
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How long a move may go without a step: noting what changes costs, and so do records that nobody may ever own.
const IDLE_WAIT: Duration = Duration::from_secs(60);

/// Slots on their way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    id: Id,
    export: Export,
    sequence: u64,
    /// Since when they are given up and nothing of them is handed over.
    frozen: Option<Instant>,
    /// The highest version that they have, once they are given up.
    version_max: Version,
    /// The completion records of what was executed on them; `None` until all records are handed over.
    completions: Option<Completions>,
    asked: Instant,
}

/// Completion records on their way out.
#[derive(Debug)]
struct Completions {
    rest: completions::Export,
    /// What the latest reply carried: it may not have arrived.
    handed: Option<Vec<u8>>,
    is_over: bool,
}

/// Bytes of completion records in a frame.
const COMPLETIONS_BYTES: usize = 128 << 10;

/// Slots on their way in.
#[derive(Debug)]
pub(super) struct Incoming {
    id: Id,
    slots: SlotSet,
    sequence: u64,
    is_finished: bool,
    asked: Instant,
}

impl Outgoing {
    /// Keys to hand over, and one more while completion records are left that go when the slots are given up; `None`
    /// while not every record was handed over once.
    fn keys_left(&self) -> Option<u64> {
        let are_left = self.frozen.is_some() && !self.completions.as_ref().is_some_and(|there| there.is_over);
        self.export.keys_left().map(|keys| keys + u64::from(are_left))
    }

    pub(super) fn frozen(&self) -> Option<Instant> {
        self.frozen
    }
}

impl Completions {
    fn next<B: FrameBuffer>(&mut self, has_arrived: bool, chunk: &mut MoveChunk<B>) {
        if has_arrived {
            self.handed = self.rest.next();
        }
        match &self.handed {
            Some(handed) => _ = chunk.push(Handed::Completions(handed)),
            None => self.is_over = true,
        }
    }
}

impl Incoming {
    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn slots(&self) -> &SlotSet {
        &self.slots
    }

    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }
}

impl fmt::Display for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.frozen.is_some() { ", given up" } else { "" };
        write!(f, "slots {} leave by move {}{how}", self.export.slots(), self.id)
    }
}

impl fmt::Display for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.is_finished { ", all there" } else { "" };
        write!(f, "slots {} arrive by move {}{how}", self.slots, self.id)
    }
}

/// Answers a step in a buffer that was lent for it.
pub(super) async fn answer<B: FrameBuffer>(shared: &Shared, frame: &[u8], buffer: B) -> Result<(B, u32), SessionError> {
    let (header, _, _) = Header::split(frame)?;
    let step = MoveView::parse(frame)?;
    let mut chunk = MoveChunk::new(buffer).ok_or(SessionError::OutOfMemory { ops: 0 })?;
    let store = shared.session.store();
    let body = shared.map.when_swept(store, |state| {
        let status = if shared.is_following() {
            state.take_step(&step, &shared.session, &mut chunk)
        } else {
            MoveStatus::NoKeeper
        };
        state.reply(status)
    });
    let body = body.await;
    match step.command {
        MoveCommand::Look => shared.bell.ask(),
        MoveCommand::ExportNext | MoveCommand::Import => {}
        // Who follows the map looks at it more often while a move is under way.
        _ => shared.bell.ring(),
    }
    Ok(chunk.finish(header.request.get(), &body))
}

impl State {
    fn reply(&self, status: MoveStatus) -> MoveReplyBody {
        let outgoing = self.outgoing.as_ref();
        let keys_left = outgoing.map_or(Some(0), Outgoing::keys_left);
        MoveReplyBody {
            status: status.code(),
            reserved: [0; 7],
            epoch: self.epoch().into(),
            keys_left: keys_left.unwrap_or(u64::MAX).into(),
            version_max: outgoing.map_or(VERSION_ABSENT, |outgoing| outgoing.version_max).into(),
        }
    }

    fn take_step<B: FrameBuffer>(
        &mut self,
        step: &MoveView<'_>,
        session: &Session,
        chunk: &mut MoveChunk<B>,
    ) -> MoveStatus {
        let store = session.store();
        match step.command {
            MoveCommand::ExportBegin => self.export_begin(step, store),
            MoveCommand::ExportNext => self.export_next(step, session, chunk),
            MoveCommand::Freeze => self.freeze(step, store),
            MoveCommand::ImportBegin => self.import_begin(step),
            MoveCommand::Import | MoveCommand::ImportFinish => self.import(step, session),
            MoveCommand::End => self.end(step, store),
            MoveCommand::Look => MoveStatus::Done,
        }
    }

    fn export_begin(&mut self, step: &MoveView<'_>, store: &Store) -> MoveStatus {
        let slots = match self.slots_of(step, |slots, mapped| slots.without(mapped) == SlotSet::NONE) {
            Ok(slots) => slots,
            Err(refused) => return refused,
        };
        let id = Id(step.body.id);
        match &self.outgoing {
            Some(there) if there.id == id && there.sequence == 0 && there.frozen.is_none() => return MoveStatus::Done,
            Some(there) if there.id == id => return MoveStatus::OutOfOrder,
            Some(there) if there.frozen.is_some() => return MoveStatus::Frozen,
            _ => {}
        }
        let (export, version_max) = (store.begin_export(slots), VERSION_ABSENT);
        let (sequence, frozen, completions, asked) = (0, None, None, Instant::now());
        self.outgoing = Some(Outgoing { id, export, sequence, frozen, version_max, completions, asked });
        MoveStatus::Done
    }

    /// The slots that a move begins with, if it follows the node's map, and they are `fit`.
    fn slots_of(
        &self,
        step: &MoveView<'_>,
        fit: impl FnOnce(&SlotSet, &SlotSet) -> bool,
    ) -> Result<SlotSet, MoveStatus> {
        if step.body.epoch.get() != self.epoch() {
            return Err(MoveStatus::OtherEpoch);
        }
        let slots = step.slots().map_or(SlotSet::NONE, SlotSet::from_bytes);
        if slots == SlotSet::NONE || !fit(&slots, &self.mapped()) {
            return Err(MoveStatus::BadSlots);
        }
        Ok(slots)
    }

    /// The export that a step is about, as long as it is whole.
    fn outgoing(&mut self, step: &MoveView<'_>, store: &Store) -> Option<&mut Outgoing> {
        if self.outgoing.take_if(|there| there.export.overflowed() && there.frozen.is_none()).is_some() {
            store.end_export();
        }
        let is_whole = |there: &&mut Outgoing| there.id == Id(step.body.id) && !there.export.overflowed();
        let there = self.outgoing.as_mut().filter(is_whole)?;
        there.asked = Instant::now();
        Some(there)
    }

    fn export_next<B: FrameBuffer>(
        &mut self,
        step: &MoveView<'_>,
        session: &Session,
        chunk: &mut MoveChunk<B>,
    ) -> MoveStatus {
        let store = session.store();
        let Some(outgoing) = self.outgoing(step, store) else { return MoveStatus::NoMove };
        let (sequence, arrived) = (step.body.sequence.get(), step.body.argument.get());
        if sequence <= outgoing.sequence {
            return MoveStatus::OutOfOrder;
        }
        let has_arrived = arrived == outgoing.sequence;
        outgoing.sequence = sequence;
        if let Some(completions) = &mut outgoing.completions {
            completions.next(has_arrived, chunk);
        } else {
            store.export_next(&mut outgoing.export, has_arrived, |carried| chunk.push(carried));
            if outgoing.frozen.is_some() && has_arrived && outgoing.export.keys_left() == Some(0) && chunk.is_empty() {
                let rest = session.completions().export(outgoing.export.slots(), COMPLETIONS_BYTES);
                let completions = outgoing.completions.insert(Completions { rest, handed: None, is_over: false });
                completions.next(true, chunk);
            }
        }
        if has_arrived && !chunk.is_empty() && outgoing.frozen.is_some() {
            // What is given up never grows: whoever goes on comes to an end.
            outgoing.frozen = Some(Instant::now());
        }
        if chunk.out_of_memory { MoveStatus::OutOfMemory } else { MoveStatus::Done }
    }

    fn freeze(&mut self, step: &MoveView<'_>, store: &Store) -> MoveStatus {
        let (epoch, mapped) = (self.epoch(), self.mapped());
        let Some(outgoing) = self.outgoing(step, store) else { return MoveStatus::NoMove };
        if outgoing.frozen.is_none() {
            let slots = mapped.without(outgoing.export.slots());
            store.set_ownership(Ownership { epoch, slots });
            outgoing.frozen = Some(Instant::now());
            outgoing.version_max = store.version_max();
            tracing::info!("slots {} are given up for move {}", outgoing.export.slots(), outgoing.id);
        }
        MoveStatus::Done
    }

    fn import_begin(&mut self, step: &MoveView<'_>) -> MoveStatus {
        let slots = match self.slots_of(step, |slots, mapped| slots.shared(mapped) == SlotSet::NONE) {
            Ok(slots) => slots,
            Err(refused) => return refused,
        };
        let id = Id(step.body.id);
        match &self.incoming {
            Some(there) if there.id == id && there.sequence == 0 => return MoveStatus::Done,
            Some(there) if there.id == id => return MoveStatus::OutOfOrder,
            // The map may say that it is the node's.
            Some(there) if there.is_finished => return MoveStatus::Frozen,
            _ => {}
        }
        self.drop_incoming();
        self.incoming = Some(Incoming { id, slots, sequence: 0, is_finished: false, asked: Instant::now() });
        MoveStatus::Done
    }

    fn import(&mut self, step: &MoveView<'_>, session: &Session) -> MoveStatus {
        let store = session.store();
        let is_meant = |there: &&mut Incoming| there.id == Id(step.body.id);
        let Some(incoming) = self.incoming.as_mut().filter(is_meant) else { return MoveStatus::NoMove };
        incoming.asked = Instant::now();
        let sequence = step.body.sequence.get();
        if sequence != 0 && sequence == incoming.sequence {
            return MoveStatus::Done;
        }
        if sequence != incoming.sequence + 1 || incoming.is_finished {
            return MoveStatus::OutOfOrder;
        }
        let is_foreign = |handed: Handed<'_>| match handed {
            Handed::Record(carried) => !incoming.slots.contains(hash::slot(carried.key)),
            Handed::Completions(_) => false,
        };
        if step.entries().any(is_foreign) {
            return MoveStatus::BadSlots;
        }
        for handed in step.entries() {
            let taken = match handed {
                Handed::Record(carried) => store.import(carried).then_some(()).ok_or(ImportError::OutOfMemory),
                Handed::Completions(chunk) => session.completions().import(chunk),
            };
            match taken {
                Ok(()) => {}
                Err(ImportError::Malformed { .. }) => return MoveStatus::BadCompletions,
                Err(ImportError::OutOfMemory) => return MoveStatus::OutOfMemory,
            }
        }
        incoming.sequence = sequence;
        if step.command == MoveCommand::ImportFinish {
            store.raise_versions(step.body.argument.get());
            incoming.is_finished = true;
        }
        MoveStatus::Done
    }

    /// Ends moves that were left alone before anything was given up.
    pub(super) fn end_idle(&mut self, store: &Store) {
        let is_idle = |asked: Instant| asked.elapsed() >= IDLE_WAIT;
        if self.outgoing.take_if(|there| there.frozen.is_none() && is_idle(there.asked)).is_some() {
            store.end_export();
        }
        if self.incoming.as_ref().is_some_and(|there| !there.is_finished && is_idle(there.asked)) {
            self.drop_incoming();
        }
    }

    fn end(&mut self, step: &MoveView<'_>, store: &Store) -> MoveStatus {
        let id = Id(step.body.id);
        let is_final = self.outgoing.as_ref().is_some_and(|there| there.id == id && there.frozen.is_some())
            || self.incoming.as_ref().is_some_and(|there| there.id == id && there.is_finished);
        if is_final {
            return MoveStatus::Frozen;
        }
        if self.outgoing.take_if(|there| there.id == id).is_some() {
            store.end_export();
        }
        if self.incoming.as_ref().is_some_and(|there| there.id == id) {
            self.drop_incoming();
        }
        MoveStatus::Done
    }
}
