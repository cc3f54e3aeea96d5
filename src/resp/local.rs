//! Commands that are none on keys: about the connection, the node, and the store as a whole.
#![forbid(unsafe_code)]

use super::data::Words;
use super::glob::Pattern;
use super::host::{Admission, Asked, Denied, Host};
use super::info;
use super::names::{Name, ROWS, Row};
use super::output::{Lend, Output, Protocol};
use super::problem::{Problem, shown};
use super::scan;
use super::session::Session;
use crate::decimal;
use crate::limits::VALUE_BYTES_MAX;

/// The version of Redis whose words these are: clients decide by it what they ask for.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// Answers a command of the right number of words.
pub(super) fn answer<L: Lend, H: Host>(
    session: &mut Session,
    name: Name,
    words: Words<'_>,
    host: &mut H,
    output: &mut Output<L>,
) -> Result<(), Problem> {
    match name {
        Name::Ping if words.len() == 2 => output.bulk(words.get(1)),
        Name::Ping if words.len() > 2 => return Err(Problem::WordCount { command: name }),
        Name::Ping => output.simple("PONG"),
        Name::Echo => output.bulk(words.get(1)),
        Name::Quit => output.simple("OK"),
        Name::Select => return select(words, output),
        Name::Hello => return hello(session, words, host, output),
        Name::Auth => return auth(session, words, host, output),
        Name::Client => return client(session, words, host, output),
        Name::Config => return config(session, words, host, output),
        Name::Command => return command(session, words, output),
        Name::Info => info::answer(session, words, host, output),
        Name::Dbsize => output.integer(host.records() as i64),
        Name::Flushall | Name::Flushdb => return flush(session, words),
        Name::Scan => return scan::answer(words, host, output),
        _ => unreachable!("{name:?} is one on keys"),
    }
    Ok(())
}

fn select<L: Lend>(words: Words<'_>, output: &mut Output<L>) -> Result<(), Problem> {
    let database = i32::try_from(words.integer(1)?).map_err(|_| Problem::NoSmallInteger)?;
    if database != 0 {
        return Err(Problem::Database);
    }
    output.simple("OK");
    Ok(())
}

fn hello<L: Lend, H: Host>(
    session: &mut Session,
    words: Words<'_>,
    host: &mut H,
    output: &mut Output<L>,
) -> Result<(), Problem> {
    let mut protocol = session.tally.protocol;
    if words.len() > 1 {
        protocol = match decimal::parse(words.get(1)).ok_or(Problem::NoProtocolVersion)? {
            2 => Protocol::Two,
            3 => Protocol::Three,
            _ => return Err(Problem::ProtocolVersion),
        };
    }
    let (mut at, mut name, mut credentials) = (2, None, None);
    while at < words.len() {
        let left = words.len() - at - 1;
        if words.is(at, "auth") && left >= 2 {
            credentials = Some((words.get(at + 1), words.get(at + 2)));
            at += 3;
        } else if words.is(at, "setname") && left >= 1 {
            name = Some(client_name(words.get(at + 1))?);
            at += 2;
        } else {
            return Err(Problem::HelloOption { option: shown(words.get(at), usize::MAX) });
        }
    }
    let greeting = Greeting { protocol, name };
    match credentials {
        Some((name, password)) => {
            let later =
                Asked { name: Some(name.to_vec()), password: password.to_vec(), greeting: Some(greeting.clone()) };
            if !authenticate(session, later, host)? {
                return Ok(());
            }
        }
        None if !session.is_authenticated() => return Err(Problem::NoAuthenticationInHello),
        None => {}
    }
    greeting.answer(session, host, output);
    Ok(())
}

/// What HELLO asks for, but for being let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    protocol: Protocol,
    name: Option<String>,
}

impl Greeting {
    /// Does it.
    pub(super) fn answer<L: Lend, H: Host>(self, session: &mut Session, host: &mut H, output: &mut Output<L>) {
        let Self { protocol, name } = self;
        session.tally.protocol = protocol;
        session.client.protocol = protocol;
        if let Some(name) = name {
            session.client.name = name;
        }
        host.client_changed(&session.client);
        output.map(protocol, 7);
        for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
            output.bulk(key.as_bytes());
            output.bulk(value.as_bytes());
        }
        let version = if protocol == Protocol::Three { 3 } else { 2 };
        for (key, value) in [("proto", version), ("id", session.client.id as i64)] {
            output.bulk(key.as_bytes());
            output.integer(value);
        }
        for (key, value) in [("mode", "standalone"), ("role", "master")] {
            output.bulk(key.as_bytes());
            output.bulk(value.as_bytes());
        }
        output.bulk(b"modules");
        output.array(0);
    }
}

fn auth<L: Lend, H: Host>(
    session: &mut Session,
    words: Words<'_>,
    host: &mut H,
    output: &mut Output<L>,
) -> Result<(), Problem> {
    let (name, password) = match words.len() {
        2 => (None, words.get(1).to_vec()),
        3 => (Some(words.get(1).to_vec()), words.get(2).to_vec()),
        _ => return Err(Problem::Syntax),
    };
    if authenticate(session, Asked { name, password, greeting: None }, host)? {
        output.simple("OK");
    }
    Ok(())
}

/// Whether the client is let in now; where that takes a while, its command is answered later.
fn authenticate<H: Host>(session: &mut Session, asked: Asked, host: &mut H) -> Result<bool, Problem> {
    match host.authenticate(asked.name.as_deref(), &asked.password) {
        Admission::Granted => Ok(true),
        Admission::Denied(denied) => Err(Problem::of(denied)),
        Admission::Later => {
            session.asked = Some(asked);
            Ok(false)
        }
    }
}

impl Problem {
    pub(super) fn of(denied: Denied) -> Self {
        match denied {
            Denied::NoPasswordNeeded => Self::NoPassword,
            Denied::WrongPassword => Self::WrongPassword,
            Denied::Busy => Self::PasswordsBusy,
            Denied::TooManyConnections => Self::TooManyConnections,
        }
    }
}

/// The subcommand at word 1, which must have so many words in all; negative for "at least".
fn subcommand(command: Name, words: Words<'_>, known: &[(&'static str, i32)]) -> Result<&'static str, Problem> {
    let found = known.iter().find(|(name, _)| words.is(1, name));
    let unknown = || Problem::UnknownSubcommand { command, subcommand: shown(words.get(1), 128) };
    let (subcommand, arity) = *found.ok_or_else(unknown)?;
    let count = words.len() as i32;
    if if arity < 0 { count < -arity } else { count != arity } {
        return Err(Problem::SubcommandWordCount { command, subcommand });
    }
    Ok(subcommand)
}

/// Most words of a command that looks something up for each of them, beyond its own.
const LOOKED_UP_MAX: usize = 1 << 10;

/// Refuses more words than that, from one on.
fn few(words: Words<'_>, from: usize) -> Result<(), Problem> {
    if words.len() - from > LOOKED_UP_MAX { Err(Problem::TooManyWords { most: LOOKED_UP_MAX }) } else { Ok(()) }
}

fn client<L: Lend, H: Host>(
    session: &mut Session,
    words: Words<'_>,
    host: &mut H,
    output: &mut Output<L>,
) -> Result<(), Problem> {
    let known = [("id", 2), ("getname", 2), ("setname", 3), ("setinfo", 4), ("list", -2)];
    match subcommand(Name::Client, words, &known)? {
        "id" => output.integer(session.client.id as i64),
        "getname" if session.client.name.is_empty() => output.null(session.tally.protocol),
        "getname" => output.bulk(session.client.name.as_bytes()),
        "setname" => {
            session.client.name = client_name(words.get(2))?;
            host.client_changed(&session.client);
            output.simple("OK");
        }
        "setinfo" => {
            let said = |attribute| printable(words.get(3), Problem::ClientAttribute { attribute });
            if words.is(2, "lib-name") {
                session.client.library.0 = said("lib-name")?;
            } else if words.is(2, "lib-ver") {
                session.client.library.1 = said("lib-ver")?;
            } else {
                return Err(Problem::UnknownAttribute { option: shown(words.get(2), 128) });
            }
            host.client_changed(&session.client);
            output.simple("OK");
        }
        _ => return clients(session, words, host, output),
    }
    Ok(())
}

/// A client's name: bytes that can be seen.
fn client_name(name: &[u8]) -> Result<String, Problem> {
    printable(name, Problem::ClientName)
}

/// Most bytes that a client may call itself, or its library: with its connection's other state it is not charged.
pub(super) const CLIENT_NAME_BYTES_MAX: usize = 256;

/// Bytes that can be seen, as text; else the problem with them.
fn printable(bytes: &[u8], problem: Problem) -> Result<String, Problem> {
    if bytes.len() > CLIENT_NAME_BYTES_MAX {
        return Err(Problem::NameTooLong { bytes: bytes.len() });
    }
    let is_printable = bytes.iter().all(|byte| (b'!'..=b'~').contains(byte));
    if is_printable { Ok(bytes.iter().map(|byte| char::from(*byte)).collect()) } else { Err(problem) }
}

fn clients<L: Lend, H: Host>(
    session: &Session,
    words: Words<'_>,
    host: &mut H,
    output: &mut Output<L>,
) -> Result<(), Problem> {
    let mut chosen: Option<Vec<u64>> = None;
    if words.len() >= 4 && words.is(2, "id") {
        few(words, 3)?;
        let id = |at| decimal::parse(words.get(at)).filter(|id| *id > 0).map(i64::cast_unsigned);
        chosen = Some((3..words.len()).map(|at| id(at).ok_or(Problem::ClientId)).collect::<Result<_, _>>()?);
    } else if words.len() == 4 && words.is(2, "type") {
        match ["normal", "master", "replica", "slave", "pubsub"].iter().position(|kind| words.is(3, kind)) {
            Some(0) => {}
            Some(_) => chosen = Some(Vec::new()),
            None => return Err(Problem::ClientType { name: shown(words.get(3), 128) }),
        }
    } else if words.len() > 2 {
        return Err(Problem::Syntax);
    }
    let mut text = String::new();
    for client in host.clients() {
        let facts = &client.facts;
        if chosen.as_ref().is_some_and(|chosen| !chosen.contains(&facts.id)) {
            continue;
        }
        let protocol = if facts.protocol == Protocol::Three { 3 } else { 2 };
        text.push_str(&format!(
            "id={} addr={} laddr={} name={} age={} flags=N db=0 user={} resp={protocol} lib-name={} lib-ver={}\n",
            facts.id,
            facts.address,
            facts.local_address,
            facts.name,
            client.age_seconds,
            facts.user,
            facts.library.0,
            facts.library.1
        ));
    }
    output.text(session.tally.protocol, &text);
    Ok(())
}

/// What clients ask for when they connect.
fn config<L: Lend, H: Host>(
    session: &Session,
    words: Words<'_>,
    host: &mut H,
    output: &mut Output<L>,
) -> Result<(), Problem> {
    subcommand(Name::Config, words, &[("get", -3)])?;
    few(words, 2)?;
    let facts = host.facts();
    let settings = [
        ("appendonly", "no".to_owned()),
        ("databases", "1".to_owned()),
        ("maxclients", facts.connections_max.to_string()),
        ("maxmemory", facts.stats.memory_bytes_max.unwrap_or(0).to_string()),
        ("maxmemory-policy", info::policy(&facts.stats.eviction)),
        ("port", facts.port.to_string()),
        ("proto-max-bulk-len", VALUE_BYTES_MAX.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ];
    // Each once, and one that is asked for by its name is called as it was asked for.
    let mut wanted: Vec<(&[u8], &str, &str)> = Vec::new();
    for word in (2..words.len()).map(|at| words.get(at)) {
        let is_pattern = word.iter().any(|byte| b"*?[".contains(byte));
        let pattern = Pattern::new(&word.to_ascii_lowercase())?;
        for (name, value) in settings.iter().filter(|(name, _)| pattern.matches(name.as_bytes())) {
            if wanted.iter().all(|(_, other, _)| other != name) {
                wanted.push((if is_pattern { name.as_bytes() } else { word }, name, value));
            }
        }
    }
    output.map(session.tally.protocol, wanted.len());
    for (called, _, value) in wanted {
        output.bulk(called);
        output.bulk(value.as_bytes());
    }
    Ok(())
}

fn command<L: Lend>(session: &Session, words: Words<'_>, output: &mut Output<L>) -> Result<(), Problem> {
    let protocol = session.tally.protocol;
    let all = |output: &mut Output<L>| {
        output.array(ROWS.len());
        ROWS.iter().for_each(|row| describe(row, protocol, output));
    };
    if words.len() == 1 {
        all(output);
        return Ok(());
    }
    match subcommand(Name::Command, words, &[("count", 2), ("info", -2), ("list", -2)])? {
        "count" => output.integer(ROWS.len() as i64),
        "list" if words.len() > 2 => return Err(Problem::Syntax),
        "list" => {
            output.array(ROWS.len());
            ROWS.iter().for_each(|row| output.bulk(row.name.as_bytes()));
        }
        _ if words.len() == 2 => all(output),
        _ => {
            few(words, 2)?;
            output.array(words.len() - 2);
            for at in 2..words.len() {
                match Name::of(words.get(at)) {
                    Some(name) => describe(name.row(), protocol, output),
                    // Redis says so with the null of arrays, in RESP2.
                    None if protocol == Protocol::Two => output.put(b"*-1\r\n"),
                    None => output.null(protocol),
                }
            }
        }
    }
    Ok(())
}

/// What COMMAND says of one command.
fn describe<L: Lend>(row: &Row, protocol: Protocol, output: &mut Output<L>) {
    let words = |output: &mut Output<L>, words: &str| {
        output.set(protocol, words.split_whitespace().count());
        words.split_whitespace().for_each(|word| output.simple(word));
    };
    output.array(10);
    output.bulk(row.name.as_bytes());
    output.integer(row.arity.into());
    words(output, row.flags);
    let keys = row.keys;
    [keys.0, keys.1, keys.2].into_iter().for_each(|number| output.integer(number));
    words(output, row.categories);
    output.set(protocol, row.tips.split_whitespace().count());
    row.tips.split_whitespace().for_each(|tip| output.bulk(tip.as_bytes()));
    if row.access.is_empty() {
        output.set(protocol, 0);
    } else {
        describe_keys(row, protocol, output);
    }
    // What is told of subcommands: they have no keys and no flags of their own.
    output.set(protocol, 0);
}

/// Where a command's keys are, as Redis 7 says it.
fn describe_keys<L: Lend>(row: &Row, protocol: Protocol, output: &mut Output<L>) {
    output.set(protocol, 1);
    output.map(protocol, if row.note().is_some() { 4 } else { 3 });
    if let Some(note) = row.note() {
        output.bulk(b"notes");
        output.bulk(note.as_bytes());
    }
    output.bulk(b"flags");
    output.set(protocol, row.access.split_whitespace().count());
    row.access.split_whitespace().for_each(|word| output.simple(word));
    output.bulk(b"begin_search");
    spec("index", &[("index", row.keys.0)], protocol, output);
    output.bulk(b"find_keys");
    let last = if row.keys.1 < 0 { row.keys.1 } else { 0 };
    spec("range", &[("lastkey", last), ("keystep", row.keys.2), ("limit", 0)], protocol, output);
}

fn spec<L: Lend>(kind: &str, numbers: &[(&str, i64)], protocol: Protocol, output: &mut Output<L>) {
    output.map(protocol, 2);
    output.bulk(b"type");
    output.bulk(kind.as_bytes());
    output.bulk(b"spec");
    output.map(protocol, numbers.len());
    for (name, number) in numbers {
        output.bulk(name.as_bytes());
        output.integer(*number);
    }
}

/// Begins to remove every record, part by part.
fn flush(session: &mut Session, words: Words<'_>) -> Result<(), Problem> {
    let is_known = words.len() == 1 || words.len() == 2 && (words.is(1, "async") || words.is(1, "sync"));
    if !is_known {
        return Err(Problem::Syntax);
    }
    session.flushing = Some(0);
    Ok(())
}
