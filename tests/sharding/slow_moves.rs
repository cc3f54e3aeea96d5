//! Moves of large values that change all the time, and peers that ask for more than a move needs.
#![forbid(unsafe_code)]

use crate::hostile_moves::{Asking, ID};
use crate::kept::Counting;
use crate::moves::{filled, moving};
use crate::sharded::{NODES, client_of, give_all, keys, node_of, plan, turned};
use crate::support::cluster::{Cluster, Plan, Wire};
use freight::client::Client;
use freight::map::{MapStore, ShardMap};
use freight::transport::sim::NetworkConfig;
use freight::wire::{MoveBody, MoveCommand, MoveReplyView, MoveStatus, move_request};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const MIB: usize = 1 << 20;

/// Changes so many keys of the first node to values of a megabyte.
async fn put_large(client: &Client, count: usize) {
    let of_0 = (0_u32..).map(u32::to_le_bytes).filter(|key| node_of(key, 0) == 0);
    for key in of_0.take(count) {
        client.put(&key, &vec![7; MIB]).await.expect("written");
    }
}

#[test]
fn slots_are_given_up_when_few_bytes_are_left_not_only_few_keys() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, client) = filled(cluster).await;
        let mut moving = moving(&store).await;
        moving.begin().await.expect("both nodes are there");
        // Noted, and met by the walk as well.
        put_large(&client, 24).await;
        moving.copy().await.expect("both nodes are there");
        let before = moving.bytes;
        assert!(before > 24 * MIB as u64, "{before}");
        moving.freeze().await.expect("the old owner is there");
        moving.hand_over().await.expect("both nodes are there");
        assert!(moving.bytes - before <= 4 * MIB as u64 + 4_096, "{} bytes while nobody serves", moving.bytes - before);
        moving.finish().await.expect("the new owner is there");
        moving.settle().await.expect("the keeper is there");
    });
}

/// Asks for the next records; the keys that are left then, if every record was handed over once.
async fn next(asking: &mut Asking, sequence: u64) -> Option<u64> {
    let body = MoveBody::new(MoveCommand::ExportNext, ID, 1, sequence, sequence - 1);
    asking.peer.send(&move_request(1, &body, &[])).await;
    let reply = asking.peer.next().await;
    let view = MoveReplyView::parse(&reply).expect("a reply");
    assert_eq!(view.status, MoveStatus::Done);
    view.keys_left()
}

#[test]
fn a_move_that_goes_on_is_not_ended_however_long_it_takes_and_one_that_stops_is() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, client) = filled(cluster).await;
        let epoch = async || store.load().await.expect("memory").expect("a map").epoch();
        let own = cluster.map(1, turned(0)).slots_of(0).to_bytes();
        let mut asking = Asking::connect(cluster, 0).await;
        asking.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], &own, MoveStatus::Done).await;
        put_large(&client, 5).await;
        let mut sequence = 1;
        while next(&mut asking, sequence).await.is_none() {
            sequence += 1;
        }
        asking.expect(MoveCommand::Freeze, ID, [1, 0, 0], &[], MoveStatus::Done).await;
        loop {
            sleep(Duration::from_secs(3)).await;
            sequence += 1;
            let left = next(&mut asking, sequence).await.expect("the walk is over");
            assert_eq!(epoch().await, 1, "{left} keys are left, and somebody takes them");
            if left == 0 {
                break;
            }
        }
        assert!(sequence > 6, "five frames of a megabyte, and one of completion records");
        // Whoever goes on asking when all is handed over keeps nothing from its end.
        for _ in 0..4 {
            sleep(Duration::from_secs(3)).await;
            if epoch().await == 2 {
                return;
            }
            sequence += 1;
            next(&mut asking, sequence).await;
        }
        panic!("nobody serves the slots");
    });
}

#[test]
fn however_often_peers_ask_for_a_look_the_keeper_is_asked_now_and_then() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map: ShardMap = cluster.map(1, turned(0));
        give_all(cluster, &map);
        let store = Arc::new(Counting::default());
        store.replace(0, &map).await.expect("nothing was there");
        (0..NODES).for_each(|node| cluster.follow(node, Arc::<Counting>::clone(&store)));
        let mut asking = Asking::connect(cluster, 0).await;
        for _ in 0..1_000 {
            asking.expect(MoveCommand::Look, ID, [0, 0, 0], &[], MoveStatus::Done).await;
            sleep(Duration::from_millis(2)).await;
        }
        let loads = store.loads.load(Ordering::Relaxed);
        assert!((20..100).contains(&loads), "{loads} looks in two seconds");
        // The last to ask is heard too.
        store.replace(1, &map.fenced().expect("a map")).await.expect("the epoch is right");
        asking.expect(MoveCommand::Look, ID, [0, 0, 0], &[], MoveStatus::Done).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.stats(0).map_epoch, 2);
    });
}

#[test]
fn however_often_peers_ring_a_node_an_abandoned_move_is_fenced_in_time() {
    let delay = Duration::from_millis(5)..=Duration::from_millis(5);
    let network = NetworkConfig { delay, ..NetworkConfig::calm(1) };
    Plan { network, ..plan(Wire::Sim) }.run(async |cluster: &mut Cluster| {
        let map: ShardMap = cluster.map(1, turned(0));
        give_all(cluster, &map);
        let store = Arc::new(Counting::default());
        store.replace(0, &map).await.expect("nothing was there");
        (0..NODES).for_each(|node| cluster.follow(node, Arc::<Counting>::clone(&store)));
        let mut peers = JoinSet::new();
        for _ in 0..20 {
            // Twenty of them, as each waits for its answer: a few each millisecond.
            sleep(Duration::from_millis(1)).await;
            let mut asking = Asking::connect(cluster, 0).await;
            peers.spawn(async move {
                loop {
                    // Of no move: it does nothing but ring.
                    asking.expect(MoveCommand::End, [9; 16], [1, 0, 0], &[], MoveStatus::Done).await;
                }
            });
        }
        let own = map.slots_of(0).to_bytes();
        let mut asking = Asking::connect(cluster, 0).await;
        asking.expect(MoveCommand::ExportBegin, ID, [1, 0, 0], &own, MoveStatus::Done).await;
        let frozen = Instant::now();
        asking.expect(MoveCommand::Freeze, ID, [1, 0, 0], &[], MoveStatus::Done).await;
        while store.load().await.expect("memory").expect("a map").epoch() == 1 {
            assert!(frozen.elapsed() < Duration::from_secs(20), "nobody serves the slots");
            sleep(Duration::from_millis(100)).await;
        }
        assert!(frozen.elapsed() >= Duration::from_secs(5), "the mover had its time");
        let client = client_of(&map.fenced().expect("a map")).await.1;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 0).expect("a third");
        client.put(&key, b"v").await.expect("served again");
    });
}
