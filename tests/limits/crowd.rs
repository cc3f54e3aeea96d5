//! Ten thousand idle connections on one node: what each costs, and that nobody else notices.
#![forbid(unsafe_code)]

use crate::binary::{Served, run, serve};
use crate::raw::{greeting, op, request};
use crate::support::frames::read_frame;
use freight::op::{Action, Outcome};
use freight::wire::{HelloReply, ReplyView};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

const CROWD: usize = 10_000;

/// What the node has in memory for an idle connection, at most: 16 KiB to read frames into, and what its task knows.
const FRAMES_BYTES_MAX: u64 = 28 << 10;
const REDIS_BYTES_MAX: u64 = 20 << 10;

/// Lets this process open as many files as it may; the node does so by itself.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|most| most > CROWD as u64 + 200);
    assert!(enough, "{CROWD} connections take as many open files: `ulimit -Hn` says {:?}", limit.maximum);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the maximum");
}

/// Memory of a process that is in memory, in bytes.
fn resident(served: &Served) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", served.process.child.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has one");
    1_024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
}

fn connect(endpoint: &str) -> TcpStream {
    TcpStream::connect(endpoint.split_once("//").expect("an endpoint").1).expect("it listens")
}

fn frames(endpoint: &str) -> TcpStream {
    let mut stream = connect(endpoint);
    stream.write_all(&greeting()).expect("the node reads");
    let answer = read_frame(&mut stream).expect("an answer");
    assert!(HelloReply::parse(&answer).is_ok(), "there is a place for everybody");
    stream
}

fn door(endpoint: &str) -> TcpStream {
    let mut stream = connect(endpoint);
    stream.write_all(b"PING\r\n").expect("the node reads");
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"+PONG\r\n");
    stream
}

/// A batch that is answered, every operation of it.
fn works(stream: &mut TcpStream, number: u64) {
    let ops: Vec<_> = (0..100).map(|_| op(b"n", Action::Add { delta: 1 })).collect();
    stream.write_all(&request(number, &ops)).expect("the node reads");
    let reply = read_frame(stream).expect("a reply");
    let view = ReplyView::parse(&reply).expect("a reply");
    for (index, value) in (0..100).zip(number as i64 * 100 + 1..) {
        assert_eq!(view.outcome(index), Outcome::Counter { value, version: None });
    }
}

fn crowd(bytes_max: u64, open: impl Fn(&Served) -> TcpStream) {
    raise_descriptor_limit();
    // The shell's limit is the child's: the node raises its own.
    let served = serve(&["tcp://127.0.0.1:0", "resp://127.0.0.1:0"], &["--idle-timeout", "1h"]);
    let mut other = frames(&served.endpoints[0]);
    works(&mut other, 0);
    let before = resident(&served);
    let mut crowd = Vec::with_capacity(CROWD);
    let mut number = 1;
    while crowd.len() < CROWD - 1 {
        crowd.push(open(&served));
        if crowd.len() % 100 == 0 {
            works(&mut other, number);
            number += 1;
        }
    }
    let each = (resident(&served).saturating_sub(before)) / CROWD as u64;
    println!("{each} bytes in memory for each of {CROWD} idle connections");
    assert!(each <= bytes_max, "{each} bytes a connection");
    for number in number..number + 1_000 {
        works(&mut other, number);
    }
    let stats: serde_json::Value = {
        // The last place of them.
        let done = run(&["stats", "--servers", &served.endpoints[0]]);
        assert_eq!(done.code, Some(2), "one too many is told so");
        assert!(done.stderr.contains("this node serves 10000 connections and no more"), "{}", done.stderr);
        crowd.truncate(CROWD / 2);
        loop {
            // Until the node has seen the end of the first.
            let done = run(&["stats", "--servers", &served.endpoints[0]]);
            if done.code == Some(0) {
                break serde_json::from_slice(&done.stdout).expect("JSON");
            }
        }
    };
    assert_eq!(stats[0]["refusals"].as_u64().map(|count| count > 0), Some(true));
    served.process.signal(Signal::TERM);
    for mut stream in crowd {
        // Each is told that the node drains, and none is forgotten.
        let _told = stream.read_to_end(&mut Vec::new());
    }
    let Served { mut process, .. } = served;
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn ten_thousand_idle_clients_cost_little_memory_and_nobody_notices() {
    crowd(FRAMES_BYTES_MAX, |served| frames(&served.endpoints[0]));
}

#[test]
fn ten_thousand_idle_redis_clients_cost_little_memory_and_nobody_notices() {
    crowd(REDIS_BYTES_MAX, |served| door(&served.endpoints[1]));
}
