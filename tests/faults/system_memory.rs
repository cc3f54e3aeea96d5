//! A node that the system gives no more memory: as at its own cap, puts are refused and everything else goes on.
#![forbid(unsafe_code)]

use crate::binary::{Served, serve_one};
use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use std::time::Duration;

/// Puts in a batch, of 10 KiB each: a frame that fits a buffer of the heap.
const BATCH_OPS: u32 = 20;

/// Lets a running node map no more than `bytes` beyond what it has mapped. `mmap` then fails with `ENOMEM`, as it does
/// where a process has as many mappings as `vm.max_map_count` allows.
fn limit_mappings(node: &Served, bytes: u64) {
    let pid = node.process.child.id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("it runs");
    let pages: u64 = status.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number of pages");
    let limit = Some(pages * 4096 + bytes);
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process has a number");
    prlimit(Some(pid), Resource::As, Rlimit { current: limit, maximum: limit }).expect("our own child");
}

async fn puts(client: &Client, first: u32, value: &[u8]) -> (u32, u32) {
    let mut batch = client.batch(BATCH_OPS);
    (first..first + BATCH_OPS).for_each(|key| batch.put(&key.to_le_bytes(), value).expect("room in the frame"));
    let reply = client.execute(batch).await.expect("an answer");
    assert!(reply.failures().next().is_none(), "{:?}", reply.failures().collect::<Vec<_>>());
    let count = |wanted: Outcome<'_>| reply.outcomes().filter(|outcome| *outcome == wanted).count() as u32;
    (count(Outcome::Done { version: None }), count(Outcome::OutOfMemory))
}

#[tokio::test]
async fn puts_are_refused_where_the_system_gives_no_memory_and_everything_else_goes_on() {
    let mut node = serve_one(&[]);
    let endpoints = [node.endpoint().parse().expect("an endpoint")];
    let patient = ClientConfig { deadline: Duration::from_secs(300), ..ClientConfig::default() };
    let client = Client::connect(&endpoints, patient.clone()).await.expect("it listens");
    client.add(b"counter", 1).await.expect("added");
    limit_mappings(&node, 64 << 20);
    let value = vec![7; 10 << 10];
    let mut next = 0;
    loop {
        let (done, refused) = puts(&client, next, &value).await;
        assert_eq!(done + refused, BATCH_OPS);
        next += BATCH_OPS;
        if done == 0 {
            break;
        }
    }
    assert!(u64::from(next) * (10 << 10) > 32 << 20, "only {next} puts reached the limit");
    // What needs no new mapping goes on: reads, overwrites, counters, statistics, other clients.
    let other = Client::connect(&endpoints, patient).await.expect("it still takes connections");
    assert_eq!(other.get(&0_u32.to_le_bytes()).await.expect("an answer").as_ref(), Some(&value));
    assert_eq!(puts(&other, 0, &value).await, (BATCH_OPS, 0), "the same size again");
    assert_eq!(other.add(b"counter", 1).await.expect("added"), 2);
    let stats = other.stats().await.expect("statistics").remove(0);
    assert!(stats.store.records < u64::from(next) && stats.refusals == 0, "{stats:?}");
    // What is deleted makes room.
    for key in 0..next / 2 {
        other.delete(&key.to_le_bytes()).await.expect("an answer");
    }
    assert_eq!(puts(&client, next, &value).await, (BATCH_OPS, 0));
    drop((client, other));
    node.process.signal(Signal::TERM);
    assert_eq!(node.process.end().0, Some(0));
}
