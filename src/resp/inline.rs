//! A line as people type it: words, quotes and escapes.
//!
//! ```text
//!   set "a b" 'it\'s' \n        -->   set | a b | it's | \n         in its place: no word gets longer
//! ```
//!
//! As in Redis: `"..."` knows `\xHH \n \r \t \b \a` and takes any other escaped byte as it is, `'...'` knows `\'`. A
//! quote that is not closed, or closed in the middle of a word, makes the line no command. A zero byte ends it.
#![forbid(unsafe_code)]

use super::parse::Span;
use super::problem::ProtocolError;

/// Splits a line, which begins at `begin` of the input, and takes the quotes off its words where they stand.
pub(super) fn split(line: &mut [u8], begin: usize, words: &mut Vec<Span>) -> Result<(), ProtocolError> {
    let mut splitting = Splitting { line, read: 0, written: 0 };
    loop {
        while splitting.front().is_some_and(is_space) {
            splitting.read += 1;
        }
        if splitting.front().is_none() {
            return Ok(());
        }
        let first = splitting.written;
        splitting.word()?;
        words.push(Span::new(begin + first, begin + splitting.written));
    }
}

struct Splitting<'a> {
    line: &'a mut [u8],
    read: usize,
    /// Where the next byte of a word is put: never past `read`.
    written: usize,
}

impl Splitting<'_> {
    /// The next byte; `None` at the end, which a zero byte is too.
    fn front(&self) -> Option<u8> {
        self.line.get(self.read).copied().filter(|byte| *byte != 0)
    }

    fn put(&mut self, byte: u8, read: usize) {
        self.read += read;
        debug_assert!(self.written < self.read, "no word gets longer");
        self.line[self.written] = byte;
        self.written += 1;
    }

    /// A word, up to what ends it.
    fn word(&mut self) -> Result<(), ProtocolError> {
        loop {
            match self.front() {
                None => return Ok(()),
                Some(b' ' | b'\n' | b'\r' | b'\t') => {
                    self.read += 1;
                    return Ok(());
                }
                Some(b'"') => {
                    self.read += 1;
                    return self.quoted(b'"');
                }
                Some(b'\'') => {
                    self.read += 1;
                    return self.quoted(b'\'');
                }
                Some(byte) => self.put(byte, 1),
            }
        }
    }

    /// The rest of a word, which is in quotes.
    fn quoted(&mut self, quote: u8) -> Result<(), ProtocolError> {
        loop {
            match (self.front().ok_or(ProtocolError::Quotes)?, quote) {
                (byte, _) if byte == quote => {
                    self.read += 1;
                    // What was quoted is the end of its word.
                    return if self.front().is_none_or(is_space) { Ok(()) } else { Err(ProtocolError::Quotes) };
                }
                (b'\\', b'"') => self.escaped(),
                (b'\\', _) if self.line.get(self.read + 1) == Some(&b'\'') => self.put(b'\'', 2),
                (byte, _) => self.put(byte, 1),
            }
        }
    }

    /// A byte behind a backslash; the backslash itself where nothing is behind it.
    fn escaped(&mut self) {
        match self.line[self.read + 1..] {
            [b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                self.put(hex(high) << 4 | hex(low), 4);
            }
            [byte, ..] if byte != 0 => {
                let meant = match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                };
                self.put(meant, 2);
            }
            _ => self.put(b'\\', 1),
        }
    }
}

/// The spaces of C.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut input, mut spans) = ([b"before", line].concat(), Vec::new());
        split(&mut input[6..], 6, &mut spans).ok()?;
        Some(spans.iter().map(|span| span.of(&input).to_vec()).collect())
    }

    #[test]
    fn words_quotes_and_escapes_are_taken_apart() {
        let cases: [(&[u8], &[&[u8]]); 11] = [
            (b"", &[]),
            (b" \t\x0b\x0c", &[]),
            (b"get  key ", &[b"get", b"key"]),
            (b"set \"a b\" 'c d'", &[b"set", b"a b", b"c d"]),
            (b"\"\" ''", &[b"", b""]),
            (b"\"\\x41\\n\\r\\t\\b\\a\\\\\\\"\\q\"", &[b"A\n\r\t\x08\x07\\\"q"]),
            (b"'it\\'s' '\\n'", &[b"it's", b"\\n"]),
            (b"\"\\xzz\"", &[b"xzz"]),
            (b"a\"b c\"", &[b"ab c"]),
            (b"back\\slash", &[b"back\\slash"]),
            (b"end\0 of \"it", &[b"end"]),
        ];
        for (line, expected) in cases {
            assert_eq!(
                words(line).as_deref(),
                Some(&expected.iter().map(|word| word.to_vec()).collect::<Vec<_>>()[..])
            );
        }
    }

    #[test]
    fn quotes_that_are_not_closed_or_not_at_the_end_of_their_word_are_an_error() {
        for line in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\\\"", b"'a\\'", b"\"a\\", b"\"a\0\""] {
            assert_eq!(words(line), None, "{line:?}");
        }
    }
}
