//! The map that follows another: slots moved, nodes that come and go, or nothing but a higher epoch.
#![forbid(unsafe_code)]

use super::{Id, MapError, MapNode, ShardMap};
use crate::slots::SlotSet;

impl ShardMap {
    /// The move that last brought slots to the node at a place: so a node that holds what a move brought knows whether
    /// that move took place, however many maps later it asks.
    #[must_use]
    pub fn arrived_by(&self, node: usize) -> Option<Id> {
        self.arrived_by[node]
    }

    /// The place of an incarnation among the nodes.
    #[must_use]
    pub fn place_of(&self, incarnation: Id) -> Option<usize> {
        self.nodes.iter().position(|node| node.incarnation == incarnation)
    }

    /// This map with the moves that brought each node its slots, in the order of the nodes.
    ///
    /// # Panics
    /// Where there are not as many as nodes.
    #[must_use]
    pub(super) fn with_arrivals(self, arrived_by: Vec<Option<Id>>) -> Self {
        assert_eq!(arrived_by.len(), self.nodes.len(), "one for each node");
        Self { arrived_by, ..self }
    }

    /// The next map: the same owners under the next epoch, so that whoever meant to replace this one cannot any more.
    ///
    /// # Errors
    /// There is no higher epoch.
    pub fn fenced(&self) -> Result<Self, MapError> {
        self.next(|_, slots| slots)
    }

    /// The next map: these slots are the node's at a place, brought there by a move, or given to it without records.
    ///
    /// # Errors
    /// There is no higher epoch.
    ///
    /// # Panics
    /// Where there is no such node.
    pub fn moved(&self, slots: &SlotSet, to: usize, by: Option<Id>) -> Result<Self, MapError> {
        assert!(to < self.nodes.len(), "node {to} of {}", self.nodes.len());
        let mut next = self.next(|place, own| if place == to { own.joined(slots) } else { own.without(slots) })?;
        next.arrived_by[to] = by.or(next.arrived_by[to]);
        Ok(next)
    }

    /// The next map, with one more node that owns nothing.
    ///
    /// # Errors
    /// It is there already, or has the address of another.
    pub fn with_node(&self, node: MapNode) -> Result<Self, MapError> {
        let mut nodes = self.with_slots();
        nodes.push((node, SlotSet::NONE));
        let arrived_by = self.arrived_by.iter().copied().chain([None]).collect();
        Ok(Self::new(self.cluster, self.epoch + 1, nodes)?.with_arrivals(arrived_by))
    }

    /// The next map, without the node at a place: slots that it has are nobody's.
    ///
    /// # Errors
    /// There is no higher epoch.
    ///
    /// # Panics
    /// Where there is no such node.
    pub fn without_node(&self, place: usize) -> Result<Self, MapError> {
        let (mut nodes, mut arrived_by) = (self.with_slots(), self.arrived_by.clone());
        nodes.remove(place);
        arrived_by.remove(place);
        Ok(Self::new(self.cluster, self.epoch + 1, nodes)?.with_arrivals(arrived_by))
    }

    fn with_slots(&self) -> Vec<(MapNode, SlotSet)> {
        (0..self.nodes.len()).map(|place| (self.nodes[place].clone(), self.slots_of(place))).collect()
    }

    fn next(&self, slots: impl Fn(usize, SlotSet) -> SlotSet) -> Result<Self, MapError> {
        let nodes = (0..).zip(self.with_slots()).map(|(place, (node, own))| (node, slots(place, own))).collect();
        Ok(Self::new(self.cluster, self.epoch + 1, nodes)?.with_arrivals(self.arrived_by.clone()))
    }
}
