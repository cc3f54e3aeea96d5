//! What was executed before a move is not executed again behind it: completion records go with their slots, before the
//! new owner serves them. Planted bug: a move that leaves them behind.
#![forbid(unsafe_code)]

use crate::moves::{filled, moving, settled};
use crate::sharded::{NODES, keys, node_of, plan};
use crate::support::cluster::{Cluster, Wire};
use crate::support::scripted::Peer;
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Op, Outcome};
use freight::wire::{Origin, ReplyView, RequestBuilder, mark_retry};

/// A frame of a session that puts a key to what it gets, in this order, and counts.
fn frame(sequence: u64, key: &[u8], counter: &[u8]) -> Vec<u8> {
    let mut builder = RequestBuilder::new(Vec::new(), 8, FRAME_BYTES_DEFAULT).expect("room");
    for (key, action) in [(key, Action::Get), (key, Action::Put { value: b"new" }), (counter, Action::Add { delta: 1 })]
    {
        builder.push(&Op { key, action, version_wanted: false }).expect("room");
    }
    let origin = Origin { request: 1, session: 77, sequence, acknowledged_up_to: 0, map_epoch: 0 };
    let (mut frame, bytes) = builder.finish(origin);
    frame.truncate(bytes as usize);
    frame
}

fn again(frame: &[u8]) -> Vec<u8> {
    let mut copy = frame.to_vec();
    mark_retry(&mut copy, Origin { request: 1, ..Origin::default() });
    copy
}

async fn ask(peer: &mut Peer, frame: &[u8]) -> Vec<Outcome<'static>> {
    peer.send(frame).await;
    let reply = peer.next().await;
    let leaked = |outcome| match outcome {
        Outcome::Value { value, version } => Outcome::Value { value: Vec::leak(value.to_vec()), version },
        Outcome::Counter { value, version } => Outcome::Counter { value, version },
        Outcome::Done { version } => Outcome::Done { version },
        other => panic!("{other:?}"),
    };
    ReplyView::parse(&reply).expect("a reply").outcomes().map(leaked).collect()
}

/// What a frame is answered by its first owner, and what its retry by the next; `hands_over` or leaves behind what was
/// executed.
fn answers(hands_over: bool) -> [Vec<Outcome<'static>>; 2] {
    let mut answers = [const { Vec::new() }; 2];
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, _client) = filled(cluster).await;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 0).expect("one of many");
        let counter =
            (0..).map(|number: u32| number.to_le_bytes()).find(|key| node_of(key, 0) == 0).expect("one of many");
        let mut peers = Vec::new();
        for node in 0..NODES {
            peers.push(Peer::connect(&cluster.endpoints()[node]).await);
        }
        let first = frame(1, &key, &counter);
        answers[0] = ask(&mut peers[0], &first).await;
        assert_eq!(ask(&mut peers[0], &again(&first)).await, answers[0]);
        let mut moving = moving(&store).await;
        moving.begin().await.expect("both nodes are there");
        moving.copy().await.expect("both nodes are there");
        moving.freeze().await.expect("the old owner is there");
        if hands_over {
            moving.hand_over().await.expect("both nodes are there");
        }
        moving.finish().await.expect("the new owner is there");
        moving.settle().await.expect("the keeper is there");
        settled(cluster, &store, None).await;
        assert_eq!(ask(&mut peers[0], &again(&first)).await, answers[0], "the old owner still knows");
        answers[1] = ask(&mut peers[1], &again(&first)).await;
        // And what was never executed is.
        let counted = ask(&mut peers[1], &frame(2, &key, &counter)).await[2];
        assert_eq!(counted, Outcome::Counter { value: if hands_over { 2 } else { 3 }, version: None });
    });
    answers
}

#[test]
fn a_retry_behind_a_move_is_answered_as_before_it() {
    let [first, again] = answers(true);
    assert!(matches!(first[0], Outcome::Value { value, .. } if value != b"new"), "{first:?}");
    assert_eq!((first[1], first[2]), (Outcome::Done { version: None }, Outcome::Counter { value: 1, version: None }));
    assert_eq!(again, first);
}

#[test]
fn a_move_without_completion_records_is_caught() {
    let [first, again] = answers(false);
    assert_ne!(again, first, "the planted bug is seen");
    assert_eq!(again[0], Outcome::Value { value: b"new", version: None }, "a get that sees the put behind it");
    assert_eq!(again[2], Outcome::Counter { value: 2, version: None }, "an add that was executed twice");
}
