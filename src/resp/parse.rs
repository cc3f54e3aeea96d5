//! Commands in a stream of bytes: an array of bulk strings, or a line of words.
//!
//! ```text
//!   *2\r\n $3\r\n GET\r\n $5\r\n key:7\r\n          array:  count, then length and bytes of each word
//!   GET key:7\r\n                                   inline: words and quotes, as people type them
//! ```
//!
//! Words stay where they are: a command is a list of [`Span`]s of the input. A command that is not all there is looked
//! at from where the last look ended, so that whoever sends it byte by byte costs no more than others.
#![forbid(unsafe_code)]

use super::inline;
use super::problem::ProtocolError;
use crate::decimal;
use crate::limits::VALUE_BYTES_MAX;

/// A piece of the input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) begin: u32,
    pub(super) bytes: u32,
}

impl Span {
    /// The bytes from `begin` to `end`.
    #[inline]
    pub(super) fn new(begin: usize, end: usize) -> Self {
        debug_assert!(begin <= end && end <= u32::MAX as usize, "{begin} to {end}");
        Self { begin: begin as u32, bytes: (end - begin) as u32 }
    }

    /// What it is a piece of, from its first byte on.
    #[inline]
    pub(super) fn onwards(self, input: &[u8]) -> &[u8] {
        &input[self.begin as usize..]
    }

    /// The index behind it, and behind what ends it in an array.
    pub(super) fn end(self) -> usize {
        self.begin as usize + self.bytes as usize + WORD_END_BYTES
    }

    /// Its bytes.
    #[inline]
    pub(super) fn of(self, input: &[u8]) -> &[u8] {
        &self.onwards(input)[..self.bytes as usize]
    }
}

/// What stands at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A command of at least one word, which ends here.
    Command {
        /// The index behind it.
        end: usize,
    },
    /// Nothing to do, up to here: an empty line, or an array of no words.
    Nothing {
        /// The index behind it.
        end: usize,
    },
    /// A command that is not all there.
    Partial {
        /// Bytes that it takes at least.
        needed: usize,
    },
}

/// Bytes that end a word of an array.
const WORD_END_BYTES: usize = 2;

/// The longest line of an array: a sigil and a number.
const NUMBER_LINE_BYTES_MAX: usize = 64;

/// The longest inline command, in bytes.
pub(super) const INLINE_BYTES_MAX: usize = 64 << 10;

/// Most words of one command.
const WORDS_MAX: i64 = 1 << 20;

/// Finds commands, one after the other.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// How far a command that is not all there was looked at.
    looked: Option<Looked>,
}

#[derive(Debug, Clone, Copy)]
struct Looked {
    /// Bytes of it.
    bytes: usize,
    /// Words that are left, of an array.
    words: i64,
}

impl Parser {
    /// The command at `begin`, its words in `words`. One that is not all there is asked for again when more has come;
    /// it may have moved, but nothing else may be asked for in between.
    ///
    /// # Errors
    /// What stands there is no command, nor will ever be.
    #[inline]
    pub(super) fn next(
        &mut self,
        input: &mut [u8],
        begin: usize,
        command_bytes_max: usize,
        words: &mut Vec<Span>,
    ) -> Result<Parsed, ProtocolError> {
        words.clear();
        let parsed = match input.get(begin) {
            None => return Ok(Parsed::Partial { needed: 1 }),
            Some(b'*') => self.array(input, begin, words),
            Some(_) => self.line(input, begin, words),
        }?;
        match parsed {
            Parsed::Partial { needed } if needed > command_bytes_max => {
                Err(ProtocolError::CommandTooLong { bytes_max: command_bytes_max })
            }
            parsed => Ok(parsed),
        }
    }

    #[inline]
    fn array(&mut self, input: &[u8], begin: usize, words: &mut Vec<Span>) -> Result<Parsed, ProtocolError> {
        let Looked { bytes, words: mut left } = match self.looked {
            Some(looked) => looked,
            None => match number_line(&input[begin..]) {
                Line::Partial => return Ok(Parsed::Partial { needed: input.len() - begin + 1 }),
                Line::TooLong => return Err(ProtocolError::CountLine),
                Line::Number { number: Some(words @ ..=WORDS_MAX), bytes } if words > 0 => Looked { bytes, words },
                Line::Number { number: Some(..=0), bytes } => return Ok(Parsed::Nothing { end: begin + bytes }),
                Line::Number { .. } => return Err(ProtocolError::Count),
            },
        };
        let mut at = begin + bytes;
        while left > 0 {
            let needed = match bulk(input, at)? {
                Bulk::Whole { word, end } => {
                    words.push(word);
                    (at, left) = (end, left - 1);
                    continue;
                }
                Bulk::Partial { needed } => needed,
            };
            self.looked = Some(Looked { bytes: at - begin, words: left });
            return Ok(Parsed::Partial { needed: at - begin + needed });
        }
        if self.looked.take().is_some() {
            // Words of the looks before are not kept: once a command, all of it is looked at again.
            words.clear();
            return self.array(input, begin, words);
        }
        Ok(Parsed::Command { end: at })
    }

    fn line(&mut self, input: &mut [u8], begin: usize, words: &mut Vec<Span>) -> Result<Parsed, ProtocolError> {
        let looked = self.looked.take().map_or(0, |looked| looked.bytes);
        let rest = &input[begin + looked..];
        let within = &rest[..rest.len().min(INLINE_BYTES_MAX - looked.min(INLINE_BYTES_MAX))];
        let Some(length) = within.iter().position(|byte| *byte == b'\n') else {
            let bytes = looked + within.len();
            if bytes >= INLINE_BYTES_MAX {
                return Err(ProtocolError::InlineTooLong);
            }
            self.looked = Some(Looked { bytes, words: 0 });
            return Ok(Parsed::Partial { needed: bytes + 1 });
        };
        let end = begin + looked + length;
        let line = &mut input[begin..end];
        let line_bytes = line.strip_suffix(b"\r").map_or(line.len(), <[u8]>::len);
        inline::split(&mut line[..line_bytes], begin, words)?;
        Ok(if words.is_empty() { Parsed::Nothing { end: end + 1 } } else { Parsed::Command { end: end + 1 } })
    }
}

/// The words that an input begins with, of an array that was found to be all there; gives the index behind them.
pub(super) fn words(input: &[u8], count: usize, words: &mut Vec<Span>) -> Result<usize, ProtocolError> {
    words.clear();
    let mut at = 0;
    while words.len() < count {
        let Bulk::Whole { word, end } = bulk(input, at)? else { return Err(ProtocolError::Length) };
        words.push(word);
        at = end;
    }
    Ok(at)
}

/// One word of an array.
enum Bulk {
    Whole { word: Span, end: usize },
    Partial { needed: usize },
}

#[inline]
fn bulk(input: &[u8], at: usize) -> Result<Bulk, ProtocolError> {
    let rest = &input[at..];
    match rest.first() {
        None => return Ok(Bulk::Partial { needed: 1 }),
        Some(b'$') => {}
        Some(got) => return Err(ProtocolError::NoBulk { got: *got }),
    }
    let (length, bytes) = match number_line(rest) {
        Line::Partial => return Ok(Bulk::Partial { needed: rest.len() + 1 }),
        Line::TooLong => return Err(ProtocolError::LengthLine),
        Line::Number { number: Some(length), bytes } if (0..=i64::from(VALUE_BYTES_MAX)).contains(&length) => {
            (length as usize, bytes)
        }
        Line::Number { .. } => return Err(ProtocolError::Length),
    };
    // What ends a word is not looked at, as in Redis: its length says where it ends.
    let needed = bytes + length + WORD_END_BYTES;
    if rest.len() < needed {
        return Ok(Bulk::Partial { needed });
    }
    let begin = at + bytes;
    Ok(Bulk::Whole { word: Span::new(begin, begin + length), end: at + needed })
}

/// A line that begins with a sigil, which is not looked at.
enum Line {
    /// Its number, `None` for another text, and the bytes of the line.
    Number {
        number: Option<i64>,
        bytes: usize,
    },
    Partial,
    TooLong,
}

#[inline]
fn number_line(line: &[u8]) -> Line {
    // Most numbers are short.
    if let [_, digit @ b'1'..=b'9', b'\r', _, ..] = line {
        return Line::Number { number: Some(i64::from(digit - b'0')), bytes: 4 };
    }
    let within = &line[..line.len().min(NUMBER_LINE_BYTES_MAX)];
    match within.iter().position(|byte| *byte == b'\r') {
        // As in Redis any byte may stand behind the carriage return, but one must.
        Some(end) if end + 2 <= line.len() => {
            Line::Number { number: decimal::parse(&line[1.min(end)..end]), bytes: end + 2 }
        }
        None if within.len() == NUMBER_LINE_BYTES_MAX => Line::TooLong,
        Some(_) | None => Line::Partial,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND_BYTES_MAX: usize = 1 << 20;

    /// Its words.
    type Command = Vec<Vec<u8>>;

    /// Every command of an input that arrives at once, and what is left of it.
    fn all(input: &[u8]) -> Result<(Vec<Command>, usize), ProtocolError> {
        by_pieces(input, input.len().max(1))
    }

    /// Every command of an input that arrives in pieces.
    fn by_pieces(input: &[u8], piece: usize) -> Result<(Vec<Command>, usize), ProtocolError> {
        let (mut parser, mut words, mut commands) = (Parser::default(), Vec::new(), Vec::new());
        let (mut arrived, mut begin) = (Vec::new(), 0);
        for piece in input.chunks(piece) {
            arrived.extend_from_slice(piece);
            loop {
                match parser.next(&mut arrived, begin, COMMAND_BYTES_MAX, &mut words)? {
                    Parsed::Command { end } => {
                        commands.push(words.iter().map(|word| word.of(&arrived).to_vec()).collect());
                        begin = end;
                    }
                    Parsed::Nothing { end } => begin = end,
                    Parsed::Partial { needed } => {
                        assert!(needed > arrived.len() - begin, "{needed} of {}", arrived.len() - begin);
                        break;
                    }
                }
            }
        }
        Ok((commands, arrived.len() - begin))
    }

    #[test]
    fn commands_of_both_kinds_are_found_however_they_arrive() {
        let input = b"*2\r\n$3\r\nGET\r\n$4\r\nk\r\ny\r\nSET a \"b c\"\r\n\r\n*0\r\n*-1\r\n\
                      *1\r\n$0\r\n\r\nPING\n*3\r\n$1\r\n1\r\n$12\r\n";
        let expected: Vec<Vec<&[u8]>> =
            vec![vec![b"GET", b"k\r\ny"], vec![b"SET", b"a", b"b c"], vec![b""], vec![b"PING"]];
        for piece in 1..=input.len() {
            let (commands, left) = by_pieces(input, piece).expect("valid");
            assert_eq!(
                (&commands, left),
                (&expected.iter().map(|c| c.iter().map(|w| w.to_vec()).collect()).collect(), 16)
            );
        }
    }

    #[test]
    fn what_is_no_command_is_told_by_its_reason() {
        let error = |input: &[u8]| all(input).expect_err("no command");
        assert_eq!(error(b"*1048577\r\n"), ProtocolError::Count);
        assert_eq!(error(b"*x\r\n"), ProtocolError::Count);
        assert_eq!(error(b"*\r\n"), ProtocolError::Count);
        assert_eq!(error(b"*01\r\n"), ProtocolError::Count);
        assert_eq!(error(b"*1\r\n*1\r\n"), ProtocolError::NoBulk { got: b'*' });
        assert_eq!(error(b"*1\r\n$-1\r\n"), ProtocolError::Length);
        assert_eq!(error(b"*1\r\n$8388609\r\n"), ProtocolError::Length);
        assert_eq!(error(b"*1\r\n$9223372036854775808\r\n"), ProtocolError::Length);
        assert_eq!(error(&[b"*", &[b'1'; 64][..]].concat()), ProtocolError::CountLine);
        assert_eq!(error(&[b"*1\r\n$", &[b'1'; 64][..]].concat()), ProtocolError::LengthLine);
        assert_eq!(error(&[b'a'; 64 << 10]), ProtocolError::InlineTooLong);
        assert_eq!(error(b"get \"a\r\n"), ProtocolError::Quotes);
        let long = b"*2\r\n$1048576\r\n";
        assert_eq!(error(long), ProtocolError::CommandTooLong { bytes_max: COMMAND_BYTES_MAX });
    }

    #[test]
    fn a_command_that_comes_byte_by_byte_is_looked_at_twice_at_most() {
        // 40,000 words: looked at from the front with each byte, this would take minutes.
        let mut input = b"*40000\r\n".to_vec();
        (0..40_000).for_each(|i| input.extend_from_slice(format!("$1\r\n{}\r\n", i % 10).as_bytes()));
        let (commands, left) = by_pieces(&input, 1).expect("valid");
        assert_eq!((commands.len(), commands[0].len(), left), (1, 40_000, 0));
    }

    #[test]
    fn a_command_that_has_moved_is_found_where_it_is() {
        let (mut parser, mut words) = (Parser::default(), Vec::new());
        let mut input = b"PING\r\n*2\r\n$3\r\nGET\r\n$1\r\n".to_vec();
        let next = |parser: &mut Parser, input: &mut [u8], begin, words: &mut _| {
            parser.next(input, begin, COMMAND_BYTES_MAX, words).expect("valid")
        };
        assert_eq!(next(&mut parser, &mut input, 0, &mut words), Parsed::Command { end: 6 });
        assert_eq!(next(&mut parser, &mut input, 6, &mut words), Parsed::Partial { needed: 20 });
        let mut moved = [&input[6..], b"k\r\n"].concat();
        assert_eq!(next(&mut parser, &mut moved, 0, &mut words), Parsed::Command { end: 20 });
        assert_eq!(words.iter().map(|word| word.of(&moved)).collect::<Vec<_>>(), [&b"GET"[..], b"k"]);
    }
}
