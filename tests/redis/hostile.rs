//! Clients that are broken, slow, greedy or malicious: each gets a clear word or a bounded buffer, and nobody else
//! notices.
#![forbid(unsafe_code)]

use crate::raw::{Raw, command};
use crate::{Served, node};
use freight::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// That another client is served as if nothing were.
fn works(client: &mut Raw) {
    assert_eq!(client.ask(&["SET", "other", "value"]), b"+OK\r\n");
    assert_eq!(client.ask(&["GET", "other"]), b"$5\r\nvalue\r\n");
}

/// Waits until the node has so many connections, asking by one of them.
fn wait_for_connections(node: &Served, other: &mut Raw, count: u64) {
    while node.node.stats().connections != count {
        works(other);
    }
}

/// Sends a command on and on, a great many times if that is how long it is taken, and gives what came until the
/// connection ended, or until no reply can be missing; `then` follows the first.
pub(crate) fn flood(address: &str, then: impl FnOnce()) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut writer = stream.try_clone().expect("a second handle");
    let writing = std::thread::spawn(move || {
        let pings = b"PING\r\n".repeat(1_000);
        (0..FLOOD / 1_000).all(|_| writer.write_all(&pings).is_ok());
    });
    let (mut replies, mut bytes) = (vec![0; 7], vec![0; 1 << 20]);
    stream.read_exact(&mut replies).expect("the first reply");
    then();
    // Whether it ends well or is reset, it ends.
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        replies.extend_from_slice(&bytes[..count]);
        if replies.len() >= FLOOD * 7 {
            break;
        }
    }
    // Where it is still heard, it is not from here on.
    let _ = stream.shutdown(Shutdown::Both);
    writing.join().expect("it only writes");
    replies
}

/// Commands of a flood.
pub(crate) const FLOOD: usize = 20_000_000;

#[test]
fn a_client_that_always_has_something_to_say_keeps_no_node_from_draining() {
    let node = node(|config| config.drain_wait = Duration::from_millis(50));
    let (address, mut draining) = (node.address.clone(), None);
    let replies = flood(&address, || draining = Some(std::thread::spawn(|| node.node.drain())));
    draining.expect("it began").join().expect("it drains");
    assert!(replies.len() < FLOOD * b"+PONG\r\n".len(), "all of them were answered");
}

#[test]
fn what_is_looked_up_word_by_word_is_bounded() {
    let node = node(|_| {});
    let mut client = node.client();
    for words in [["COMMAND", "INFO", "get"], ["CONFIG", "GET", "port"], ["CLIENT", "LIST", "ID"]] {
        let own = if words[2] == "ID" { 3 } else { 2 };
        let mut words = words[..own].to_vec();
        words.resize(own + 1_024, "1");
        assert!(!client.ask(&words).starts_with(b"-"), "{:?}", &words[..own]);
        words.push("1");
        let told = "-ERR too many arguments: at most 1024 are looked up at once\r\n";
        assert_eq!(String::from_utf8_lossy(&client.ask(&words)), told, "{:?}", &words[..own]);
    }
    works(&mut client);
}

#[test]
fn long_commands_of_a_pipeline_are_answered_in_their_turn() {
    let node = node(|_| {});
    let mut client = node.client();
    let keys: Vec<String> = (0..5_000).map(|i| format!("key:{i}")).collect();
    let of_keys = |name| command(&std::iter::once(name).chain(keys.iter().map(String::as_str)).collect::<Vec<_>>());
    let pairs = keys.iter().flat_map(|key| [key.as_str(), key.as_str()]);
    let mset = command(&std::iter::once("MSET").chain(pairs).collect::<Vec<_>>());
    let (incr, line) = (command(&["INCR", "n"]), b"INCR n\r\n".to_vec());
    for round in 0..3 {
        let commands = [&incr, &mset, &of_keys("MGET"), &line, &of_keys("DEL"), &of_keys("EXISTS"), &incr];
        client.send(&commands.map(Vec::as_slice).concat());
        assert_eq!(client.reply(), format!(":{}\r\n", 3 * round + 1).as_bytes());
        assert_eq!(client.reply(), b"+OK\r\n");
        let values: String = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
        assert_eq!(String::from_utf8_lossy(&client.reply()), format!("*5000\r\n{values}"));
        assert_eq!(client.reply(), format!(":{}\r\n", 3 * round + 2).as_bytes());
        assert_eq!((client.reply(), client.reply()), (b":5000\r\n".to_vec(), b":0\r\n".to_vec()));
        assert_eq!(client.reply(), format!(":{}\r\n", 3 * round + 3).as_bytes());
    }
}

#[test]
fn what_is_no_command_is_told_so_and_closed_and_nobody_else_notices() {
    let node = node(|_| {});
    let mut other = node.client();
    let nested = [&b"*1\r\n"[..], &b"*1\r\n".repeat(10_000)].concat();
    let cases: [(&[u8], &str); 8] = [
        (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
        (b"*1\r\n$8388609\r\n", "invalid bulk length"),
        (b"*2\r\n$3\r\nGET\r\n$-5\r\n", "invalid bulk length"),
        (b"*9223372036854775807\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (&nested, "expected '$', got '*'"),
        (&[b'a'; 70_000], "too big inline request"),
        (b"*3\r\n$3\r\nSET\r\n$8388608\r\n", ""),
    ];
    for (bytes, words) in cases {
        let mut client = node.client();
        client.send(bytes);
        works(&mut other);
        if words.is_empty() {
            // A long value that does not come: nothing is lent for it, and its client may go.
            continue;
        }
        assert_eq!(String::from_utf8_lossy(&client.rest()), format!("-ERR Protocol error: {words}\r\n"));
    }
    wait_for_connections(&node, &mut other, 1);
}

#[test]
fn keys_and_values_of_any_bytes_and_of_the_greatest_length_are_kept() {
    let node = node(|_| {});
    let mut client = node.client();
    let longest = vec![0xFF; KEY_BYTES_MAX as usize];
    let value: Vec<u8> = (0..VALUE_BYTES_MAX).map(|i| (i % 251) as u8).collect();
    for key in [&b""[..], b"\r\n", b"\0", b"$5\r\n", &longest] {
        assert_eq!(client.ask(&[b"SET", key, &value]), b"+OK\r\n");
        let reply = client.ask(&[b"GET", key]);
        assert!(reply.starts_with(b"$8388608\r\n") && reply[10..].starts_with(&value), "key of {}", key.len());
        assert_eq!(client.ask(&[b"STRLEN", key]), b":8388608\r\n");
    }
    let too_long = vec![b'k'; KEY_BYTES_MAX as usize + 1];
    for words in [vec![&b"GET"[..], &too_long], vec![b"MSET", b"a", b"1", &too_long, b"2"]] {
        let reply = client.ask(&words);
        assert_eq!(String::from_utf8_lossy(&reply), "-ERR a key of 65536 bytes: at most 65535 are allowed\r\n");
    }
    assert_eq!(client.ask(&["GET", "a"]), b"$-1\r\n", "nothing of a refused command is done");
    works(&mut client);
}

#[test]
fn a_command_longer_than_the_node_takes_is_refused() {
    let node = node(|config| config.frame_bytes_max = 10 << 20);
    let (mut client, mut other) = (node.client(), node.client());
    let value = vec![b'v'; 6 << 20];
    let long = command(&[&b"MSET"[..], b"a", &value, b"b", &value]);
    // It is refused by what it says of its length, before all of it is there.
    client.send(&long[..long.len() - (6 << 20)]);
    let told = client.rest();
    assert_eq!(String::from_utf8_lossy(&told), "-ERR Protocol error: a command of more than 10485760 bytes\r\n");
    works(&mut other);
    assert_eq!(other.ask(&["EXISTS", "a", "b"]), b":0\r\n");
}

#[test]
fn half_a_command_has_its_time_and_silence_between_two_has_all_of_it() {
    let node = node(|config| config.frame_wait = Duration::from_millis(50));
    let (mut silent, mut other) = (node.client(), node.client());
    works(&mut silent);
    for half in [&b"*2\r\n$3\r\nGET\r\n"[..], b"*", b"GET a", b"*2\r\n$3\r\nGET\r\n$100\r\nabc"] {
        let mut client = node.client();
        client.send(&[b"PING\r\n", half].concat());
        let told = client.rest();
        let expected = "+PONG\r\n-ERR half a command, and no more of it within 50ms\r\n";
        assert_eq!(String::from_utf8_lossy(&told), expected);
        works(&mut other);
    }
    works(&mut silent);
    assert_eq!(node.node.stats().refusals, 4);
}

#[test]
fn a_client_that_never_reads_costs_a_bounded_buffer_and_is_closed() {
    let node = node(|config| config.send_wait = Duration::from_millis(200));
    let (greedy, mut other) = (node.address.clone(), node.client());
    let value = vec![b'v'; 1 << 20];
    assert_eq!(other.ask(&[&b"SET"[..], b"large", &value]), b"+OK\r\n");
    let before = node.node.stats().memory_bytes_used;
    let get = command(&["GET", "large"]).repeat(1_000);
    let writing = std::thread::spawn(move || {
        let mut greedy = TcpStream::connect(greedy).expect("it listens");
        // A gibibyte of replies with each, of which it takes none.
        while greedy.write_all(&get).is_ok() {}
    });
    let mut most = 0;
    while !writing.is_finished() {
        works(&mut other);
        most = most.max(node.node.stats().memory_bytes_used);
    }
    assert!(most - before < 64 << 20, "{} MiB for one client", (most - before) >> 20);
    wait_for_connections(&node, &mut other, 1);
}

#[test]
fn a_million_commands_in_one_pipeline_are_answered_although_nobody_reads_until_the_end() {
    let node = node(|_| {});
    let (mut client, mut other) = (node.client(), node.client());
    let incr = command(&["INCR", "n"]);
    for _ in 0..1_000 {
        client.send(&incr.repeat(1_000));
    }
    works(&mut other);
    for i in 1..=1_000_000 {
        let reply = client.reply();
        assert!(reply == format!(":{i}\r\n").as_bytes(), "{}", String::from_utf8_lossy(&reply));
    }
}

#[test]
fn one_command_on_a_hundred_thousand_keys_is_one_reply() {
    let node = node(|_| {});
    let mut client = node.client();
    let keys: Vec<String> = (0..100_000).map(|i| format!("key:{i}")).collect();
    let pairs = keys.iter().flat_map(|key| [key.as_str(), "v"]);
    assert_eq!(client.ask(&std::iter::once("MSET").chain(pairs).collect::<Vec<_>>()), b"+OK\r\n");
    let all = |name| std::iter::once(name).chain(keys.iter().map(String::as_str)).collect::<Vec<_>>();
    assert_eq!(client.ask(&all("EXISTS")), b":100000\r\n");
    let reply = client.ask(&all("MGET"));
    assert_eq!(reply, [&b"*100000\r\n"[..], &b"$1\r\nv\r\n".repeat(100_000)].concat());
    assert_eq!(client.ask(&all("DEL")), b":100000\r\n");
    assert_eq!(client.ask(&all("EXISTS")), b":0\r\n");
    assert_eq!(client.ask(&["MSET", "a", "1", "b"]), b"-ERR wrong number of arguments for 'mset' command\r\n");
}

#[test]
fn values_larger_than_what_may_wait_are_told_in_order_with_the_changes_between_them() {
    let node = node(|config| config.threads = 2);
    let mut client = node.client();
    let value = |i: u8| vec![i; 900_000];
    for round in 0..3_u8 {
        let mut bytes = Vec::new();
        // Far more than is staged: most gets of a round have no room at first, and the changes behind them must wait.
        for i in 0..40_u8 {
            let key = [i % 7];
            bytes.extend(command(&[&b"SET"[..], &key, &value(i.wrapping_add(round))]));
            bytes.extend(command(&[&b"GET"[..], &key]));
        }
        let mut sent = bytes.chunks(1 << 20);
        for i in 0..40_u8 {
            sent.by_ref().take(1).for_each(|bytes| client.send(bytes));
            assert_eq!(client.reply(), b"+OK\r\n");
            let reply = client.reply();
            assert!(reply[9..].starts_with(&value(i.wrapping_add(round))), "{i} of round {round}");
        }
    }
    // Short commands that arrive at once, whose replies are long.
    let mut bytes = Vec::new();
    for i in 0..300_u16 {
        let key = [(i % 7) as u8];
        bytes.extend(command(&[&b"GET"[..], &key]));
        bytes.extend(command(&[&b"DEL"[..], &key]));
        bytes.extend(command(&[&b"MSET"[..], &key, b"x", b"y", b"z"]));
    }
    client.send(&bytes);
    for i in 0..300_u16 {
        let reply = client.reply();
        assert!(if i < 7 { reply.len() > 900_000 } else { reply == b"$1\r\nx\r\n" }, "{i}: {} bytes", reply.len());
        assert_eq!((client.reply(), client.reply()), (b":1\r\n".to_vec(), b"+OK\r\n".to_vec()));
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    let node = node(|config| config.connections_max = 2);
    let (mut one, mut two) = (node.client(), node.client());
    works(&mut one);
    works(&mut two);
    assert_eq!(node.client().rest(), b"-ERR max number of clients reached\r\n");
    drop(two);
    wait_for_connections(&node, &mut one, 1);
    works(&mut node.client());
}

#[test]
fn a_node_full_of_records_still_answers_and_says_that_it_is_full() {
    let node = node(|config| config.memory_bytes_max = Some(64 << 20));
    let mut client = node.client();
    let value = vec![b'v'; 100_000];
    let mut kept = 0;
    let told = loop {
        let reply = client.ask(&[&b"SET"[..], format!("key:{kept}").as_bytes(), &value]);
        if reply != b"+OK\r\n" {
            break reply;
        }
        kept += 1;
    };
    assert_eq!(told, b"-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    assert!(kept > 200, "{kept} values of 100 kB");
    for i in 0..kept {
        assert_eq!(client.ask(&["STRLEN", &format!("key:{i}")]), b":100000\r\n");
    }
    let get = command(&[&b"GET"[..], b"key:0"]);
    client.send(&get.repeat(1_000));
    (0..1_000).for_each(|_| assert_eq!(client.reply().len(), 100_000 + 11));
    assert_eq!(client.ask(&["DEL", "key:0"]), b":1\r\n");
    works(&mut client);
}

#[test]
fn a_node_that_drains_answers_what_has_arrived_and_closes() {
    let node = node(|_| {});
    let mut client = node.client();
    works(&mut client);
    client.send(b"GET other\r\nGET oth");
    node.node.drain();
    assert_eq!(client.rest(), b"$5\r\nvalue\r\n");
}
