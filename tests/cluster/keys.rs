//! The names of keys, renewed where records are lost: nobody asks again for what a dead node held.
//!
//! A call holds the names that it draws from. Those that a loss concerns get fresh names, and the loss goes on when
//! no call holds old ones: no old name is sent to whoever owns its slot, empty, after the loss.
#![forbid(unsafe_code)]

use freight::hash::slot;
use freight::map::even_owner;
use std::sync::{Arc, Mutex, PoisonError};

/// The names of the moment, one a place.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    generations: Vec<u32>,
}

/// Parts of all slots; a place's names stay in one, so that losses leave keys spread over the nodes.
const PARTS: usize = 16;

impl Names {
    fn new(places: usize) -> Self {
        let mut names = Self { generations: vec![0; places] };
        (0..places).for_each(|place| names.renew(place));
        names
    }

    pub(crate) fn name(&self, place: usize) -> Vec<u8> {
        format!("key {place}.{}", self.generations[place]).into_bytes()
    }

    /// Gives a place a name that it never had.
    fn renew(&mut self, place: usize) {
        self.generations[place] += 1;
        while even_owner(slot(&self.name(place)[..]), PARTS) != place % PARTS {
            self.generations[place] += 1;
        }
    }

    pub(crate) fn places(&self) -> usize {
        self.generations.len()
    }
}

/// Gives out names, to any thread.
#[derive(Debug)]
pub(crate) struct Keyring {
    names: Mutex<Arc<Names>>,
}

impl Keyring {
    pub(crate) fn new(places: usize) -> Self {
        Self { names: Mutex::new(Arc::new(Names::new(places))) }
    }

    /// The names of the moment, to hold while a call uses them.
    pub(crate) fn hold(&self) -> Arc<Names> {
        Arc::clone(&self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives fresh names to the places whose names are lost; the loss waits for those who hold the old ones.
    pub(crate) fn renew(&self, is_lost: impl Fn(&[u8]) -> bool) -> OldNames {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = Names::clone(&names);
        for place in 0..fresh.places() {
            if is_lost(&names.name(place)) {
                fresh.renew(place);
            }
        }
        OldNames(std::mem::replace(&mut *names, Arc::new(fresh)))
    }
}

/// Names that are given out no more.
#[derive(Debug)]
#[must_use = "some may still hold them"]
pub(crate) struct OldNames(Arc<Names>);

impl OldNames {
    pub(crate) fn are_held(&mut self) -> bool {
        Arc::get_mut(&mut self.0).is_none()
    }
}
