//! A node at its memory cap: puts are refused, everything else goes on, and deletes make room again.
#![forbid(unsafe_code)]

use crate::raw::{Raw, node, op, request};
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::scripted::Peer;
use freight::client::{Client, ClientConfig, ClientError};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Outcome};
use freight::shard::IndexKind;
use freight::transport::FrameReceiver;
use freight::wire::{Capabilities, Hello, Refusal, RefusalCode, ReplyView, hello};
use std::io::Write;
use std::time::Duration;

const CAP: u64 = 64 << 20;

fn with_a_cap(test: impl AsyncFn(&mut Cluster)) {
    for wire in Wire::ALL {
        Plan::new(wire).node(|config| config.memory_bytes_max = Some(CAP)).run(&test);
    }
}

/// Records to fill a node with: the bytes of their values, and how many go in one batch.
#[derive(Clone, Copy)]
struct Load {
    value_bytes: usize,
    batch_ops: u32,
}

const SMALL: Load = Load { value_bytes: 100, batch_ops: 10_000 };
const LARGE: Load = Load { value_bytes: 10 << 10, batch_ops: 200 };

/// Puts values until a whole batch is refused, whatever shards it goes to; returns how many were taken.
async fn fill(client: &Client, load: Load) -> u32 {
    let value = vec![7; load.value_bytes];
    let (mut taken, mut next) = (0, 0_u32);
    loop {
        let mut batch = client.batch(load.batch_ops);
        for key in next..next + load.batch_ops {
            batch.put(&key.to_le_bytes(), &value).expect("room in the frame");
        }
        let reply = client.execute(batch).await.expect("an answer");
        assert_eq!(reply.failures().count(), 0);
        let done = reply.outcomes().filter(|outcome| matches!(outcome, Outcome::Done { .. })).count() as u32;
        let refused = reply.outcomes().filter(|outcome| *outcome == Outcome::OutOfMemory).count() as u32;
        assert_eq!(done + refused, load.batch_ops);
        (taken, next) = (taken + done, next + load.batch_ops);
        if done == 0 {
            return taken;
        }
    }
}

/// Deletes all that [`fill`] put, of whose batches only the last found no room; returns how many were there.
async fn delete_all(client: &Client, load: Load) -> u32 {
    let (mut deleted, mut next) = (0, 0_u32);
    loop {
        let mut batch = client.batch(load.batch_ops);
        (next..next + load.batch_ops).for_each(|key| batch.delete(&key.to_le_bytes()).expect("room in the frame"));
        let reply = client.execute(batch).await.expect("an answer");
        let done = reply.outcomes().filter(|outcome| *outcome == Outcome::Done { version: None }).count() as u32;
        (deleted, next) = (deleted + done, next + load.batch_ops);
        if done == 0 {
            return deleted;
        }
    }
}

#[test]
fn past_the_cap_only_puts_fail_and_deletes_make_room() {
    with_a_cap(async |cluster| {
        let client = cluster.client().await;
        let taken = fill(&client, LARGE).await;
        assert!(u64::from(taken) * (10 << 10) > CAP / 3, "only {taken} records fit");
        assert!(cluster.stats(0).memory_bytes_used <= CAP);
        // Gets, deletes and new connections go on.
        let value = client.get(&0_u32.to_le_bytes()).await.expect("an answer").expect("a record");
        assert_eq!(value, [7; 10 << 10]);
        let second = cluster.client().await;
        assert_eq!(second.get(b"none such").await.expect("an answer"), None);
        assert_eq!(delete_all(&second, LARGE).await, taken);
        let again = fill(&client, LARGE).await;
        assert!(again >= taken - taken / 10, "{again} records fit where {taken} did");
        // A chunk of 2 MiB was refused just now: less than that is left.
        assert!(matches!(client.put(b"one more", &vec![1; 2 << 20]).await, Err(ClientError::OutOfMemory)));
        assert_eq!(second.get(b"one more").await.expect("an answer"), None);
        assert_eq!(cluster.stats(0).refusals, 0);
    });
}

#[test]
fn memory_of_small_records_serves_large_ones() {
    // The least cap of which connections reserve so little.
    const CAP: u64 = 512 << 20;
    let patient = ClientConfig { deadline: Duration::from_secs(600), ..ClientConfig::default() };
    for index in IndexKind::BUILT {
        let plan = Plan::new(Wire::Tcp).node(|config| (config.memory_bytes_max, config.index) = (Some(CAP), *index));
        plan.run(async |cluster: &mut Cluster| {
            let client = cluster.client_with(patient.clone()).await;
            let small = fill(&client, SMALL).await;
            assert_eq!(delete_all(&client, SMALL).await, small);
            let large = fill(&client, LARGE).await;
            let stats = cluster.stats(0);
            let share = stats.store.payload_bytes as f64 / CAP as f64;
            println!(
                "{index}: {small} small records, then {large} large ones: {share:.3} of the cap are keys and values"
            );
            assert!(share >= 0.9, "{stats:?}");
        });
    }
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
        let taken = fill(&client, LARGE).await;
        assert!(u64::from(taken) * (10 << 10) > CAP / 3, "only {taken} records fit behind large frames");
    });
}

#[test]
fn a_full_node_still_answers_large_gets() {
    with_a_cap(async |cluster| {
        let client = cluster.client().await;
        client.put(b"large", &vec![9; 8 << 20]).await.expect("written");
        fill(&client, LARGE).await;
        for _ in 0..3 {
            let value = client.get(b"large").await.expect("an answer").expect("a record");
            assert!(value == vec![9; 8 << 20]);
        }
        assert!(client.delete(b"large").await.expect("an answer"));
    });
}

#[test]
fn half_frames_on_many_connections_leave_room_for_everybody_else() {
    let node = node(|config| config.memory_bytes_max = Some(CAP));
    let mut other = Raw::connect(&node);
    let put = request(1, &[op(b"k", Action::Put { value: &vec![1; 8 << 20] })]);
    let greedy: Vec<Raw> = (0..64)
        .map(|_| {
            let mut raw = Raw::connect(&node);
            let _sent_or_refused = raw.stream.write_all(&put[..put.len() - 1]);
            other.works();
            Raw::connect(&node).works();
            raw
        })
        .collect();
    assert!(node.stats().refusals > 0, "what was sent is more than the cap");
    // The greedy ones are let go in time, and a large put finds room again.
    let put = request(1, &[op(b"large", Action::Put { value: &vec![1; 1 << 20] })]);
    let done = loop {
        let mut raw = Raw::connect(&node);
        raw.send(&put);
        let frame = raw.frame().expect("an answer");
        match ReplyView::parse(&frame) {
            Ok(reply) => break reply.outcome(0) == Outcome::Done { version: None },
            Err(_) => assert_eq!(Refusal::parse(&frame).expect("a refusal").code, RefusalCode::Memory),
        }
    };
    assert!(done, "records have room of their own");
    drop(greedy);
    node.drain();
}

#[test]
fn idle_connections_leave_a_full_node_room_for_frames() {
    Plan::new(Wire::Sim).node(|config| config.memory_bytes_max = Some(CAP)).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        fill(&client, LARGE).await;
        let mut idle = Vec::new();
        let mut refused = 0;
        for _ in 0..1_536 {
            let mut peer = Peer::connect_silently(&cluster.endpoints()[0]).await;
            peer.send(&hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default()))).await;
            let answer = peer.receiver.receive().await.expect("no fault").expect("an answer");
            match Refusal::parse(&answer) {
                Ok(refusal) => {
                    assert_eq!(refusal.code, RefusalCode::Connections);
                    refused += 1;
                }
                Err(_) => idle.push(peer),
            }
        }
        assert_eq!(refused, 1_536 - 767, "half of the reserve of 24 MiB, at 16 KiB each");
        for _ in 0..10 {
            let value = client.get(&0_u32.to_le_bytes()).await.expect("an answer").expect("a record");
            assert_eq!(value, [7; 10 << 10]);
        }
        drop(idle.pop());
        while cluster.stats(0).connections > 767 {
            tokio::task::yield_now().await;
        }
        assert!(cluster.client().await.get(&1_u32.to_le_bytes()).await.expect("an answer").is_some());
    });
}
