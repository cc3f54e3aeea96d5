//! Patterns of keys, as SCAN and CONFIG take them.
//!
//! ```text
//!   *  any bytes    ?  any byte    [ab] [a-z] [^a]  one of these, or none of them    \*  the byte itself
//! ```
//!
//! As in Redis: a class that is not closed ends with the pattern, and `*` alone is the only pattern that matches the
//! empty key but the empty one. All places of the pattern that a text may have come to are kept at once, a bit each: a
//! byte of text costs no more than a step through [`PATTERN_BYTES_MAX`] bits, whatever pattern and text are.
#![forbid(unsafe_code)]

use super::problem::Problem;

/// The longest pattern.
pub(super) const PATTERN_BYTES_MAX: usize = 1 << 10;

/// A pattern, taken apart.
///
/// ```text
///   a*[bc]     elements  a  [bc]        a place before each and one behind the last; a star keeps a text in its place
/// ```
#[derive(Debug)]
pub(super) struct Pattern {
    /// Words of 64 places.
    words: usize,
    /// Of each byte the places whose element it matches.
    accepting: Vec<u64>,
    /// The places that a star keeps a text in.
    staying: Vec<u64>,
    /// The place behind the last element.
    last: usize,
    is_empty_matched: bool,
}

impl Pattern {
    /// Takes a pattern apart.
    pub(super) fn new(pattern: &[u8]) -> Result<Self, Problem> {
        if pattern.len() > PATTERN_BYTES_MAX {
            return Err(Problem::PatternTooLong { bytes: pattern.len() });
        }
        let words = pattern.len() / 64 + 1;
        let (mut accepting, mut staying) = (vec![0; 256 * words], vec![0; words]);
        let (mut rest, mut place) = (pattern, 0);
        while !rest.is_empty() {
            let (word, bit) = (place / 64, 1 << (place % 64));
            if let [b'*', behind @ ..] = rest {
                staying[word] |= bit;
                rest = behind;
                continue;
            }
            let (bytes, behind) = element(rest);
            (0..256).filter(|byte| bytes[*byte]).for_each(|byte| accepting[byte * words + word] |= bit);
            (rest, place) = (behind, place + 1);
        }
        let is_empty_matched = pattern.is_empty() || pattern == b"*";
        Ok(Self { words, accepting, staying, last: place, is_empty_matched })
    }

    /// Whether it matches a whole text.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        if text.is_empty() {
            return self.is_empty_matched;
        }
        let mut places = [0; PATTERN_BYTES_MAX / 64 + 1];
        let places = &mut places[..self.words];
        places[0] = 1;
        for byte in text {
            let accepting = &self.accepting[usize::from(*byte) * self.words..][..self.words];
            let mut carried = 0;
            for ((places, accepting), staying) in places.iter_mut().zip(accepting).zip(&self.staying) {
                let going = *places & accepting;
                *places = *places & staying | going << 1 | carried;
                carried = going >> 63;
            }
        }
        places[self.last / 64] >> (self.last % 64) & 1 == 1
    }
}

/// The bytes that the first element of a pattern matches, and what is behind it.
fn element(pattern: &[u8]) -> ([bool; 256], &[u8]) {
    let mut bytes = [false; 256];
    let rest = match pattern {
        [] => pattern,
        [b'?', rest @ ..] => {
            bytes = [true; 256];
            rest
        }
        [b'[', class @ ..] => class_of(class, &mut bytes),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            bytes[usize::from(*literal)] = true;
            rest
        }
    };
    (bytes, rest)
}

/// Sets the bytes that are in a class, and gives what is behind it.
fn class_of<'a>(class: &'a [u8], bytes: &mut [bool; 256]) -> &'a [u8] {
    let (is_negated, mut class) = match class {
        [b'^', class @ ..] => (true, class),
        class => (false, class),
    };
    loop {
        class = match class {
            [] => break,
            [b'\\', literal, rest @ ..] => {
                bytes[usize::from(*literal)] = true;
                rest
            }
            [b']', rest @ ..] => {
                class = rest;
                break;
            }
            [first, b'-', last, rest @ ..] => {
                bytes[usize::from(*first.min(last))..=usize::from(*first.max(last))].fill(true);
                rest
            }
            [literal, rest @ ..] => {
                bytes[usize::from(*literal)] = true;
                rest
            }
        };
    }
    bytes.iter_mut().for_each(|is_in| *is_in ^= is_negated);
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_redis_7_says_they_match() {
        let keys: [&[u8]; 11] = [b"", b"a", b"abc", b"*", b"[a", b"\\", b"^", b"]", b"-", b"ab]", b"a\xFF"];
        // Each pattern and the keys that redis-server 7.0.15 gave for it, by their place.
        let cases: [(&[u8], &[usize]); 29] = [
            (b"*", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            (b"**", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
            (b"", &[0]),
            (b"?", &[1, 3, 5, 6, 7, 8]),
            (b"a*", &[1, 2, 9, 10]),
            (b"*a", &[1, 4]),
            (b"[", &[]),
            (b"[^", &[1, 3, 5, 6, 7, 8]),
            (b"[^a", &[3, 5, 6, 7, 8]),
            (b"[a", &[1]),
            (b"[a-", &[1, 8]),
            (b"[a-c", &[1]),
            (b"\\", &[5]),
            (b"\\*", &[3]),
            (b"\\\\", &[5]),
            (b"[\\]]", &[7]),
            (b"[]]", &[]),
            (b"[]", &[]),
            (b"[^]", &[1, 3, 5, 6, 7, 8]),
            (b"[^]]", &[]),
            (b"[c-a]", &[1]),
            (b"*b*", &[2, 9]),
            (b"a[b]c", &[2]),
            (b"a[^b]c", &[]),
            (b"*]", &[7, 9]),
            (b"[a-]", &[1, 6, 7]),
            (b"a?c*", &[2]),
            (b"[a\\", &[1, 5]),
            (b"A*", &[]),
        ];
        for (pattern, expected) in cases {
            let taken_apart = Pattern::new(pattern).expect("short");
            let found: Vec<usize> = (0..keys.len()).filter(|at| taken_apart.matches(keys[*at])).collect();
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(pattern));
        }
    }

    #[test]
    fn the_longest_pattern_matches_and_a_longer_one_is_refused() {
        let pattern = |pattern: &[u8]| Pattern::new(pattern);
        let longest = vec![b'a'; PATTERN_BYTES_MAX];
        assert!(pattern(&longest).expect("short enough").matches(&longest));
        assert!(!pattern(&longest).expect("short enough").matches(&longest[1..]));
        assert!(pattern(&b"?".repeat(PATTERN_BYTES_MAX)).expect("short enough").matches(&longest));
        assert_eq!(pattern(&[b'a'; PATTERN_BYTES_MAX + 1]).err(), Some(Problem::PatternTooLong { bytes: 1_025 }));
    }

    #[test]
    fn no_pattern_has_to_be_tried_again_and_again() {
        // Place by place, and a class read anew for each byte, these would not end.
        let text = vec![b'a'; 10_000_000];
        let matches = |pattern: &[u8]| Pattern::new(pattern).expect("short enough").matches(&text);
        assert!(!matches(&[&b"*a".repeat(500)[..], b"b"].concat()));
        assert!(!matches(&[b"*", &[b'a'; 1_000][..], b"b"].concat()));
        assert!(!matches(&[b"*[", &[b'b'; 1_000][..]].concat()));
        assert!(matches(&[&b"*?a".repeat(300)[..], b"*"].concat()));
    }
}
