//! Which slots go where, so that nodes own as many as each other and few move.
#![forbid(unsafe_code)]

use crate::limits::SLOTS;
use crate::map::ShardMap;
use crate::slots::SlotSet;

/// The slots that go to each node, by its place in the map, so that no node owns two more than another. As few move as
/// that takes; slots that are nobody's stay so.
#[must_use]
pub fn rebalanced(map: &ShardMap) -> Vec<(usize, SlotSet)> {
    let mut planned = Planned::new(map);
    while let (Some(most), Some(least)) = (planned.by_count().last(), planned.by_count().first())
        && planned.slots[*most].len() > planned.slots[*least].len() + 1
    {
        planned.give_last(*most, *least);
    }
    planned.arriving
}

/// The slots of the node at a place, dealt to the others so that they own as many as each other as far as that goes.
/// Empty where there is no other.
#[must_use]
pub fn emptied(map: &ShardMap, place: usize) -> Vec<(usize, SlotSet)> {
    let mut planned = Planned::new(map);
    while !planned.slots[place].is_empty() {
        let Some(least) = planned.by_count().into_iter().find(|node| *node != place) else { break };
        planned.give_last(place, least);
    }
    planned.arriving
}

/// Who owns what, as far as it is planned.
struct Planned {
    slots: Vec<Vec<u16>>,
    arriving: Vec<(usize, SlotSet)>,
}

impl Planned {
    fn new(map: &ShardMap) -> Self {
        let mut slots = vec![Vec::new(); map.nodes().len()];
        for slot in 0..SLOTS as u16 {
            if let Some(owner) = map.owner(slot) {
                slots[owner].push(slot);
            }
        }
        Self { slots, arriving: Vec::new() }
    }

    /// The nodes, from the one with the fewest slots on.
    fn by_count(&self) -> Vec<usize> {
        let mut places: Vec<_> = (0..self.slots.len()).collect();
        places.sort_by_key(|place| self.slots[*place].len());
        places
    }

    fn give_last(&mut self, from: usize, to: usize) {
        let slot = self.slots[from].pop().expect("it owns more than another");
        self.slots[to].push(slot);
        match self.arriving.iter_mut().find(|(place, _)| *place == to) {
            Some((_, slots)) => _ = slots.insert(slot),
            None => self.arriving.push((to, [slot].into_iter().collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Id, MapNode};

    /// A map whose nodes own so many slots each, in order.
    fn map(counts: &[u16]) -> ShardMap {
        let mut next = 0;
        let nodes = (0..).zip(counts).map(|(number, count)| {
            let addresses =
                vec![format!("tcp://127.0.0.1:{}", 1_000 + u16::from(number)).parse().expect("an endpoint")];
            let slots = (next..next + count).collect();
            next += count;
            (MapNode { addresses, incarnation: Id([number; 16]) }, slots)
        });
        ShardMap::new(Id([1; 16]), 1, nodes.collect()).expect("a map")
    }

    /// How many slots each node owns once the plan is carried out, and how many moved.
    fn carried_out(map: &ShardMap, plan: &[(usize, SlotSet)]) -> (Vec<u32>, u32) {
        let mut after = map.clone();
        for (to, slots) in plan {
            after = after.moved(slots, *to, None).expect("a map");
        }
        let counts = (0..map.nodes().len()).map(|place| after.slots_of(place).count());
        (counts.collect(), plan.iter().map(|(_, slots)| slots.count()).sum())
    }

    #[test]
    fn a_plan_is_even_within_one_slot_and_moves_the_fewest() {
        for (counts, expected, moved) in [
            (&[16_384, 0][..], &[8_192, 8_192][..], 8_192),
            (&[8_192, 8_192, 0], &[5_461, 5_462, 5_461], 5_461),
            (&[5_462, 5_461, 5_461], &[5_462, 5_461, 5_461], 0),
            (&[3, 0, 0, 0, 0], &[1, 1, 1, 0, 0], 2),
            (&[16_384], &[16_384], 0),
        ] {
            let map = map(counts);
            let (mut after, slots) = carried_out(&map, &rebalanced(&map));
            let mut expected = expected.to_vec();
            after.sort_unstable();
            expected.sort_unstable();
            assert_eq!((after, slots), (expected, moved), "{counts:?}");
        }
    }

    #[test]
    fn a_node_is_emptied_to_those_that_have_the_fewest() {
        let map = map(&[6_000, 100, 200, 0]);
        assert_eq!(carried_out(&map, &emptied(&map, 0)), (vec![0, 2_100, 2_100, 2_100], 6_000));
        assert_eq!(emptied(&self::map(&[9]), 0), []);
    }
}
