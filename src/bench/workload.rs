//! What is asked of the store: a mix of operations, and which records they touch.
//!
//! | name | reads | writes | records touched | keys | value |
//! |---|---|---|---|---|---|
//! | freight | 95 % | 5 % put | Zipf, record 0 the most popular | `0` to `999999` | 128 |
//! | ycsb-a | 50 % | 50 % update | Zipf, scattered | `user` + hash | 1000 |
//! | ycsb-b | 95 % | 5 % update | Zipf, scattered | `user` + hash | 1000 |
//! | ycsb-c | 100 % | none | Zipf, scattered | `user` + hash | 1000 |
//! | ycsb-d | 95 % | 5 % insert | Zipf, newest first | `user` + hash | 1000 |
//! | ycsb-f | 50 % | 50 % read-modify-write | Zipf, scattered | `user` + hash | 1000 |
//!
//! YCSB: Cooper, Silberstein, Tam, Ramakrishnan and Sears, "Benchmarking Cloud Serving Systems with YCSB", SoCC
//! 2010, and the files `workloads/workload[a-f]` of its repository. Two things differ, because a value here is one
//! string of bytes, not ten fields: an update writes the whole value, and a read-modify-write is a get and then a
//! put of the same key in the same batch. Like YCSB we count it as one operation.
#![forbid(unsafe_code)]

use super::zipf::{Scrambled, Zipf, fnv_hash};
use rand::Rng;
use serde::Serialize;

/// The workloads by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadName {
    /// 95 % reads, 5 % puts, Zipf, decimal keys, 128-byte values.
    #[default]
    Freight,
    /// YCSB A, update heavy: 50 % reads, 50 % updates.
    #[value(alias = "a")]
    YcsbA,
    /// YCSB B, read mostly: 95 % reads, 5 % updates.
    #[value(alias = "b")]
    YcsbB,
    /// YCSB C, read only.
    #[value(alias = "c")]
    YcsbC,
    /// YCSB D, read latest: 95 % reads, 5 % inserts.
    #[value(alias = "d")]
    YcsbD,
    /// YCSB F: 50 % reads, 50 % read-modify-writes.
    #[value(alias = "f")]
    YcsbF,
}

/// One operation as a benchmark counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A get.
    Read,
    /// A put of a record that was loaded.
    Update,
    /// A put of a record that was never there.
    Insert,
    /// A get and then a put of the same key.
    ReadModifyWrite,
}

/// How records are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Popularity {
    /// Record 0 is the most popular.
    Ranked,
    /// Popular records lie scattered over the range.
    Scattered,
    /// The newest record is the most popular.
    Latest,
}

/// How a record's number becomes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyNames {
    /// The number in decimal.
    Decimal,
    /// `user` and the number's FNV hash in decimal.
    User,
}

/// A workload's definition.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Reads in a hundred operations.
    pub reads_percent: u32,
    /// What the other operations are.
    pub writes: Kind,
    /// How records are chosen.
    pub popularity: Popularity,
    /// How keys are written.
    pub keys: KeyNames,
    /// Bytes of a value unless a flag says otherwise.
    pub value_size_default: u32,
}

impl Workload {
    /// The definition behind a name.
    #[must_use]
    pub fn of(name: WorkloadName) -> Self {
        let ycsb = |reads_percent, writes, popularity| Self {
            reads_percent,
            writes,
            popularity,
            keys: KeyNames::User,
            value_size_default: 1000,
        };
        match name {
            WorkloadName::Freight => Self {
                reads_percent: 95,
                writes: Kind::Update,
                popularity: Popularity::Ranked,
                keys: KeyNames::Decimal,
                value_size_default: 128,
            },
            WorkloadName::YcsbA => ycsb(50, Kind::Update, Popularity::Scattered),
            WorkloadName::YcsbB => ycsb(95, Kind::Update, Popularity::Scattered),
            WorkloadName::YcsbC => ycsb(100, Kind::Update, Popularity::Scattered),
            WorkloadName::YcsbD => ycsb(95, Kind::Insert, Popularity::Latest),
            WorkloadName::YcsbF => ycsb(50, Kind::ReadModifyWrite, Popularity::Scattered),
        }
    }

    /// The most places in a frame that one operation takes.
    #[must_use]
    pub fn ops_per_operation_max(&self) -> u32 {
        if self.writes == Kind::ReadModifyWrite { 2 } else { 1 }
    }

    /// The next operation's kind.
    #[inline]
    pub fn draw_kind(&self, random: &mut impl Rng) -> Kind {
        // 32 random bits scaled to 0..100: no bias worth a division.
        let percent = (u64::from(random.next_u32()) * 100) >> 32;
        if percent < u64::from(self.reads_percent) { Kind::Read } else { self.writes }
    }
}

/// Draws the records that operations touch.
#[derive(Debug, Clone)]
pub enum Chooser {
    /// [`Popularity::Ranked`]: a draw is a record.
    Ranked(Zipf),
    /// [`Popularity::Scattered`]: a draw is a record.
    Scattered(Scrambled),
    /// [`Popularity::Latest`]: a draw is how many records were inserted since.
    Latest(Zipf),
}

impl Chooser {
    /// A chooser over the records loaded.
    #[must_use]
    pub fn new(popularity: Popularity, records: u64, theta: f64) -> Self {
        match popularity {
            Popularity::Ranked => Self::Ranked(Zipf::new(records, theta)),
            Popularity::Scattered => Self::Scattered(Scrambled::new(records, theta)),
            Popularity::Latest => Self::Latest(Zipf::new(records, theta)),
        }
    }
}

/// The longest key of any workload, in bytes: `user` and 19 digits.
pub const KEY_BYTES_MAX: usize = 24;

/// A key written into a buffer of its own, so that naming a record allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    bytes: [u8; KEY_BYTES_MAX],
    start: u8,
}

impl Key {
    /// The key of record `number`.
    #[inline]
    #[must_use]
    pub fn of(names: KeyNames, number: u64) -> Self {
        match names {
            KeyNames::Decimal => Self::decimal(number),
            KeyNames::User => {
                let mut key = Self::decimal(fnv_hash(number));
                let start = usize::from(key.start) - 4;
                key.bytes[start..start + 4].copy_from_slice(b"user");
                key.start = start as u8;
                key
            }
        }
    }

    /// A copy of a key that [`Key::of`] made.
    ///
    /// # Panics
    /// Where it is longer than [`KEY_BYTES_MAX`].
    #[must_use]
    pub fn copied(key: &[u8]) -> Self {
        let start = KEY_BYTES_MAX - key.len();
        let mut bytes = [0; KEY_BYTES_MAX];
        bytes[start..].copy_from_slice(key);
        Self { bytes, start: start as u8 }
    }

    /// The key's bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..]
    }

    /// Digits are written from the end; up to 20 of them leave the 4 bytes that `user` needs.
    #[inline]
    fn decimal(mut number: u64) -> Self {
        let mut bytes = [0; KEY_BYTES_MAX];
        let mut start = KEY_BYTES_MAX;
        loop {
            start -= 1;
            bytes[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { bytes, start: start as u8 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn keys_are_decimal_or_ycsb_s() {
        for number in [0, 9, 10, 999_999, u64::MAX] {
            assert_eq!(Key::of(KeyNames::Decimal, number).as_bytes(), number.to_string().as_bytes());
        }
        assert_eq!(Key::of(KeyNames::User, 0).as_bytes(), b"user6284781860667377211");
        for number in 0..1000 {
            let expected = format!("user{}", fnv_hash(number));
            let key = Key::of(KeyNames::User, number);
            assert_eq!(key.as_bytes(), expected.as_bytes());
            assert_eq!(Key::copied(key.as_bytes()).as_bytes(), expected.as_bytes());
        }
    }

    #[test]
    fn the_mix_has_the_shares_of_its_definition() {
        for name in WorkloadName::value_variants() {
            let workload = Workload::of(*name);
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let kinds: Vec<Kind> = (0..100_000).map(|_| workload.draw_kind(&mut random)).collect();
            let reads = kinds.iter().filter(|kind| **kind == Kind::Read).count() as u32;
            assert!(reads.abs_diff(workload.reads_percent * 1000) <= 500, "{name:?}: {reads} reads of 100,000");
            assert!(kinds.iter().all(|kind| [Kind::Read, workload.writes].contains(kind)));
        }
    }

    #[test]
    fn workloads_are_named_as_ycsb_names_them() {
        for (text, name) in
            [("freight", WorkloadName::Freight), ("ycsb-a", WorkloadName::YcsbA), ("F", WorkloadName::YcsbF)]
        {
            assert_eq!(WorkloadName::from_str(text, true), Ok(name));
        }
    }
}
