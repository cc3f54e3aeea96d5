//! Who may use a node, and who is at the other end of a connection.
//!
//! ```text
//!   KnownUsers --now--> Users --an exchange--> Pass, of one connection
//!      set (SIGHUP): another generation -------^ looked up anew with the next frame
//! ```
#![forbid(unsafe_code)]

use super::node::Node;
use crate::auth::{Rights, User, Users, UsersError};
use crate::session::SessionError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The users of a node, which may change while it serves.
#[derive(Debug)]
pub(super) struct KnownUsers {
    users: RwLock<Arc<Users>>,
    generation: AtomicU64,
}

impl KnownUsers {
    pub(super) fn new(users: Users) -> Self {
        Self { users: RwLock::new(Arc::new(users)), generation: AtomicU64::new(0) }
    }

    /// The users of the moment, and their generation or an earlier one.
    pub(super) fn now(&self) -> (Arc<Users>, u64) {
        // Read first: users that come in between are looked up once more, never missed. Acquire pairs with `set`.
        let generation = self.generation.load(Ordering::Acquire);
        (Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner)), generation)
    }

    /// From here on these are the users, for connections that are open too.
    pub(super) fn set(&self, users: Users) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
        // Release pairs with the Acquire of `now` and the load of `renew`: who sees it finds these users.
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Node {
    /// From here on this is the password of its own user, as whom it asks other nodes: with its next connections.
    ///
    /// # Errors
    /// A password that nobody can have, and nothing changes.
    ///
    /// # Panics
    /// On a node that was started without credentials.
    pub fn set_password(&self, password: &[u8]) -> Result<(), UsersError> {
        self.shared.config.credentials.as_ref().expect("a node that is somebody").set_password(password)
    }
}

/// What the other end of a connection may do, and as whom.
#[derive(Debug)]
pub(super) struct Pass {
    user: Option<Arc<User>>,
    generation: u64,
    rights: Rights,
}

impl Pass {
    /// Where nobody has to say who they are, everybody may do everything.
    pub(super) fn open() -> Self {
        Self { user: None, generation: 0, rights: Rights::ALL }
    }

    /// Of a user who has proved who it is.
    pub(super) fn of(user: Arc<User>, generation: u64) -> Self {
        Self { rights: user.rights, user: Some(user), generation }
    }

    pub(super) fn rights(&self) -> Rights {
        self.rights
    }

    /// Looks the user up anew where the users have changed.
    pub(super) fn renew(&mut self, known: &KnownUsers) -> Result<(), SessionError> {
        if known.generation.load(Ordering::Acquire) == self.generation {
            return Ok(());
        }
        let Some(before) = &self.user else { return Ok(()) };
        let (users, generation) = known.now();
        let user = users.get(&before.name).filter(|user| user.verifier == before.verifier);
        let revoked = || SessionError::Revoked { name: before.name.clone() };
        *self = Self::of(Arc::clone(user.ok_or_else(revoked)?), generation);
        Ok(())
    }

    /// Whether it has a right, or why not.
    pub(super) fn check(&self, needed: Rights) -> Result<(), SessionError> {
        if self.rights.include(needed) {
            return Ok(());
        }
        let name = self.user.as_ref().map_or_else(String::new, |user| user.name.clone());
        Err(SessionError::NotAllowed { needed, has: self.rights, name })
    }
}
