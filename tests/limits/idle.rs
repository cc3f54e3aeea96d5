//! Idle connections: ended where the node says so, and not for what is under way.
#![forbid(unsafe_code)]

use crate::raw::{op, request};
use crate::support::cluster::{Cluster, Plan, Wire, on_each_wire};
use crate::support::scripted::Peer;
use crate::{node, redis};
use freight::op::Action;
use freight::transport::FrameReceiver;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const IDLE: Duration = Duration::from_secs(10);

fn plan() -> Plan {
    Plan::new(Wire::Sim).node(|config| config.idle_wait = Some(IDLE))
}

#[test]
fn a_connection_over_which_nothing_comes_is_closed_between_two_frames() {
    plan().run(async |cluster: &mut Cluster| {
        let endpoint = &cluster.endpoints()[0];
        let mut idle = Peer::connect(endpoint).await;
        let mut busy = Peer::connect(endpoint).await;
        let began = Instant::now();
        while cluster.stats(0).connections == 2 {
            busy.send(&request(1, &[op(b"k", Action::Get)])).await;
            busy.next().await;
            sleep(IDLE / 2).await;
        }
        // In simulated time.
        assert!((IDLE..=IDLE * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        assert!(matches!(idle.receiver.receive().await, Ok(None)), "no refusal: nobody is at fault");
        busy.send(&request(1, &[op(b"k", Action::Get)])).await;
        busy.next().await;
        assert_eq!(cluster.stats(0).connections, 1);
    });
}

#[test]
fn a_client_whose_idle_connection_was_closed_connects_anew_and_does_not_notice() {
    plan().run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        for _ in 0..3 {
            client.put(b"k", b"v").await.expect("written");
            sleep(IDLE * 3).await;
            assert_eq!(cluster.stats(0).connections, 0);
        }
        assert_eq!(client.get(b"k").await.expect("read").as_deref(), Some(&b"v"[..]));
    });
}

#[test]
fn a_frame_that_comes_slowly_and_steadily_is_not_idleness() {
    plan().run(async |cluster: &mut Cluster| {
        let put = request(1, &[op(b"k", Action::Put { value: &vec![1; 4 << 20] })]);
        let mut slow = Peer::connect(&cluster.endpoints()[0]).await;
        // Sixteen pieces of 256 KiB, each within the time that a piece has, and all of them in two minutes.
        for piece in put.chunks(256 << 10) {
            slow.send(piece).await;
            sleep(Duration::from_secs(8)).await;
        }
        slow.next().await;
    });
}

#[test]
fn without_a_limit_nobody_is_closed_and_one_that_comes_later_holds_for_who_is_there() {
    on_each_wire(async |cluster| {
        let client = cluster.client().await;
        client.ping().await.expect("served");
        assert_eq!(cluster.stats(0).connections, 1);
    });
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let _idle = Peer::connect(&cluster.endpoints()[0]).await;
        sleep(Duration::from_secs(3_600)).await;
        assert_eq!(cluster.stats(0).connections, 1);
    });
}

#[test]
fn an_idle_redis_client_is_closed_without_a_word() {
    let node = node(|config| config.idle_wait = Some(Duration::from_millis(200)));
    let (mut idle, mut fresh) = (redis(&node), redis(&node));
    assert_eq!(idle.says("SET k v"), "+OK\r\n");
    assert_eq!((idle.rest(), fresh.rest()), (Vec::new(), Vec::new()));
    assert_eq!(redis(&node).says("GET k"), "$1\r\nv\r\n");
    node.drain();
}
