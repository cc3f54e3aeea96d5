//! Operations as commands of Redis, and its replies as outcomes: bytes and nothing else.
//!
//! ```text
//!   get   *2 $3 GET $5 key:7                 $128 <value>  |  $-1          a value, or none
//!   put   *3 $3 SET $5 key:7 $128 <value>    +OK                           done
//!                                            -OOM ...                      a failure, by its first word
//! ```
#![forbid(unsafe_code)]

use crate::decimal::{self, DecimalText};
use crate::op::Outcome;

/// Appends a get.
#[inline]
pub(super) fn get(key: &[u8], commands: &mut Vec<u8>) {
    commands.extend_from_slice(b"*2\r\n$3\r\nGET\r\n");
    bulk(key, commands);
}

/// Appends a put.
#[inline]
pub(super) fn put(key: &[u8], value: &[u8], commands: &mut Vec<u8>) {
    commands.extend_from_slice(b"*3\r\n$3\r\nSET\r\n");
    bulk(key, commands);
    bulk(value, commands);
}

/// Appends who asks.
pub(super) fn auth(name: &str, password: &[u8], commands: &mut Vec<u8>) {
    commands.extend_from_slice(b"*3\r\n$4\r\nAUTH\r\n");
    bulk(name.as_bytes(), commands);
    bulk(password, commands);
}

/// Appends a question about the server.
pub(super) fn info(commands: &mut Vec<u8>) {
    commands.extend_from_slice(b"*1\r\n$4\r\nINFO\r\n");
}

#[inline]
fn bulk(bytes: &[u8], commands: &mut Vec<u8>) {
    commands.push(b'$');
    commands.extend_from_slice(DecimalText::new(bytes.len() as i64).as_bytes());
    commands.extend_from_slice(b"\r\n");
    commands.extend_from_slice(bytes);
    commands.extend_from_slice(b"\r\n");
}

/// A reply, in the bytes that it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    kind: Kind,
    begin: u32,
    bytes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Status,
    Error,
    Bulk,
    Null,
}

/// What is no reply to a get, a put or a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The longest line of a length.
const LENGTH_LINE_BYTES_MAX: usize = 32;

/// The longest line of a status or an error.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The reply at `at` and where it ends; `None` where it is not all there.
#[inline]
pub(super) fn reply(received: &[u8], at: usize) -> Result<Option<(Reply, usize)>, Malformed> {
    let rest = &received[at..];
    let Some(sigil) = rest.first() else { return Ok(None) };
    let line_bytes_max = if *sigil == b'$' { LENGTH_LINE_BYTES_MAX } else { LINE_BYTES_MAX };
    let Some(line_bytes) = rest.iter().take(line_bytes_max).position(|byte| *byte == b'\n') else {
        return if rest.len() < line_bytes_max { Ok(None) } else { Err(Malformed) };
    };
    let line = rest[1..line_bytes.max(1)].strip_suffix(b"\r").ok_or(Malformed)?;
    let (begin, end) = (at + 1, at + line_bytes + 1);
    let found = |kind, begin: usize, bytes: usize| Reply { kind, begin: begin as u32, bytes: bytes as u32 };
    match sigil {
        b'+' => Ok(Some((found(Kind::Status, begin, line.len()), end))),
        b'-' => Ok(Some((found(Kind::Error, begin, line.len()), end))),
        b'$' => match decimal::parse(line).ok_or(Malformed)? {
            -1 => Ok(Some((found(Kind::Null, end, 0), end))),
            length => {
                let length = u32::try_from(length).map_err(|_| Malformed)? as usize;
                match received.get(end + length..end + length + 2) {
                    None => Ok(None),
                    Some(b"\r\n") => Ok(Some((found(Kind::Bulk, end, length), end + length + 2))),
                    Some(_) => Err(Malformed),
                }
            }
        },
        _ => Err(Malformed),
    }
}

impl Reply {
    /// Its text or value.
    #[inline]
    pub(super) fn of<'a>(&self, received: &'a [u8]) -> &'a [u8] {
        &received[self.begin as usize..][..self.bytes as usize]
    }

    /// What became of an operation, or the report's name of its failure.
    #[inline]
    pub(super) fn outcome<'a>(&self, received: &'a [u8]) -> Result<Outcome<'a>, &'static str> {
        match self.kind {
            Kind::Bulk => Ok(Outcome::Value { value: self.of(received), version: None }),
            Kind::Null => Ok(Outcome::NotFound),
            Kind::Status if self.of(received) == b"OK" => Ok(Outcome::Done { version: None }),
            Kind::Status => Err("WrongStatus"),
            Kind::Error => Err(error_kind(self.of(received))),
        }
    }
}

/// The report's name of an error that a server tells, by its first word.
#[cold]
fn error_kind(text: &[u8]) -> &'static str {
    match text.split(|byte| *byte == b' ').next().unwrap_or_default() {
        b"OOM" => "OutOfMemory",
        b"LOADING" => "Loading",
        b"NOAUTH" => "NoAuth",
        b"WRONGTYPE" => "WrongType",
        b"MOVED" => "Moved",
        b"CLUSTERDOWN" => "ClusterDown",
        b"READONLY" => "ReadOnly",
        b"UNKNOWN" => "Unknown",
        _ => "RedisError",
    }
}

/// A number that a server tells of itself: in a line `name:number`, 0 where there is none.
pub(super) fn told(info: &str, name: &str) -> f64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

/// The records of all its databases: lines like `db0:keys=12,expires=3`.
pub(super) fn told_records(info: &str) -> u64 {
    let keys = |line: &str| -> Option<u64> {
        let (database, told) = line.split_once(":keys=")?;
        database.strip_prefix("db")?.parse::<u32>().ok()?;
        told.split(',').next()?.parse().ok()
    };
    info.lines().filter_map(keys).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(received: &[u8]) -> Result<Outcome<'_>, &'static str> {
        let (reply, end) = reply(received, 0).expect("well-formed").expect("whole");
        assert_eq!(end, received.len());
        reply.outcome(received)
    }

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut commands = Vec::new();
        get(b"k", &mut commands);
        put(b"key", b"a\r\nb", &mut commands);
        assert_eq!(commands, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$4\r\na\r\nb\r\n");
    }

    #[test]
    fn replies_become_outcomes() {
        assert_eq!(outcome(b"$4\r\na\r\nb\r\n"), Ok(Outcome::Value { value: b"a\r\nb", version: None }));
        assert_eq!(outcome(b"$0\r\n\r\n"), Ok(Outcome::Value { value: b"", version: None }));
        assert_eq!(outcome(b"$-1\r\n"), Ok(Outcome::NotFound));
        assert_eq!(outcome(b"+OK\r\n"), Ok(Outcome::Done { version: None }));
        assert_eq!(outcome(b"+QUEUED\r\n"), Err("WrongStatus"));
        assert_eq!(outcome(b"-OOM command not allowed\r\n"), Err("OutOfMemory"));
        assert_eq!(outcome(b"-MOVED 3999 127.0.0.1:6381\r\n"), Err("Moved"));
        assert_eq!(outcome(b"-ERR whatever\r\n"), Err("RedisError"));
    }

    #[test]
    fn a_reply_that_is_not_all_there_is_waited_for_and_what_is_none_is_told() {
        for whole in [&b"$12\r\nabcdefghijkl\r\n"[..], b"+OK\r\n", b"-ERR no\r\n", b"$-1\r\n"] {
            for bytes in 0..whole.len() {
                assert_eq!(reply(&whole[..bytes], 0), Ok(None), "{bytes} bytes of {whole:?}");
            }
        }
        for wrong in [&b"*1\r\n"[..], b":1\r\n", b"\n", b"$\n", b"$x\r\n", b"$-2\r\n", b"$1\r\nabc", &[b'$'; 40]] {
            assert_eq!(reply(wrong, 0), Err(Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn what_a_server_tells_of_itself_is_read_by_name() {
        let info =
            "# CPU\r\nused_cpu_sys:1.5\r\nused_cpu_user:2\r\n# Keyspace\r\ndb0:keys=12,expires=0\r\ndb1:keys=3\r\n";
        assert_eq!((told(info, "used_cpu_sys"), told(info, "used_cpu"), told_records(info)), (1.5, 0.0, 15));
    }
}
