//! A node that is told to end: what arrived is answered, everybody is told, and nobody can hold it up.
#![forbid(unsafe_code)]

use crate::raw::{Raw, node, op, request};
use crate::support::cluster::{Cluster, Plan, Wire, on_each_wire};
use crate::support::scripted::Peer;
use freight::client::ClientError;
use freight::op::{Action, Outcome};
use freight::transport::sim::NetworkConfig;
use freight::transport::{FrameReceiver, TransportError};
use freight::wire::{RefusalCode, ReplyView};
use std::time::Duration;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn what_has_arrived_is_answered_before_the_refusal() {
    let node = node(|_| {});
    let mut raw = Raw::connect(&node);
    for number in 0..20 {
        raw.send(&request(number, &[op(b"n", Action::Add { delta: 1 })]));
    }
    let drained = std::thread::spawn(|| node.drain());
    for number in 0..20 {
        let frame = raw.frame().expect("a reply");
        let view = ReplyView::parse(&frame).expect("a reply");
        assert_eq!(view.outcome(0), Outcome::Counter { value: number + 1, version: None });
    }
    raw.expect_refusal(RefusalCode::Draining);
    drop(raw);
    drained.join().expect("a node drains");
}

#[test]
fn an_idle_client_is_told_and_finds_nobody_afterwards() {
    on_each_wire(async |cluster| {
        let client = cluster.client().await;
        client.put(b"k", b"v").await.expect("written");
        cluster.stop(0).await;
        let error = loop {
            match client.get(b"k").await {
                Err(ClientError::Refused { code, .. }) => assert_eq!(code, RefusalCode::Draining),
                Err(ClientError::Lost { .. }) => {}
                other => break other.expect_err("there is no node"),
            }
        };
        assert!(matches!(error, ClientError::Connect(_)), "{error}");
    });
}

#[test]
fn a_client_in_the_middle_of_much_work_loses_nothing_that_was_answered() {
    for wire in Wire::ALL {
        // A client that never stops asking is answered until the node's patience ends.
        let plan = Plan::new(wire).node(|config| config.drain_wait = Duration::from_millis(100));
        let delay = Duration::from_millis(1)..=Duration::from_millis(1);
        let network = NetworkConfig { delay, ..NetworkConfig::calm(1) };
        Plan { network, ..plan }.run(drain_under_load);
    }
}

async fn drain_under_load(cluster: &mut Cluster) {
    let client = cluster.client().await;
    let working = tokio::spawn(async move {
        let mut answered = 0_i64;
        loop {
            match client.add(b"n", 1).await {
                Ok(value) => {
                    answered += 1;
                    assert_eq!(value, answered, "each add counts once");
                }
                Err(error) => return (answered, error),
            }
        }
    });
    while cluster.stats(0).frames < 100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.stop(0).await;
    let (answered, error) = working.await.expect("no add counted twice");
    assert!(answered >= 99, "{answered}: {error}");
}

/// Drains a simulated node while `peer` does what `disturb` says; the simulated hour of patience must not pass.
fn drains_within_the_hour(disturb: impl AsyncFn(&mut Peer), says_hello: bool) {
    let patient = Plan::new(Wire::Sim).node(|config| {
        (config.hello_wait, config.send_wait, config.drain_wait) = (HOUR, HOUR, Duration::from_secs(5));
    });
    patient.run(async |cluster: &mut Cluster| {
        let endpoint = cluster.endpoints().remove(0);
        let mut peer =
            if says_hello { Peer::connect(&endpoint).await } else { Peer::connect_silently(&endpoint).await };
        disturb(&mut peer).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        cluster.stop(0).await;
        assert!(began.elapsed() < HOUR / 2, "one client held up the end by {:?}", began.elapsed());
    });
}

#[test]
fn a_client_that_never_said_hello_holds_nothing_up() {
    drains_within_the_hour(async |_| {}, false);
}

#[test]
fn a_client_that_is_silent_in_the_middle_of_a_frame_holds_nothing_up() {
    let put = request(1, &[op(b"k", Action::Put { value: &[1; 1_000] })]);
    drains_within_the_hour(async |peer| peer.send(&put[..700]).await, true);
}

#[test]
fn a_client_that_reads_no_replies_holds_nothing_up() {
    let put = request(1, &[op(b"k", Action::Put { value: &vec![1; 5 << 20] })]);
    let get = request(2, &[op(b"k", Action::Get)]);
    let ask = async |peer: &mut Peer| {
        peer.send(&put).await;
        peer.next().await;
        peer.send(&get).await;
    };
    drains_within_the_hour(ask, true);
}

/// The simulated network takes so many bytes before a writer waits.
const WINDOW_BYTES: usize = 1 << 20;

#[test]
fn a_reply_that_was_cut_off_is_not_completed_by_a_refusal() {
    let plan = Plan::new(Wire::Sim).node(|config| config.drain_wait = Duration::from_secs(5));
    plan.run(async |cluster: &mut Cluster| {
        let mut peer = Peer::connect(&cluster.endpoints()[0]).await;
        // Of its reply, header and descriptor included, 50 bytes do not fit what the network takes.
        let value = vec![0xAB; WINDOW_BYTES + 50 - 64 - 8];
        peer.send(&request(1, &[op(b"k", Action::Put { value: &value })])).await;
        peer.next().await;
        let reading = async {
            // The get comes when the node drains already, and nothing is read until it has given up on the reply.
            tokio::time::sleep(Duration::from_millis(10)).await;
            peer.send(&request(2, &[op(b"k", Action::Get)])).await;
            tokio::time::sleep(Duration::from_millis(5_500)).await;
            match peer.receiver.receive().await {
                Ok(Some(frame)) => {
                    let view = ReplyView::parse(&frame).expect("a reply");
                    let Outcome::Value { value: got, .. } = view.outcome(0) else { panic!("a value") };
                    assert!(got == value, "the end of the value is not the value's");
                }
                Ok(None) => panic!("half a frame is no end"),
                Err(error) => assert!(matches!(error, TransportError::CutShort { .. }), "{error}"),
            }
        };
        tokio::join!(cluster.stop(0), reading);
    });
}
