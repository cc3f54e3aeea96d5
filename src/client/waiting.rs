//! A queue that anybody in it may leave.
//!
//! ```text
//!   push --> | 7 | 8 | - | 10 | - | 12 | --> take, from the front, in the order of arrival
//!                      9 left    11 left
//! ```
//!
//! Who leaves leaves an empty place behind, which goes when it comes to the front, or when more places are empty than
//! not: each step is constant on average, but for finding a place among so many, which takes their logarithm.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Empty places that are never worth closing up.
const EMPTY_MIN: usize = 64;

/// What waits, by the number of its place.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    /// With rising numbers.
    places: VecDeque<(u64, Option<T>)>,
    next: u64,
    count: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { places: VecDeque::new(), next: 0, count: 0 }
    }
}

impl<T> Waiting<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Those that wait, in the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().filter_map(|(_, one)| one.as_ref())
    }

    /// Joins the queue; the number of its place.
    pub(super) fn push(&mut self, one: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.count += 1;
        self.places.push_back((number, Some(one)));
        number
    }

    /// Takes up to so many from the front.
    pub(super) fn take(&mut self, count: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(count.min(self.count));
        while taken.len() < count
            && let Some((_, place)) = self.places.pop_front()
        {
            taken.extend(place);
        }
        self.count -= taken.len();
        taken
    }

    /// What waits at a place leaves it; `None` where it is taken, or has left.
    pub(super) fn leave(&mut self, number: u64) -> Option<T> {
        let index = self.places.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let one = self.places[index].1.take()?;
        self.count -= 1;
        if self.places.len() - self.count > self.count.max(EMPTY_MIN) {
            self.places.retain(|(_, place)| place.is_some());
        }
        Some(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn who_waits_is_taken_in_order_unless_it_left(steps in vec((0_u8..4, 0_u64..300), 0..600)) {
            let (mut waiting, mut model) = (Waiting::default(), BTreeMap::new());
            for (what, number) in steps {
                match what {
                    0 | 1 => {
                        let place = waiting.push(number);
                        prop_assert!(model.insert(place, number).is_none());
                    }
                    2 => prop_assert_eq!(waiting.leave(number), model.remove(&number)),
                    _ => {
                        let count = number as usize % 8;
                        let first = std::iter::from_fn(|| model.pop_first()).take(count).map(|(_, one)| one);
                        let expected: Vec<_> = first.collect();
                        prop_assert_eq!(waiting.take(count), expected);
                    }
                }
                prop_assert_eq!(waiting.len(), model.len());
                prop_assert!(waiting.iter().eq(model.values()));
                prop_assert!(waiting.places.len() <= 2 * model.len() + EMPTY_MIN);
            }
        }
    }

    #[test]
    fn those_that_leave_behind_one_that_stays_take_no_room() {
        let mut waiting = Waiting::default();
        waiting.push(());
        for _ in 0..10_000 {
            let place = waiting.push(());
            assert!(waiting.leave(place).is_some());
        }
        assert!(waiting.places.len() <= 2 + EMPTY_MIN);
    }
}
