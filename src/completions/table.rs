//! All sessions of a node, which of them are in use, and the marks of those that were forgotten.
#![forbid(unsafe_code)]

use super::account::Account;
use super::carrier::NoMemory;
use super::session::{Doubt, Session};
use crate::budget::Budget;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a session is accounted with beside its records, and what its mark is: theirs, the allocator's, and their places
/// in trees that may be half empty (`tests/allocations/completions.rs` looks).
const SESSION_BYTES: u64 = 320;
const MARK_BYTES: u64 = 160;

/// Marks kept for each session that may be.
const MARKS_PER_SESSION: usize = 2;

/// Bytes that stand behind each session, were there as many as there may be: a third of them for records.
const BYTES_PER_SESSION: u64 = 1 << 10;

const _: () = assert!(3 * (SESSION_BYTES + MARKS_PER_SESSION as u64 * MARK_BYTES) <= 2 * BYTES_PER_SESSION);

/// What bounds the sessions of a node.
#[derive(Debug, Clone)]
pub struct CompletionsConfig {
    /// Bytes for all that is known of all sessions.
    pub bytes_max: u64,
    /// What the bytes are charged to, as a connection's are.
    pub budget: Arc<Budget>,
}

impl CompletionsConfig {
    /// The bytes that a budget has for it: a quarter of what is reserved for connections, 64 MiB without a cap.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Self {
        let bytes_max = if budget.bytes_max() == u64::MAX { 64 << 20 } else { budget.bytes_reserved() / 4 };
        Self { bytes_max, budget }
    }
}

/// What a node remembers of its clients' changes. Share it in an `Arc`, from any thread.
#[derive(Debug)]
pub struct Completions {
    pub(super) account: Account,
    sessions_max: usize,
    table: Mutex<Table>,
}

/// A session and the lock that a frame with changes holds while it is executed.
#[derive(Debug, Default)]
pub(super) struct Held {
    session: Mutex<Session>,
    /// What its records take, for whoever looks for the largest.
    bytes: AtomicU64,
}

/// Every session, every mark, and whether any mark was lost.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) sessions: VecDeque<(u64, Arc<Held>)>,
    pub(super) marks: VecDeque<Floor>,
    pub(super) marks_lost: bool,
}

/// What another node is told of a mark: there may be very many.
#[derive(Debug)]
pub(super) struct Floor {
    pub(super) id: u64,
    pub(super) floor: u64,
    pub(super) is_doubtful: bool,
}

#[derive(Debug, Default)]
struct Table {
    sessions: BTreeMap<u64, Entry>,
    /// Sessions that no connection used last, by when that began.
    idle: BTreeMap<u64, u64>,
    /// The latest of those instants: each time a session is left.
    now: u64,
    marks: BTreeMap<u64, Mark>,
    /// The same in the order in which they are dropped; a session that came back is still in it.
    marks_order: VecDeque<u64>,
    /// When the last of the sessions was left whose marks were lost; 0 where none were.
    lost_up_to: u64,
}

/// What is left of a forgotten session.
#[derive(Debug, Clone, Copy)]
struct Mark {
    floor: u64,
    /// As its session's.
    doubt: Option<Doubt>,
    left_at: u64,
}

#[derive(Debug)]
struct Entry {
    held: Arc<Held>,
    /// Connections that used it last.
    users: usize,
    /// Its place in `idle`, where there are none.
    idle_since: u64,
}

impl Held {
    pub(super) fn lock(&self) -> MutexGuard<'_, Session> {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        session.recover();
        session
    }

    /// To be called before the lock is given back.
    pub(super) fn count(&self, session: &Session) {
        // Whoever reads it locks the session before acting on it.
        self.bytes.store(session.bytes(), Ordering::Relaxed);
    }
}

impl Completions {
    /// Nothing known.
    #[must_use]
    pub fn new(config: CompletionsConfig) -> Self {
        let sessions_max = usize::try_from(config.bytes_max / BYTES_PER_SESSION).unwrap_or(usize::MAX);
        Self { account: Account::new(config.budget, config.bytes_max), sessions_max, table: Mutex::default() }
    }

    /// Bytes of what is known.
    #[must_use]
    pub fn bytes_used(&self) -> u64 {
        self.account.bytes_used()
    }

    /// Sessions that are known.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.table().sessions.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Each change under the lock is whole before anything in it can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instant of the last time that a session was left.
    pub(super) fn now(&self) -> u64 {
        self.table().now
    }

    /// A session, in use from here on.
    pub(super) fn attach(&self, id: u64) -> Result<Arc<Held>, NoMemory> {
        let mut table = self.table();
        self.know(&mut table, id)?;
        Ok(table.enter(id).expect("it is known now"))
    }

    /// A connection goes on without a session.
    pub(super) fn detach(&self, id: u64) {
        let mut table = self.table();
        let entry = table.sessions.get_mut(&id).expect("a session in use is kept");
        entry.users -= 1;
        if entry.users == 0 {
            let mut session = entry.held.lock();
            session.drop_spares(&self.account);
            entry.held.count(&session);
            drop(session);
            table.leave(id);
        }
    }

    /// Makes a session where it is not known.
    fn know(&self, table: &mut Table, id: u64) -> Result<(), NoMemory> {
        if !table.sessions.contains_key(&id) {
            while table.sessions.len() >= self.sessions_max && self.forget_one(table) {}
            while !self.account.take(SESSION_BYTES) {
                if !self.forget_one(table) {
                    return Err(NoMemory);
                }
            }
            let session = match table.marks.remove(&id) {
                Some(mark) => {
                    self.account.give_back(MARK_BYTES);
                    Session::new(mark.floor, mark.doubt)
                }
                None => Session::new(0, Doubt::new(table.lost_up_to, false)),
            };
            let held = Held { session: Mutex::new(session), ..Held::default() };
            table.sessions.insert(id, Entry { held: Arc::new(held), users: 0, idle_since: 0 });
        }
        Ok(())
    }

    /// Forgets the session that has been idle longest; false where none is.
    fn forget_one(&self, table: &mut Table) -> bool {
        let Some((left_at, id)) = table.idle.pop_first() else { return false };
        let entry = table.sessions.remove(&id).expect("idle sessions are known");
        let mut session = entry.held.lock();
        session.forget(0, &self.account);
        entry.held.count(&session);
        self.account.give_back(SESSION_BYTES);
        self.mark(table, id, Mark { floor: session.floor(), doubt: session.doubt(), left_at });
        true
    }

    /// Leaves a mark, or where there is no room for one remembers what is lost.
    fn mark(&self, table: &mut Table, id: u64, new: Mark) {
        if let Some(mark) = table.marks.get_mut(&id) {
            *mark = Mark {
                floor: new.floor.max(mark.floor),
                doubt: Doubt::merged(new.doubt, mark.doubt),
                left_at: new.left_at.max(mark.left_at),
            };
            return;
        }
        while table.marks_order.len() >= MARKS_PER_SESSION * self.sessions_max {
            let oldest = table.marks_order.pop_front().expect("it is full");
            if let Some(mark) = table.marks.remove(&oldest) {
                self.account.give_back(MARK_BYTES);
                table.lost_up_to = table.lost_up_to.max(mark.left_at);
            }
        }
        if self.account.take(MARK_BYTES) {
            table.marks.insert(id, new);
            table.marks_order.push_back(id);
        } else {
            table.lost_up_to = table.lost_up_to.max(new.left_at);
        }
    }

    /// Where records take too much: those who hold most lose the older half of it, until enough is free. So nobody
    /// loses anything to others who holds less than half of what any other session holds.
    pub(super) fn make_room(&self) {
        while self.account.is_high() {
            let held: Vec<_> = self.table().sessions.values().map(|entry| Arc::clone(&entry.held)).collect();
            let bytes = |held: &Held| held.bytes.load(Ordering::Relaxed);
            let most = held.iter().map(|held| bytes(held)).max().unwrap_or_default();
            if most == 0 {
                return;
            }
            for held in held.iter().filter(|held| 2 * bytes(held) >= most) {
                let mut session = held.lock();
                let left = session.bytes() / 2;
                session.forget(left, &self.account);
                held.count(&session);
                drop(session);
                if self.account.is_low() {
                    return;
                }
            }
        }
    }

    /// All that is known at this time.
    pub(super) fn snapshot(&self) -> Snapshot {
        let table = self.table();
        let floor = |(id, mark): (&u64, &Mark)| Floor { id: *id, floor: mark.floor, is_doubtful: mark.doubt.is_some() };
        Snapshot {
            sessions: table.sessions.iter().map(|(id, entry)| (*id, Arc::clone(&entry.held))).collect(),
            marks: table.marks.iter().map(floor).collect(),
            marks_lost: table.lost_up_to > 0,
        }
    }

    /// What another node lost, this one never had: of sessions that were left before now, those known here included.
    pub(super) fn lose_marks(&self) {
        let mut table = self.table();
        table.now += 1;
        table.lost_up_to = table.now;
        let doubt = Doubt::new(table.now, true);
        table.marks.values_mut().for_each(|mark| mark.doubt = Doubt::merged(mark.doubt, doubt));
        let held: Vec<_> = table.sessions.values().map(|entry| Arc::clone(&entry.held)).collect();
        // Not under the table: frames of the sessions may be executing.
        drop(table);
        held.iter().for_each(|held| held.lock().put_in_doubt(doubt));
    }

    /// What another node knew of a session of which it had no records; `is_doubtful` where it may have known more.
    pub(super) fn take_over_floor(&self, id: u64, floor: u64, is_doubtful: bool) {
        let mut table = self.table();
        table.now += 1;
        let left_at = table.now;
        let doubt = Doubt::new(left_at, true).filter(|_| is_doubtful);
        let Some(held) = table.enter(id) else {
            // Without a mark of its own this node may have known it as well.
            let own = Doubt::new(table.lost_up_to, false).filter(|_| !table.marks.contains_key(&id));
            return self.mark(&mut table, id, Mark { floor, doubt: Doubt::merged(doubt, own), left_at });
        };
        // Not under the table: a frame of the session may be executing.
        drop(table);
        let mut session = held.lock();
        session.raise_floor(floor);
        session.put_in_doubt(doubt);
        drop(session);
        self.detach(id);
    }
}

impl Table {
    /// A session that is known, in use from here on: nobody forgets it.
    fn enter(&mut self, id: u64) -> Option<Arc<Held>> {
        let entry = self.sessions.get_mut(&id)?;
        entry.users += 1;
        let (held, idle_since) = (Arc::clone(&entry.held), entry.idle_since);
        if self.idle.get(&idle_since) == Some(&id) {
            self.idle.remove(&idle_since);
        }
        Some(held)
    }

    /// No connection uses a session any more.
    fn leave(&mut self, id: u64) {
        self.now += 1;
        self.sessions.get_mut(&id).expect("it is known").idle_since = self.now;
        self.idle.insert(self.now, id);
    }
}
