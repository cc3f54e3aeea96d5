//! The commands that there are, and what each says of itself to whoever asks with COMMAND.
#![forbid(unsafe_code)]

use super::data::Words;
use crate::auth::Rights;

/// One command. The order is that of [`ROWS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Append,
    Auth,
    Client,
    Command,
    Config,
    Dbsize,
    Decr,
    Decrby,
    Del,
    Echo,
    Exists,
    Expire,
    Expireat,
    Expiretime,
    Flushall,
    Flushdb,
    Get,
    Getdel,
    Getex,
    Getset,
    Hello,
    Incr,
    Incrby,
    Info,
    Mget,
    Mset,
    Persist,
    Pexpire,
    Pexpireat,
    Pexpiretime,
    Ping,
    Psetex,
    Pttl,
    Quit,
    Scan,
    Select,
    Set,
    Setex,
    Setnx,
    Strlen,
    Ttl,
    Type,
    Unlink,
}

/// What a command says of itself, in the words of Redis 7.0: lists of words, parted by spaces.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Words of a call, the name too; negative for "at least".
    pub(super) arity: i32,
    pub(super) flags: &'static str,
    pub(super) keys: Keys,
    pub(super) categories: &'static str,
    pub(super) tips: &'static str,
    /// What it does with its keys.
    pub(super) access: &'static str,
}

impl Row {
    /// Why it does that, where it is not plain.
    pub(super) fn note(&self) -> Option<&'static str> {
        match self.name {
            "set" => Some("RW and ACCESS due to the optional `GET` argument"),
            "getex" => Some("RW and UPDATE because it changes the TTL"),
            _ => None,
        }
    }
}

/// Which words are keys: the first, the last (from the end, where it is negative), and how far from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keys(pub(super) i64, pub(super) i64, pub(super) i64);

const NONE: Keys = Keys(0, 0, 0);
const ONE: Keys = Keys(1, 1, 1);
const ALL: Keys = Keys(1, -1, 1);
const PAIRS: Keys = Keys(1, -1, 2);

/// Of commands that are for whoever has not authenticated.
const OPEN: &str = "noscript loading stale fast no_auth allow_busy";

const fn row(
    name: &'static str,
    arity: i32,
    flags: &'static str,
    keys: Keys,
    categories: &'static str,
    tips: &'static str,
    access: &'static str,
) -> Row {
    Row { name, arity, flags, keys, categories, tips, access }
}

impl Name {
    /// Whether it is for whoever has not authenticated.
    pub(super) fn is_open(self) -> bool {
        self.row().flags == OPEN
    }

    /// The rights that a call of it takes.
    pub(super) fn rights(self, words: Words<'_>) -> Rights {
        let row = self.row();
        let both = Rights::READ.and(Rights::WRITE);
        match self {
            Self::Flushall | Self::Flushdb => Rights::WRITE.and(Rights::ADMIN),
            Self::Set if (3..words.len()).any(|at| words.is(at, "get")) => both,
            Self::Set => Rights::WRITE,
            // What tells the value that it found, or made.
            _ if row.flags.starts_with("write") && row.access.starts_with("RW access") => both,
            _ if row.flags.starts_with("write") => Rights::WRITE,
            _ if row.flags.starts_with("readonly") => Rights::READ,
            _ => Rights::NONE,
        }
    }

    /// The command of a word, in any case.
    pub(super) fn of(word: &[u8]) -> Option<Self> {
        let mut upper = [0; NAME_BYTES_MAX];
        let upper = upper.get_mut(..word.len())?;
        for (to, from) in upper.iter_mut().zip(word) {
            // Only letters become letters by this.
            *to = from & !0x20;
        }
        Some(match &*upper {
            // The most frequent first: names are compared in turn.
            b"GET" => Self::Get,
            b"SET" => Self::Set,
            b"DEL" => Self::Del,
            b"MGET" => Self::Mget,
            b"MSET" => Self::Mset,
            b"INCR" => Self::Incr,
            b"APPEND" => Self::Append,
            b"AUTH" => Self::Auth,
            b"CLIENT" => Self::Client,
            b"COMMAND" => Self::Command,
            b"CONFIG" => Self::Config,
            b"DBSIZE" => Self::Dbsize,
            b"DECR" => Self::Decr,
            b"DECRBY" => Self::Decrby,
            b"ECHO" => Self::Echo,
            b"EXISTS" => Self::Exists,
            b"EXPIRE" => Self::Expire,
            b"EXPIREAT" => Self::Expireat,
            b"EXPIRETIME" => Self::Expiretime,
            b"FLUSHALL" => Self::Flushall,
            b"FLUSHDB" => Self::Flushdb,
            b"GETDEL" => Self::Getdel,
            b"GETEX" => Self::Getex,
            b"GETSET" => Self::Getset,
            b"HELLO" => Self::Hello,
            b"INCRBY" => Self::Incrby,
            b"INFO" => Self::Info,
            b"PERSIST" => Self::Persist,
            b"PEXPIRE" => Self::Pexpire,
            b"PEXPIREAT" => Self::Pexpireat,
            b"PEXPIRETIME" => Self::Pexpiretime,
            b"PING" => Self::Ping,
            b"PSETEX" => Self::Psetex,
            b"PTTL" => Self::Pttl,
            b"QUIT" => Self::Quit,
            b"SCAN" => Self::Scan,
            b"SELECT" => Self::Select,
            b"SETEX" => Self::Setex,
            b"SETNX" => Self::Setnx,
            b"STRLEN" => Self::Strlen,
            b"TTL" => Self::Ttl,
            b"TYPE" => Self::Type,
            b"UNLINK" => Self::Unlink,
            _ => return None,
        })
    }

    /// What it says of itself.
    pub(super) fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

/// The longest name.
const NAME_BYTES_MAX: usize = 11;

/// Every command, in the order of [`Name`].
pub(super) const ROWS: &[Row] = &[
    row("append", 3, "write denyoom fast", ONE, "@write @string @fast", "", "RW insert"),
    row("auth", -2, OPEN, NONE, "@fast @connection", "", ""),
    row("client", -2, "", NONE, "@slow", "", ""),
    row("command", -1, "loading stale", NONE, "@slow @connection", "nondeterministic_output_order", ""),
    row("config", -2, "", NONE, "@slow", "", ""),
    row(
        "dbsize",
        1,
        "readonly fast",
        NONE,
        "@keyspace @read @fast",
        "request_policy:all_shards response_policy:agg_sum",
        "",
    ),
    row("decr", 2, "write denyoom fast", ONE, "@write @string @fast", "", "RW access update"),
    row("decrby", 3, "write denyoom fast", ONE, "@write @string @fast", "", "RW access update"),
    row(
        "del",
        -2,
        "write",
        ALL,
        "@keyspace @write @slow",
        "request_policy:multi_shard response_policy:agg_sum",
        "RM delete",
    ),
    row("echo", 2, "loading stale fast", NONE, "@fast @connection", "", ""),
    row(
        "exists",
        -2,
        "readonly fast",
        ALL,
        "@keyspace @read @fast",
        "request_policy:multi_shard response_policy:agg_sum",
        "RO",
    ),
    row("expire", -3, "write fast", ONE, "@keyspace @write @fast", "", "RW update"),
    row("expireat", -3, "write fast", ONE, "@keyspace @write @fast", "", "RW update"),
    row("expiretime", 2, "readonly fast", ONE, "@keyspace @read @fast", "", "RO access"),
    row(
        "flushall",
        -1,
        "write",
        NONE,
        "@keyspace @write @slow @dangerous",
        "request_policy:all_shards response_policy:all_succeeded",
        "",
    ),
    row(
        "flushdb",
        -1,
        "write",
        NONE,
        "@keyspace @write @slow @dangerous",
        "request_policy:all_shards response_policy:all_succeeded",
        "",
    ),
    row("get", 2, "readonly fast", ONE, "@read @string @fast", "", "RO access"),
    row("getdel", 2, "write fast", ONE, "@write @string @fast", "", "RW access delete"),
    row("getex", -2, "write fast", ONE, "@write @string @fast", "", "RW access update"),
    row("getset", 3, "write denyoom fast", ONE, "@write @string @fast", "", "RW access update"),
    row("hello", -1, OPEN, NONE, "@fast @connection", "", ""),
    row("incr", 2, "write denyoom fast", ONE, "@write @string @fast", "", "RW access update"),
    row("incrby", 3, "write denyoom fast", ONE, "@write @string @fast", "", "RW access update"),
    row(
        "info",
        -1,
        "loading stale",
        NONE,
        "@slow @dangerous",
        "nondeterministic_output request_policy:all_shards response_policy:special",
        "",
    ),
    row("mget", -2, "readonly fast", ALL, "@read @string @fast", "request_policy:multi_shard", "RO access"),
    row(
        "mset",
        -3,
        "write denyoom",
        PAIRS,
        "@write @string @slow",
        "request_policy:multi_shard response_policy:all_succeeded",
        "OW update",
    ),
    row("persist", 2, "write fast", ONE, "@keyspace @write @fast", "", "RW update"),
    row("pexpire", -3, "write fast", ONE, "@keyspace @write @fast", "", "RW update"),
    row("pexpireat", -3, "write fast", ONE, "@keyspace @write @fast", "", "RW update"),
    row("pexpiretime", 2, "readonly fast", ONE, "@keyspace @read @fast", "", "RO access"),
    row("ping", -1, "fast", NONE, "@fast @connection", "request_policy:all_shards response_policy:all_succeeded", ""),
    row("psetex", 4, "write denyoom", ONE, "@write @string @slow", "", "OW update"),
    row("pttl", 2, "readonly fast", ONE, "@keyspace @read @fast", "nondeterministic_output", "RO access"),
    row("quit", -1, OPEN, NONE, "@fast @connection", "", ""),
    row("scan", -2, "readonly", NONE, "@keyspace @read @slow", "nondeterministic_output request_policy:special", ""),
    row("select", 2, "loading stale fast", NONE, "@fast @connection", "", ""),
    row("set", -3, "write denyoom", ONE, "@write @string @slow", "", "RW access update variable_flags"),
    row("setex", 4, "write denyoom", ONE, "@write @string @slow", "", "OW update"),
    row("setnx", 3, "write denyoom fast", ONE, "@write @string @fast", "", "OW insert"),
    row("strlen", 2, "readonly fast", ONE, "@read @string @fast", "", "RO"),
    row("ttl", 2, "readonly fast", ONE, "@keyspace @read @fast", "nondeterministic_output", "RO access"),
    row("type", 2, "readonly fast", ONE, "@keyspace @read @fast", "", "RO"),
    row(
        "unlink",
        -2,
        "write fast",
        ALL,
        "@keyspace @write @fast",
        "request_policy:multi_shard response_policy:agg_sum",
        "RM delete",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_leads_to_its_row() {
        for (at, row) in ROWS.iter().enumerate() {
            let upper = row.name.to_uppercase();
            let mixed: String = row
                .name
                .chars()
                .enumerate()
                .map(|(i, c)| if i % 2 == 0 { c } else { c.to_ascii_uppercase() })
                .collect();
            for word in [row.name, &upper, &mixed] {
                assert_eq!(Name::of(word.as_bytes()).map(|name| name as usize), Some(at), "{word}");
            }
        }
    }

    #[test]
    fn other_words_are_no_names() {
        for word in
            [&b""[..], b"GE", b"GETS", b"get ", b"\x07ET", b"G5T", b"PEXPIRETIMES", b"\x67\x45\x14", &[b'a'; 100]]
        {
            assert_eq!(Name::of(word), None, "{word:?}");
        }
    }
}
