//! SCAN: every key, part by part.
#![forbid(unsafe_code)]

use super::data::Words;
use super::glob::Pattern;
use super::host::Host;
use super::output::{Lend, Output};
use super::problem::Problem;

/// Keys that are looked for, unless told otherwise.
const COUNT_DEFAULT: u64 = 10;

/// Keys that are looked for at most, whatever is asked.
const COUNT_MAX: u64 = 10_000;

/// Parts of the store that one call looks at, at most: where hardly any are filled it ends too.
const PARTS_MAX: u32 = 256;

/// Bytes of keys that are looked at, behind which a call ends.
const KEY_BYTES_MAX: usize = 1 << 20;

/// What is asked for.
struct Asked {
    cursor: u64,
    count: u64,
    pattern: Option<Pattern>,
    is_any_type: bool,
}

/// Answers with a cursor and the keys of some parts of the store. The count is a hint: a part is told as a whole.
pub(super) fn answer<L: Lend, H: Host>(words: Words<'_>, host: &mut H, output: &mut Output<L>) -> Result<(), Problem> {
    let Asked { mut cursor, count, pattern, is_any_type } = asked(words)?;
    let (mut keys, mut looked_bytes) = (Keys::default(), 0);
    let mut seen = 0;
    for _ in 0..PARTS_MAX {
        // A part is matched when nothing of the store waits for it any more.
        let mut part = Keys::default();
        cursor = host.scan(cursor, &mut |key| {
            seen += 1;
            looked_bytes += key.len();
            if is_any_type {
                part.push(key);
            }
        });
        match &pattern {
            Some(pattern) => part.iter().filter(|key| pattern.matches(key)).for_each(|key| keys.push(key)),
            None => part.iter().for_each(|key| keys.push(key)),
        }
        if cursor == 0 || seen >= count || looked_bytes > KEY_BYTES_MAX {
            break;
        }
    }
    output.array(2);
    output.bulk(cursor.to_string().as_bytes());
    output.array(keys.lengths.len());
    keys.iter().for_each(|key| output.bulk(key));
    Ok(())
}

/// Copies of some keys.
#[derive(Default)]
struct Keys {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

impl Keys {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.lengths.push(key.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map(move |length| {
            let (key, behind) = rest.split_at(*length);
            rest = behind;
            key
        })
    }
}

fn asked(words: Words<'_>) -> Result<Asked, Problem> {
    let cursor = cursor(words.get(1)).ok_or(Problem::Cursor)?;
    let mut asked = Asked { cursor, count: COUNT_DEFAULT, pattern: None, is_any_type: true };
    let mut at = 2;
    while at < words.len() {
        if at + 1 == words.len() {
            return Err(Problem::Syntax);
        }
        if words.is(at, "count") {
            let count = words.integer(at + 1)?;
            if count < 1 {
                return Err(Problem::Syntax);
            }
            asked.count = count.unsigned_abs().min(COUNT_MAX);
        } else if words.is(at, "match") {
            asked.pattern = Some(Pattern::new(words.get(at + 1))?);
        } else if words.is(at, "type") {
            // Every value is one.
            asked.is_any_type = words.is(at + 1, "string");
        } else {
            return Err(Problem::Syntax);
        }
        at += 2;
    }
    Ok(asked)
}

/// A cursor, as C reads an unsigned number: a sign is allowed, and the empty text is 0.
fn cursor(text: &[u8]) -> Option<u64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] if !digits.is_empty() => (true, digits),
        [b'+', digits @ ..] if !digits.is_empty() => (false, digits),
        digits => (false, digits),
    };
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })?;
    Some(if is_negative { number.wrapping_neg() } else { number })
}
