//! Who a node is, for as long as it lives.
#![forbid(unsafe_code)]

use crate::map::Id;
use std::io;

/// The random bits of a node's life.
#[derive(Clone, Copy)]
pub struct Identity {
    /// Names this life of the node.
    pub incarnation: [u8; 16],
    /// Keys the index hash.
    pub hash_secret: [u8; 32],
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("incarnation", &Id(self.incarnation)).finish_non_exhaustive()
    }
}

impl Identity {
    /// Random bits of the system.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn random() -> io::Result<Self> {
        let mut identity = Self { incarnation: [0; 16], hash_secret: [0; 32] };
        getrandom::fill(&mut identity.incarnation).map_err(io::Error::other)?;
        getrandom::fill(&mut identity.hash_secret).map_err(io::Error::other)?;
        Ok(identity)
    }
}
