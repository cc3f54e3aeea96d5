//! Patterns of keys, as SCAN and CONFIG take them.
//!
//! ```text
//!   *  any bytes    ?  any byte    [ab] [a-z] [^a]  one of these, or none of them    \*  the byte itself
//! ```
//!
//! As in Redis: a class that is not closed ends with the pattern, and `*` alone is the only pattern that matches the
//! empty key but the empty one. A star takes as little as it can and more when what follows does not match; only the
//! latest one ever has to, so that no pattern takes longer than its length times that of the key.
#![forbid(unsafe_code)]

/// Whether a pattern matches a whole text.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if pattern == b"*" {
        return true;
    }
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut pattern, mut text) = (pattern, text);
    // What is behind the latest star, and the text that it has not taken yet.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', behind @ ..] = pattern {
            star = Some((behind, text));
            pattern = behind;
            continue;
        }
        let step = match text {
            [] if pattern.is_empty() => return true,
            [] => None,
            [byte, behind @ ..] => one(pattern, *byte).map(|pattern| (pattern, behind)),
        };
        match (step, star) {
            (Some((rest, behind)), _) => (pattern, text) = (rest, behind),
            (None, Some((behind_star, [_, untaken @ ..]))) => {
                star = Some((behind_star, untaken));
                (pattern, text) = (behind_star, untaken);
            }
            (None, _) => return false,
        }
    }
}

/// What is left of a pattern whose first element matches a byte.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (is_match, rest) = match pattern {
        [] => return None,
        [b'?', rest @ ..] => (true, rest),
        [b'[', class @ ..] => class_of(class, byte),
        [b'\\', literal, rest @ ..] => (*literal == byte, rest),
        [literal, rest @ ..] => (*literal == byte, rest),
    };
    is_match.then_some(rest)
}

/// Whether a byte is in a class, and what is behind it.
fn class_of(class: &[u8], byte: u8) -> (bool, &[u8]) {
    let (is_negated, mut class) = match class {
        [b'^', class @ ..] => (true, class),
        class => (false, class),
    };
    let mut is_in = false;
    loop {
        class = match class {
            [] => return (is_in != is_negated, &[]),
            [b'\\', literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
            [b']', rest @ ..] => return (is_in != is_negated, rest),
            [first, b'-', last, rest @ ..] => {
                is_in |= (*first.min(last)..=*first.max(last)).contains(&byte);
                rest
            }
            [literal, rest @ ..] => {
                is_in |= *literal == byte;
                rest
            }
        };
    }
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
            let found: Vec<usize> = (0..keys.len()).filter(|at| matches(pattern, keys[*at])).collect();
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(pattern));
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_few() {
        // Taken back star by star, this would not end.
        let (pattern, text) = ([&b"*a".repeat(500)[..], b"b"].concat(), vec![b'a'; 60_000]);
        assert!(!matches(&pattern, &text));
    }
}
