//! The records of one session, in the order of their sequences.
//!
//! Nearly every record comes behind all others, and the first go first: a queue. It takes what it holds, where a tree
//! has room for eleven from the first on: most sessions that a node remembers have a single record.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Bytes of a record's place.
const PLACE_BYTES: u64 = size_of::<(u64, Vec<u8>)>() as u64;

/// Records by their sequences.
#[derive(Debug, Default)]
pub(super) struct Records(VecDeque<(u64, Vec<u8>)>);

impl Records {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Bytes of all places, the empty ones included.
    pub(super) fn place_bytes(&self) -> u64 {
        self.0.capacity() as u64 * PLACE_BYTES
    }

    /// Bytes of the empty places.
    pub(super) fn empty_bytes(&self) -> u64 {
        (self.0.capacity() - self.0.len()) as u64 * PLACE_BYTES
    }

    /// Bytes that one more takes beside those.
    pub(super) fn growth_bytes(&self) -> u64 {
        if self.0.len() < self.0.capacity() { 0 } else { self.growth() as u64 * PLACE_BYTES }
    }

    /// Places that are added where all are taken: no more than the account has room for until others are forgotten.
    fn growth(&self) -> usize {
        (self.0.len() / 2).max(1)
    }

    /// Keeps a record of a sequence that has none.
    pub(super) fn insert(&mut self, sequence: u64, record: Vec<u8>) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(self.growth());
        }
        let place = self.place(sequence).expect_err("what was executed is taken out before it is kept again");
        self.0.insert(place, (sequence, record));
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Vec<u8>> {
        let place = self.place(sequence).ok()?;
        self.0.remove(place).map(|(_, record)| record)
    }

    /// Takes the first out.
    pub(super) fn pop_first(&mut self) -> Option<(u64, Vec<u8>)> {
        self.0.pop_front()
    }

    /// Takes the first out, where it is below a sequence.
    pub(super) fn pop_below(&mut self, sequence: u64) -> Option<Vec<u8>> {
        self.0.pop_front_if(|(first, _)| *first < sequence).map(|(_, record)| record)
    }

    /// The record that comes next behind a sequence, or first.
    pub(super) fn behind(&self, sequence: Option<u64>) -> Option<(u64, &[u8])> {
        let place = sequence.map_or(0, |behind| self.0.partition_point(|(sequence, _)| *sequence <= behind));
        self.0.get(place).map(|(sequence, record)| (*sequence, &record[..]))
    }

    /// Gives empty places back.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    fn place(&self, sequence: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&sequence, |(sequence, _)| *sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_by_their_sequences_in_whatever_order_they_came() {
        let mut records = Records::default();
        for sequence in [5, 1, 9, 3, 7] {
            let expected = records.place_bytes() + records.growth_bytes();
            records.insert(sequence, vec![sequence as u8]);
            assert_eq!(records.place_bytes(), expected, "it is known before what it takes");
        }
        assert_eq!(records.behind(None), Some((1, &[1][..])));
        assert_eq!(records.behind(Some(1)), Some((3, &[3][..])));
        assert_eq!(records.behind(Some(6)), Some((7, &[7][..])));
        assert_eq!(records.behind(Some(9)), None);
        assert_eq!((records.remove(3), records.remove(4)), (Some(vec![3]), None));
        assert_eq!((records.pop_below(1), records.pop_below(2), records.pop_below(5)), (None, Some(vec![1]), None));
        assert_eq!(records.pop_first(), Some((5, vec![5])));
        records.shrink();
        assert_eq!((records.place_bytes(), records.empty_bytes()), (2 * PLACE_BYTES, 0));
    }
}
