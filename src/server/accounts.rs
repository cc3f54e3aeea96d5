//! Who is connected, how often, how fast they may go, and how much of theirs is on its way.
//!
//! ```text
//!   connection --from its beginning--> account of its client: a host, a user of this machine
//!       `-------with its proof-------> account of its user, on every thread and transport
//! ```
//!
//! The account that a connection came to last is the one it goes by. An account is there as long as somebody is
//! connected, or what they took is not paid for: whoever connects anew begins where they ended.
#![forbid(unsafe_code)]

use super::rate::Rate;
use crate::auth::User;
use crate::transport::{Allowance, Source};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// What there is of whom.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Times are since a second before this, so that there is a burst at once.
    began: Instant,
    open: Mutex<Open>,
    throttled: Throttled,
}

/// How often somebody was made to wait, or told that they would wait too long.
#[derive(Debug, Default)]
pub(super) struct Throttled {
    /// Batches that waited for earlier ones to be paid for.
    pub(super) operations: AtomicU64,
    /// Those that were denied: they, or those behind them, would wait for longer than anybody does.
    pub(super) denied: AtomicU64,
    /// Frames that waited until fewer bytes were on their way.
    pub(super) bytes: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Open {
    accounts: HashMap<Owner, Entry>,
    /// So many of them, and those are looked for that nobody needs.
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    connections: usize,
    account: Arc<Account>,
}

/// Whose an account is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// Of whoever connects from there.
    Client(Source),
    /// Of a user of the node.
    User(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(source) => source.fmt(f),
            Self::User(name) => write!(f, "user '{name}'"),
        }
    }
}

/// What those share who are the same to the node.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) rate: Rate,
    pub(super) allowance: Arc<Allowance>,
}

/// Somebody who is connected as often as they may be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{owner} has {most} connections here, and may have no more")]
pub(super) struct TooMany {
    pub(super) owner: Owner,
    pub(super) most: usize,
}

impl TooMany {
    /// As metrics have it.
    pub(super) fn reason(&self) -> &'static str {
        match self.owner {
            Owner::Client(_) => "client_connections",
            Owner::User(_) => "user_connections",
        }
    }
}

/// Accounts that are there before any are looked for that nobody needs.
const SWEEP_AT_MIN: usize = 1_024;

impl Accounts {
    pub(super) fn new() -> Self {
        let open = Open { accounts: HashMap::new(), sweep_at: SWEEP_AT_MIN };
        Self { began: Instant::now(), open: Mutex::new(open), throttled: Throttled::default() }
    }

    /// A connection more of theirs. `bounds` says what they may have; it is asked while nobody else changes it.
    pub(super) fn enter(&self, owner: Owner, bounds: impl Fn(&Owner) -> Bounds) -> Result<Member<'_>, TooMany> {
        let mut open = self.open();
        let bounds = bounds(&owner);
        let entry = open.accounts.entry(owner.clone()).or_insert_with(|| Entry {
            connections: 0,
            account: Arc::new(Account {
                rate: Rate::new(bounds.ops_per_second),
                allowance: Arc::new(Allowance::new(u64::MAX, Arc::clone(&self.throttled.bytes))),
            }),
        });
        if let Some(most) = bounds.connections_max.filter(|most| entry.connections >= *most) {
            return Err(TooMany { owner, most });
        }
        entry.connections += 1;
        // One that was left in debt may have been so under other bounds.
        bounds.set(&entry.account);
        let account = Arc::clone(&entry.account);
        if open.accounts.len() >= open.sweep_at {
            let now = self.now();
            open.accounts.retain(|_, entry| entry.connections > 0 || !entry.account.rate.is_settled(now));
            open.sweep_at = (2 * open.accounts.len()).max(SWEEP_AT_MIN);
        }
        Ok(Member { accounts: self, owner, account })
    }

    fn leave(&self, owner: &Owner) {
        let (mut open, now) = (self.open(), self.now());
        let Some(entry) = open.accounts.get_mut(owner) else { return };
        entry.connections -= 1;
        if entry.connections == 0 && entry.account.rate.is_settled(now) {
            open.accounts.remove(owner);
        }
    }

    /// Everybody goes by other bounds from now on.
    pub(super) fn renew(&self, bounds: impl Fn(&Owner) -> Bounds) {
        for (owner, entry) in &self.open().accounts {
            bounds(owner).set(&entry.account);
        }
    }

    /// How often somebody had to wait.
    pub(super) fn throttled(&self) -> &Throttled {
        &self.throttled
    }

    /// Now, as rates have it.
    fn now(&self) -> u64 {
        let since = self.began.elapsed() + Duration::from_secs(1);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        // A panic elsewhere cannot leave a map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an owner may have; `None` for as much as there is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    pub(super) connections_max: Option<usize>,
    pub(super) ops_per_second: Option<u32>,
    pub(super) bytes_in_flight_max: Option<u64>,
}

impl Bounds {
    fn set(&self, account: &Account) {
        account.rate.set(self.ops_per_second);
        account.allowance.set(self.bytes_in_flight_max.unwrap_or(u64::MAX));
    }
}

/// One connection of an account, as long as this lives.
#[derive(Debug)]
pub(super) struct Member<'a> {
    accounts: &'a Accounts,
    owner: Owner,
    account: Arc<Account>,
}

impl Member<'_> {
    /// The account.
    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// Operations a second, where they are limited.
    #[inline]
    pub(super) fn ops_per_second(&self) -> Option<u32> {
        self.account.rate.ops_per_second()
    }

    /// Takes operations of those that it may have, and tells how long to wait before they may be executed; `None`, and
    /// nothing is taken, where that is too long.
    pub(super) fn take(&self, ops: u32) -> Option<Duration> {
        self.account.rate.take(ops, self.accounts.now())
    }

    /// Takes operations that have been executed.
    pub(super) fn charge(&self, ops: u32) {
        self.account.rate.charge(ops, self.accounts.now());
    }

    /// How long to wait before anything more may be executed.
    pub(super) fn debt(&self) -> Duration {
        self.account.rate.debt(self.accounts.now())
    }

    /// Whether it is this user's.
    pub(super) fn is_of(&self, user: &User) -> bool {
        matches!(&self.owner, Owner::User(name) if *name == user.name)
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// How often somebody was throttled.
    pub(super) fn throttled(&self) -> &Throttled {
        self.accounts.throttled()
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.accounts.leave(&self.owner);
    }
}

#[cfg(test)]
#[path = "tests/accounts.rs"]
mod tests;
