//! The names of keys, renewed where records are lost: nobody asks again for what a dead node held.
//!
//! A call holds the names that it draws from. Those that a loss concerns get fresh names, and the loss goes on when
//! no call holds old ones: no old name is sent to whoever owns its slot, empty, after the loss.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

/// The names of the moment, one a place.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    generations: Vec<u32>,
}

impl Names {
    pub(crate) fn name(&self, place: usize) -> Vec<u8> {
        format!("key {place}.{}", self.generations[place]).into_bytes()
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
        Self { names: Mutex::new(Arc::new(Names { generations: vec![0; places] })) }
    }

    /// The names of the moment, to hold while a call uses them.
    pub(crate) fn hold(&self) -> Arc<Names> {
        Arc::clone(&self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives fresh names to the places whose names are lost, and waits until nobody holds the old ones.
    pub(crate) fn renew(&self, is_lost: impl Fn(&[u8]) -> bool) {
        let mut old = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            let mut fresh = Names::clone(&names);
            for place in 0..fresh.places() {
                fresh.generations[place] += u32::from(is_lost(&names.name(place)));
            }
            std::mem::replace(&mut *names, Arc::new(fresh))
        };
        while Arc::get_mut(&mut old).is_none() {
            sleep(Duration::from_millis(1));
        }
    }
}
