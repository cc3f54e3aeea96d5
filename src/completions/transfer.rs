//! What is known of slots, on its way to the node that takes them over.
//!
//! ```text
//!   chunk    format u8, 2 | marks_lost u8, 0 or 1, said by the last chunk | session | session | ...
//!   session  id u64 | floor u64 | records u32 | record | record | ...
//!   record   sequence u64 | bytes u32 | outcomes, see `record.rs`
//! ```
//!
//! Every session goes, with records of the slots or without: its floor holds whichever node it asks. One session, and
//! one record, may go in several pieces. Taking the same twice is taking it once. All bits of `records` set: there are
//! none, and more may have been executed of the session than is known.
#![forbid(unsafe_code)]

use super::carrier::NoMemory;
use super::record::{Draft, outcomes, own_outcomes, take};
use super::session::{Known, Session};
use super::table::{Completions, Floor, Snapshot};
use crate::slots::SlotSet;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use thiserror::Error;

const FORMAT: u8 = 2;

/// Bytes before the records of a session, and before the outcomes of a record.
const SESSION_BYTES: usize = 20;
const RECORD_BYTES: usize = 12;

/// In place of the number of records.
const DOUBTFUL: u32 = u32::MAX;

/// Why a chunk is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ImportError {
    /// It is not what it should be; nothing of it was taken.
    #[error("malformed completion records at byte {offset}")]
    Malformed {
        /// Where the piece begins that cannot be read.
        offset: usize,
    },
    /// There is no memory for it. Part of it may have been taken.
    #[error("no memory for completion records")]
    OutOfMemory,
}

/// The chunks of [`Completions::export`].
#[derive(Debug)]
pub struct Export {
    slots: SlotSet,
    chunk_bytes_max: usize,
    /// What is left of what was known.
    known: Snapshot,
    /// The sequence that was handed over last of the first session.
    behind: Option<u64>,
    /// Whole chunks, and last one that is being filled.
    chunks: VecDeque<Vec<u8>>,
}

impl Completions {
    /// What is known of operations on `slots`, in chunks of about so many bytes; a longer one holds a single outcome.
    /// To be called when the store no longer executes anything on these slots: then nothing is added behind what it
    /// gives. Each chunk waits for the frames that are being executed. No more than two chunks and a record are copied
    /// ahead.
    #[must_use]
    pub fn export(&self, slots: &SlotSet, chunk_bytes_max: usize) -> Export {
        let chunks = VecDeque::new();
        Export { slots: slots.clone(), chunk_bytes_max, known: self.snapshot(), behind: None, chunks }
    }

    /// Takes over a chunk of another node's [`Completions::export`]. To be called before the store executes anything on
    /// the slots. What finds no room is forgotten, and asked for again is answered
    /// [`Unknown`](crate::op::Outcome::Unknown).
    ///
    /// # Errors
    /// [`ImportError`]
    pub fn import(&self, chunk: &[u8]) -> Result<(), ImportError> {
        // All of it is read before any of it is taken.
        let mut read = Reader { rest: chunk, bytes: chunk.len() };
        read.chunk(|_| Ok(()))?;
        let mut again = Reader { rest: chunk, bytes: chunk.len() };
        let marks_lost = again.chunk(|piece| self.take_piece(piece))?;
        if marks_lost {
            self.lose_marks();
        }
        self.make_room();
        Ok(())
    }

    fn take_piece(&self, piece: Piece<'_>) -> Result<(), ImportError> {
        let Piece { id, floor, records, is_doubtful } = piece;
        if records.is_empty() {
            self.take_over_floor(id, floor, is_doubtful);
            return Ok(());
        }
        // In use, so that nobody forgets it meanwhile.
        let held = self.attach(id).map_err(|NoMemory| ImportError::OutOfMemory)?;
        let mut session = held.lock();
        for (sequence, record) in records {
            self.merge(&mut session, sequence, record);
        }
        session.raise_floor(floor);
        held.count(&session);
        drop(session);
        self.detach(id);
        Ok(())
    }

    /// Adds the outcomes that are not there yet.
    fn merge(&self, session: &mut Session, sequence: u64, record: &[u8]) {
        let known = match session.take(sequence, &self.account) {
            Known::Gone => return,
            Known::Nothing => Vec::new(),
            Known::Outcomes(known) => known,
        };
        let indices: BTreeSet<_> = own_outcomes(&known).map(|recorded| recorded.index).collect();
        let mut draft = Draft::on(&self.account, known);
        own_outcomes(record).filter(|new| !indices.contains(&new.index)).for_each(|new| draft.push(&new));
        session.keep(sequence, draft, &self.account);
    }
}

impl Iterator for Export {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        while self.chunks.len() < 2 {
            if let Some((id, held)) = self.known.sessions.front().map(|(id, held)| (*id, Arc::clone(held))) {
                let session = held.lock();
                if let Some((sequence, record)) = session.record_behind(self.behind) {
                    self.record(id, sequence, record);
                    self.behind = Some(sequence);
                } else {
                    // Behind its records: below it, none is taken that is not there yet.
                    self.floor(id, session.floor(), session.doubt().is_some());
                    self.behind = None;
                    self.known.sessions.pop_front();
                }
            } else if let Some(Floor { id, floor, is_doubtful }) = self.known.marks.pop_front() {
                self.floor(id, floor, is_doubtful);
            } else {
                break;
            }
        }
        let mut chunk = self.chunks.pop_front()?;
        if self.chunks.is_empty() {
            // In the last one: those who went before it are known.
            chunk[1] = self.known.marks_lost.into();
        }
        Some(chunk)
    }
}

impl Export {
    /// The chunk that is being filled, if it takes so many bytes more; else a new one.
    fn chunk(&mut self, bytes: usize) -> (&mut Vec<u8>, bool) {
        let max = self.chunk_bytes_max;
        let is_new = self.chunks.back().is_none_or(|chunk| chunk.len() + bytes > max);
        if is_new {
            self.chunks.push_back(vec![FORMAT, 0]);
        }
        (self.chunks.back_mut().expect("there is one now"), is_new)
    }

    /// Begins a session. Gives where the number of its records stands.
    fn session(&mut self, id: u64, floor: u64) -> usize {
        let (chunk, _) = self.chunk(SESSION_BYTES);
        chunk.extend_from_slice(&id.to_le_bytes());
        chunk.extend_from_slice(&floor.to_le_bytes());
        chunk.extend_from_slice(&0_u32.to_le_bytes());
        chunk.len() - 4
    }

    fn floor(&mut self, id: u64, floor: u64, is_doubtful: bool) {
        let records = self.session(id, floor);
        if is_doubtful {
            let chunk = self.chunks.back_mut().expect("the session began in it");
            add(chunk, records, DOUBTFUL);
        }
    }

    fn record(&mut self, id: u64, sequence: u64, record: &[u8]) {
        // Where its length stands in the chunk, once it has begun there.
        let mut begun = None;
        for outcome in outcomes(record) {
            let (recorded, bytes) = outcome.expect("what was recorded can be read");
            if !self.slots.contains(recorded.slot) {
                continue;
            }
            let (_, is_new) = self.chunk(SESSION_BYTES + RECORD_BYTES + bytes.len());
            let at = match begun {
                Some(at) if !is_new => at,
                _ => {
                    let records = self.session(id, 0);
                    let chunk = self.chunks.back_mut().expect("the session began in it");
                    add(chunk, records, 1);
                    chunk.extend_from_slice(&sequence.to_le_bytes());
                    chunk.extend_from_slice(&0_u32.to_le_bytes());
                    chunk.len() - 4
                }
            };
            begun = Some(at);
            let chunk = self.chunks.back_mut().expect("the record began in it");
            chunk.extend_from_slice(bytes);
            add(chunk, at, bytes.len() as u32);
        }
    }
}

/// Adds to a number in a chunk.
fn add(chunk: &mut [u8], at: usize, more: u32) {
    let number = chunk[at..].first_chunk_mut().expect("it was written there");
    *number = (u32::from_le_bytes(*number) + more).to_le_bytes();
}

/// One session's piece of a chunk.
struct Piece<'a> {
    id: u64,
    floor: u64,
    records: Vec<(u64, &'a [u8])>,
    is_doubtful: bool,
}

struct Reader<'a> {
    rest: &'a [u8],
    bytes: usize,
}

impl<'a> Reader<'a> {
    /// Reads a chunk, piece by piece; whether marks were lost.
    fn chunk(&mut self, mut each: impl FnMut(Piece<'a>) -> Result<(), ImportError>) -> Result<bool, ImportError> {
        let head = take(&mut self.rest);
        let Some([FORMAT, marks_lost @ 0..=1]) = head else { return Err(ImportError::Malformed { offset: 0 }) };
        while !self.rest.is_empty() {
            let offset = self.bytes - self.rest.len();
            each(self.piece().ok_or(ImportError::Malformed { offset })?)?;
        }
        Ok(marks_lost == 1)
    }

    fn piece(&mut self) -> Option<Piece<'a>> {
        let id = u64::from_le_bytes(take(&mut self.rest)?);
        let floor = u64::from_le_bytes(take(&mut self.rest)?);
        let (count, is_doubtful) = match u32::from_le_bytes(take(&mut self.rest)?) {
            DOUBTFUL => (0, true),
            count => (count, false),
        };
        // Reserved for no more than can be there.
        let mut records = Vec::with_capacity((count as usize).min(self.rest.len() / RECORD_BYTES));
        for _ in 0..count {
            let sequence = u64::from_le_bytes(take(&mut self.rest)?);
            let bytes = u32::from_le_bytes(take(&mut self.rest)?) as usize;
            let (record, rest) = self.rest.split_at_checked(bytes)?;
            self.rest = rest;
            if outcomes(record).any(|outcome| outcome.is_err()) {
                return None;
            }
            records.push((sequence, record));
        }
        (id != 0).then_some(Piece { id, floor, records, is_doubtful })
    }
}
