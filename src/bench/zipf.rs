//! Which record an operation touches: Zipf as YCSB draws it.
//!
//! ```text
//!   Zipf       rank 0 is the most popular, rank r about (r + 1)^-theta as popular     (freight: rank = record)
//!   Scrambled  ranks of a space of ten billion, hashed by FNV over the records        (YCSB A, B, C, F)
//!   Latest     rank 0 is the record inserted last                                     (YCSB D)
//! ```
//!
//! The generator is that of Gray, Sundaresan, Englert, Baclawski and Weinberger, "Quickly Generating
//! Billion-Record Synthetic Databases", SIGMOD 1994, section 3: one uniform number and one power a draw. The two
//! most popular ranks are exact, the tail is a close approximation. Its constant, the generalised harmonic number
//! "zeta", is computed once.
#![forbid(unsafe_code)]

use rand::Rng;

/// The space of ranks that YCSB's scrambled Zipf draws from, whatever the number of records.
const SCRAMBLED_RANKS: u64 = 10_000_000_000;

/// Draws ranks `0..items`, rank 0 the most popular. `theta` 0 is uniform; it must be below 1.
#[derive(Debug, Clone)]
pub struct Zipf {
    items: u64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    zeta_of_2: f64,
    eta: f64,
}

impl Zipf {
    /// A generator over `items` ranks, at least 1, with `0 <= theta < 1`.
    ///
    /// # Panics
    /// Where `items` or `theta` is outside those bounds.
    #[must_use]
    pub fn new(items: u64, theta: f64) -> Self {
        assert!(items >= 1, "a Zipf distribution needs an item");
        assert!((0.0..1.0).contains(&theta), "theta {theta} is not in 0..1");
        let mut zipf = Self {
            items,
            theta,
            alpha: 1.0 / (1.0 - theta),
            zeta: zeta(items, theta),
            zeta_of_2: 1.0 + 0.5_f64.powf(theta),
            eta: 0.0,
        };
        zipf.eta = zipf.eta_now();
        zipf
    }

    /// The next rank.
    #[inline]
    pub fn draw(&self, random: &mut impl Rng) -> u64 {
        let u = unit(random);
        let uz = u * self.zeta;
        if uz < 1.0 || self.items == 1 {
            return 0;
        }
        if uz < self.zeta_of_2 {
            return 1;
        }
        let rank = (self.items as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha)) as u64;
        // Rounding may reach `items` itself for a u next to 1.
        rank.min(self.items - 1)
    }

    /// One rank more: the constant grows by a term, it isn't summed again.
    pub fn grow(&mut self) {
        self.items += 1;
        self.zeta += (self.items as f64).powf(-self.theta);
        self.eta = self.eta_now();
    }

    /// The share of draws that rank `rank` gets in a true Zipf distribution.
    #[must_use]
    pub fn share(&self, rank: u64) -> f64 {
        ((rank + 1) as f64).powf(-self.theta) / self.zeta
    }

    fn eta_now(&self) -> f64 {
        (1.0 - (2.0 / self.items as f64).powf(1.0 - self.theta)) / (1.0 - self.zeta_of_2 / self.zeta)
    }
}

/// YCSB's scrambled Zipf: popular ranks, but of records scattered over the whole range.
#[derive(Debug, Clone)]
pub struct Scrambled {
    zipf: Zipf,
    items: u64,
}

impl Scrambled {
    /// A generator over `items` records.
    #[must_use]
    pub fn new(items: u64, theta: f64) -> Self {
        Self { zipf: Zipf::new(SCRAMBLED_RANKS, theta), items }
    }

    /// The next record.
    #[inline]
    pub fn draw(&self, random: &mut impl Rng) -> u64 {
        fnv_hash(self.zipf.draw(random)) % self.items
    }
}

/// YCSB's hash of a number: FNV-1a over its eight bytes, low byte first, sign dropped.
#[inline]
#[must_use]
pub fn fnv_hash(number: u64) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for byte in number.to_le_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211);
    }
    hash.cast_signed().unsigned_abs()
}

/// The sum of `i^-theta` for `i` in `1..=items`.
///
/// The head is summed, the tail taken by Euler and Maclaurin's formula to its second correction: exact to about
/// twelve digits, and as quick for ten billion as for ten thousand.
fn zeta(items: u64, theta: f64) -> f64 {
    const HEAD: u64 = 10_000;
    let head: f64 = (1..=items.min(HEAD)).map(|i| (i as f64).powf(-theta)).sum();
    if items <= HEAD {
        return head;
    }
    let (first, last) = (HEAD as f64, items as f64);
    let integral = (last.powf(1.0 - theta) - first.powf(1.0 - theta)) / (1.0 - theta);
    let ends = (last.powf(-theta) - first.powf(-theta)) / 2.0;
    let slopes = theta * (first.powf(-theta - 1.0) - last.powf(-theta - 1.0)) / 12.0;
    head + integral + ends + slopes
}

/// A uniform number in 0..1, of 53 random bits.
#[inline]
fn unit(random: &mut impl Rng) -> f64 {
    (random.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const DRAWS: u64 = 400_000;

    fn counts(items: u64, mut draw: impl FnMut(&mut ChaCha8Rng) -> u64) -> Vec<u64> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut counts = vec![0_u64; items as usize];
        for _ in 0..DRAWS {
            counts[draw(&mut random) as usize] += 1;
        }
        counts
    }

    fn assert_near(got: f64, expected: f64, tolerance: f64, what: &str) {
        assert!((got - expected).abs() <= expected * tolerance, "{what}: got {got}, expected {expected}");
    }

    #[test]
    fn zeta_by_formula_equals_the_plain_sum_and_ycsb_s_constant() {
        let plain: f64 = (1..=1_000_000_u64).map(|i| (i as f64).powf(-0.99)).sum();
        assert_near(zeta(1_000_000, 0.99), plain, 1e-11, "a million");
        // ScrambledZipfianGenerator.ZETAN of YCSB, of ten billion items.
        assert_near(zeta(SCRAMBLED_RANKS, 0.99), 26.469_028_201_783_02, 1e-9, "ten billion");
    }

    #[test]
    fn popular_ranks_come_as_often_as_zipf_says() {
        let zipf = Zipf::new(1_000_000, 0.99);
        let counts = counts(1_000_000, |random| zipf.draw(random));
        for rank in [0, 1] {
            assert_near(counts[rank as usize] as f64 / DRAWS as f64, zipf.share(rank), 0.02, "an exact rank");
        }
        for (from, to) in [(0, 100), (100, 10_000), (10_000, 1_000_000)] {
            let got: u64 = counts[from..to].iter().sum();
            let expected: f64 = (from as u64..to as u64).map(|rank| zipf.share(rank)).sum();
            assert_near(got as f64 / DRAWS as f64, expected, 0.04, "a range of ranks");
        }
    }

    #[test]
    fn theta_zero_is_uniform() {
        let zipf = Zipf::new(100, 0.0);
        let counts = counts(100, |random| zipf.draw(random));
        assert!(counts.iter().all(|n| (3600..4400).contains(n)), "{counts:?}");
    }

    #[test]
    fn one_and_two_items_stay_in_range() {
        for items in [1, 2, 3] {
            let zipf = Zipf::new(items, 0.99);
            assert!(counts(items, |random| zipf.draw(random)).iter().all(|n| *n > 0));
        }
    }

    #[test]
    fn a_grown_generator_equals_a_new_one() {
        let mut grown = Zipf::new(20_000, 0.99);
        for _ in 0..500 {
            grown.grow();
        }
        let new = Zipf::new(20_500, 0.99);
        assert_near(grown.zeta, new.zeta, 1e-11, "zeta");
        assert_near(grown.eta, new.eta, 1e-11, "eta");
    }

    #[test]
    fn scrambled_records_are_popular_but_scattered() {
        let scrambled = Scrambled::new(1000, 0.99);
        let counts = counts(1000, |random| scrambled.draw(random));
        let top = (fnv_hash(0) % 1000) as usize;
        assert_eq!(counts.iter().max(), Some(&counts[top]), "rank 0 lands on its hash");
        assert_ne!(top, 0);
        assert!(counts[top] as f64 / DRAWS as f64 > 1.0 / 26.5);
    }

    #[test]
    fn fnv_hash_names_ycsb_s_first_record() {
        // The key that YCSB's load phase logs first.
        assert_eq!(format!("user{}", fnv_hash(0)), "user6284781860667377211");
    }
}
