//! The shard map: which node owns which of 16,384 slots, since which epoch, and where it is kept.
//!
//! ```text
//!   key --routing hash--> slot --map--> node: an incarnation, and the addresses that reach it
//!
//!   cluster.toml, etcd, or memory in tests  <--[MapStore]--  clients and nodes look for a newer map,
//!                                                            operators replace it
//! ```
//!
//! A map is a fact about one epoch and never changes; what follows it has a higher epoch. A node is named by its
//! *incarnation*, one life of one process and its memory: a process that was started again is another node, and owns
//! nothing until a map names it.
#![forbid(unsafe_code)]

mod change;
mod error;
mod etcd;
mod file;
mod id;
mod memory;
mod store;
mod text;

pub use error::{MapError, MapStoreError};
pub use etcd::{EtcdError, MapEtcd, Tried};
pub use file::MapFile;
pub use id::Id;
pub use memory::MapMemory;
pub use store::{MapStore, Pending, open};

use crate::limits::SLOTS;
use crate::slots::SlotSet;
use crate::transport::Endpoint;
use std::collections::HashSet;

/// The highest epoch: what the text form can hold.
pub const EPOCH_MAX: u64 = i64::MAX.cast_unsigned();

/// The longest text of a map, in bytes: 16,384 nodes of one slot and two addresses each take less.
pub const TEXT_BYTES_MAX: usize = 4 << 20;

/// Stands for no node in the table of owners.
const NOBODY: u16 = u16::MAX;

const _: () = assert!(SLOTS < NOBODY as u32);

/// A node of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapNode {
    /// Where it is reached, the best address first; at least one.
    pub addresses: Vec<Endpoint>,
    /// Which life of it holds the records.
    pub incarnation: Id,
}

/// Who owns which slot, at one epoch.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardMap {
    cluster: Id,
    epoch: u64,
    nodes: Vec<MapNode>,
    /// The owner of each slot, by its place in `nodes`.
    owners: Box<[u16]>,
    /// The move that last brought slots to each node.
    arrived_by: Vec<Option<Id>>,
}

impl std::fmt::Debug for ShardMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nodes = (0..self.nodes.len()).map(|node| (&self.nodes[node], self.slots_of(node)));
        let nodes: Vec<_> = nodes.collect();
        f.debug_struct("ShardMap").field("epoch", &self.epoch).field("nodes", &nodes).finish_non_exhaustive()
    }
}

impl ShardMap {
    /// A map of these nodes and their slots. Slots of none are nobody's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(cluster: Id, epoch: u64, nodes: Vec<(MapNode, SlotSet)>) -> Result<Self, MapError> {
        if !(1..=EPOCH_MAX).contains(&epoch) {
            return Err(MapError::Epoch { got: epoch });
        }
        if nodes.len() > SLOTS as usize {
            return Err(MapError::TooManyNodes { got: nodes.len() });
        }
        let mut owners = vec![NOBODY; SLOTS as usize].into_boxed_slice();
        let (mut incarnations, mut addresses) = (HashSet::new(), HashSet::new());
        for (index, (node, slots)) in (0_u16..).zip(&nodes) {
            let incarnation = node.incarnation;
            if node.addresses.is_empty() {
                return Err(MapError::NoAddress { incarnation });
            }
            if !incarnations.insert(incarnation) {
                return Err(MapError::SameIncarnation { incarnation });
            }
            if let Some(address) = node.addresses.iter().find(|address| !addresses.insert(*address)) {
                return Err(MapError::SameAddress { address: address.clone() });
            }
            for slot in slots.ranges().flatten() {
                let owner = &mut owners[usize::from(slot)];
                if *owner != NOBODY {
                    let first = nodes[usize::from(*owner)].0.incarnation;
                    return Err(MapError::Overlap { slot, first, second: incarnation });
                }
                *owner = index;
            }
        }
        let arrived_by = vec![None; nodes.len()];
        Ok(Self { cluster, epoch, nodes: nodes.into_iter().map(|(node, _)| node).collect(), owners, arrived_by })
    }

    /// The first map of a cluster: all slots, dealt evenly, in the order of the nodes.
    ///
    /// # Errors
    /// As [`ShardMap::new`].
    pub fn dealt(cluster: Id, nodes: Vec<MapNode>) -> Result<Self, MapError> {
        let count = nodes.len();
        let slots_of = |index| (0..SLOTS as u16).filter(|slot| even_owner(*slot, count) == index).collect();
        let nodes = nodes.into_iter().enumerate();
        Self::new(cluster, 1, nodes.map(|(index, node)| (node, slots_of(index))).collect())
    }

    /// The cluster whose map it is.
    #[must_use]
    pub fn cluster(&self) -> Id {
        self.cluster
    }

    /// Its epoch, 1 at least: the newer of two maps has the higher one.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The nodes, in its order.
    #[must_use]
    pub fn nodes(&self) -> &[MapNode] {
        &self.nodes
    }

    /// Who owns a slot, by its place among the nodes; `None` where nobody does.
    ///
    /// # Panics
    /// On what is no slot.
    #[inline]
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<usize> {
        let owner = self.owners[usize::from(slot)];
        (owner != NOBODY).then_some(usize::from(owner))
    }

    /// The slots of the node at a place.
    #[must_use]
    pub fn slots_of(&self, node: usize) -> SlotSet {
        (0..SLOTS as u16).filter(|slot| self.owner(*slot) == Some(node)).collect()
    }

    /// The slots of an incarnation; `None` where the map does not name it.
    #[must_use]
    pub fn slots_of_incarnation(&self, incarnation: Id) -> Option<SlotSet> {
        let place = self.nodes.iter().position(|node| node.incarnation == incarnation)?;
        Some(self.slots_of(place))
    }

    /// Whether it may take the place of `old`: a later map of the same cluster, or the very same map.
    ///
    /// # Errors
    /// Why not.
    pub fn check_follows(&self, old: &Self) -> Result<(), MapError> {
        if self.cluster != old.cluster {
            return Err(MapError::OtherCluster { got: self.cluster, expected: old.cluster });
        }
        if self.epoch < old.epoch {
            return Err(MapError::OlderEpoch { got: self.epoch, at: old.epoch });
        }
        if self.epoch == old.epoch && self != old {
            return Err(MapError::SameEpoch { epoch: self.epoch });
        }
        Ok(())
    }
}

/// Which of `nodes` nodes owns a slot where slots are dealt evenly, in order.
#[inline]
#[must_use]
pub fn even_owner(slot: u16, nodes: usize) -> usize {
    usize::from(slot) * nodes / SLOTS as usize
}

#[cfg(test)]
mod tests;
