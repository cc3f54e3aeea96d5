//! Checking passwords that come as they are, from Redis clients: much work, on a thread of its own.
//!
//! ```text
//!   connection --name, password--> queue (bounded) --> one thread, niced --> its answer
//!        `-- right before, and the same now: at once
//! ```
//!
//! So a flood of wrong passwords costs one thread that gives way to all others, and no more of them wait than the queue
//! holds: the next is told so. Whoever was let in before is let in again without a wait.
#![forbid(unsafe_code)]

use super::users::KnownUsers;
use crate::auth::{PASSWORD_BYTES_MAX, Seal, User, Verifier};
use crate::resp::Denied;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use tokio::sync::{mpsc, oneshot};

/// Passwords that wait to be checked, at most.
const WAITING_MAX: usize = 64;

/// How far the thread gives way to others.
const NICE: i32 = 19;

/// The user of a Redis client that gives a password alone.
const DEFAULT_USER: &[u8] = b"default";

/// Checks passwords for all connections of a node.
#[derive(Debug)]
pub(super) struct Passwords {
    queue: mpsc::Sender<Check>,
    /// Passwords that were right, as seals that say nothing without a key of this node's life.
    right: Mutex<HashMap<String, (Verifier, [u8; 32])>>,
    seal: Seal,
}

struct Check {
    verifier: Verifier,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

impl Passwords {
    /// Starts the thread, which ends when this is dropped.
    pub(super) fn start() -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        thread::Builder::new().name("passwords".to_owned()).spawn(|| check_all(waiting))?;
        Ok(Self { queue, right: Mutex::default(), seal: Seal::new(key) })
    }

    /// The user of a name and a password.
    pub(super) async fn check(
        &self,
        known: &KnownUsers,
        name: Option<&[u8]>,
        password: &[u8],
    ) -> Result<(Arc<User>, u64), Denied> {
        let name = name.unwrap_or(DEFAULT_USER);
        let (users, generation) = known.now();
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Denied::WrongPassword);
        }
        let (user, verifier) = users.verifier(name);
        let sealed = self.seal.of(password);
        if let Some(user) = &user
            && self.was_right(user, &sealed)
        {
            return Ok((Arc::clone(user), generation));
        }
        let (answer, answered) = oneshot::channel();
        let check = Check { verifier: verifier.clone(), password: password.to_owned(), answer };
        self.queue.try_send(check).map_err(|_| Denied::Busy)?;
        let is_right = answered.await.unwrap_or(false);
        let user = user.filter(|_| is_right).ok_or(Denied::WrongPassword)?;
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.insert(user.name.clone(), (verifier, sealed));
        Ok((user, generation))
    }

    fn was_right(&self, user: &User, sealed: &[u8; 32]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right
            .get(&user.name)
            .is_some_and(|(verifier, known)| *verifier == user.verifier && Seal::are_same(known, sealed))
    }
}

fn check_all(mut waiting: mpsc::Receiver<Check>) {
    // One that may not give way checks all the same.
    let _ = rustix::process::nice(NICE);
    while let Some(Check { verifier, password, answer }) = waiting.blocking_recv() {
        // Nobody waits any more where the connection has ended.
        if !answer.is_closed() {
            let _ = answer.send(verifier.is_password(&password));
        }
    }
}
