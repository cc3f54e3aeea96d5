//! Executing a frame of a session, once.
#![forbid(unsafe_code)]

use super::record::{Draft, Recorded};
use super::replay::{replay, tells};
use super::rest::{Rest, may_be_changed};
use super::session::{Known, Session};
use super::table::{Completions, Held};
use crate::hash::slot;
use crate::op::{Batch, Outcome, ReadBack, Time};
use crate::shard::{Scratch, Store};
use std::sync::Arc;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its session, not 0.
    pub session: u64,
    /// Its number in the session.
    pub sequence: u64,
    /// Every reply below this sequence has arrived.
    pub acknowledged_up_to: u64,
    /// Whether it says that it was sent before.
    pub is_retry: bool,
}

/// No memory to remember a session in; nothing was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

/// The frames of one connection: it keeps the session that it used last from being forgotten.
#[derive(Debug)]
pub struct Carrier {
    completions: Arc<Completions>,
    used: Option<(u64, Arc<Held>)>,
    /// When the connection began: a session that was left later may have been, by a retry on another one, that of a
    /// frame that is still on its way on this.
    began_at: u64,
}

impl Carrier {
    /// For a connection that begins now.
    #[must_use]
    pub fn new(completions: &Arc<Completions>) -> Self {
        Self { completions: Arc::clone(completions), used: None, began_at: completions.now() }
    }

    /// Executes what of a batch was not executed before under its identity, and gives every operation its outcome: that
    /// of the first time, or [`Outcome::Unknown`] where it may have been executed and is not known any more. Gives what
    /// [`Store::execute`] gives. Blocks while another frame of the session is executed.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn execute<B: Batch>(
        &mut self,
        store: &Store,
        batch: &B,
        now: Time,
        identity: Identity,
        outcomes: &mut impl ReadBack,
        scratch: &mut Scratch,
    ) -> Result<u64, NoMemory> {
        let held = self.attach(identity.session)?;
        let mut session = held.lock();
        session.meet(identity, self.began_at);
        session.acknowledge(identity.acknowledged_up_to, &self.completions.account);
        let mut once = Once { store, batch, now, scratch, completions: &self.completions };
        let epoch = once.execute(&mut session, identity.sequence, outcomes);
        held.count(&session);
        drop(session);
        self.completions.make_room();
        Ok(epoch)
    }

    fn attach(&mut self, id: u64) -> Result<Arc<Held>, NoMemory> {
        match &self.used {
            Some((used, held)) if *used == id => return Ok(Arc::clone(held)),
            _ => self.detach(),
        }
        let held = self.completions.attach(id)?;
        self.used = Some((id, Arc::clone(&held)));
        Ok(held)
    }

    fn detach(&mut self) {
        if let Some((id, _)) = self.used.take() {
            self.completions.detach(id);
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.detach();
    }
}

/// A batch with what it is executed with.
struct Once<'a, B> {
    store: &'a Store,
    batch: &'a B,
    now: Time,
    scratch: &'a mut Scratch,
    completions: &'a Completions,
}

impl<B: Batch> Once<'_, B> {
    fn execute(&mut self, session: &mut Session, sequence: u64, outcomes: &mut impl ReadBack) -> u64 {
        let account = &self.completions.account;
        match session.take(sequence, account) {
            Known::Nothing => {
                let epoch = self.store.execute(self.batch, self.now, outcomes, self.scratch);
                let draft = session.draft(account);
                session.keep(sequence, self.record(draft, outcomes), account);
                epoch
            }
            Known::Outcomes(record) => {
                let draft = Draft::on(account, record);
                let mut answered = replay(self.batch, draft.bytes(), self.store.evicts(), outcomes);
                if session.is_in_doubt(sequence) {
                    self.forget_rest(&mut answered, outcomes);
                }
                let epoch = self.store.execute(&Rest::new(self.batch, &answered), self.now, outcomes, self.scratch);
                session.keep(sequence, self.record(draft, outcomes), account);
                epoch
            }
            Known::Gone => {
                let mut gone = vec![false; self.batch.op_count() as usize];
                self.forget_rest(&mut gone, outcomes);
                self.store.execute(&Rest::new(self.batch, &gone), self.now, outcomes, self.scratch)
            }
        }
    }

    /// What may have been executed and is not answered is unknown.
    fn forget_rest(&self, answered: &mut [bool], outcomes: &mut impl ReadBack) {
        for ((index, is_changed), answered) in (0..).zip(may_be_changed(self.batch)).zip(answered) {
            if is_changed && !*answered {
                outcomes.set(index, Outcome::Unknown);
                *answered = true;
            }
        }
    }

    /// Records of what was just executed what [`replay`] needs.
    fn record<'d>(&mut self, mut draft: Draft<'d>, outcomes: &impl ReadBack) -> Draft<'d> {
        self.scratch.visit_changed(|position| {
            let first = self.batch.first_index(position.index);
            debug_assert!(first <= u16::MAX.into(), "a frame holds no more operations");
            let (op, outcome) = (self.batch.op(position), outcomes.read_back(position.index));
            draft.push(&Recorded { index: first as u16, slot: slot(op.key), outcome });
            // What may be gone by the next operation tells nothing of it.
            !self.store.evicts() && tells(&op, &outcome)
        });
        draft
    }
}
