//! A node over its wire: frames of a session, sent again whole and in parts, on the same connection and on others.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::scripted::Peer;
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Op, Outcome};
use freight::wire::{Origin, ReplyView, RequestBuilder, mark_retry};

const SESSION: u64 = 77;

fn op<'a>(key: &'a [u8], action: Action<'a>) -> Op<'a> {
    Op { key, action, version_wanted: false }
}

fn add(delta: i64) -> Op<'static> {
    op(b"counter", Action::Add { delta })
}

fn builder(ops: &[Op<'_>]) -> RequestBuilder<Vec<u8>> {
    let mut builder = RequestBuilder::new(Vec::new(), 8, FRAME_BYTES_DEFAULT).expect("room");
    ops.iter().for_each(|op| builder.push(op).expect("room"));
    builder
}

fn cut((mut frame, bytes): (Vec<u8>, u32)) -> Vec<u8> {
    frame.truncate(bytes as usize);
    frame
}

fn origin(sequence: u64, acknowledged_up_to: u64) -> Origin {
    Origin { request: 1, session: SESSION, sequence, acknowledged_up_to, map_epoch: 0 }
}

fn first(sequence: u64, ops: &[Op<'_>]) -> Vec<u8> {
    cut(builder(ops).finish(origin(sequence, 0)))
}

fn again(frame: &[u8]) -> Vec<u8> {
    let mut copy = frame.to_vec();
    mark_retry(&mut copy, Origin { request: 1, ..Origin::default() });
    copy
}

fn part(sequence: u64, ops: &[Op<'_>], indices: &[u16]) -> Vec<u8> {
    cut(builder(ops).finish_retry(origin(sequence, 0), indices).expect("room"))
}

async fn assert_answered(peer: &mut Peer, frame: &[u8], expected: &[Outcome<'_>]) {
    peer.send(frame).await;
    let reply = peer.next().await;
    assert_eq!(ReplyView::parse(&reply).expect("a reply").outcomes().collect::<Vec<_>>(), expected);
}

fn on_a_node(test: impl AsyncFnOnce(&mut Cluster)) {
    Plan::new(Wire::Sim).run(test);
}

async fn peer(cluster: &Cluster) -> Peer {
    Peer::connect(&cluster.endpoints()[0]).await
}

fn counter(value: i64) -> Outcome<'static> {
    Outcome::Counter { value, version: None }
}

const DONE: Outcome<'static> = Outcome::Done { version: None };

fn value(value: &[u8]) -> Outcome<'_> {
    Outcome::Value { value, version: None }
}

#[test]
fn a_retried_add_executes_once_on_any_connection() {
    on_a_node(async |cluster: &mut Cluster| {
        let (mut one, mut other) = (peer(cluster).await, peer(cluster).await);
        let frame = first(1, &[add(5)]);
        assert_answered(&mut one, &frame, &[counter(5)]).await;
        for peer in [&mut one, &mut other] {
            assert_answered(peer, &again(&frame), &[counter(5)]).await;
        }
        assert_answered(&mut other, &first(2, &[add(1)]), &[counter(6)]).await;
    });
}

#[test]
fn a_first_frame_that_comes_behind_its_retry_is_answered_like_it() {
    on_a_node(async |cluster: &mut Cluster| {
        let (mut old, mut new) = (peer(cluster).await, peer(cluster).await);
        let frame = first(1, &[add(5)]);
        assert_answered(&mut new, &again(&frame), &[counter(5)]).await;
        assert_answered(&mut old, &frame, &[counter(5)]).await;
        assert_answered(&mut old, &first(2, &[add(1)]), &[counter(6)]).await;
    });
}

#[test]
fn a_retried_batch_sees_what_it_saw_and_not_its_own_changes() {
    on_a_node(async |cluster: &mut Cluster| {
        let mut peer = peer(cluster).await;
        let put = |key, value| op(key, Action::Put { value });
        let get = |key| op(key, Action::Get);
        let ops = [get(b"k"), put(b"k", b"mine"), get(b"k"), get(b"a key longer than a word"), get(b"other")];
        let frame = first(1, &ops);
        let saw = [Outcome::NotFound, DONE, value(b"mine"), Outcome::NotFound, Outcome::NotFound];
        assert_answered(&mut peer, &frame, &saw).await;
        // Meanwhile others write. A get on a key that the batch does not change is simply asked again.
        let theirs = [put(b"k", b"theirs"), put(b"other", b"new")];
        assert_answered(&mut peer, &first(2, &theirs), &[DONE, DONE]).await;
        let sees = [Outcome::NotFound, DONE, value(b"mine"), Outcome::NotFound, value(b"new")];
        assert_answered(&mut peer, &again(&frame), &sees).await;
        assert_answered(&mut peer, &first(3, &[get(b"k")]), &[value(b"theirs")]).await;
    });
}

#[test]
fn a_part_is_known_by_where_it_stood_first() {
    on_a_node(async |cluster: &mut Cluster| {
        let mut peer = peer(cluster).await;
        assert_answered(&mut peer, &first(1, &[add(1), add(10), add(100)]), &[counter(1), counter(11), counter(111)])
            .await;
        assert_answered(&mut peer, &part(1, &[add(10), add(100)], &[1, 2]), &[counter(11), counter(111)]).await;
        // What was not in the frame that came first is executed, and then known as well.
        assert_answered(&mut peer, &part(1, &[add(100), add(1000)], &[2, 7]), &[counter(111), counter(1111)]).await;
        assert_answered(&mut peer, &part(1, &[add(1), add(1000)], &[0, 7]), &[counter(1), counter(1111)]).await;
    });
}

#[test]
fn what_was_acknowledged_is_not_executed_again() {
    on_a_node(async |cluster: &mut Cluster| {
        let (mut one, mut other) = (peer(cluster).await, peer(cluster).await);
        let frame = first(1, &[add(5), op(b"read", Action::Get)]);
        assert_answered(&mut one, &frame, &[counter(5), Outcome::NotFound]).await;
        let next = cut(builder(&[add(1)]).finish(origin(2, 2)));
        assert_answered(&mut one, &next, &[counter(6)]).await;
        // Its changes are not known any more; what changes nothing is answered.
        assert_answered(&mut other, &frame, &[Outcome::Unknown, Outcome::NotFound]).await;
        assert_answered(&mut other, &first(3, &[add(1)]), &[counter(7)]).await;
    });
}

#[test]
fn every_outcome_of_a_change_is_known_as_it_was() {
    on_a_node(async |cluster: &mut Cluster| {
        let mut peer = peer(cluster).await;
        let versioned = |action| Op { key: b"k", action, version_wanted: true };
        let ops = [
            versioned(Action::Put { value: b"v" }),
            versioned(Action::Get),
            versioned(Action::CompareAndSwap { expected: 9, value: b"w" }),
            versioned(Action::Add { delta: 1 }),
            op(b"k", Action::Delete),
            op(b"k", Action::Delete),
            versioned(Action::Add { delta: i64::MAX }),
            versioned(Action::Add { delta: 1 }),
        ];
        let frame = first(1, &ops);
        peer.send(&frame).await;
        let reply = peer.next().await;
        let expected: Vec<_> = ReplyView::parse(&reply).expect("a reply").outcomes().collect();
        assert!(matches!(expected[1], Outcome::Value { value: b"v", version: Some(1) }), "{expected:?}");
        assert_eq!(expected[3..6], [Outcome::NotANumber, DONE, Outcome::NotFound]);
        assert_eq!(expected[7], Outcome::CounterOverflow);
        assert_answered(&mut peer, &again(&frame), &expected).await;
    });
}

#[test]
fn frames_without_a_session_are_executed_as_often_as_they_come() {
    on_a_node(async |cluster: &mut Cluster| {
        let mut peer = peer(cluster).await;
        let frame = cut(builder(&[add(5)]).finish(Origin { request: 1, ..Origin::default() }));
        assert_answered(&mut peer, &frame, &[counter(5)]).await;
        assert_answered(&mut peer, &again(&frame), &[counter(10)]).await;
    });
}
