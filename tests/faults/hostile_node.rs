//! Whatever a node answers, its client gets a typed error, and the next call a new connection.
#![forbid(unsafe_code)]

use crate::support::cluster::Wire;
use crate::support::scripted::{Peer, ScriptedNode, reply, well_behaved};
use freight::client::{Client, ClientConfig, ClientError, Reply};
use freight::op::Outcome;
use freight::wire::{HelloReply, RefusalCode, WireError, hello_reply, refusal, stats_reply};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// What comes of a get, single and in a batch, that the node answers with the bytes that `answer` makes of it.
fn answered_with(answer: impl Fn(&[u8]) -> Vec<u8>) -> [Result<(), ClientError>; 2] {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let deadline = Duration::from_secs(60);
        // What is sent again would meet the next connection's script.
        let config = ClientConfig { deadline, at_most_once: false, ..ClientConfig::default() };
        let (peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, config));
        let client = client.expect("the node listens");
        let single = async { client.get(b"k").await.map(drop) };
        let (single, ()) = tokio::join!(single, misbehave(peer, &answer));
        let (batch, ()) = tokio::join!(get_in_a_batch(&client), async {
            misbehave(node.accept().await, &answer).await;
        });
        // And a node that behaves is trusted again.
        let (good, ()) = tokio::join!(client.get(b"k"), async {
            let mut peer = node.accept().await;
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::Value { value: b"good", version: Some(1) }]).await;
        });
        assert_eq!(good.expect("an answer").as_deref(), Some(&b"good"[..]));
        [single, batch]
    })
}

/// Answers one request badly and goes away, each with time for the client to see it.
async fn misbehave(mut peer: Peer, answer: &impl Fn(&[u8]) -> Vec<u8>) {
    let request = peer.next().await;
    peer.send(&answer(&request)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(peer);
    tokio::time::sleep(Duration::from_millis(10)).await;
}

async fn get_in_a_batch(client: &Client) -> Result<(), ClientError> {
    let mut batch = client.batch(1);
    batch.get(b"k").expect("room");
    let reply: Reply = client.execute(batch).await?;
    match (reply.outcome(0), reply.failures().next()) {
        (Outcome::NotSent, Some(failure)) if matches!(failure.error, ClientError::Refused { .. }) => {
            Err(failure.error.clone())
        }
        (Outcome::Unknown, Some(failure)) if failure.error.may_have_taken_effect() => Err(failure.error.clone()),
        (outcome, failure) => panic!("{outcome:?} and {failure:?}"),
    }
}

#[track_caller]
fn is_malformed(answer: impl Fn(&[u8]) -> Vec<u8>, expected: impl Fn(&WireError) -> bool) {
    for result in answered_with(answer) {
        match result {
            Err(ClientError::Malformed { source, .. }) => assert!(expected(&source), "{source}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_malformed_reply_is_a_typed_error() {
    let broken = |request: &[u8]| {
        let mut bytes = reply(request, &[Outcome::NotFound]);
        bytes[64] = 0x7F;
        bytes
    };
    is_malformed(broken, |error| matches!(error, WireError::BadStatus { index: 0, got: 0x7F }));
}

#[test]
fn a_value_that_lies_outside_its_frame_is_a_typed_error() {
    let broken = |request: &[u8]| {
        let mut bytes = reply(request, &[Outcome::Value { value: b"value", version: None }]);
        bytes[68..72].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes
    };
    is_malformed(broken, |error| matches!(error, WireError::OutOfFrame { .. }));
}

#[test]
fn a_reply_of_another_number_of_operations_is_a_typed_error() {
    let too_many = |request: &[u8]| reply(request, &[Outcome::NotFound; 2]);
    is_malformed(too_many, |error| matches!(error, WireError::WrongOpCount { got: 2, expected: 1 }));
    let none = |request: &[u8]| reply(request, &[]);
    is_malformed(none, |error| matches!(error, WireError::WrongOpCount { got: 0, expected: 1 }));
}

#[test]
fn a_reply_to_nobody_is_a_typed_error() {
    let astray = |request: &[u8]| {
        let mut bytes = reply(request, &[Outcome::NotFound]);
        bytes[48..56].copy_from_slice(&u64::MAX.to_le_bytes());
        bytes
    };
    is_malformed(astray, |error| matches!(error, WireError::UnknownRequest { got: u64::MAX }));
}

#[test]
fn a_second_reply_to_one_request_is_a_typed_error() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (mut peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, ClientConfig::default()));
        let client = client.expect("the node listens");
        let (first, second, ()) = tokio::join!(
            client.get(b"a"),
            async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                get_in_a_batch(&client).await
            },
            async {
                let request = peer.next().await;
                peer.answer(&request, &[Outcome::NotFound]).await;
                peer.next().await;
                peer.answer(&request, &[Outcome::NotFound]).await;
            }
        );
        assert_eq!(first.expect("an answer"), None);
        assert!(matches!(second, Err(ClientError::Malformed { .. })), "{second:?}");
    });
}

#[test]
fn a_malformed_reply_that_is_read_late_does_not_harm_the_connection_that_came_since() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (mut peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, ClientConfig::default()));
        let client = client.expect("the node listens");
        // A batch whose answer has come, and whose task has not been polled since.
        let mut late = pin!(get_in_a_batch(&client));
        poll_fn(|cx| {
            assert!(late.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let request = peer.next().await;
        peer.send(&reply(&request, &[Outcome::NotFound; 2])).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(peer);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (pong, mut peer) = tokio::join!(client.ping(), async {
            let mut peer = node.accept().await;
            let request = peer.next().await;
            peer.answer(&request, &[]).await;
            peer
        });
        pong.expect("connected anew");
        assert!(matches!(late.await, Err(ClientError::Malformed { .. })));
        // The connection of the moment did nothing wrong.
        let (found, ()) = tokio::join!(client.get(b"k"), async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::NotFound]).await;
        });
        assert_eq!(found.expect("an answer"), None);
    });
}

#[test]
fn a_hello_that_never_comes_and_a_lost_connection_keep_their_cause() {
    let error = greeted_with(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let source = std::error::Error::source(&error).expect("why there is no hello");
    assert!(source.to_string().contains("does not speak this protocol"), "{source}");
    let half = |request: &[u8]| reply(request, &[Outcome::NotFound])[..70].to_vec();
    for result in answered_with(half) {
        let Err(error) = result else { panic!("{result:?}") };
        let source = std::error::Error::source(&error).expect("why it was lost");
        assert!(source.to_string().contains("closed inside a frame"), "{source}");
    }
}

#[test]
fn frames_of_the_wrong_kind_are_typed_errors() {
    let statistics = |_: &[u8]| stats_reply(1, "{}");
    is_malformed(statistics, |error| {
        matches!(error, WireError::UnexpectedKind { .. } | WireError::UnknownRequest { .. })
    });
    let hello_again = |_: &[u8]| hello_reply(&well_behaved());
    is_malformed(hello_again, |error| matches!(error, WireError::UnknownRequest { got: 0 }));
    let echo = |request: &[u8]| request.to_vec();
    is_malformed(echo, |error| matches!(error, WireError::UnexpectedKind { got: 3, expected: 4 }));
}

#[test]
fn what_is_no_frame_is_a_typed_error() {
    is_malformed(|_| b"-ERR unknown command\r\n".to_vec(), |error| matches!(error, WireError::BadMagic { .. }));
    let oversized = |request: &[u8]| {
        let mut bytes = reply(request, &[Outcome::NotFound]);
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        bytes
    };
    is_malformed(oversized, |error| matches!(error, WireError::BadFrameBytes { got: u32::MAX, .. }));
}

#[test]
fn half_a_reply_is_a_lost_connection() {
    let half = |request: &[u8]| reply(request, &[Outcome::NotFound])[..70].to_vec();
    for result in answered_with(half) {
        assert!(matches!(result, Err(ClientError::Lost { .. })), "{result:?}");
    }
}

#[test]
fn a_refusal_is_told_as_it_is() {
    let refuse = |_: &[u8]| refusal(RefusalCode::Memory, "no room for\x07 you");
    for result in answered_with(refuse) {
        let Err(ClientError::Refused { code, text, .. }) = result else { panic!("{result:?}") };
        assert_eq!((code, text.as_str()), (RefusalCode::Memory, "no room for  you"));
    }
    let unreadable = |_: &[u8]| {
        let mut bytes = refusal(RefusalCode::Memory, "x");
        bytes[64] = 99;
        bytes
    };
    is_malformed(unreadable, |error| matches!(error, WireError::BadBody { .. }));
}

#[test]
fn an_outcome_that_the_operation_cannot_have_is_a_typed_error() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (mut peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, ClientConfig::default()));
        let client = client.expect("the node listens");
        let (error, ()) = tokio::join!(client.put(b"k", b"v"), async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::Counter { value: 1, version: None }]).await;
        });
        let error = error.expect_err("a put counts nothing");
        assert!(matches!(error, ClientError::WrongOutcome { .. }) && error.may_have_taken_effect(), "{error}");
    });
}

/// Why a client does not connect to a node that answers its hello with these bytes.
fn greeted_with(bytes: &[u8]) -> ClientError {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (_, client) = tokio::join!(
            async {
                let mut peer = node.accept_silently().await;
                peer.next().await;
                peer.send(bytes).await;
                peer
            },
            Client::connect(&endpoints, ClientConfig::default())
        );
        client.expect_err("no client trusts such a node")
    })
}

#[test]
fn a_node_that_cannot_be_trusted_from_its_hello_on_is_not() {
    let mut newer = hello_reply(&well_behaved());
    newer[4] = 2;
    let cases = [
        newer,
        hello_reply(&HelloReply { version: 2, ..well_behaved() }),
        hello_reply(&HelloReply { frames_in_flight_max: 0.into(), ..well_behaved() }),
        hello_reply(&HelloReply { frame_bytes_max: 10.into(), ..well_behaved() }),
        hello_reply(&HelloReply { frame_bytes_max: u32::MAX.into(), ..well_behaved() }),
        stats_reply(0, "{}"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ];
    for bytes in &cases {
        let error = greeted_with(bytes);
        assert!(matches!(error, ClientError::Hello { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "one line: {error}");
    }
    let refused = greeted_with(&refusal(RefusalCode::Version, "this node speaks version 2"));
    assert!(matches!(refused, ClientError::Refused { code: RefusalCode::Version, .. }), "{refused}");
}
