//! What cannot be compared with Redis byte by byte, and holds all the same.
#![forbid(unsafe_code)]

use crate::raw::Raw;
use crate::support::for_each_seed;
use crate::{Served, node};
use freight::server::Clock;
use freight::shard::Eviction;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A node whose clock stands still until it is moved on.
fn timed() -> (Served, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(1_700_000_000_000));
    let told = Arc::clone(&time);
    let node = node(|config| config.clock = Clock::new(move || told.load(Ordering::SeqCst)));
    (node, time)
}

/// The number of an integer's reply.
fn number(reply: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(reply);
    text.trim_end().strip_prefix(':').and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn what_is_left_of_a_life_is_told_in_both_units_and_as_instant() {
    for_each_seed(4, |seed| {
        let (node, time) = timed();
        let (mut client, mut random) = (node.client(), ChaCha8Rng::seed_from_u64(seed));
        for _ in 0..200 {
            let ms = random.random_range(1..10_000_000_000_u64);
            let now = time.load(Ordering::SeqCst);
            let set = match random.random_range(0..6) {
                0 => format!("SET k v PX {ms}"),
                1 => format!("SET k v PXAT {}", now + ms),
                2 => format!("PSETEX k {ms} v"),
                3 => format!("GETEX k PX {ms}"),
                4 => format!("PEXPIREAT k {}", now + ms),
                _ => format!("PEXPIRE k {ms}"),
            };
            client.says("SET k v");
            client.says(&set);
            let passed = random.random_range(0..ms);
            time.fetch_add(passed, Ordering::SeqCst);
            let (left, deadline) = ((ms - passed) as i64, (now + ms) as i64);
            for (asked, expected) in [
                ("PTTL k", left),
                ("TTL k", (left + 500) / 1_000),
                ("PEXPIRETIME k", deadline),
                ("EXPIRETIME k", (deadline + 500) / 1_000),
            ] {
                assert_eq!(number(client.says(asked).as_bytes()), expected, "{asked} behind {set}");
            }
            assert_eq!(client.says("GET k"), "$1\r\nv\r\n", "{set}");
            time.fetch_add(left as u64, Ordering::SeqCst);
            assert_eq!(client.says("GET k"), "$-1\r\n", "{set}");
            assert_eq!((client.says("TTL k"), client.says("EXPIRETIME k")), (":-2\r\n".into(), ":-2\r\n".into()));
        }
    });
}

#[test]
fn seconds_are_a_thousand_milliseconds() {
    let (node, time) = timed();
    let mut client = node.client();
    for set in ["SET k v EX 10", "SETEX k 10 v", "SET k v EXAT 1700000010"] {
        assert_eq!(client.says(set), "+OK\r\n");
        assert_eq!(client.says("PTTL k"), ":10000\r\n", "{set}");
    }
    for set in ["EXPIRE k 7", "EXPIREAT k 1700000007"] {
        assert_eq!(client.says(set), ":1\r\n");
        assert_eq!(client.says("PTTL k"), ":7000\r\n", "{set}");
    }
    assert_eq!(client.says("GETEX k EX 5"), "$1\r\nv\r\n");
    time.fetch_add(4_499, Ordering::SeqCst);
    assert_eq!((client.says("TTL k"), client.says("PTTL k")), (":1\r\n".to_owned(), ":501\r\n".to_owned()));
    time.fetch_add(2, Ordering::SeqCst);
    assert_eq!((client.says("TTL k"), client.says("PTTL k")), (":0\r\n".to_owned(), ":499\r\n".to_owned()));
}

#[test]
fn what_has_expired_is_gone_for_every_command_and_what_changes_keeps_its_life_or_loses_it() {
    let (node, time) = timed();
    let mut client = node.client();
    let expire = |client: &mut Raw| {
        client.says("SET k 5 PX 100");
        time.fetch_add(100, Ordering::SeqCst);
    };
    for (asked, expected) in [
        ("GET k", "$-1\r\n"),
        ("STRLEN k", ":0\r\n"),
        ("EXISTS k", ":0\r\n"),
        ("TYPE k", "+none\r\n"),
        ("MGET k k", "*2\r\n$-1\r\n$-1\r\n"),
        ("GETDEL k", "$-1\r\n"),
        ("GETEX k PX 100", "$-1\r\n"),
        ("GETSET k 1", "$-1\r\n"),
        ("INCR k", ":1\r\n"),
        ("APPEND k ab", ":2\r\n"),
        ("SETNX k 1", ":1\r\n"),
        ("SET k 1 XX", "$-1\r\n"),
        ("SET k 1 NX", "+OK\r\n"),
        ("SET k 1 GET", "$-1\r\n"),
        ("DEL k", ":0\r\n"),
        ("PERSIST k", ":0\r\n"),
        ("EXPIRE k 10", ":0\r\n"),
        ("SCAN 0 MATCH k", "*2\r\n$1\r\n0\r\n*0\r\n"),
    ] {
        expire(&mut client);
        assert_eq!(client.says(asked), expected, "{asked}");
        client.says("DEL k");
    }
    for (asked, is_kept) in [
        ("INCR k", true),
        ("APPEND k 1", true),
        ("SET k 1 KEEPTTL", true),
        ("SET k 1 KEEPTTL XX GET", true),
        ("GETEX k", true),
        ("SET k 1 NX", true),
        ("SET k 1", false),
        ("SET k 1 GET", false),
        ("GETSET k 1", false),
        ("MSET k 1", false),
        ("PERSIST k", false),
        ("GETEX k PERSIST", false),
    ] {
        client.says("SET k 5 PX 100000");
        client.says(asked);
        assert_eq!(client.says("PTTL k"), if is_kept { ":100000\r\n" } else { ":-1\r\n" }, "{asked}");
    }
}

#[test]
fn of_two_times_from_now_the_later_one_is_greater() {
    let (node, time) = timed();
    let mut client = node.client();
    client.says("SET k 5 PX 100000");
    for (later_ms, asked, expected) in [
        (0, "PEXPIRE k 100000 GT", ":0\r\n"),
        (0, "PEXPIRE k 100000 LT", ":0\r\n"),
        (1, "PEXPIRE k 100000 gt", ":1\r\n"),
        (1, "PEXPIRE k 100000 LT", ":0\r\n"),
        (0, "PEXPIRE k 99998 LT", ":1\r\n"),
        (0, "EXPIRE k 99 GT", ":0\r\n"),
        (0, "EXPIRE k 99 LT", ":1\r\n"),
        (0, "EXPIRE k 100 GT", ":1\r\n"),
    ] {
        time.fetch_add(later_ms, Ordering::SeqCst);
        assert_eq!(client.says(asked), expected, "{asked} after {later_ms} ms");
    }
    assert_eq!(client.says("PTTL k"), ":100000\r\n");
}

#[test]
fn a_client_learns_about_itself_and_the_others() {
    let node = node(|_| {});
    let (mut one, mut two) = (node.client(), node.client());
    let (first, second) = (number(one.says("CLIENT ID").as_bytes()), number(two.says("CLIENT ID").as_bytes()));
    assert_ne!(first, second);
    assert_eq!(one.says("CLIENT SETNAME first"), "+OK\r\n");
    assert_eq!(two.says("CLIENT SETINFO lib-name ours"), "+OK\r\n");
    assert_eq!(two.says("CLIENT SETINFO LIB-VER 1.2"), "+OK\r\n");
    assert!(two.says("HELLO 3 SETNAME second").contains(&format!("$2\r\nid\r\n:{second}\r\n")));
    let list = one.says("CLIENT LIST");
    let lines: Vec<&str> = list.lines().filter(|line| line.starts_with("id=")).collect();
    assert_eq!(lines.len(), 2, "{list}");
    assert!(lines[0].contains(&format!("id={first} ")) && lines[0].contains(" name=first "), "{list}");
    assert!(lines[0].contains(&format!(" laddr={} ", node.address)) && lines[0].contains(" resp=2 "), "{list}");
    let said = [" name=second ", " resp=3 ", " lib-name=ours ", " lib-ver=1.2"];
    assert!(said.iter().all(|word| lines[1].contains(word)), "{list}");
    assert_eq!(one.says(&format!("CLIENT LIST ID {second}")).lines().filter(|line| line.contains("id=")).count(), 1);
    drop(two);
    while one.says("CLIENT LIST").contains("name=second") {}
    for (asked, expected) in [
        ("CLIENT SETINFO lib-name", "-ERR wrong number of arguments for 'client|setinfo' command\r\n"),
        ("CLIENT SETINFO color red", "-ERR Unrecognized option 'color'\r\n"),
        ("CONFIG GET timeout databases", "*4\r\n$7\r\ntimeout\r\n$1\r\n0\r\n$9\r\ndatabases\r\n$1\r\n1\r\n"),
    ] {
        assert_eq!(one.says(asked), expected);
    }
}

#[test]
fn a_name_is_no_longer_than_it_may_be() {
    let node = node(|_| {});
    let mut client = node.client();
    let (longest, longer) = ("n".repeat(256), "n".repeat(257));
    assert_eq!(client.says(&format!("CLIENT SETNAME {longest}")), "+OK\r\n");
    let refused = "-ERR a name of 257 bytes: at most 256 are allowed\r\n";
    for line in ["CLIENT SETNAME", "CLIENT SETINFO lib-name", "CLIENT SETINFO lib-ver", "HELLO 2 SETNAME"] {
        assert_eq!(client.says(&format!("{line} {longer}")), refused, "{line}");
    }
    assert_eq!(client.says("CLIENT GETNAME"), format!("$256\r\n{longest}\r\n"));
}

#[test]
fn the_list_of_commands_is_that_of_what_is_answered() {
    let node = node(|_| {});
    let mut client = node.client();
    let list = client.says("COMMAND LIST");
    let names: Vec<&str> = list.lines().filter(|line| line.bytes().all(|byte| byte.is_ascii_lowercase())).collect();
    assert_eq!(number(client.says("COMMAND COUNT").as_bytes()), names.len() as i64);
    assert_eq!(client.says("COMMAND"), client.says("COMMAND INFO"));
    assert!(client.says("COMMAND").starts_with(&format!("*{}\r\n", names.len())));
    for name in names {
        let mut other = node.client();
        let reply = other.says(name);
        assert!(!reply.contains("unknown command"), "{name}: {reply}");
    }
    for name in ["lpush", "multi", "subscribe", "eval", "keys", "sort"] {
        assert!(client.says(name).starts_with(&format!("-ERR unknown command '{name}'")));
        assert_eq!(client.says(&format!("COMMAND INFO {name}")), "*1\r\n*-1\r\n");
    }
}

#[test]
fn info_tells_what_there_is() {
    let node = node(|config| config.memory_bytes_max = Some(64 << 20));
    let mut client = node.client();
    client.says("MSET a 1 b 2");
    // What a client is told of the store may be a moment old.
    while !client.says("INFO keyspace").contains("db0:keys=2,expires=0\r\n") {}
    let all = client.says("INFO");
    for line in ["# Server", "redis_version:7.", "# Clients", "connected_clients:1", "# Memory", "maxmemory:67108864"] {
        assert!(all.contains(line), "{line} is not in {all}");
    }
    assert!(all.contains("maxmemory_policy:noeviction") && all.contains("evicted_keys:0"), "{all}");
    assert!(!client.says("INFO memory").contains("# Server"));
    assert!(client.says("INFO server CLIENTS").contains("connected_clients"));
}

#[test]
fn a_cache_takes_every_set_and_tells_what_it_evicted() {
    let node = node(|config| {
        config.memory_bytes_max = Some(64 << 20);
        config.eviction = Eviction::S3Fifo;
    });
    let mut client = node.client();
    let value = "x".repeat(1 << 20);
    for number in 0..100 {
        assert_eq!(client.says(&format!("SET key{number} {value}")), "+OK\r\n");
    }
    assert!(client.says("CONFIG GET maxmemory-policy").contains("allkeys-s3-fifo"));
    // What a client is told of the store may be a moment old.
    while client.says("INFO stats").contains("evicted_keys:0\r\n") {}
    assert!(client.says("INFO memory").contains("maxmemory_policy:allkeys-s3-fifo"));
}
