//! Clients that take their time on purpose, and floods of such as never say anything.
#![forbid(unsafe_code)]

use crate::raw::{Raw, greeting, op, request};
use crate::{node, redis, users};
use freight::op::Action;
use freight::server::Node;
use freight::wire::{Refusal, RefusalCode};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Those that send byte by byte, and never to the end.
const LORISES: u64 = 100;

/// What a node waits for: long enough for whoever means well on a busy machine.
const WAIT: Duration = Duration::from_secs(2);

/// A connection that sends one byte after another, all but the last of them.
struct Loris {
    stream: TcpStream,
    bytes: Vec<u8>,
    sent: usize,
}

impl Loris {
    fn new(stream: TcpStream, bytes: &[u8]) -> Self {
        stream.set_nodelay(true).expect("an option");
        Self { stream, bytes: bytes.to_vec(), sent: 0 }
    }

    /// One byte more; whether anybody still listens is not its concern.
    fn step(&mut self) {
        if self.sent + 1 < self.bytes.len() && self.stream.write_all(&self.bytes[self.sent..=self.sent]).is_ok() {
            self.sent += 1;
        }
    }

    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends it as well.
        let _ended = self.stream.read_to_end(&mut rest);
        rest
    }
}

/// Lets lorises send a byte a round until the node has ended all of them, while others work round by round.
fn wear_out(node: &Node, mut lorises: Vec<Loris>) -> Vec<Vec<u8>> {
    let (mut frames, mut door, mut rounds) = (Raw::connect(node), redis(node), 0);
    while node.stats().connections > 2 {
        lorises.iter_mut().for_each(Loris::step);
        frames.works();
        assert_eq!(door.says("SET other value"), "+OK\r\n");
        rounds += 1;
    }
    assert!(rounds > 1, "others worked meanwhile");
    // One that comes now is let in as ever.
    Raw::connect(node).works();
    lorises.iter_mut().map(Loris::rest).collect()
}

fn short_times() -> Node {
    node(|config| {
        (config.hello_wait, config.frame_wait) = (WAIT, WAIT);
    })
}

fn lorises(node: &Node, bytes: &[u8], prepare: impl Fn(&Node) -> TcpStream) -> Vec<Loris> {
    (0..LORISES).map(|_| Loris::new(prepare(node), bytes)).collect()
}

#[test]
fn a_hello_byte_by_byte_has_one_time_for_all_of_it() {
    let node = node(|config| config.hello_wait = WAIT);
    let rests = wear_out(&node, lorises(&node, &greeting(), |node| Raw::connect_silently(node).stream));
    for rest in rests {
        let refusal = Refusal::parse(&rest).expect("a refusal");
        assert_eq!((refusal.code, refusal.text), (RefusalCode::Malformed, "no hello within 2s"));
    }
    assert_eq!(node.stats().refusals, LORISES);
    node.drain();
}

#[test]
fn a_frame_byte_by_byte_has_one_time_for_each_part_of_it() {
    let node = short_times();
    let put = request(1, &[op(b"k", Action::Put { value: &vec![7; 1 << 20] })]);
    let rests = wear_out(&node, lorises(&node, &put, |node| Raw::connect(node).stream));
    for rest in rests {
        let refusal = Refusal::parse(&rest).expect("a refusal");
        assert_eq!(refusal.code, RefusalCode::Malformed);
        assert!(refusal.text.contains("within 2s"), "{}", refusal.text);
    }
    assert_eq!(node.stats().refusals, LORISES);
    node.drain();
}

#[test]
fn a_command_byte_by_byte_has_one_time_for_each_part_of_it() {
    let node = short_times();
    let set = crate::resp::command(&[&b"SET"[..], b"k", &vec![b'v'; 1 << 20]]);
    let connect = |node: &Node| {
        let (host, port) = node.redis_endpoints()[0].host_port().expect("an address");
        TcpStream::connect((host, port)).expect("it listens")
    };
    let rests = wear_out(&node, lorises(&node, &set, connect));
    for rest in rests {
        let told = "-ERR half a command, and no more of it within 2s\r\n";
        assert_eq!(String::from_utf8_lossy(&rest), told);
    }
    assert_eq!(node.stats().refusals, LORISES);
    node.drain();
}

#[test]
fn strangers_at_the_door_have_one_time_for_all_that_they_say() {
    let node = node(|config| {
        config.users = Some(users(&[("ada", None)]));
        config.hello_wait = WAIT;
    });
    let connect = |node: &Node| {
        let (host, port) = node.redis_endpoints()[0].host_port().expect("an address");
        TcpStream::connect((host, port)).expect("it listens")
    };
    let mut other = redis(&node);
    assert_eq!(other.says("AUTH ada ada"), "+OK\r\n");
    let mut lorises = lorises(&node, &b"PING\r\n".repeat(1_000), connect);
    while node.stats().connections > 1 {
        lorises.iter_mut().for_each(Loris::step);
        assert_eq!(other.says("SET other value"), "+OK\r\n");
    }
    for loris in &mut lorises {
        let rest = loris.rest();
        let text = String::from_utf8_lossy(&rest);
        assert!(text.is_empty() || text.ends_with("-ERR no authentication within 2s\r\n"), "{text}");
    }
    node.drain();
}

#[test]
fn half_open_connections_beyond_the_limit_keep_nobody_out_for_longer_than_their_time() {
    const PLACES: usize = 50;
    let node = node(|config| {
        config.connections_max = PLACES;
        config.hello_wait = WAIT;
    });
    let (mut frames, mut door) = (Raw::connect(&node), redis(&node));
    let mut flood: Vec<_> = (0..4 * PLACES).map(|_| Raw::connect_silently(&node)).collect();
    // Whoever was there before goes on, and whoever comes gets in when the first of them are gone.
    let mut turned_away = 0;
    let mut newcomer = loop {
        frames.works();
        assert_eq!(door.says("SET other value"), "+OK\r\n");
        let mut newcomer = Raw::connect_silently(&node);
        // Where it is refused at once, the connection may break under it.
        if newcomer.stream.write_all(&greeting()).is_ok()
            && let Some(frame) = newcomer.frame()
        {
            match Refusal::parse(&frame) {
                Err(_) => break newcomer,
                Ok(refusal) => assert_eq!(refusal.code, RefusalCode::Connections),
            }
        }
        turned_away += 1;
    };
    assert!(turned_away > 0, "there was no flood");
    newcomer.works();
    flood.iter_mut().for_each(|raw| drop(raw.frame()));
    frames.works();
    assert!(node.stats().refusals >= 4 * PLACES as u64);
    node.drain();
}
