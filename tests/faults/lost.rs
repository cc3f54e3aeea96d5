//! Lost connections and silent nodes, of clients that send nothing again: what was sent is unknown, what was not is not
//! sent, and nothing is guessed.
#![forbid(unsafe_code)]

use crate::support::cluster::Wire;
use crate::support::scripted::{Peer, ScriptedNode};
use freight::client::{Batch, BatchError, Client, ClientConfig, ClientError, Loss, Reply, Unsent};
use freight::limits::FRAME_BYTES_MIN;
use freight::op::Outcome;
use freight::transport::FrameReceiver;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(10);

/// A node and a client that said hello to each other.
async fn connected(config: ClientConfig) -> (ScriptedNode, Peer, Client) {
    ScriptedNode::connected(ClientConfig { at_most_once: false, ..config }).await
}

fn three_ops(client: &Client) -> Batch {
    let mut batch = client.batch(3);
    batch.put(b"k", b"v").expect("room");
    batch.get(b"k").expect("room");
    batch.delete(b"k").expect("room");
    batch
}

fn the_failure(reply: &Reply) -> &ClientError {
    let mut failures = reply.failures();
    let failure = &failures.next().expect("a failure").error;
    assert!(failures.next().is_none(), "one node, one failure");
    failure
}

#[test]
fn what_was_in_flight_when_the_connection_was_lost_is_unknown() {
    Wire::Sim.runtime().block_on(async {
        let (mut node, mut peer, client) = connected(ClientConfig::default()).await;
        let (reply, ()) = tokio::join!(client.execute(three_ops(&client)), async {
            peer.next().await;
            drop(peer);
        });
        let reply = reply.expect("a lost connection is no error of the batch");
        assert_eq!(reply.outcomes().collect::<Vec<_>>(), [Outcome::Unknown; 3]);
        assert!(matches!(the_failure(&reply), ClientError::Lost { .. }), "{}", the_failure(&reply));
        // The same for a single operation, on the connection that comes next.
        let put = async { client.put(b"k", b"v").await.expect_err("nobody answers") };
        let (error, ()) = tokio::join!(put, async {
            let mut peer = node.accept().await;
            peer.next().await;
        });
        assert!(matches!(error, ClientError::Lost { .. }), "{error}");
        assert!(error.may_have_taken_effect());
    });
}

#[test]
fn what_never_left_is_not_sent() {
    Wire::Sim.runtime().block_on(async {
        let (node, peer, client) = connected(ClientConfig::default()).await;
        let _network = node.network.clone();
        drop((peer, node));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let reply = client.execute(three_ops(&client)).await.expect("an unreachable node is no error of the batch");
        assert_eq!(reply.outcomes().collect::<Vec<_>>(), [Outcome::NotSent; 3]);
        assert!(matches!(the_failure(&reply), ClientError::Connect(_)), "{}", the_failure(&reply));
        let error = client.put(b"k", b"v").await.expect_err("there is no node");
        assert!(matches!(error, ClientError::Connect(_)) && !error.may_have_taken_effect(), "{error}");
    });
}

#[test]
fn a_batch_that_the_node_s_next_connection_does_not_take_is_not_sent() {
    Wire::Sim.runtime().block_on(async {
        let (mut node, peer, client) = connected(ClientConfig::default()).await;
        let mut batch = client.batch(2);
        batch.put(b"a", &vec![1; 8 << 20]).expect("room");
        batch.put(b"b", &vec![1; 4 << 20]).expect("room");
        node.hello.frame_bytes_max = FRAME_BYTES_MIN.into();
        drop(peer);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (reply, mut peer) = tokio::join!(client.execute(batch), node.accept());
        let reply = reply.expect("no error of the batch");
        assert_eq!(reply.outcomes().collect::<Vec<_>>(), [Outcome::NotSent; 2]);
        let failure = the_failure(&reply);
        assert!(matches!(failure, ClientError::Build(BatchError::FrameFull { max: FRAME_BYTES_MIN, .. })), "{failure}");
        // Nothing of it went out, and the connection goes on.
        let (found, ()) = tokio::join!(client.get(b"a"), async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::NotFound]).await;
        });
        assert_eq!(found.expect("an answer"), None);
    });
}

#[test]
fn the_next_batch_connects_anew() {
    Wire::Sim.runtime().block_on(async {
        let (mut node, peer, client) = connected(ClientConfig::default()).await;
        drop(peer);
        for _ in 0..3 {
            // The client finds out in its own time that its peer is gone.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let (reply, ()) = tokio::join!(client.execute(three_ops(&client)), async {
                let mut peer = node.accept().await;
                let request = peer.next().await;
                let outcomes = [Outcome::Done { version: None }, Outcome::NotFound, Outcome::NotFound];
                peer.answer(&request, &outcomes).await;
            });
            let reply = reply.expect("an answer");
            assert_eq!((reply.outcome(0), reply.failures().count()), (Outcome::Done { version: None }, 0));
        }
    });
}

#[test]
fn a_batch_that_waited_on_a_dying_connection_is_sent_on_the_next() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { frames_in_flight_max: 1, ..ClientConfig::default() };
        let (mut node, mut peer, client) = connected(config).await;
        let (first, second, ()) =
            tokio::join!(client.execute(three_ops(&client)), client.execute(three_ops(&client)), async {
                peer.next().await;
                drop(peer);
                let mut peer = node.accept().await;
                let request = peer.next().await;
                peer.answer(&request, &[Outcome::NotFound; 3]).await;
            });
        assert_eq!(first.expect("an answer").outcome(0), Outcome::Unknown);
        assert_eq!(second.expect("an answer").outcome(0), Outcome::NotFound);
    });
}

#[test]
fn a_silent_node_lets_the_deadline_pass() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { deadline: DEADLINE, frames_in_flight_max: 1, ..ClientConfig::default() };
        let (_node, _silent, client) = connected(config).await;
        let began = Instant::now();
        let (sent, waiting) = tokio::join!(client.execute(three_ops(&client)), client.execute(three_ops(&client)));
        assert_eq!(began.elapsed().as_secs(), DEADLINE.as_secs(), "simulated time is exact");
        let (sent, waiting) = (sent.expect("an answer"), waiting.expect("an answer"));
        assert_eq!(sent.outcome(0), Outcome::Unknown);
        // Whoever waits for the window finds out at the same instant that the node is silent.
        let failure = the_failure(&sent);
        assert!(
            matches!(failure, ClientError::Deadline { .. } | ClientError::Lost { source: Loss::Silent(DEADLINE), .. }),
            "{failure}"
        );
        assert_eq!(waiting.outcome(0), Outcome::NotSent, "the window had no place for it");
        assert!(matches!(the_failure(&waiting), ClientError::NotSent { .. }), "{}", the_failure(&waiting));
    });
}

#[test]
fn a_node_that_does_not_answer_the_hello_lets_the_deadline_pass() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let config = ClientConfig { deadline: DEADLINE, ..ClientConfig::default() };
        let (_silent, client) = tokio::join!(node.accept_silently(), Client::connect(&endpoints, config));
        let error = client.expect_err("no hello");
        assert!(matches!(error, ClientError::Hello { .. }), "{error}");
    });
}

#[test]
fn single_operations_have_one_deadline_however_long_the_queue() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { deadline: DEADLINE, ..ClientConfig::default() };
        let (_node, _silent, client) = connected(config).await;
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for key in 0..10_000_u32 {
            let client = client.clone();
            tasks.spawn(async move { client.put(&key.to_le_bytes(), b"v").await });
        }
        while let Some(put) = tasks.join_next().await {
            let error = put.expect("no panic").expect_err("the node is silent");
            assert!(matches!(error, ClientError::Deadline { .. } | ClientError::NotSent { .. }), "{error}");
            assert_eq!(began.elapsed().as_secs(), DEADLINE.as_secs(), "simulated time is exact");
        }
    });
}

#[test]
fn a_node_that_is_silent_for_a_whole_deadline_is_connected_to_anew() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { deadline: DEADLINE, frames_in_flight_max: 3, ..ClientConfig::default() };
        let (mut node, _black_hole, client) = connected(config).await;
        for _ in 0..3 {
            let abandoned = client.execute(three_ops(&client));
            assert!(timeout(Duration::from_millis(5), abandoned).await.is_err(), "the node is silent");
        }
        // The window is full of calls that nobody waits for.
        let reply = client.execute(three_ops(&client)).await.expect("an answer");
        assert!(matches!(the_failure(&reply), ClientError::NotSent { .. }), "{}", the_failure(&reply));
        let (reply, mut peer) = tokio::join!(client.execute(three_ops(&client)), async {
            let mut peer = node.accept().await;
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::NotFound; 3]).await;
            peer
        });
        assert_eq!(reply.expect("an answer").failures().count(), 0);
        // What others sent meanwhile goes down with a silent link.
        let (sent, later, ()) = tokio::join!(
            client.execute(three_ops(&client)),
            async {
                tokio::time::sleep(DEADLINE / 2).await;
                client.execute(three_ops(&client)).await
            },
            async {
                peer.next().await;
                peer.next().await;
            }
        );
        assert!(matches!(the_failure(&sent.expect("an answer")), ClientError::Deadline { .. }));
        let later = later.expect("an answer");
        let failure = the_failure(&later);
        assert!(matches!(failure, ClientError::Lost { source: Loss::Silent(DEADLINE), .. }), "{failure}");
    });
}

#[test]
fn a_slow_node_that_answers_others_is_not_given_up() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { deadline: DEADLINE, ..ClientConfig::default() };
        let (_node, mut peer, client) = connected(config).await;
        let (late, answered, first) =
            tokio::join!(client.execute(three_ops(&client)), client.execute(three_ops(&client)), async {
                let (first, second) = (peer.next().await, peer.next().await);
                peer.answer(&second, &[Outcome::NotFound; 3]).await;
                first
            });
        assert!(matches!(the_failure(&late.expect("an answer")), ClientError::Deadline { .. }));
        assert_eq!(answered.expect("an answer").failures().count(), 0);
        // Its reply comes too late, and the connection goes on.
        peer.answer(&first, &[Outcome::NotFound; 3]).await;
        let (reply, ()) = tokio::join!(client.execute(three_ops(&client)), async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::NotFound; 3]).await;
        });
        assert_eq!(reply.expect("an answer").failures().count(), 0);
    });
}

#[test]
fn single_operations_that_waited_until_their_deadline_are_not_sent() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { deadline: DEADLINE, ..ClientConfig::default() };
        let (_node, mut peer, client) = connected(config).await;
        // More than half of what one frame carries: the third waits while two are in flight.
        let value = vec![1; 600 << 10];
        let put = |key: &'static [u8], after| {
            let (client, value) = (&client, &value);
            async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                client.put(key, value).await.expect_err("the node falls silent")
            }
        };
        let second = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            client.get(b"second").await
        };
        let (first, second, one, two, waiting, ()) =
            tokio::join!(client.get(b"first"), second, put(b"sent", 2), put(b"too", 3), put(b"waiting", 4), async {
                let requests = [peer.next().await, peer.next().await];
                tokio::time::sleep(DEADLINE / 2).await;
                for request in requests {
                    peer.answer(&request, &[Outcome::NotFound]).await;
                    peer.next().await;
                }
            });
        assert_eq!((first.expect("an answer"), second.expect("an answer")), (None, None));
        for sent in [one, two] {
            assert!(matches!(sent, ClientError::Deadline { .. }) && sent.may_have_taken_effect(), "{sent}");
        }
        assert!(matches!(waiting, ClientError::NotSent { source: Unsent::Late(DEADLINE), .. }), "{waiting}");
        assert!(!waiting.may_have_taken_effect());
    });
}

#[test]
fn a_single_operation_that_found_no_place_in_the_window_is_not_sent() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { deadline: DEADLINE, frames_in_flight_max: 1, ..ClientConfig::default() };
        let (_node, mut peer, client) = connected(config).await;
        let after = async |ms| tokio::time::sleep(Duration::from_millis(ms)).await;
        let (first, batch, waiting, requests) = tokio::join!(
            client.get(b"first"),
            async {
                after(1).await;
                client.execute(three_ops(&client)).await
            },
            async {
                after(2).await;
                client.put(b"waiting", b"v").await.expect_err("the node falls silent")
            },
            async {
                let request = peer.next().await;
                tokio::time::sleep(DEADLINE / 2).await;
                // Its place goes to the batch, which waits for an answer longer than the put waits for a place.
                peer.answer(&request, &[Outcome::NotFound]).await;
                let mut requests = 0;
                while let Ok(Ok(Some(_))) = timeout(2 * DEADLINE, peer.receiver.receive()).await {
                    requests += 1;
                }
                requests
            }
        );
        assert_eq!((first.expect("an answer"), requests), (None, 1), "the batch alone was sent");
        assert_eq!(batch.expect("an answer").outcome(0), Outcome::Unknown);
        assert!(matches!(waiting, ClientError::NotSent { source: Unsent::Late(DEADLINE), .. }), "{waiting}");
        assert!(!waiting.may_have_taken_effect());
    });
}

#[test]
fn abandoned_batches_keep_their_place_in_the_window() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { frames_in_flight_max: 3, ..ClientConfig::default() };
        let (_node, mut peer, client) = connected(config).await;
        for _ in 0..20 {
            let call = client.execute(three_ops(&client));
            assert!(timeout(Duration::from_millis(5), call).await.is_err(), "the node is silent");
        }
        let mut requests = Vec::new();
        while let Ok(request) = timeout(Duration::from_secs(1), peer.next()).await {
            requests.push(request);
        }
        assert_eq!(requests.len(), 3, "frames in flight");
        // Replies that nobody waits for make room again.
        for request in &requests {
            peer.answer(request, &[Outcome::NotFound; 3]).await;
        }
        let (reply, ()) = tokio::join!(client.execute(three_ops(&client)), async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::NotFound; 3]).await;
        });
        assert_eq!(reply.expect("an answer").outcome(2), Outcome::NotFound);
    });
}

#[test]
fn abandoned_singles_are_not_sent_and_not_kept() {
    Wire::Sim.runtime().block_on(async {
        let (_node, mut peer, client) = connected(ClientConfig::default()).await;
        let mut in_flight = Vec::new();
        for key in [b"one", b"two"] {
            let client = client.clone();
            in_flight.push((tokio::spawn(async move { client.get(key).await }), peer.next().await));
        }
        for _ in 0..100 {
            let put = client.put(b"abandoned", &[1; 1000]);
            assert!(timeout(Duration::from_millis(1), put).await.is_err(), "two frames are in flight");
        }
        let (first, request) = in_flight.remove(0);
        let (last, ()) = tokio::join!(client.get(b"last"), async {
            peer.answer(&request, &[Outcome::NotFound]).await;
            let request = peer.next().await;
            assert_eq!(freight::wire::RequestView::parse(&request).expect("a request").ops().count(), 1);
            peer.answer(&request, &[Outcome::NotFound]).await;
        });
        assert_eq!(last.expect("an answer"), None);
        assert_eq!(first.await.expect("no panic").expect("an answer"), None);
    });
}
