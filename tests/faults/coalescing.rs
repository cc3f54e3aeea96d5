//! Single operations: an idle wire carries one at once, a busy one gathers them into the next frame.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::scripted::ScriptedNode;
use freight::client::{Client, ClientConfig};
use freight::op::Outcome;
use freight::transport::sim::NetworkConfig;
use freight::wire::RequestView;
use std::time::Duration;
use tokio::task::JoinSet;

/// A simulated node that is 5 milliseconds away.
fn far_away() -> Plan {
    let delay = Duration::from_millis(5)..=Duration::from_millis(5);
    Plan { network: NetworkConfig { delay, ..NetworkConfig::calm(1) }, ..Plan::new(Wire::Sim) }
}

fn spawn_puts(client: &Client, keys: std::ops::Range<u32>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for key in keys {
        let client = client.clone();
        tasks.spawn(async move { client.put(&key.to_le_bytes(), b"v").await.expect("written") });
    }
    tasks
}

#[test]
fn an_idle_wire_carries_an_operation_at_once() {
    far_away().run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let began = tokio::time::Instant::now();
        for key in 0..10_u32 {
            client.put(&key.to_le_bytes(), b"v").await.expect("written");
        }
        assert_eq!(cluster.stats(0).frames, 10);
        // One way and back, ten times, and not a moment in between: simulated time is exact.
        assert_eq!(began.elapsed().as_millis() / 10, 10);
    });
}

#[test]
fn what_comes_while_frames_are_in_flight_rides_in_the_next() {
    far_away().run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let first = spawn_puts(&client, 0..1);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let others = spawn_puts(&client, 1..1_001);
        first.join_all().await;
        others.join_all().await;
        assert_eq!(cluster.stats(0).frames, 3, "one for the first, two for a thousand others");
        assert_eq!(cluster.stats(0).store.records, 1_001);
    });
}

#[test]
fn more_than_a_frame_s_worth_goes_in_several() {
    far_away().run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        spawn_puts(&client, 0..20_000).join_all().await;
        assert_eq!(cluster.stats(0).store.records, 20_000);
        assert!((5..=7).contains(&cluster.stats(0).frames), "{} frames", cluster.stats(0).frames);
    });
}

#[test]
fn large_values_do_not_wait_for_each_other_in_one_huge_frame() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let mut tasks = JoinSet::new();
        for key in 0..30_u32 {
            let client = client.clone();
            tasks.spawn(async move { client.put(&key.to_le_bytes(), &[key as u8; 700_000]).await.expect("written") });
        }
        tasks.join_all().await;
        assert!(cluster.stats(0).frames >= 30, "a frame carries about a mebibyte");
        for key in 0..30_u32 {
            let value = client.get(&key.to_le_bytes()).await.expect("an answer").expect("a record");
            assert!(value == [key as u8; 700_000]);
        }
    });
}

#[test]
fn one_caller_s_operations_take_effect_in_the_order_it_waited_for_them() {
    far_away().run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let mut tasks = JoinSet::new();
        for key in 0..20_u32 {
            let client = client.clone();
            tasks.spawn(async move {
                for round in 0..20_u32 {
                    client.put(&key.to_le_bytes(), &round.to_le_bytes()).await.expect("written");
                    let found = client.get(&key.to_le_bytes()).await.expect("an answer");
                    assert_eq!(found.as_deref(), Some(&round.to_le_bytes()[..]));
                }
            });
        }
        tasks.join_all().await;
    });
}

#[test]
fn a_key_that_no_frame_holds_spoils_nobody_s_frame() {
    far_away().run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let others = spawn_puts(&client, 0..10);
        assert!(client.get(&vec![0; 65_536]).await.is_err());
        assert!(client.put(b"k", &vec![0; (8 << 20) + 1]).await.is_err());
        others.join_all().await;
        client.put(&vec![0; 65_535], b"v").await.expect("the longest key fits");
    });
}

#[test]
fn a_get_asks_for_no_version_that_nobody_wants() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        client.put(b"k", b"value").await.expect("written");
        let mut replies = Vec::new();
        for version_wanted in [false, true] {
            let before = cluster.stats(0);
            if version_wanted {
                client.get_with_version(b"k").await.expect("an answer").expect("a record");
            } else {
                client.get(b"k").await.expect("an answer").expect("a record");
            }
            let after = cluster.stats(0);
            assert_eq!(after.bytes_received - before.bytes_received, 64 + 4 + 1, "header, descriptor, key");
            replies.push(after.bytes_sent - before.bytes_sent);
        }
        assert_eq!(replies, [64 + 8 + 5, 64 + 8 + 8 + 5], "header, descriptor, version where it is wanted, value");
    });
}

#[test]
fn every_caller_gets_its_own_outcome() {
    Wire::Sim.runtime().block_on(async {
        let (_node, mut peer, client) = ScriptedNode::connected(ClientConfig::default()).await;
        let mut tasks = JoinSet::new();
        for number in 0..500_i64 {
            let client = client.clone();
            tasks.spawn(async move {
                assert_eq!(client.add(&number.to_le_bytes(), 1).await.expect("an answer"), number);
            });
        }
        let answering = async {
            loop {
                let request = peer.next().await;
                // Each add is answered with the number that its key spells.
                let view = RequestView::parse(&request).expect("a request");
                let numbers = view.ops().map(|op| i64::from_le_bytes(op.key.try_into().expect("eight bytes")));
                let outcomes: Vec<_> = numbers.map(|value| Outcome::Counter { value, version: None }).collect();
                peer.answer(&request, &outcomes).await;
            }
        };
        tokio::select! {
            _ = tasks.join_all() => {}
            () = answering => {}
        }
    });
}
