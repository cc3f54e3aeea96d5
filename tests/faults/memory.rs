//! A node at its memory cap: puts are refused, everything else goes on, and deletes make room again.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use freight::client::{Client, ClientError};
use freight::op::Outcome;

const CAP: u64 = 64 << 20;

fn with_a_cap(test: impl AsyncFn(&mut Cluster)) {
    for wire in Wire::ALL {
        Plan::new(wire).node(|config| config.memory_bytes_max = Some(CAP)).run(&test);
    }
}

/// Puts values of 10 KiB until a whole batch is refused, whatever shards it goes to; returns how many were taken.
async fn fill(client: &Client) -> u32 {
    let value = [7; 10 << 10];
    let (mut taken, mut next) = (0, 0_u32);
    loop {
        let mut batch = client.batch(200);
        for key in next..next + 200 {
            batch.put(&key.to_le_bytes(), &value).expect("room in the frame");
        }
        let reply = client.execute(batch).await.expect("an answer");
        assert_eq!(reply.failures().count(), 0);
        let done = reply.outcomes().filter(|outcome| matches!(outcome, Outcome::Done { .. })).count() as u32;
        let refused = reply.outcomes().filter(|outcome| *outcome == Outcome::OutOfMemory).count() as u32;
        assert_eq!(done + refused, 200);
        (taken, next) = (taken + done, next + 200);
        if done == 0 {
            return taken;
        }
    }
}

/// Deletes all that [`fill`] may have put; returns how many were there.
async fn delete_all(client: &Client) -> u32 {
    let mut deleted = 0;
    for first in (0..20_000_u32).step_by(1_000) {
        let mut batch = client.batch(1_000);
        (first..first + 1_000).for_each(|key| batch.delete(&key.to_le_bytes()).expect("room in the frame"));
        let reply = client.execute(batch).await.expect("an answer");
        deleted += reply.outcomes().filter(|outcome| *outcome == Outcome::Done { version: None }).count() as u32;
    }
    deleted
}

#[test]
fn past_the_cap_only_puts_fail_and_deletes_make_room() {
    with_a_cap(async |cluster| {
        let client = cluster.client().await;
        let taken = fill(&client).await;
        assert!(u64::from(taken) * (10 << 10) > CAP / 3, "only {taken} records fit");
        assert!(cluster.stats(0).memory_bytes_used <= CAP);
        // Gets, deletes and new connections go on.
        let value = client.get(&0_u32.to_le_bytes()).await.expect("an answer").expect("a record");
        assert_eq!(value, [7; 10 << 10]);
        let second = cluster.client().await;
        assert_eq!(second.get(b"none such").await.expect("an answer"), None);
        assert_eq!(delete_all(&second).await, taken);
        let again = fill(&client).await;
        assert!(again >= taken - taken / 10, "{again} records fit where {taken} did");
        // A chunk of 2 MiB was refused just now: less than that is left.
        assert!(matches!(client.put(b"one more", &vec![1; 2 << 20]).await, Err(ClientError::OutOfMemory)));
        assert_eq!(second.get(b"one more").await.expect("an answer"), None);
        assert_eq!(cluster.stats(0).refusals, 0);
    });
}

#[test]
fn large_frames_that_came_and_went_leave_their_room_to_records() {
    with_a_cap(async |cluster| {
        // A connection on each thread of the node.
        for round in 0..4_u32 {
            let client = cluster.client().await;
            let mut batch = client.batch(12);
            for key in 0..12_u32 {
                batch.put(&key.to_le_bytes(), &vec![round as u8; 1 << 20]).expect("room in the frame");
            }
            client.execute(batch).await.expect("an answer");
            let mut batch = client.batch(12);
            (0..12_u32).for_each(|key| batch.delete(&key.to_le_bytes()).expect("room in the frame"));
            client.execute(batch).await.expect("an answer");
        }
        let client = cluster.client().await;
        let taken = fill(&client).await;
        assert!(u64::from(taken) * (10 << 10) > CAP / 3, "only {taken} records fit behind large frames");
    });
}

#[test]
fn a_full_node_still_answers_large_gets() {
    with_a_cap(async |cluster| {
        let client = cluster.client().await;
        client.put(b"large", &vec![9; 8 << 20]).await.expect("written");
        fill(&client).await;
        for _ in 0..3 {
            let value = client.get(b"large").await.expect("an answer").expect("a record");
            assert!(value == vec![9; 8 << 20]);
        }
        assert!(client.delete(b"large").await.expect("an answer"));
    });
}
