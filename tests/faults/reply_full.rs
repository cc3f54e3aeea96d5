//! Values that total more than a frame: the client asks again for what was left out, as far as it is allowed.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::scripted::{Peer, ScriptedNode};
use freight::client::{Batch, ClientConfig, ClientError};
use freight::limits::{FRAME_BYTES_MIN, FRAME_OPS_MAX, VALUE_BYTES_MAX};
use freight::op::{Outcome, Version};
use freight::transport::FrameReceiver;
use freight::wire::WireError;

/// Runs on each of these wires, with a node whose frames are as short as they may be.
fn with_short_frames(wires: &[Wire], test: impl AsyncFn(&mut Cluster)) {
    for wire in wires {
        Plan::new(*wire).node(|config| config.frame_bytes_max = FRAME_BYTES_MIN).run(&test);
    }
}

fn value(key: u32, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|position| (position as u32 ^ key.wrapping_mul(0x9E37_79B9)) as u8).collect()
}

#[test]
fn values_totalling_more_than_a_frame_all_come() {
    const KEYS: u32 = 40;
    const BYTES: usize = 1 << 20;
    with_short_frames(&Wire::ALL, async |cluster| {
        let client = cluster.client().await;
        for key in 0..KEYS {
            client.put(&key.to_le_bytes(), &value(key, BYTES)).await.expect("written");
        }
        let mut batch = client.batch(3 * KEYS);
        for key in 0..KEYS {
            batch.get_with_version(&key.to_le_bytes()).expect("room");
            batch.add(b"between", 1).expect("room");
            batch.get(b"nothing").expect("room");
        }
        let reply = client.execute(batch).await.expect("an answer");
        assert_eq!((reply.len(), reply.failures().count()), (3 * KEYS as usize, 0));
        let mut versions = Vec::<Version>::new();
        for (key, outcomes) in (0..KEYS).zip(reply.outcomes().collect::<Vec<_>>().chunks(3)) {
            let Outcome::Value { value: found, version: Some(version) } = outcomes[0] else { panic!("{key}") };
            assert!(found == value(key, BYTES), "{key} has another value");
            versions.push(version);
            assert_eq!(outcomes[1], Outcome::Counter { value: i64::from(key) + 1, version: None }, "once, in order");
            assert_eq!(outcomes[2], Outcome::NotFound);
        }
        assert!(reply.bytes_received() > u64::from(KEYS) << 20);
        assert!(versions.iter().all(|version| *version > 0));
    });
}

#[test]
fn single_gets_of_large_values_share_frames_and_all_come() {
    with_short_frames(&Wire::ALL, async |cluster| {
        let client = cluster.client().await;
        let mut tasks = tokio::task::JoinSet::new();
        for key in 0..12_u32 {
            client.put(&key.to_le_bytes(), &value(key, 3 << 20)).await.expect("written");
        }
        for key in 0..12_u32 {
            let client = client.clone();
            tasks.spawn(async move {
                let found = client.get(&key.to_le_bytes()).await.expect("an answer").expect("a record");
                assert!(found == value(key, 3 << 20), "{key} has another value");
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("every get has its value");
        }
    });
}

#[test]
fn the_largest_batch_of_the_largest_value_ends_within_its_bound() {
    the_largest_batch_of_the_largest_value(&Wire::ALL);
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn the_largest_batch_of_the_largest_value_ends_within_its_bound_on_rdma() {
    the_largest_batch_of_the_largest_value(&[Wire::Rdma]);
}

fn the_largest_batch_of_the_largest_value(wires: &[Wire]) {
    const REPLY_BYTES_MAX: u64 = 40 << 20;
    with_short_frames(wires, async |cluster| {
        let client = cluster.client_with(ClientConfig { reply_bytes_max: REPLY_BYTES_MAX, ..Default::default() }).await;
        let largest = value(1, VALUE_BYTES_MAX as usize);
        client.put(b"k", &largest).await.expect("written");
        let mut batch = client.batch(FRAME_OPS_MAX);
        for _ in 0..FRAME_OPS_MAX {
            batch.get(b"k").expect("room");
        }
        let reply = client.execute(batch).await.expect("an answer");
        let (mut values, mut left_out) = (0, 0);
        for outcome in reply.outcomes() {
            match outcome {
                Outcome::Value { value, .. } => {
                    assert!(value == largest, "another value");
                    values += 1;
                }
                Outcome::ReplyFull => left_out += 1,
                outcome => panic!("{outcome:?}"),
            }
        }
        assert_eq!(values + left_out, FRAME_OPS_MAX);
        let failures: Vec<_> = reply.failures().map(|failure| failure.error.clone()).collect();
        let [ClientError::ReplyTooLarge { got, max: REPLY_BYTES_MAX }] = failures[..] else { panic!("{failures:?}") };
        assert_eq!(got, reply.bytes_received());
        assert!(values >= 4, "one value a frame, and five frames fit the bound: {values}");
        assert!(reply.bytes_received() < REPLY_BYTES_MAX + u64::from(FRAME_BYTES_MIN));
        drop(reply);
        assert!(client.get(b"k").await.expect("the connection goes on").expect("a record") == largest);
    });
}

/// Answers everything with `ReplyFull`, as a node without any memory for replies does.
async fn never_has_room(peer: &mut Peer) {
    loop {
        let request = peer.next().await;
        let ops = freight::wire::RequestView::parse(&request).expect("a request").ops().count();
        peer.answer(&request, &vec![Outcome::ReplyFull; ops]).await;
    }
}

#[test]
fn only_a_get_can_be_left_out_and_nothing_else_is_ever_sent_again() {
    Wire::Sim.runtime().block_on(async {
        let (mut node, mut peer, client) = ScriptedNode::connected(ClientConfig::default()).await;
        let mut batch: Batch = client.batch(2);
        batch.get(b"a").expect("room");
        batch.add(b"n", 1).expect("room");
        let (reply, ()) = tokio::join!(client.execute(batch), async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::ReplyFull; 2]).await;
        });
        let error = reply.expect_err("an add is never left out");
        let source = WireError::BadStatus { index: 1, got: 9 };
        assert!(matches!(&error, ClientError::Malformed { source: found, .. } if *found == source), "{error}");
        assert!(matches!(peer.receiver.receive().await, Ok(None)), "no second request, and the connection is given up");
        let (found, ()) = tokio::join!(client.get(b"a"), async {
            let mut peer = node.accept().await;
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::NotFound]).await;
        });
        assert_eq!(found.expect("an answer"), None);
    });
}

#[test]
fn a_node_that_never_has_room_is_not_asked_for_ever() {
    Wire::Sim.runtime().block_on(async {
        let (_node, mut peer, client) = ScriptedNode::connected(ClientConfig::default()).await;
        let asking = async {
            let mut batch: Batch = client.batch(2);
            batch.get(b"a").expect("room");
            batch.get(b"b").expect("room");
            let reply = client.execute(batch).await.expect("an answer");
            assert_eq!(reply.outcomes().collect::<Vec<_>>(), [Outcome::ReplyFull; 2]);
            let failure = &reply.failures().next().expect("a reason").error;
            assert!(matches!(failure, ClientError::OutOfMemory), "{failure}");
            assert!(matches!(client.get(b"a").await, Err(ClientError::OutOfMemory)));
        };
        tokio::select! {
            () = asking => {}
            () = never_has_room(&mut peer) => {}
        }
    });
}
