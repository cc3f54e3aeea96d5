//! A node that is a cache: filled ten times over it answers, keeps what is asked for, and stays within its memory.
#![forbid(unsafe_code)]

use crate::binary::{Served, run, serve_one};
use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use std::time::Duration;

const BATCH: u32 = 5_000;
const VALUE: [u8; 512] = [9; 512];

/// Keys that are asked for again and again.
const HOT: u32 = 1_000;

/// Resident bytes of a process.
fn resident_bytes(node: &Served) -> u64 {
    let path = format!("/proc/{}/statm", node.process.child.id());
    let text = std::fs::read_to_string(path).expect("it runs");
    text.split(' ').nth(1).expect("a second number").parse::<u64>().expect("a number") * 4096
}

async fn put(client: &Client, keys: std::ops::Range<u32>) {
    let mut batch = client.batch(BATCH);
    keys.clone().for_each(|key| batch.put(&key.to_le_bytes(), &VALUE).expect("room in the frame"));
    let reply = client.execute(batch).await.expect("an answer");
    assert!(reply.outcomes().all(|outcome| matches!(outcome, Outcome::Done { .. })), "a put of {keys:?} was refused");
}

/// How many of the hot keys are there.
async fn hot(client: &Client) -> usize {
    let mut batch = client.batch(HOT);
    (0..HOT).for_each(|key| batch.get(&key.to_le_bytes()).expect("room in the frame"));
    let reply = client.execute(batch).await.expect("an answer");
    let mut found = 0;
    for outcome in reply.outcomes() {
        match outcome {
            Outcome::Value { value, .. } => found += usize::from(value == VALUE),
            other => assert_eq!(other, Outcome::NotFound),
        }
    }
    found
}

#[test]
fn a_cache_that_is_filled_ten_times_over_answers_and_keeps_what_is_asked_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (eviction, hot_min, hot_max) in [("s3-fifo", 990, 1000), ("random", 0, 500)] {
        let node = serve_one(&["--memory", "64MiB", "--evict", eviction]);
        runtime.block_on(async {
            let config = ClientConfig { deadline: Duration::from_secs(60), ..ClientConfig::default() };
            let endpoint = node.endpoint().parse().expect("an endpoint");
            let client = Client::connect(&[endpoint], config).await.expect("it listens");
            put(&client, 0..HOT).await;
            for first in (HOT..1_000_000).step_by(BATCH as usize) {
                put(&client, first..first + BATCH).await;
                hot(&client).await;
                let resident = resident_bytes(&node);
                // The binary, its threads, and what malloc keeps of frames that were.
                assert!(resident < (64 + 32) << 20, "{resident} bytes are resident");
            }
            let hot = hot(&client).await;
            assert!((hot_min..=hot_max).contains(&hot), "{eviction}: {hot} of {HOT} hot keys are there");
        });
        let stats: serde_json::Value = serde_json::from_slice(&node.run(&["stats"]).stdout).expect("JSON");
        let stats = &stats[0];
        assert_eq!(stats["eviction"], eviction);
        let number = |name: &str| stats["store"][name].as_u64().expect("a number");
        assert!(number("records_evicted") > 900_000 && number("records") > 30_000, "{stats}");
        assert!(stats["memory_bytes_used"].as_u64() <= stats["memory_bytes_max"].as_u64());
    }
}

#[test]
fn a_shard_that_evicts_has_memory_of_its_own() {
    let done =
        run(&["serve", "--listen", "tcp://127.0.0.1:0", "--memory", "64MiB", "--evict", "random", "--shards", "64"]);
    done.assert_one_line("10 have 4 MiB each");
}
