//! A client's session: a number for each frame, so that one that is sent again is executed once, and which of them are
//! still unanswered, so that nodes may forget the others.
#![forbid(unsafe_code)]

use super::ClientConfig;
use crate::wire::Origin;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One client's life, whichever nodes it speaks to.
#[derive(Debug)]
pub(super) struct Session {
    id: u64,
    numbers: Mutex<Numbers>,
}

#[derive(Debug)]
struct Numbers {
    next: u64,
    unanswered: BTreeSet<u64>,
}

/// The number of one frame, of all that is left of it where it goes to several nodes. Dropped, it is answered, or
/// nobody asks any more: what is under way of it then may be executed or not, as whatever was abandoned.
#[derive(Debug)]
pub(super) struct Sequence {
    session: Arc<Session>,
    number: u64,
}

impl Session {
    /// A new one; `None` where the configuration wants none, or the system has no randomness for it.
    pub(super) fn new(config: &ClientConfig) -> Option<Arc<Self>> {
        if !config.at_most_once {
            return None;
        }
        // Not from the seed of the jitter: clients that share one would share a session. Nothing goes by its value.
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).ok()?;
        let id = u64::from_le_bytes(bytes);
        let numbers = Mutex::new(Numbers { next: 1, unanswered: BTreeSet::new() });
        // 0 stands for no session.
        Some(Arc::new(Self { id: id.max(1), numbers }))
    }

    pub(super) fn next(self: &Arc<Self>) -> Sequence {
        let mut numbers = self.numbers();
        let number = numbers.next;
        numbers.next += 1;
        numbers.unanswered.insert(number);
        drop(numbers);
        Sequence { session: Arc::clone(self), number }
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        // No half of a change can be left behind.
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sequence {
    /// What the header of its frame says, besides what every header does.
    pub(super) fn origin(&self, origin: Origin) -> Origin {
        let numbers = self.session.numbers();
        let acknowledged_up_to = numbers.unanswered.first().copied().unwrap_or(numbers.next);
        Origin { session: self.session.id, sequence: self.number, acknowledged_up_to, ..origin }
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.session.numbers().unanswered.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_is_what_nobody_waits_for() {
        let config = ClientConfig::default();
        let session = Session::new(&config).expect("a session");
        let said = |sequence: &Sequence| {
            let Origin { session, sequence, acknowledged_up_to, .. } = sequence.origin(Origin::default());
            assert_ne!(session, 0);
            (sequence, acknowledged_up_to)
        };
        let (first, second, third) = (session.next(), session.next(), session.next());
        assert_eq!((said(&first), said(&third)), ((1, 1), (3, 1)));
        drop(second);
        assert_eq!(said(&third), (3, 1), "the first is still open");
        drop(first);
        assert_eq!(said(&third), (3, 3));
        drop(third);
        assert_eq!(said(&session.next()), (4, 4));
        assert!(Session::new(&ClientConfig { at_most_once: false, ..config }).is_none());
    }
}
