//! The map changes: what had no effect goes to the new owner, in order and whole, or is not sent in time.
#![forbid(unsafe_code)]

use crate::sharded::{
    DEADLINE, DONE, NODES, assert_all, client_of, get_all, give_all, keys, node_of, plan, put_all, turned,
};
use crate::support::cluster::{Cluster, Wire};
use freight::client::{Client, ClientConfig, ClientError};
use freight::hash::slot;
use freight::map::{MapFile, MapMemory, MapStore, ShardMap};
use freight::op::Outcome;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[test]
fn each_node_holds_what_the_map_gives_it() {
    for wire in Wire::ALL {
        plan(wire).run(async |cluster: &mut Cluster| {
            let map = cluster.map(1, turned(1));
            give_all(cluster, &map);
            let (_, client) = client_of(&map).await;
            let keys = keys();
            assert_all(&put_all(&client, &keys).await, &DONE);
            for node in 0..NODES {
                let held = keys.iter().filter(|key| node_of(key, 1) == node).count() as u64;
                assert_eq!(cluster.stats(node).store.records, held);
            }
            for (key, outcome) in keys.iter().zip(get_all(&client, &keys).await.outcomes()) {
                assert_eq!(outcome, Outcome::Value { value: key, version: None });
                assert_eq!(client.get(key).await.expect("an answer").as_ref(), Some(key));
            }
        });
    }
}

#[test]
fn a_client_with_an_old_map_asks_the_new_owners_once_it_can_read_who_they_are() {
    for wire in Wire::ALL {
        plan(wire).run(async |cluster: &mut Cluster| {
            let (old, new) = (cluster.map(1, turned(0)), cluster.map(2, turned(1)));
            give_all(cluster, &old);
            let (store, client) = client_of(&old).await;
            // Connections to all nodes, and then another map.
            client.ping().await.expect("they answer");
            give_all(cluster, &new);
            let keys = keys();
            let later = async {
                tokio::task::yield_now().await;
                store.replace(1, &new).await.expect("the epoch is right");
            };
            let (reply, ()) = tokio::join!(put_all(&client, &keys), later);
            assert_all(&reply, &DONE);
            assert_eq!(client.map_epoch(), 2);
            for node in 0..NODES {
                let held = keys.iter().filter(|key| node_of(key, 1) == node).count() as u64;
                assert_eq!(cluster.stats(node).store.records, held);
            }
        });
    }
}

#[test]
fn operations_on_one_key_keep_their_order_and_values_when_they_are_sent_again() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        // Of two keys on one node only one moves: what was answered stands, what was not is sent again.
        let (old, new) = (
            cluster.map(1, turned(0)),
            cluster.map(2, |slot| if slot % 2 == 0 { turned(1)(slot) } else { turned(0)(slot) }),
        );
        give_all(cluster, &new);
        let (store, client) = client_of(&old).await;
        store.replace(1, &new).await.expect("the epoch is right");
        let keys = keys();
        let mut batch = client.batch(0);
        for key in &keys {
            batch.put(key, b"1").expect("room");
        }
        for key in &keys {
            batch.add(key, 4).expect("room");
            batch.get(key).expect("room");
        }
        for key in &keys {
            batch.put(key, key).expect("room");
            batch.delete(key).expect("room");
            batch.get(key).expect("room");
            batch.compare_and_swap(key, 0, &key.repeat(50)).expect("room");
            batch.get(key).expect("room");
        }
        let reply = client.execute(batch).await.expect("an answer");
        assert_eq!(reply.failures().count(), 0);
        let outcomes: Vec<_> = reply.outcomes().collect();
        let (puts, rest) = outcomes.split_at(keys.len());
        let (adds, rest) = rest.split_at(2 * keys.len());
        assert!(puts.iter().all(|outcome| *outcome == DONE));
        for outcomes in adds.chunks(2) {
            assert_eq!(outcomes[0], Outcome::Counter { value: 5, version: None });
            assert_eq!(outcomes[1], Outcome::Value { value: b"5", version: None });
        }
        for (key, outcomes) in keys.iter().zip(rest.chunks(5)) {
            assert_eq!(outcomes[..3], [DONE, DONE, Outcome::NotFound]);
            assert!(matches!(outcomes[3], Outcome::Done { version: Some(_) }), "{:?}", outcomes[3]);
            assert_eq!(outcomes[4], Outcome::Value { value: &key.repeat(50), version: None });
        }
        let moved = keys.iter().filter(|key| slot(&key[..]).is_multiple_of(2)).count();
        assert!(moved > 0 && moved < keys.len());
    });
}

#[test]
fn single_operations_find_the_new_owner_too() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (old, new) = (cluster.map(1, turned(0)), cluster.map(2, turned(2)));
        give_all(cluster, &new);
        let (store, client) = client_of(&old).await;
        let later = async {
            sleep(Duration::from_millis(50)).await;
            store.replace(1, &new).await.expect("the epoch is right");
        };
        let singles = async {
            let (put, add) = tokio::join!(client.put(b"k", b"v"), client.add(b"n", 3));
            (put.expect("written"), add.expect("added"))
        };
        let ((_, sum), ()) = tokio::join!(singles, later);
        assert_eq!(sum, 3);
        assert_eq!(client.get(b"k").await.expect("an answer").as_deref(), Some(&b"v"[..]));
        let there = client.compare_and_swap(b"n", 0, b"x").await.expect("an answer").expect_err("it is there");
        assert!(there > 2 << 42, "version {there}: above whatever a life of the map before drew");
        assert!(client.delete(b"k").await.expect("an answer"));
    });
}

#[test]
fn a_node_that_is_behind_the_map_is_asked_again_until_it_has_it() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (old, new) = (cluster.map(1, turned(0)), cluster.map(2, turned(1)));
        give_all(cluster, &old);
        let (_, client) = client_of(&new).await;
        let keys = keys();
        let (singles, batch) = (keys[..20].to_vec(), keys[20..].to_vec());
        let calls = async {
            let put_singles = async {
                for key in &singles {
                    client.put(key, key).await.expect("written");
                }
            };
            tokio::join!(put_singles, put_all(&client, &batch)).1
        };
        let one_by_one = async {
            for node in 0..NODES {
                sleep(Duration::from_millis(300)).await;
                cluster.take_map(node, &new);
            }
        };
        let (reply, ()) = tokio::join!(calls, one_by_one);
        assert_all(&reply, &DONE);
        let held: Vec<_> = (0..NODES).map(|node| cluster.stats(node).store.records).collect();
        let expected = |node| keys.iter().filter(|key| node_of(key, 1) == node).count() as u64;
        assert_eq!(held, (0..NODES).map(expected).collect::<Vec<_>>());
    });
}

#[test]
fn without_a_newer_map_in_time_nothing_was_sent_and_the_failure_says_why() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let old = cluster.map(1, turned(0));
        give_all(cluster, &cluster.map(2, turned(1)));
        let (_, client) = client_of(&old).await;
        let began = Instant::now();
        let reply = put_all(&client, &keys()).await;
        assert!(reply.outcomes().all(|outcome| outcome == Outcome::NotSent));
        let failures: Vec<_> = reply.failures().map(|failure| failure.error.clone()).collect();
        assert!(matches!(failures[..], [ClientError::NoNewerMap { epoch: 1, deadline: DEADLINE }]), "{failures:?}");
        assert_eq!(began.elapsed().as_secs(), DEADLINE.as_secs());
        let error = client.put(b"k", b"v").await.expect_err("nobody owns it by this map");
        assert!(matches!(error, ClientError::NoNewerMap { .. }) && !error.may_have_taken_effect(), "{error}");
        assert_eq!(began.elapsed().as_secs(), 2 * DEADLINE.as_secs());
        assert!((0..NODES).all(|node| cluster.stats(node).store.records == 0), "nothing was executed");
    });
}

#[test]
fn slots_of_nobody_wait_for_an_owner_and_then_say_that_there_is_none() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let half = |slot: u16| slot.is_multiple_of(2).then(|| turned(0)(slot)).flatten();
        let (first, second) = (cluster.map(1, half), cluster.map(2, turned(0)));
        give_all(cluster, &first);
        let (store, client) = client_of(&first).await;
        let keys = keys();
        let reply = put_all(&client, &keys).await;
        for (key, outcome) in keys.iter().zip(reply.outcomes()) {
            assert_eq!(outcome, if slot(key).is_multiple_of(2) { DONE } else { Outcome::NotSent });
        }
        let failures: Vec<_> = reply.failures().map(|failure| failure.error.clone()).collect();
        assert!(matches!(failures[..], [ClientError::NoOwner { epoch: 1 }]), "{failures:?}");
        let unowned = keys.iter().find(|key| slot(&key[..]) % 2 == 1).expect("half of them");
        let error = client.put(unowned, b"v").await.expect_err("nobody owns it");
        assert!(matches!(error, ClientError::NoOwner { epoch: 1 }) && !error.may_have_taken_effect(), "{error}");
        let later = async {
            sleep(Duration::from_secs(1)).await;
            give_all(cluster, &second);
            store.replace(1, &second).await.expect("the epoch is right");
        };
        let (batch, single, ()) = tokio::join!(put_all(&client, &keys), client.put(unowned, b"v"), later);
        assert_all(&batch, &DONE);
        single.expect("written");
    });
}

#[test]
fn what_a_map_without_nodes_left_open_goes_in_order_to_those_of_the_next() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = cluster.map(2, turned(0));
        let nobody = ShardMap::new(map.cluster(), 1, vec![]).expect("a map may name nobody");
        give_all(cluster, &map);
        let (store, client) = client_of(&nobody).await;
        let mut batch = client.batch(3);
        batch.put(b"key", b"1").expect("room");
        batch.get(b"key").expect("room");
        batch.put(b"key", b"2").expect("room");
        let later = async {
            sleep(Duration::from_secs(1)).await;
            store.replace(1, &map).await.expect("the epoch is right");
        };
        let (reply, ()) = tokio::join!(client.execute(batch), later);
        let reply = reply.expect("an answer");
        let outcomes: Vec<_> = reply.outcomes().collect();
        assert_eq!(outcomes, [DONE, Outcome::Value { value: b"1", version: None }, DONE]);
    });
}

#[test]
fn more_than_a_frame_for_an_owner_that_is_gone_or_behind_ends_at_the_deadline() {
    for gone in [true, false] {
        plan(Wire::Sim).run(async |cluster: &mut Cluster| {
            let (old, new) = (cluster.map(1, turned(0)), cluster.map(2, |_| Some(0)));
            give_all(cluster, &old);
            let (store, client) = client_of(&old).await;
            (1..NODES).for_each(|node| cluster.take_map(node, &new));
            store.replace(1, &new).await.expect("the epoch is right");
            if gone {
                cluster.stop(0).await;
            }
            let keys: Vec<_> = (0..140_000).map(|number: u32| number.to_string().into_bytes()).collect();
            let began = Instant::now();
            let reply = put_all(&client, &keys).await;
            assert!(began.elapsed() < DEADLINE + Duration::from_secs(1), "{:?}", began.elapsed());
            let own = if gone { 0 } else { keys.iter().filter(|key| node_of(key, 0) == 0).count() };
            let count = |wanted| reply.outcomes().filter(|outcome| *outcome == wanted).count();
            assert_eq!((count(DONE), count(Outcome::NotSent)), (own, keys.len() - own));
            assert!(reply.failures().count() > 0, "it is said why");
        });
    }
}

#[test]
fn a_map_that_cannot_be_read_for_a_while_is_read_again() {
    plan(Wire::Tcp).run(async |cluster: &mut Cluster| {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = MapFile::new(folder.path().join("cluster.toml"));
        let (old, new) = (cluster.map(1, turned(0)), cluster.map(2, turned(1)));
        file.replace(0, &old).await.expect("nothing was there");
        let config = ClientConfig { deadline: DEADLINE, ..ClientConfig::default() };
        let client = Client::connect_mapped(Arc::new(file.clone()), config).await.expect("a map");
        give_all(cluster, &new);
        std::fs::write(file.path(), "half of a").expect("writable");
        let later = async {
            sleep(Duration::from_millis(300)).await;
            std::fs::write(file.path(), new.to_string()).expect("writable");
        };
        let (put, ()) = tokio::join!(client.put(b"k", b"v"), later);
        put.expect("written");
    });
}

#[test]
fn a_map_of_another_cluster_is_not_taken() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let old = cluster.map(1, turned(0));
        give_all(cluster, &cluster.map(2, turned(1)));
        let text = cluster.map(2, turned(1)).to_string().replace(&"07".repeat(16), &"08".repeat(16));
        let other = text.parse().expect("a map");
        let store = Arc::new(Swapped::default());
        store.maps[0].replace(0, &old).await.expect("nothing was there");
        store.maps[1].replace(0, &other).await.expect("nothing was there");
        let config = ClientConfig { deadline: DEADLINE, ..ClientConfig::default() };
        let client = Client::connect_mapped(store, config).await.expect("a map");
        let error = client.put(b"k", b"v").await.expect_err("whose map is it?");
        assert!(matches!(error, ClientError::Map(_)) && error.to_string().contains("a map of cluster 0808"), "{error}");
    });
}

/// A keeper whose second map is another one's: two files under one name.
#[derive(Debug, Default)]
struct Swapped {
    maps: [MapMemory; 2],
}

impl MapStore for Swapped {
    fn load(&self) -> freight::map::Pending<'_, Option<Arc<freight::map::ShardMap>>> {
        self.maps[0].load()
    }

    fn newer_than(&self, epoch: u64) -> freight::map::Pending<'_, Arc<freight::map::ShardMap>> {
        self.maps[1].newer_than(epoch)
    }

    fn replace<'a>(&'a self, expected: u64, map: &'a freight::map::ShardMap) -> freight::map::Pending<'a, ()> {
        self.maps[0].replace(expected, map)
    }
}

#[test]
fn a_client_without_a_map_is_told_that_the_node_has_one() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        give_all(cluster, &cluster.map(4, |_| None));
        let client = cluster.client().await;
        let error = client.get(b"k").await.expect_err("nobody owns it");
        assert!(matches!(error, ClientError::WrongNode { epoch: 4, .. }) && !error.may_have_taken_effect(), "{error}");
        let reply = get_all(&client, &keys()).await;
        assert!(reply.outcomes().all(|outcome| outcome == Outcome::WrongNode));
        let told = |error: &ClientError| matches!(error, ClientError::WrongNode { epoch: 4, .. });
        assert_eq!(reply.failures().filter(|failure| told(&failure.error)).count(), NODES);
    });
}

#[test]
fn more_operations_than_a_frame_takes_find_their_new_owner_in_several() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        // Dealt to three nodes they fit; then one owns everything.
        let (old, new) = (cluster.map(1, turned(0)), cluster.map(2, |_| Some(1)));
        give_all(cluster, &new);
        let (store, client) = client_of(&old).await;
        store.replace(1, &new).await.expect("the epoch is right");
        let count = 120_000;
        let mut batch = client.batch(count);
        (0..count).for_each(|number| batch.add(format!("n {}", number % 1_000).as_bytes(), 1).expect("room"));
        let reply = client.execute(batch).await.expect("an answer");
        for (number, outcome) in (0..).zip(reply.outcomes()) {
            let expected = Outcome::Counter { value: i64::from(number / 1_000 + 1), version: None };
            assert_eq!(outcome, expected, "add {number}");
        }
        assert_eq!(reply.len(), count as usize);
    });
}
