//! Executing a frame of a session, once.
#![forbid(unsafe_code)]

use super::marks::{Marks, Recording, Rest};
use super::record::{Draft, own_outcomes};
use super::session::{Known, Session};
use super::table::{Completions, Held};
use crate::op::{Batch, Outcome, Outcomes};
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
        identity: Identity,
        outcomes: &mut impl Outcomes,
        scratch: &mut Scratch,
    ) -> Result<u64, NoMemory> {
        let held = self.attach(identity.session)?;
        let mut session = held.lock();
        session.meet(identity.sequence, identity.is_retry, self.began_at);
        session.acknowledge(identity.acknowledged_up_to, &self.completions.account);
        let mut once = Once { store, batch, scratch, marks: Marks::of(batch), completions: &self.completions };
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
    scratch: &'a mut Scratch,
    marks: Marks,
    completions: &'a Completions,
}

impl<B: Batch> Once<'_, B> {
    fn execute(&mut self, session: &mut Session, sequence: u64, outcomes: &mut impl Outcomes) -> u64 {
        let account = &self.completions.account;
        match session.take(sequence, account) {
            Known::Nothing => {
                let mut draft = Draft::new(account, self.marks.count());
                let mut recording = Recording::new(self.batch, &self.marks, &mut draft, outcomes);
                let epoch = self.store.execute(self.batch, &mut recording, self.scratch);
                session.keep(sequence, draft, account);
                epoch
            }
            Known::Outcomes(record) => {
                let answered = self.answer(&record, outcomes);
                let mut draft = Draft::on(account, record);
                let mut recording = Recording::new(self.batch, &self.marks, &mut draft, outcomes);
                let rest = Rest::new(self.batch, &answered);
                let epoch = self.store.execute(&rest, &mut recording, self.scratch);
                session.keep(sequence, draft, account);
                epoch
            }
            Known::Gone => {
                let gone: Vec<bool> = self.marks.each().map(|marked| marked.is_some()).collect();
                let indices = (0..).zip(&gone).filter(|(_, gone)| **gone);
                indices.for_each(|(index, _)| outcomes.set(index, Outcome::Unknown));
                self.store.execute(&Rest::new(self.batch, &gone), outcomes, self.scratch)
            }
        }
    }

    /// Answers from a record; which operations were answered.
    fn answer(&self, record: &[u8], outcomes: &mut impl Outcomes) -> Vec<bool> {
        let mut recorded: Vec<_> = own_outcomes(record).collect();
        recorded.sort_unstable_by_key(|recorded| recorded.index);
        let answer = |index| {
            let first = self.batch.first_index(index);
            let found = recorded.binary_search_by_key(&first, |recorded| recorded.index.into());
            found.map(|at| outcomes.set(index, recorded[at].outcome)).is_ok()
        };
        (0..self.batch.op_count()).map(answer).collect()
    }
}
