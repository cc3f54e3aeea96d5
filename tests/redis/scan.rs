//! SCAN and FLUSHALL: every key that is there throughout, whatever else happens meanwhile.
#![forbid(unsafe_code)]

use crate::raw::Raw;
use crate::support::for_each_seed;
use crate::{Served, node};
use freight::shard::IndexKind;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;

/// The words of an array of bulk strings, behind whatever `skip` bytes are before it.
fn bulks(mut reply: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    while let Some(end) = reply.windows(2).position(|two| two == b"\r\n") {
        let (line, rest) = (&reply[..end], &reply[end + 2..]);
        reply = rest;
        if line[0] == b'$' {
            let length: usize = String::from_utf8_lossy(&line[1..]).parse().expect("a length");
            words.push(rest[..length].to_vec());
            reply = &rest[length + 2..];
        }
    }
    words
}

/// One call: the next cursor and the keys.
fn scan(client: &mut Raw, cursor: &[u8], more: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut words = bulks(&client.ask(&[&[b"SCAN", cursor], more].concat()));
    (words.remove(0), words)
}

/// Every key that a scan from its begin to its end tells, and how many calls it took.
fn scan_all(client: &mut Raw, more: &[&[u8]]) -> (Vec<Vec<u8>>, usize) {
    let (mut cursor, mut keys, mut calls) = (b"0".to_vec(), Vec::new(), 0);
    loop {
        let (next, some) = scan(client, &cursor, more);
        keys.extend(some);
        calls += 1;
        if next == b"0" {
            return (keys, calls);
        }
        cursor = next;
    }
}

fn indexed(index: IndexKind) -> Served {
    node(|config| (config.index, config.shards) = (index, Some(4)))
}

#[test]
fn a_scan_tells_every_key_once_where_nothing_changes() {
    for index in IndexKind::BUILT {
        let node = indexed(*index);
        let mut client = node.client();
        assert_eq!(scan_all(&mut client, &[]), (Vec::new(), 1));
        let keys: HashSet<Vec<u8>> = (0..20_000).map(|i| format!("key:{i}").into_bytes()).collect();
        for key in &keys {
            client.send(&crate::raw::command(&[&b"SET"[..], key, b"v"]));
        }
        keys.iter().for_each(|_| assert_eq!(client.reply(), b"+OK\r\n"));
        let (told, calls) = scan_all(&mut client, &[]);
        assert_eq!((told.len(), told.into_iter().collect::<HashSet<_>>()), (keys.len(), keys.clone()));
        assert!(calls > 10, "{calls} calls");
        let (told, calls) = scan_all(&mut client, &[b"COUNT", b"10000", b"MATCH", b"key:7*"]);
        let expected: HashSet<_> = keys.iter().filter(|key| key.starts_with(b"key:7")).cloned().collect();
        assert_eq!(told.into_iter().collect::<HashSet<_>>(), expected);
        assert!(calls <= 5, "{calls} calls");
        assert_eq!(scan_all(&mut client, &[b"TYPE", b"list"]).0, Vec::<Vec<u8>>::new());
        assert_eq!(scan_all(&mut client, &[b"TYPE", b"string"]).0.len(), keys.len());
    }
}

#[test]
fn a_key_that_is_there_throughout_is_told_whatever_changes_meanwhile() {
    for_each_seed(4, |seed| {
        for index in IndexKind::BUILT {
            let node = indexed(*index);
            let (mut client, mut random) = (node.client(), ChaCha8Rng::seed_from_u64(seed));
            let mut other = node.client();
            // Values of changing lengths move their records, keys that come and go split and join parts of the index.
            let staying: Vec<Vec<u8>> = (0..3_000).map(|i| format!("stays:{i}").into_bytes()).collect();
            for key in &staying {
                assert_eq!(other.ask(&[&b"SET"[..], key, b"v"]), b"+OK\r\n");
            }
            let (mut cursor, mut told, mut is_growing) = (b"0".to_vec(), HashSet::new(), true);
            loop {
                let (next, keys) = scan(&mut client, &cursor, &[]);
                told.extend(keys);
                if next == b"0" {
                    break;
                }
                cursor = next;
                for _ in 0..40 {
                    let key = format!("comes:{}", random.random_range(0..20_000));
                    let key: &[u8] = match random.random_range(0..4) {
                        0 => &staying[random.random_range(0..staying.len())],
                        _ => key.as_bytes(),
                    };
                    if key.starts_with(b"comes") && !is_growing {
                        other.ask(&[b"DEL", key]);
                    } else {
                        let value = vec![b'x'; random.random_range(0..500)];
                        other.ask(&[b"SET", key, &value]);
                    }
                    is_growing ^= random.random_bool(0.002);
                }
            }
            let missing: Vec<_> = staying.iter().filter(|key| !told.contains(*key)).collect();
            assert!(missing.is_empty(), "{} of {} are missing", missing.len(), staying.len());
        }
    });
}

#[test]
fn long_keys_are_told_in_parts_of_bounded_length() {
    let node = indexed(IndexKind::Buckets);
    let mut client = node.client();
    for i in 0..200 {
        let key = format!("{i}{}", "k".repeat(60_000));
        assert_eq!(client.ask(&["SET", &key, "v"]), b"+OK\r\n");
    }
    let (mut cursor, mut told) = (b"0".to_vec(), HashSet::new());
    loop {
        let (next, keys) = scan(&mut client, &cursor, &[b"COUNT", b"10000"]);
        assert!(keys.iter().map(Vec::len).sum::<usize>() < 3 << 20, "{} keys at once", keys.len());
        told.extend(keys);
        if next == b"0" {
            break;
        }
        cursor = next;
    }
    assert_eq!(told.len(), 200);
}

#[test]
fn a_flush_leaves_nothing_and_any_number_is_a_cursor() {
    for index in IndexKind::BUILT {
        let node = indexed(*index);
        let mut client = node.client();
        for i in 0..5_000 {
            client.send(&crate::raw::command(&["SET", &i.to_string(), "v"]));
        }
        (0..5_000).for_each(|_| assert_eq!(client.reply(), b"+OK\r\n"));
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..200 {
            let cursor: u64 = random.random::<u64>() >> random.random_range(0..64);
            scan(&mut client, cursor.to_string().as_bytes(), &[]);
        }
        // What is behind the flush in the pipeline comes after it.
        client.send(b"DBSIZE\r\nFLUSHALL\r\nDBSIZE\r\nSET a b\r\nDBSIZE\r\nFLUSHDB ASYNC\r\nGET a\r\n");
        for expected in [":5000\r\n", "+OK\r\n", ":0\r\n", "+OK\r\n", ":1\r\n", "+OK\r\n", "$-1\r\n"] {
            assert_eq!(String::from_utf8_lossy(&client.reply()), expected);
        }
        assert_eq!(scan_all(&mut client, &[]), (Vec::new(), 1));
        assert_eq!(node.node.stats().store.records, 0);
    }
}

#[test]
fn a_pattern_that_is_too_long_is_refused_and_the_longest_is_not() {
    let node = indexed(IndexKind::BUILT[0]);
    let mut client = node.client();
    let key = vec![b'a'; 10_000];
    assert_eq!(client.ask(&[&b"SET"[..], &key, b"v"]), b"+OK\r\n");
    let longest = [&b"*a".repeat(511)[..], b"*["].concat();
    let too_long = [&longest[..], b"a"].concat();
    for words in [&[&b"SCAN"[..], b"0", b"MATCH", &too_long][..], &[b"CONFIG", b"GET", &too_long]] {
        let told = client.ask(words);
        assert_eq!(String::from_utf8_lossy(&told), "-ERR a pattern of 1025 bytes: at most 1024 are allowed\r\n");
    }
    assert_eq!(scan_all(&mut client, &[b"MATCH", &longest]).0, Vec::<Vec<u8>>::new());
    assert_eq!(scan_all(&mut client, &[b"MATCH", &longest[..1_022]]).0, [key]);
}
