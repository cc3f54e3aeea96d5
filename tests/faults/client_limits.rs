//! What a client is asked that it cannot do, or only just.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire, on_each_wire};
use crate::support::scripted::ScriptedNode;
use freight::client::{BatchError, Client, ClientConfig, ClientError};
use freight::hash::slot;
use freight::limits::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MIN, FRAME_OPS_MAX, KEY_BYTES_MAX, SLOTS, VALUE_BYTES_MAX};
use freight::op::Outcome;
use freight::transport::{Endpoint, TransportError};
use std::time::Duration;
use tokio::task::JoinSet;

#[test]
fn a_client_needs_a_node_and_takes_no_more_than_there_are_slots() {
    Wire::Sim.runtime().block_on(async {
        let endpoint: Endpoint = "sim://nowhere/a".parse().expect("an endpoint");
        for got in [0, SLOTS as usize + 1] {
            let error = Client::connect(&vec![endpoint.clone(); got], ClientConfig::default()).await;
            let error = error.expect_err("a bad number of nodes");
            assert!(matches!(error, ClientError::BadNodeCount { max: SLOTS, .. }), "{error}");
        }
        let error = Client::connect(&[endpoint], ClientConfig::default()).await.expect_err("no such network");
        assert!(matches!(&error, ClientError::Connect(source) if matches!(**source, TransportError::Connect { .. })));
    });
}

#[test]
fn what_no_frame_holds_is_refused_and_leaves_the_batch_as_it_was() {
    let plan = Plan { nodes: 3, ..Plan::new(Wire::Sim) };
    plan.node(|config| config.frame_bytes_max = FRAME_BYTES_MIN).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let mut batch = client.batch(2);
        batch.put(b"first", b"v").expect("room");
        let (key, value) = (vec![1; KEY_BYTES_MAX as usize + 1], vec![2; VALUE_BYTES_MAX as usize + 1]);
        assert!(matches!(batch.get(&key), Err(BatchError::KeyTooLong { .. })));
        assert!(matches!(batch.put(b"k", &value), Err(BatchError::ValueTooLong { .. })));
        let large = &value[..VALUE_BYTES_MAX as usize];
        let mut taken = 0;
        let error = loop {
            match batch.put(b"one key, one node", large) {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, BatchError::FrameFull { max: FRAME_BYTES_MIN, .. }), "{error}");
        assert_eq!((taken, batch.len()), (1, 2));
        batch.get(b"first").expect("room on its own node, or on another");
        let reply = client.execute(batch).await.expect("an answer");
        assert_eq!(reply.outcome(0), Outcome::Done { version: None });
        assert_eq!(reply.outcome(2), Outcome::Value { value: b"v", version: None });
    });
}

#[test]
fn a_node_that_took_nothing_has_no_part_in_its_batch() {
    let plan = Plan { nodes: 3, ..Plan::new(Wire::Sim) };
    plan.node(|config| config.frame_bytes_max = FRAME_BYTES_MIN).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let key_of = |node| {
            let keys = (0..100_u32).map(u32::to_le_bytes);
            let mut owned = keys.filter(move |key| slot(key) as usize * 3 / SLOTS as usize == node);
            owned.next().expect("keys are dealt evenly")
        };
        cluster.stop(2).await;
        let mut batch = client.batch(2);
        batch.put(&key_of(0), b"v").expect("room");
        let refused = batch.put(&key_of(2), &vec![1; VALUE_BYTES_MAX as usize + 1]);
        assert!(matches!(refused, Err(BatchError::ValueTooLong { .. })), "{refused:?}");
        let reply = client.execute(batch).await.expect("an answer");
        assert_eq!((reply.outcome(0), reply.failures().count()), (Outcome::Done { version: None }, 0));
        assert_eq!(reply.frames(), 1);
    });
}

#[test]
fn a_batch_holds_65536_operations_a_node_whatever_was_expected() {
    on_each_wire(async |cluster| {
        let client = cluster.client().await;
        for ops_expected in [0, 1, FRAME_OPS_MAX, u32::MAX] {
            let mut batch = client.batch(ops_expected);
            for key in 0..FRAME_OPS_MAX {
                batch.get(&key.to_le_bytes()).expect("room");
            }
            assert!(matches!(batch.get(b"one more"), Err(BatchError::TooManyOps { max: FRAME_OPS_MAX })));
            let reply = client.execute(batch).await.expect("an answer");
            assert!(reply.outcomes().all(|outcome| outcome == Outcome::NotFound));
            assert_eq!(reply.len(), FRAME_OPS_MAX as usize);
        }
    });
}

#[test]
fn an_empty_batch_is_answered_without_a_frame() {
    on_each_wire(async |cluster| {
        let client = cluster.client().await;
        let batch = client.batch(10);
        assert!(batch.is_empty());
        let reply = client.execute(batch).await.expect("an answer");
        assert!(reply.is_empty());
        assert_eq!((reply.outcomes().count(), reply.bytes_sent(), reply.bytes_received()), (0, 0, 0));
        assert_eq!(cluster.stats(0).frames, 0);
    });
}

#[test]
fn more_batches_than_the_window_holds_are_all_answered() {
    on_each_wire(async |cluster| {
        let client = cluster.client_with(ClientConfig { frames_in_flight_max: 4, ..ClientConfig::default() }).await;
        let mut tasks = JoinSet::new();
        for number in 0..500_u32 {
            let client = client.clone();
            tasks.spawn(async move {
                let mut batch = client.batch(2);
                batch.put(&number.to_le_bytes(), &number.to_be_bytes()).expect("room");
                batch.get(&number.to_le_bytes()).expect("room");
                let reply = client.execute(batch).await.expect("an answer");
                assert_eq!(reply.outcome(1), Outcome::Value { value: &number.to_be_bytes(), version: None });
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("every batch has its answer");
        }
        assert_eq!(cluster.stats(0).frames, 500);
    });
}

#[test]
fn patience_may_be_endless() {
    on_each_wire(async |cluster| {
        let config = ClientConfig { deadline: Duration::MAX, ..ClientConfig::default() };
        let client = cluster.client_with(config).await;
        client.put(b"k", b"v").await.expect("written");
        let mut batch = client.batch(1);
        batch.get(b"k").expect("room");
        assert_eq!(client.execute(batch).await.expect("an answer").failures().count(), 0);
        client.ping().await.expect("an answer");
    });
}

#[test]
fn patience_may_be_none_at_all() {
    Wire::Sim.runtime().block_on(async {
        let node = ScriptedNode::start().await;
        let config = ClientConfig { deadline: Duration::ZERO, ..ClientConfig::default() };
        let error = Client::connect(&[node.endpoint()], config).await.expect_err("no time to connect");
        assert!(matches!(error, ClientError::Hello { .. }), "{error}");
    });
}

#[test]
fn wire_limit_frames_are_answered_up_to_the_frame_limit_and_refused_beyond() {
    on_each_wire(async |cluster| {
        let client = cluster.client().await;
        let max = FRAME_BYTES_DEFAULT;
        for (request_bytes, reply_bytes) in [(0, 0), (64, 64), (1_000, 1 << 20), (1 << 20, 100), (max, max)] {
            let request = client.wire_limit(0, request_bytes, reply_bytes).await.expect("an answer");
            assert_eq!(request.frame_bytes(), request_bytes.max(68), "header and body");
        }
        let before = cluster.stats(0).frames;
        for (request_bytes, reply_bytes) in [(max + 1, 100), (100, max + 1), (u32::MAX, u32::MAX)] {
            let error = client.wire_limit(0, request_bytes, reply_bytes).await.expect_err("too long");
            assert!(matches!(error, ClientError::Build(BatchError::FrameFull { .. })), "{error}");
        }
        assert_eq!((cluster.stats(0).frames, cluster.stats(0).refusals), (before, 0));
    });
}
