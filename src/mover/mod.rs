//! Moving slots with their records from node to node, while both serve.
//!
//! ```text
//!   keeper        map of epoch e ------------------------------------------- replaced by e + 1
//!   mover         begin   copy   copy .. copy   freeze   hand over   finish   settle
//!                   |      ^ |    ^ |     ^ |      |        ^ |        |        |  |
//!   old owner    notes ----' |----' |-----' |   gives up ---' |        |        |  `-> sweeps out
//!   new owner    is empty    `-> takes, owns nothing of it ---'--------'        `----> owns
//! ```
//!
//! The mover relays: nodes need no way to each other. It decides nothing: the move took place if, and only if, the
//! keeper took the map that names it. One that stops in the middle leaves nothing that the nodes do not end by
//! themselves (`src/server/follow.rs`), and whoever moves the same slots next begins anew.
//!
//! Records keep their versions, and the new owner draws only higher ones, so that a compare-and-swap means the same
//! over a move.
#![forbid(unsafe_code)]

mod change;
mod error;
mod moving;
mod plan;

pub use change::{Mover, Progress};
pub use error::MoveError;
pub use moving::Moving;
pub use plan::{emptied, rebalanced};

use crate::client::ClientConfig;
use std::time::Duration;

/// How slots are moved.
#[derive(Debug, Clone)]
pub struct MoverConfig {
    /// How nodes are asked; its deadline is that of a single step.
    pub client: ClientConfig,
    /// How long a node may leave a step undone, and the keeper a map untaken, over all tries.
    pub patience: Duration,
}

impl Default for MoverConfig {
    fn default() -> Self {
        let client = ClientConfig { deadline: Duration::from_secs(2), ..ClientConfig::default() };
        Self { client, patience: Duration::from_secs(10) }
    }
}
