//! What is sent again over the next connection: byte for byte the same but for its header, and executed once.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::scripted::ScriptedNode;
use freight::client::{Client, ClientConfig, ClientError};
use freight::op::Outcome;
use freight::transport::Endpoint;
use freight::wire::RequestView;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const DONE: Outcome<'static> = Outcome::Done { version: None };

fn config() -> ClientConfig {
    ClientConfig { deadline: Duration::from_secs(10), jitter_seed: Some(1), ..ClientConfig::default() }
}

#[test]
fn a_frame_whose_connection_was_lost_is_sent_again_under_its_number() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, config()));
        let (mut peer, client) = (peer, client.expect("the node listens"));
        let mut batch = client.batch(2);
        batch.put(b"k", b"v").expect("room");
        batch.add(b"n", 1).expect("room");
        let (reply, ()) = tokio::join!(client.execute(batch), async {
            let first = peer.next().await;
            drop(peer);
            for again in [false, true] {
                let mut peer = node.accept().await;
                let copy = peer.next().await;
                let (first, copy_view) = (RequestView::parse(&first), RequestView::parse(&copy).expect("a request"));
                let first = first.expect("a request");
                assert!(!first.header().is_retry() && copy_view.header().is_retry());
                let named = |view: &RequestView<'_>| (view.header().session.get(), view.header().sequence.get());
                assert_eq!(named(&first), named(&copy_view));
                assert_ne!(first.header().session.get(), 0);
                assert!(first.ops().eq(copy_view.ops()));
                if again {
                    peer.answer(&copy, &[DONE, Outcome::Counter { value: 1, version: None }]).await;
                }
            }
        });
        let reply = reply.expect("an answer");
        assert_eq!(reply.outcomes().collect::<Vec<_>>(), [DONE, Outcome::Counter { value: 1, version: None }]);
        assert_eq!(reply.failures().count(), 0);
    });
}

#[test]
fn what_a_node_no_longer_knows_is_unknown_and_says_so() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (mut peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, config()));
        let client = client.expect("the node listens");
        let mut batch = client.batch(2);
        batch.put(b"k", b"v").expect("room");
        batch.get(b"other").expect("room");
        let (reply, ()) = tokio::join!(client.execute(batch), async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::Unknown, Outcome::NotFound]).await;
        });
        let reply = reply.expect("an answer");
        assert_eq!(reply.outcomes().collect::<Vec<_>>(), [Outcome::Unknown, Outcome::NotFound]);
        let failures: Vec<_> = reply.failures().map(|failure| failure.error.clone()).collect();
        assert!(matches!(&failures[..], [ClientError::Forgotten { .. }]), "{failures:?}");
        let put = async { client.put(b"k", b"v").await.expect_err("it is not known") };
        let (error, ()) = tokio::join!(put, async {
            let request = peer.next().await;
            peer.answer(&request, &[Outcome::Unknown]).await;
        });
        assert!(matches!(error, ClientError::Forgotten { .. }) && error.may_have_taken_effect(), "{error}");
    });
}

#[test]
fn what_comes_back_as_another_life_leaves_it_unknown() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (mut peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, config()));
        let client = client.expect("the node listens");
        let put = async { client.put(b"k", b"v").await.expect_err("nobody answers") };
        let (error, mut peer) = tokio::join!(put, async {
            peer.next().await;
            drop(peer);
            node.hello.incarnation = [8; 16];
            node.accept().await
        });
        assert!(matches!(error, ClientError::Lost { .. }), "{error}");
        let sent = tokio::time::timeout(Duration::from_secs(60), peer.next()).await;
        assert!(sent.is_err(), "nothing is sent to who knows nothing of it");
    });
}

#[test]
fn what_comes_behind_a_lost_frame_does_not_wait_for_it() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let _network = node.network.clone();
        let endpoints = [node.endpoint()];
        let (mut peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, config()));
        let client = client.expect("the node listens");
        let behind = async {
            peer.next().await;
            drop((peer, node));
            tokio::time::sleep(Duration::from_millis(50)).await;
            client.put(b"other", b"v").await.expect_err("nobody is there")
        };
        let mut lost = std::pin::pin!(client.put(b"k", b"v"));
        let behind = tokio::select! {
            lost = &mut lost => panic!("it waits for its node until the deadline: {lost:?}"),
            behind = behind => behind,
        };
        assert!(matches!(behind, ClientError::Connect(_)) && !behind.may_have_taken_effect(), "{behind}");
        let lost = lost.await.expect_err("its node never came back");
        assert!(matches!(lost, ClientError::Lost { .. } | ClientError::Deadline { .. }), "{lost}");
    });
}

#[test]
fn abandoned_calls_do_not_keep_others_from_being_acknowledged() {
    Wire::Sim.runtime().block_on(async {
        let mut node = ScriptedNode::start().await;
        let endpoints = [node.endpoint()];
        let (mut peer, client) = tokio::join!(node.accept(), Client::connect(&endpoints, config()));
        let client = client.expect("the node listens");
        let mut batch = client.batch(1);
        batch.put(b"k", b"v").expect("room");
        let _dropped = tokio::time::timeout(Duration::from_millis(1), client.execute(batch)).await;
        peer.next().await;
        let (put, ()) = tokio::join!(client.put(b"k", b"w"), async {
            let request = peer.next().await;
            let header = *RequestView::parse(&request).expect("a request").header();
            assert_eq!((header.sequence.get(), header.acknowledged_up_to.get()), (2, 2));
            peer.answer(&request, &[DONE]).await;
        });
        put.expect("written");
    });
}

/// A relay that cuts each connection once so many bytes have come from the node: mostly in the middle of a reply.
async fn relay(to: String, cuts: Arc<AtomicU64>) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("bound")).parse().expect("an endpoint");
    tokio::spawn(async move {
        for number in 0_u64.. {
            let Ok((client, _)) = listener.accept().await else { return };
            let Ok(node) = TcpStream::connect(&to).await else { continue };
            let cuts = Arc::clone(&cuts);
            tokio::spawn(async move {
                carry(client, node, 300 + number * 97 % 700).await;
                cuts.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    endpoint
}

async fn carry(mut client: TcpStream, mut node: TcpStream, bytes_max: u64) {
    let (mut from_client, mut to_client) = client.split();
    let (from_node, mut to_node) = node.split();
    let mut from_node = from_node.take(bytes_max);
    let back = async {
        let mut bytes = [0; 100];
        while let Ok(count @ 1..) = from_node.read(&mut bytes).await {
            if to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = back => {}
        _ended = tokio::io::copy(&mut from_client, &mut to_node) => {}
    }
}

#[test]
fn adds_over_connections_that_are_cut_count_once() {
    Plan::new(Wire::Tcp).run(async |cluster: &mut Cluster| {
        let cuts = Arc::new(AtomicU64::new(0));
        let node = cluster.endpoints()[0].to_string();
        let relayed = relay(node.trim_start_matches("tcp://").to_owned(), Arc::clone(&cuts)).await;
        let config = ClientConfig { deadline: Duration::from_secs(120), jitter_seed: None, ..config() };
        let client = loop {
            if let Ok(client) = Client::connect(std::slice::from_ref(&relayed), config.clone()).await {
                break client;
            }
        };
        for round in 0..30 {
            assert_eq!(client.add(b"single", 1).await.expect("the node lives"), round + 1);
            let mut batch = client.batch(3);
            batch.get(b"batch").expect("room");
            batch.add(b"batch", 1).expect("room");
            batch.get(b"batch").expect("room");
            let reply = client.execute(batch).await.expect("the node lives");
            let (before, after) = (round.to_string(), (round + 1).to_string());
            let found = Outcome::Value { value: before.as_bytes(), version: None };
            let found = if round == 0 { Outcome::NotFound } else { found };
            let counted = Outcome::Counter { value: round + 1, version: None };
            let then = Outcome::Value { value: after.as_bytes(), version: None };
            assert_eq!(reply.outcomes().collect::<Vec<_>>(), [found, counted, then]);
        }
        assert!(cuts.load(Ordering::Relaxed) > 5, "the relay cuts");
    });
}
