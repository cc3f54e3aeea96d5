//! Integers as decimal text, in one canonical form: what counters are, and what protocols of text say.
//!
//! Text is a number if it is exactly the text that we would write: `-` for negative numbers, no `+`, no leading
//! zero, no `-0`, no space, between -9223372036854775808 and 9223372036854775807. The empty text is no number.
#![forbid(unsafe_code)]

use crate::limits::COUNTER_BYTES_MAX;

const BYTES_MAX: usize = COUNTER_BYTES_MAX as usize;

/// The number that `text` spells canonically.
#[must_use]
pub fn parse(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let is_canonical = match digits {
        [] => false,
        [b'0', rest @ ..] => rest.is_empty() && !is_negative,
        _ => digits.len() < BYTES_MAX,
    };
    if !is_canonical {
        return None;
    }
    // Downwards from zero: the most negative number has no positive twin.
    let negated = digits.iter().try_fold(0_i64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_sub(digit.into())
    })?;
    if is_negative { Some(negated) } else { negated.checked_neg() }
}

/// A number's canonical text.
#[derive(Debug, Clone, Copy)]
pub struct DecimalText {
    bytes: [u8; BYTES_MAX],
    begin: usize,
}

impl DecimalText {
    /// The text of a number.
    #[must_use]
    pub fn new(number: i64) -> Self {
        let mut text = Self { bytes: [0; BYTES_MAX], begin: BYTES_MAX };
        let mut rest = number.unsigned_abs();
        loop {
            text.prepend(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            text.prepend(b'-');
        }
        debug_assert_eq!(parse(text.as_bytes()), Some(number), "the text is canonical");
        text
    }

    fn prepend(&mut self, byte: u8) {
        debug_assert!(self.begin > 0, "the longest number fits");
        self.begin -= 1;
        self.bytes[self.begin] = byte;
    }

    /// Its bytes, all of them ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_number_is_its_decimal_and_parses_back() {
        let powers = (0..63).flat_map(|bit| [1_i64 << bit, -(1 << bit), (1 << bit) - 1]);
        for number in powers.chain([i64::MIN, i64::MAX, i64::MIN + 1, 10, -10, 99, 100]) {
            let text = DecimalText::new(number);
            assert_eq!(text.as_bytes(), number.to_string().as_bytes());
            assert_eq!(parse(text.as_bytes()), Some(number));
        }
    }

    #[test]
    fn other_spellings_are_no_numbers() {
        let spellings =
            ["", "-", "+1", "01", "-0", "-01", "00", " 1", "1 ", "1.0", "0x1", "1e3", "-1-", "١", "a", "9/", "9:"];
        let too_large = ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "99999999999999999999"];
        for text in spellings.iter().chain(&too_large) {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(&[b'1'; 1000]), None);
    }
}
