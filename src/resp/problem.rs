//! What a client is told that it did wrong, in the words of Redis 7.0.
#![forbid(unsafe_code)]

use super::data::Words;
use super::glob::PATTERN_BYTES_MAX;
use super::local::CLIENT_NAME_BYTES_MAX;
use super::names::Name;
use crate::limits::KEY_BYTES_MAX;
use thiserror::Error;

/// Why what a client sends is no command: it is told, and its connection ends, for nobody knows where the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The line of a count has no end.
    #[error("too big mbulk count string")]
    CountLine,
    /// A count that is no number, or too large.
    #[error("invalid multibulk length")]
    Count,
    /// The line of a length has no end.
    #[error("too big bulk count string")]
    LengthLine,
    /// A length that is no number, negative, or too large.
    #[error("invalid bulk length")]
    Length,
    /// Something else where a word of a command should begin.
    #[error("expected '$', got '{}'", char::from(if matches!(got, b'\r' | b'\n') { b' ' } else { *got }))]
    NoBulk {
        /// The byte that is there.
        got: u8,
    },
    /// The line of an inline command has no end.
    #[error("too big inline request")]
    InlineTooLong,
    /// A quote that is not closed, or inside a word.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// A command longer than the node takes.
    #[error("a command of more than {bytes_max} bytes")]
    CommandTooLong {
        /// The limit.
        bytes_max: usize,
    },
}

/// Why a command is not executed. The connection goes on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Problem {
    #[error("ERR unknown command '{command}', with args beginning with: {words}")]
    UnknownCommand { command: String, words: String },
    #[error("ERR unknown subcommand '{subcommand}'. Try {} HELP.", command.row().name.to_uppercase())]
    UnknownSubcommand { command: Name, subcommand: String },
    #[error("ERR wrong number of arguments for '{}' command", command.row().name)]
    WordCount { command: Name },
    #[error("ERR wrong number of arguments for '{}|{subcommand}' command", command.row().name)]
    SubcommandWordCount { command: Name, subcommand: &'static str },
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR value is not an integer or out of range")]
    NoInteger,
    #[error("ERR value is out of range, value must between -2147483648 and 2147483647")]
    NoSmallInteger,
    #[error("ERR invalid expire time in '{}' command", command.row().name)]
    ExpireTime { command: Name },
    #[error("ERR Unsupported option {option}")]
    UnknownOption { option: String },
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    NxOptions,
    #[error("ERR GT and LT options at the same time are not compatible")]
    GtLtOptions,
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    #[error("ERR DB index is out of range")]
    Database,
    #[error("ERR invalid cursor")]
    Cursor,
    #[error("ERR a key of {bytes} bytes: at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong { bytes: u32 },
    #[error("ERR a pattern of {bytes} bytes: at most {PATTERN_BYTES_MAX} are allowed")]
    PatternTooLong { bytes: usize },
    #[error("ERR too many arguments: at most {most} are looked up at once")]
    TooManyWords { most: usize },
    #[error("ERR Protocol version is not an integer or out of range")]
    NoProtocolVersion,
    #[error("NOPROTO unsupported protocol version")]
    ProtocolVersion,
    #[error("ERR Syntax error in HELLO option '{option}'")]
    HelloOption { option: String },
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    ClientName,
    #[error("ERR {attribute} cannot contain spaces, newlines or special characters.")]
    ClientAttribute { attribute: &'static str },
    #[error("ERR a name of {bytes} bytes: at most {CLIENT_NAME_BYTES_MAX} are allowed")]
    NameTooLong { bytes: usize },
    #[error("ERR Unrecognized option '{option}'")]
    UnknownAttribute { option: String },
    #[error("ERR Invalid client ID")]
    ClientId,
    #[error("ERR Unknown client type '{name}'")]
    ClientType { name: String },
    #[error(
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
         configuration is correct?"
    )]
    NoPassword,
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPassword,
    #[error("ERR too many passwords wait to be checked, try again")]
    PasswordsBusy,
    #[error("ERR max number of clients reached for this user")]
    TooManyConnections,
    #[error("NOAUTH Authentication required.")]
    NoAuthentication,
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> \
         option can be used to authenticate the client and select the RESP protocol version at the same time"
    )]
    NoAuthenticationInHello,
    #[error("NOPERM this user has no permissions to run the '{}' command", command.row().name)]
    NoRight { command: Name },
}

/// Bytes at the end of an error: ends of lines that end them are left out.
pub(super) fn shown_last(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    shown(&bytes[..end], usize::MAX)
}

/// Bytes as text for an error: what would end its line becomes a space, a zero byte ends it.
pub(super) fn shown(bytes: &[u8], bytes_max: usize) -> String {
    let bytes = &bytes[..bytes.len().min(bytes_max)];
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    bytes.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { ' ' } else { char::from(*byte) }).collect()
}

/// Bytes of an unknown command, and of its words, that its sender is told.
const TOLD_BYTES_MAX: usize = 128;

/// What is told of a command that is none.
pub(super) fn unknown_command(words: Words<'_>) -> Problem {
    let mut told = String::new();
    let mut told_bytes = 0;
    for at in 1..words.len() {
        if told_bytes >= TOLD_BYTES_MAX {
            break;
        }
        let word = shown(words.get(at), TOLD_BYTES_MAX - told_bytes);
        told_bytes += word.chars().count() + 3;
        told.push_str(&format!("'{word}' "));
    }
    Problem::UnknownCommand { command: shown(words.get(0), TOLD_BYTES_MAX), words: told }
}
