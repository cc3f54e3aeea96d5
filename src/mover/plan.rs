//! Which slots go where, so that nodes own as many as each other and few move.
#![forbid(unsafe_code)]

use crate::map::ShardMap;
use crate::slots::SlotSet;

/// The slots that go to each node, by its place in the map, so that no node owns two more than another. As few move as
/// that takes; slots that are nobody's stay so.
#[must_use]
pub fn rebalanced(map: &ShardMap) -> Vec<(usize, SlotSet)> {
    let mut counts = counts(map);
    loop {
        let places = || (0..counts.len()).rev();
        let most = places().max_by_key(|place| counts[*place]);
        let least = places().rev().min_by_key(|place| counts[*place]);
        match most.zip(least) {
            Some((most, least)) if counts[most] > counts[least] + 1 => {
                counts[most] -= 1;
                counts[least] += 1;
            }
            _ => return dealt(map, &counts),
        }
    }
}

/// The slots of the node at a place, dealt to the others so that they own as many as each other as far as that goes.
/// Empty where there is no other.
#[must_use]
pub fn emptied(map: &ShardMap, place: usize) -> Vec<(usize, SlotSet)> {
    let mut counts = counts(map);
    for _ in 0..std::mem::take(&mut counts[place]) {
        let others = (0..counts.len()).filter(|other| *other != place);
        let Some(least) = others.min_by_key(|other| counts[*other]) else { return Vec::new() };
        counts[least] += 1;
    }
    dealt(map, &counts)
}

fn counts(map: &ShardMap) -> Vec<u32> {
    (0..map.nodes().len()).map(|place| map.slots_of(place).count()).collect()
}

/// What goes to each node so that it owns so many: stretches as long as can be, for people read them.
fn dealt(map: &ShardMap, counts: &[u32]) -> Vec<(usize, SlotSet)> {
    let own = |place: usize| map.slots_of(place).ranges().flatten().collect::<Vec<_>>();
    let mut leaving = (0..counts.len()).flat_map(|place| own(place).into_iter().skip(counts[place] as usize));
    let arrive = |place: usize| {
        let missing = counts[place].saturating_sub(map.slots_of(place).count());
        (place, leaving.by_ref().take(missing as usize).collect())
    };
    (0..counts.len()).map(arrive).filter(|(_, slots)| *slots != SlotSet::NONE).collect()
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
        let said: Vec<_> = emptied(&map, 0).iter().map(|(to, slots)| format!("{to}: {slots}")).collect();
        assert_eq!(said, ["1: 0-1999", "2: 2000-3899", "3: 3900-5999"]);
    }
}
