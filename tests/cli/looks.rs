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
    for is_off in [false, true] {
        let flags = ["--cores", &of_node.to_string(), "--no-busy-polling"];
        let node = serve(&["resp://127.0.0.1:0"], &flags[..if is_off { 3 } else { 2 }]);
        // On a thread of its own, behind the start: a process has the processors of who starts it.
        let asks = || {
            assert!(cores::pin_current_thread(of_client));
            ask_until(&node, |slept| (slept > ROUND / 2) == is_off);
        };
        std::thread::scope(|scope| scope.spawn(asks).join().expect("an end"));
    }
}

/// Asks round by round until in one of them threads of the node slept as often as it `is_enough`.
fn ask_until(node: &Served, is_enough: impl Fn(u64) -> bool) {
    let mut client = TcpStream::connect(node.endpoint().trim_start_matches("resp://")).expect("it listens");
    client.set_nodelay(true).expect("an option");
    let began = Instant::now();
    loop {
        let before = sleeps(node);
        for _ in 0..ROUND {
            client.write_all(b"PING\r\n").expect("it reads");
            let mut reply = [0; 7];
            client.read_exact(&mut reply).expect("it answers");
            assert_eq!(&reply, b"+PONG\r\n");
        }
        let slept = sleeps(node) - before;
        if is_enough(slept) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "its threads slept {slept} times in {ROUND} requests");
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
