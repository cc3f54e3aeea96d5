//! `freight stats` names the keys that are hot, and none that is not.
#![forbid(unsafe_code)]

use crate::binary::{Served, serve, serve_one, serve_over_rdma};
use freight::bench::zipf::Zipf;
use freight::client::{Client, ClientConfig};
use freight::hot_keys::HotKeysTold;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;

fn told(node: &Served) -> HotKeysTold {
    let stats: Value = serde_json::from_slice(&node.run(&["stats"]).stdout).expect("JSON");
    serde_json::from_value(stats[0]["hot_keys"].clone()).expect("hot keys")
}

fn names(told: &HotKeysTold) -> Vec<&str> {
    told.keys.iter().map(|key| &key.key[..]).collect()
}

/// Executes gets, so many batches of so many.
fn get(node: &Served, batches: u64, ops: u64, mut key: impl FnMut(u64) -> String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let endpoint = node.endpoint().parse().expect("an endpoint");
        let client = Client::connect(&[endpoint], ClientConfig::default()).await.expect("it listens");
        for first in (0..batches).map(|batch| batch * ops) {
            let mut batch = client.batch(ops as u32);
            for at in first..first + ops {
                batch.get(key(at).as_bytes()).expect("room");
            }
            client.execute(batch).await.expect("it is there");
        }
    });
}

#[test]
fn the_ten_hottest_of_a_zipf_load_are_among_those_that_are() {
    let node = serve(&["tcp://127.0.0.1:0"], &["--hot-keys", "32"]);
    let (zipf, mut random) = (Zipf::new(10_000, 0.99), ChaCha8Rng::seed_from_u64(99));
    // The generator's shares are near Zipf's, not the same: what it drew is what can be found.
    let mut drawn = [0_u32; 10_000];
    get(&node, 250, 1_000, |_| {
        let rank = zipf.draw(&mut random);
        drawn[rank as usize] += 1;
        format!("rank {rank:05}")
    });
    let told = told(&node);
    assert_eq!(told.every, 32);
    assert!((7_000..9_000).contains(&told.samples), "a thirty-second of 250,000: {}", told.samples);
    assert!(names(&told).len() >= 10, "{told:?}");
    for (place, key) in told.keys[..10].iter().enumerate() {
        let rank: u64 = key.key.strip_prefix("rank ").and_then(|rank| rank.parse().ok()).expect("one of ours");
        assert!(rank < 16, "number {place} is {key:?}");
        // Nineteen times in twenty: a sixth of it more for the others.
        let share = f64::from(drawn[rank as usize]) / 250_000.0;
        assert!(key.share_min * 0.85 <= share && share <= key.share_max * 1.15, "{share}: {key:?}");
        assert_eq!(key.writes, 0);
    }
    assert_eq!(names(&told)[0], "rank 00000");
    let table = String::from_utf8(node.run(&["stats", "--hot-keys"]).stdout).expect("text");
    assert!(table.contains("one operation in 32") && table.contains("\"rank 00000\""), "{table}");
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn what_is_hot_over_rdma_is_told_over_rdma() {
    let node = serve_over_rdma(&["--hot-keys", "8"]);
    get(&node, 20, 500, |at| if at % 2 == 0 { "hot".to_owned() } else { at.to_string() });
    let told = told(&node);
    assert_eq!(names(&told), ["hot"], "{told:?}");
    let table = String::from_utf8(node.run(&["stats", "--hot-keys"]).stdout).expect("text");
    assert!(table.contains("one operation in 8") && table.contains("\"hot\""), "{table}");
}

#[test]
fn a_scan_and_a_key_in_step_with_the_sample_are_not_called_hot() {
    let node = serve_one(&[]);
    let in_step = |at: u64| if at.is_multiple_of(1_024) { "in step".to_owned() } else { at.to_string() };
    get(&node, 300, 1_024, in_step);
    let told = told(&node);
    assert!((250..350).contains(&told.samples) && told.keys.is_empty(), "{told:?}");
    let table = String::from_utf8(node.run(&["stats", "--hot-keys"]).stdout).expect("text");
    assert!(table.contains("no key is hot in "), "{table}");
}

#[test]
fn commands_far_behind_in_a_pipeline_are_seen() {
    let node = serve(&["tcp://127.0.0.1:0", "resp://127.0.0.1:0"], &["--hot-keys", "8"]);
    let mut client = TcpStream::connect(node.endpoints[1].trim_start_matches("resp://")).expect("it listens");
    let mut pipeline = b"GET first\r\n".to_vec();
    for number in 0..20_000 {
        let command = match number % 5 {
            0 => "INCR hot".to_owned(),
            1 => "GET warm\"\x01".to_owned(),
            _ => format!("SET key:{number} v"),
        };
        let words: Vec<_> = command.split(' ').collect();
        pipeline.extend(format!("*{}\r\n", words.len()).bytes());
        words.iter().for_each(|word| pipeline.extend(format!("${}\r\n{word}\r\n", word.len()).bytes()));
    }
    pipeline.extend(b"QUIT\r\n");
    let mut reader = client.try_clone().expect("a descriptor");
    let reading = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
    client.write_all(&pipeline).expect("it reads");
    reading.join().expect("no panic").expect("it closes in the end");
    let told = told(&node);
    let mut found = names(&told);
    found.sort_unstable();
    assert_eq!(found, ["hot", r#"warm\"\x01"#], "{told:?}");
    for key in &told.keys {
        // The interval is of 95 %: one in twenty misses, by less than this.
        assert!(key.share_min - 0.02 <= 0.2 && 0.2 <= key.share_max + 0.02, "{key:?}");
        let (reads, writes) = (key.reads > 0, key.writes > 0);
        assert_eq!((reads, writes), (key.key != "hot", key.key == "hot"), "{key:?}");
    }
}

#[test]
fn a_node_that_shall_not_look_does_not() {
    let node = serve_one(&["--hot-keys", "0"]);
    get(&node, 10, 1_000, |_| "k".to_owned());
    assert_eq!(told(&node), HotKeysTold::NONE);
    let table = String::from_utf8(node.run(&["stats", "--hot-keys"]).stdout).expect("text");
    assert!(table.contains("it looks for no hot keys"), "{table}");
}
