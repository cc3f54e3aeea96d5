//! Which granules of a segment are taken: one bit each, lowest run first.
//!
//! ```text
//!   1111 0000 0011 1000 ...        run of 4 wanted: the first four free, not the emptiest place
//! ```
//!
//! The lowest run is the one used last, so it is warm; a ring that goes round and round would touch all of the
//! segment before it comes back. Runs are given back in any order: a receiver that keeps one frame for long is in
//! nobody's way.
#![forbid(unsafe_code)]

/// Taken and free granules.
#[derive(Debug)]
pub(super) struct Granules {
    words: Vec<u64>,
    count: u32,
    used: u32,
}

impl Granules {
    /// So many free granules.
    pub(super) fn new(count: u32) -> Self {
        Self { words: vec![0; count.div_ceil(64) as usize], count, used: 0 }
    }

    /// How many are taken.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// The lowest free run of `run` granules, not yet taken.
    pub(super) fn find(&self, run: u32) -> Option<u32> {
        let mut at = 0;
        while run <= self.count - at {
            match self.first_used(at, at + run) {
                None => return Some(at),
                Some(used) => at = self.first_free(used),
            }
        }
        None
    }

    /// Whether granules `from..to` are there and free.
    pub(super) fn are_free(&self, from: u32, to: u32) -> bool {
        to <= self.count && self.first_used(from, to).is_none()
    }

    /// Takes granules `from..to`, which must be free.
    pub(super) fn take(&mut self, from: u32, to: u32) {
        assert!(self.are_free(from, to), "granules {from} to {to} are free");
        for_words(from, to, |word, bits| self.words[word] |= bits);
        self.used += to - from;
    }

    /// Gives granules `from..to` back, which must be taken.
    pub(super) fn give_back(&mut self, from: u32, to: u32) {
        for_words(from, to, |word, bits| {
            assert!(self.words[word] & bits == bits, "granules {from} to {to} are taken");
            self.words[word] &= !bits;
        });
        self.used -= to - from;
    }

    fn first_used(&self, from: u32, to: u32) -> Option<u32> {
        let mut found = None;
        for_words(from, to, |word, bits| {
            let used = self.words[word] & bits;
            if used != 0 && found.is_none() {
                found = Some(64 * word as u32 + used.trailing_zeros());
            }
        });
        found
    }

    /// The first free granule from `from` on, or their number where there is none.
    fn first_free(&self, from: u32) -> u32 {
        let mut word = (from / 64) as usize;
        let mut taken = self.words[word] | ((1 << (from % 64)) - 1);
        while taken == u64::MAX {
            word += 1;
            if word == self.words.len() {
                return self.count;
            }
            taken = self.words[word];
        }
        (64 * word as u32 + taken.trailing_ones()).min(self.count)
    }
}

/// The words of bits `from..to`, with the bits that are meant.
fn for_words(from: u32, to: u32, mut each: impl FnMut(usize, u64)) {
    let mut at = from;
    while at < to {
        let end = ((at / 64 + 1) * 64).min(to);
        let run = end - at;
        let bits = if run == 64 { u64::MAX } else { ((1 << run) - 1) << (at % 64) };
        each((at / 64) as usize, bits);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn take(granules: &mut Granules, run: u32) -> Option<u32> {
        let first = granules.find(run)?;
        granules.take(first, first + run);
        Some(first)
    }

    #[test]
    fn the_lowest_run_is_lent_first_and_again() {
        let mut granules = Granules::new(200);
        assert_eq!((take(&mut granules, 70), take(&mut granules, 3)), (Some(0), Some(70)));
        granules.give_back(0, 70);
        assert_eq!((take(&mut granules, 71), take(&mut granules, 70)), (Some(73), Some(0)));
        assert_eq!(granules.used(), 144);
        assert_eq!((take(&mut granules, 57), take(&mut granules, 56)), (None, Some(144)));
        assert!(!granules.are_free(199, 201) && granules.find(1).is_none());
    }

    #[test]
    fn random_runs_agree_with_a_plain_list() {
        println!("seed 1");
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for count in [1_u32, 63, 64, 65, 300] {
            let (mut granules, mut plain) = (Granules::new(count), vec![false; count as usize]);
            let mut runs = Vec::new();
            for _ in 0..2_000 {
                if random.random_range(0..2) == 0 && !runs.is_empty() {
                    let (from, to) = runs.swap_remove(random.random_range(0..runs.len()));
                    granules.give_back(from, to);
                    plain[from as usize..to as usize].fill(false);
                } else {
                    let run = random.random_range(1..=count.min(90));
                    let expected = plain.windows(run as usize).position(|run| run.iter().all(|taken| !taken));
                    let first = take(&mut granules, run);
                    assert_eq!(first, expected.map(|at| at as u32));
                    if let Some(first) = first {
                        plain[first as usize..][..run as usize].fill(true);
                        runs.push((first, first + run));
                    }
                }
                assert_eq!(granules.used() as usize, plain.iter().filter(|taken| **taken).count());
            }
        }
    }
}
