//! A node's thread looks for what a client of another processor asks next, and does not sleep meanwhile.
#![forbid(unsafe_code)]

use crate::binary::{Served, serve};
use freight::cores;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Requests of a round, one at a time.
const ROUND: u64 = 200;

/// What else a machine does may keep a round from being one without sleeps, but not all rounds of so long.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_redis_client_that_asks_one_at_a_time_finds_the_thread_awake() {
    let available = cores::available();
    let [of_node, of_client, ..] = available[..] else { return eprintln!("nobody looks on one processor") };
    let node = serve(&["resp://127.0.0.1:0"], &["--cores", &of_node.to_string()]);
    // Behind its start: a process has the processors of who starts it.
    assert!(cores::pin_current_thread(of_client));
    let mut client = TcpStream::connect(node.endpoint().trim_start_matches("resp://")).expect("it listens");
    client.set_nodelay(true).expect("an option");
    let began = Instant::now();
    loop {
        let before = sleeps(&node);
        for _ in 0..ROUND {
            client.write_all(b"PING\r\n").expect("it reads");
            let mut reply = [0; 7];
            client.read_exact(&mut reply).expect("it answers");
            assert_eq!(&reply, b"+PONG\r\n");
        }
        let slept = sleeps(&node) - before;
        if slept < ROUND / 2 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "its threads sleep {slept} times in {ROUND} requests");
    }
}

/// How often threads of a node went to sleep.
fn sleeps(node: &Served) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.process.child.id())).expect("it runs");
    let of_task = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).expect("a thread that stays");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).expect("a count")
    };
    tasks.map(|task| of_task(task.expect("a thread"))).sum()
}
