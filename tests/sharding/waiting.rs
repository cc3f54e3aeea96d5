//! Clients that wait for a node: for no longer than it helps.
#![forbid(unsafe_code)]

use crate::kept::{answer_all, assert_same, call, map_of, places, put, scripted, view};
use crate::sharded::{DEADLINE, DONE, client_of, get_all, give_all, keys, node_of, plan, turned};
use crate::support::cluster::{Cluster, Wire, identity};
use crate::support::scripted::{Peer, ScriptedNode};
use freight::client::{ClientError, Unsent};
use freight::hash::slot;
use freight::map::{Id, MapNode, MapStore, ShardMap};
use freight::op::{Batch as _, Outcome};
use freight::slots::SlotSet;
use freight::wire::hello_reply;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

#[test]
fn batches_that_wait_for_the_same_dead_node_share_its_failure() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, turned(0));
        cluster.stop(0).await;
        let (_, client) = client_of(&map).await;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 0).expect("a third");
        client.get(&key).await.expect_err("nobody is there");
        let began = Instant::now();
        let mut batches = JoinSet::new();
        for _ in 0..50 {
            let (client, key) = (client.clone(), key.clone());
            batches.spawn(async move { get_all(&client, &[key]).await });
        }
        for reply in batches.join_all().await {
            assert_eq!(reply.outcomes().next(), Some(Outcome::NotSent));
            let error = &reply.failures().next().expect("a failure").error;
            assert!(matches!(error, ClientError::Connect(_)), "{error}");
        }
        // One try, after the first wait of 10 ms at most; fifty tries take more than half a minute.
        assert!(began.elapsed() < Duration::from_millis(100), "{:?}", began.elapsed());
    });
}

#[test]
fn a_silent_node_leaves_time_for_whom_a_newer_map_names() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let mut silent = ScriptedNode::start().await;
        let named = MapNode { addresses: vec![silent.endpoint()], incarnation: Id([7; 16]) };
        let map = ShardMap::new(Id([7; 16]), 1, vec![(named, SlotSet::ALL)]).expect("a map");
        let (store, client) = client_of(&map).await;
        let listening = tokio::spawn(async move {
            let mut peers = Vec::new();
            loop {
                peers.push(silent.accept_silently().await);
            }
        });
        let next = cluster.map(2, turned(0));
        give_all(cluster, &next);
        store.replace(1, &next).await.expect("the epoch is right");
        let keys = keys();
        let (batch, single) = (get_all(&client, &keys), client.get(b"k"));
        let later = async {
            // Behind the others' try, and with less time to spare.
            sleep(DEADLINE / 4).await;
            get_all(&client, &keys).await
        };
        let (batch, single, later) = tokio::join!(batch, single, later);
        assert_eq!(single.expect("an answer"), None);
        for reply in [batch, later] {
            assert!(reply.outcomes().all(|outcome| outcome == Outcome::NotFound));
            assert_eq!(reply.failures().count(), 0);
        }
        listening.abort();
    });
}

#[test]
fn the_node_that_a_map_names_is_found_again_when_it_is_back() {
    let life = Arc::new(AtomicU64::new(1));
    let of_plan = Arc::clone(&life);
    let plan = plan(Wire::Sim).node(move |config| {
        let node = config.listen[0].to_string().bytes().last().expect("its number");
        config.identity = identity(of_plan.load(Ordering::Relaxed), node.into());
        config.mapped = true;
    });
    plan.run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, turned(0));
        give_all(cluster, &map);
        let (_, client) = client_of(&map).await;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 1).expect("a third");
        client.put(&key, b"v").await.expect("written");
        life.store(2, Ordering::Relaxed);
        cluster.restart(1).await;
        let lost = loop {
            match client.get(&key).await.expect_err("another incarnation") {
                ClientError::Lost { .. } | ClientError::Refused { .. } => {}
                error => break error,
            }
        };
        assert!(matches!(lost, ClientError::MemoryLost { .. }), "{lost}");
        life.store(1, Ordering::Relaxed);
        cluster.restart(1).await;
        cluster.take_map(1, &map);
        let mut tries = 0;
        while let Err(error) = client.get(&key).await {
            assert!(matches!(error, ClientError::MemoryLost { .. }), "{error}");
            tries += 1;
            assert!(tries < 1_000, "{error}");
            sleep(Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn what_waited_while_the_map_changed_goes_to_whom_it_names_where_its_node_is_silent() {
    for is_single in [false, true] {
        Wire::Sim.runtime().block_on(async {
            let [mut old, mut new, mut teller] = scripted().await;
            let nodes = [&old, &new, &teller];
            // All but one slot move; its owner tells of the newer map.
            let told = slot(b"told");
            let before = map_of(&nodes, 1, |slot| Some(if slot == told { 2 } else { 0 }));
            let after = map_of(&nodes, 2, |_| Some(1));
            let (store, client) = client_of(&before).await;
            let began = Instant::now();
            let puts = async { tokio::join!(put(&client, is_single), client.put(b"told", b"v")) };
            let (waited, telling) = call(puts, async {
                let mut silent = old.accept_silently().await;
                silent.next().await;
                store.replace(1, &after).await.expect("the epoch is right");
                let mut peer = teller.accept().await;
                let request = peer.next().await;
                answer_all(&mut peer, &request, Outcome::WrongNode).await;
                let mut peer = new.accept().await;
                let request = peer.next().await;
                answer_all(&mut peer, &request, DONE).await;
                silent.send(&hello_reply(&old.hello)).await;
                let first = silent.next().await;
                assert_eq!(view(&first).header().map_epoch.get(), 2, "the newer map is known by now");
                let copy = peer.next().await;
                assert_same(&first, &copy);
                answer_all(&mut peer, &copy, DONE).await;
                silent
            })
            .await;
            telling.expect("whom the newer map names answers");
            waited.expect("so it does");
            assert!(began.elapsed() < DEADLINE / 2, "{:?} of simulated time", began.elapsed());
        });
    }
}

#[test]
fn what_waited_until_its_deadline_is_not_sent_to_whom_a_newer_map_names() {
    Wire::Sim.runtime().block_on(async {
        let [mut old, mut new, mut teller] = scripted().await;
        old.hello.frames_in_flight_max = 1.into();
        let nodes = [&old, &new, &teller];
        let told = slot(b"told");
        let before = map_of(&nodes, 1, |slot| Some(if slot == told { 2 } else { 0 }));
        let after = map_of(&nodes, 2, |_| Some(1));
        let (store, client) = client_of(&before).await;
        let waiting = async {
            sleep(Duration::from_millis(1)).await;
            client.put(b"waits", b"v").await
        };
        let telling = async {
            sleep(DEADLINE - Duration::from_millis(100)).await;
            client.put(b"told", b"v").await
        };
        let calls = async { tokio::join!(put(&client, false), waiting, telling) };
        let (in_flight, waited, telling) = call(calls, async {
            // The only place in the window is taken for as long as anybody waits.
            let mut silent = old.accept().await;
            silent.next().await;
            let mut peer = teller.accept().await;
            let request = peer.next().await;
            store.replace(1, &after).await.expect("the epoch is right");
            answer_all(&mut peer, &request, Outcome::WrongNode).await;
            let mut peer = new.accept().await;
            while let Ok(request) = timeout(DEADLINE, peer.next()).await {
                assert!(view(&request).ops().all(|op| op.key != b"waits"), "nobody waits for it any more");
                answer_all(&mut peer, &request, DONE).await;
            }
            silent
        })
        .await;
        telling.expect("whom the newer map names answers");
        in_flight.expect_err("its node was silent");
        let waited = waited.expect_err("it found no place");
        assert!(matches!(waited, ClientError::NotSent { source: Unsent::Late(_), .. }), "{waited}");
    });
}

#[test]
fn singles_of_a_lost_frame_stay_together_where_one_of_its_slots_moved() {
    Wire::Sim.runtime().block_on(async {
        let [mut old, mut new] = scripted().await;
        let (nodes, moved) = ([&old, &new], slot(b"moved"));
        let before = map_of(&nodes, 1, |_| Some(0));
        let after = map_of(&nodes, 2, |slot| Some(usize::from(slot == moved)));
        let (store, client) = client_of(&before).await;
        let mut keys: Vec<_> = keys().into_iter().filter(|key| slot(key) != moved).collect();
        let stay = keys.len();
        keys.push(b"moved".to_vec());
        let mut puts = JoinSet::new();
        for key in keys {
            let client = client.clone();
            puts.spawn(async move { client.put(&key, b"v").await });
        }
        let first_frames = async |peer: &mut Peer, ops: usize| {
            let mut frames = Vec::new();
            while frames.iter().map(|frame| view(frame).op_count() as usize).sum::<usize>() < ops {
                frames.push(peer.next().await);
            }
            frames
        };
        let script = async {
            let mut peer = old.accept().await;
            let lost = first_frames(&mut peer, stay + 1).await;
            assert!(lost.len() <= 2, "{} frames", lost.len());
            old.away_during(async {
                drop(peer);
                store.replace(1, &after).await.expect("the epoch is right");
                let mut peer = new.accept().await;
                let copy = peer.next().await;
                assert_eq!(view(&copy).ops().map(|op| op.key).collect::<Vec<_>>(), [b"moved"]);
                answer_all(&mut peer, &copy, DONE).await;
            })
            .await;
            let mut peer = old.accept().await;
            let again = first_frames(&mut peer, stay).await;
            assert_eq!(again.len(), lost.len(), "as many as were lost");
            for copy in &again {
                let sequence = |frame| view(frame).header().sequence;
                let first = lost.iter().find(|first| sequence(first) == sequence(copy)).expect("it keeps its number");
                assert_same(first, copy);
                let ops: Vec<_> = view(first).ops().collect();
                assert!(view(copy).ops().eq(places(copy).into_iter().map(|place| ops[place as usize])));
                answer_all(&mut peer, copy, DONE).await;
            }
            peer
        };
        call(puts.join_all(), script).await.into_iter().for_each(|put| put.expect("written"));
    });
}
