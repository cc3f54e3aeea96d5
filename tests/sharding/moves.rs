//! Slots move with their records, whoever dies on the way: exactly one owner, and nothing lost that need not be.
#![forbid(unsafe_code)]

use crate::sharded::{DONE, NODES, assert_all, client_of, get_all, give_all, keys, node_of, plan, put_all, turned};
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::support::for_each_seed;
use crate::support::moves::take_step;
use freight::client::Client;
use freight::hash::slot;
use freight::map::{Id, MapStore, ShardMap};
use freight::mover::{MoveError, Mover, MoverConfig, Moving, Progress, rebalanced};
use freight::op::Outcome;
use freight::slots::SlotSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Three nodes that follow a keeper, and a client that has put all keys, each with itself as its value.
pub(crate) async fn filled(cluster: &Cluster) -> (Arc<dyn MapStore>, Client) {
    let map = cluster.map(1, turned(0));
    give_all(cluster, &map);
    let (store, client) = client_of(&map).await;
    let store: Arc<dyn MapStore> = store;
    (0..NODES).for_each(|node| cluster.follow(node, Arc::clone(&store)));
    assert_all(&put_all(&client, &keys()).await, &DONE);
    (store, client)
}

async fn newest(store: &Arc<dyn MapStore>) -> Arc<ShardMap> {
    store.load().await.expect("memory").expect("a map")
}

/// Moves all slots of the first node to the second.
pub(crate) async fn moving(store: &Arc<dyn MapStore>) -> Moving {
    let map = newest(store).await;
    Moving::new(store, &map, (0, 1), map.slots_of(0), Id([9; 16]), &MoverConfig::default())
}

fn mover(store: &Arc<dyn MapStore>) -> Mover {
    Mover::new(Arc::clone(store), MoverConfig::default())
}

/// Waits until every running node works with the newest map, and holds what it owns by it and nothing else.
pub(crate) async fn settled(cluster: &Cluster, store: &Arc<dyn MapStore>, dead: Option<usize>) -> Arc<ShardMap> {
    loop {
        mover(store).tell_all().await.expect("a map");
        let map = newest(store).await;
        let is_settled = |node: &usize| {
            let stats = cluster.stats(*node);
            stats.map_epoch == map.epoch() && stats.moves.is_empty()
        };
        if (0..NODES).filter(|node| Some(*node) != dead).all(|node| is_settled(&node)) {
            return map;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Every key is found at its one owner, unless that died.
async fn assert_nothing_lost(cluster: &Cluster, map: &ShardMap, client: &Client, dead: Option<usize>) {
    for node in (0..NODES).filter(|node| Some(*node) != dead) {
        let held = keys().iter().filter(|key| map.owner(slot(&key[..])) == Some(node)).count();
        let stats = cluster.stats(node);
        assert_eq!((stats.store.records, stats.slots), (held as u64, map.slots_of(node).count()), "node {node}");
    }
    for key in keys() {
        let found = client.get(&key).await;
        if dead.is_some() && map.owner(slot(&key[..])) == dead {
            let error = found.expect_err("its owner is dead");
            assert!(!error.may_have_taken_effect(), "{error}");
        } else {
            assert_eq!(found.expect("an answer"), Some(key));
        }
    }
}

#[test]
fn slots_move_with_their_records_on_each_wire() {
    for wire in Wire::ALL {
        plan(wire).run(async |cluster: &mut Cluster| {
            let (store, client) = filled(cluster).await;
            let map = newest(&store).await;
            let (to, mut told) = (map.nodes()[2].incarnation, Vec::new());
            let all = SlotSet::ALL;
            let mut tell = |progress: &Progress| told.push(matches!(progress, Progress::Moved { .. }));
            mover(&store).move_slots(&all, to, &[], &mut tell).await.expect("they move");
            assert_eq!(told, [false, true, false, true], "one move an old owner");
            let map = settled(cluster, &store, None).await;
            assert_eq!((map.epoch(), map.slots_of(2)), (4, SlotSet::ALL));
            assert_nothing_lost(cluster, &map, &client, None).await;
            for (to, slots) in rebalanced(&map) {
                let to = map.nodes()[to].incarnation;
                mover(&store).move_slots(&slots, to, &[], &mut |_| ()).await.expect("they move");
            }
            let map = settled(cluster, &store, None).await;
            assert!((0..NODES).all(|node| (5_461..=5_462).contains(&map.slots_of(node).count())));
            assert_nothing_lost(cluster, &map, &client, None).await;
        });
    }
}

#[test]
fn versions_mean_the_same_over_a_move() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, client) = filled(cluster).await;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 0).expect("a third");
        for _ in 0..50 {
            client.put(&key, b"old").await.expect("written");
        }
        let (_, version) = client.get_with_version(&key).await.expect("an answer").expect("there");
        moving(&store).await.run().await.expect("they move");
        assert_eq!(client.get_with_version(&key).await.expect("an answer"), Some((b"old".to_vec(), version)));
        let swapped = client.compare_and_swap(&key, version, b"new").await.expect("an answer");
        assert!(swapped.expect("the same version") > version);
        client.delete(&key).await.expect("deleted");
        client.put(&key, b"again").await.expect("written");
        let (_, again) = client.get_with_version(&key).await.expect("an answer").expect("there");
        assert!(again > version, "a version is never drawn twice for a key");
    });
}

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Mover,
    Old,
    New,
}

/// Takes the steps of a move from one to before another.
async fn take_steps(moving: &mut Moving, steps: Range<usize>) -> Result<(), MoveError> {
    for step in steps {
        take_step(moving, step).await?;
    }
    Ok(())
}

async fn die_after(cluster: &mut Cluster, steps: usize, victim: Victim, random: &mut ChaCha8Rng) {
    let (store, client) = filled(cluster).await;
    let mut moving = moving(&store).await;
    take_steps(&mut moving, 0..steps).await.expect("nobody is dead yet");
    let dead = match victim {
        Victim::Mover => {
            // Somewhere in the next step.
            let until = Duration::from_micros(random.random_range(0..8_000));
            let _died = timeout(until, take_steps(&mut moving, steps..6.min(steps + 1))).await;
            None
        }
        Victim::Old => Some(0),
        Victim::New => Some(1),
    };
    if let Some(node) = dead {
        cluster.stop(node).await;
        let rest = take_steps(&mut moving, steps..6).await;
        if rest.is_err() {
            let took_place = moving.cancel().await.expect("the keeper answers");
            assert!(!took_place, "{victim:?} after {steps} steps");
        }
    }
    drop(moving);
    let map = settled(cluster, &store, dead).await;
    assert_nothing_lost(cluster, &map, &client, dead).await;
    if victim == Victim::Mover {
        // Whoever moves the same slots next finds nothing in the way.
        let (slots, to) = (newest(&store).await.slots_of(0), map.nodes()[1].incarnation);
        mover(&store).move_slots(&slots, to, &[], &mut |_| ()).await.expect("they move");
        let map = settled(cluster, &store, None).await;
        assert_eq!(map.slots_of(0), SlotSet::NONE);
        assert_nothing_lost(cluster, &map, &client, None).await;
    }
}

#[test]
fn whoever_dies_at_any_step_there_is_one_owner_and_nothing_lost_that_need_not_be() {
    for_each_seed(15, |seed| {
        for steps in 0..=6 {
            for victim in [Victim::Mover, Victim::Old, Victim::New] {
                let mut random = ChaCha8Rng::seed_from_u64(seed * 7 + steps as u64);
                Plan { seed, ..plan(Wire::Sim) }
                    .run(async |cluster: &mut Cluster| die_after(cluster, steps, victim, &mut random).await);
            }
        }
    });
}

#[test]
fn a_mover_that_gives_up_leaves_everything_as_it_was() {
    for steps in 0..=5 {
        plan(Wire::Sim).run(async |cluster: &mut Cluster| {
            let (store, client) = filled(cluster).await;
            let before = newest(&store).await;
            let mut moving = moving(&store).await;
            take_steps(&mut moving, 0..steps).await.expect("nobody is dead");
            assert!(!moving.cancel().await.expect("the keeper answers"));
            let map = settled(cluster, &store, None).await;
            assert!((0..NODES).all(|node| map.slots_of(node) == before.slots_of(node)));
            // While nothing was given up, nothing but the nodes had to be told.
            assert_eq!(map.epoch(), if steps < 3 { 1 } else { 2 });
            assert_nothing_lost(cluster, &map, &client, None).await;
        });
    }
}

#[test]
fn a_map_that_came_first_ends_a_move() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, client) = filled(cluster).await;
        let mut moving = moving(&store).await;
        take_steps(&mut moving, 0..5).await.expect("nobody is dead");
        let other = newest(&store).await.fenced().expect("a map");
        store.replace(1, &other).await.expect("the epoch is right");
        let error = moving.settle().await.expect_err("another was first");
        assert!(matches!(error, MoveError::Overtaken { epoch: 2 }), "{error}");
        let map = settled(cluster, &store, None).await;
        assert_nothing_lost(cluster, &map, &client, None).await;
    });
}

#[test]
fn what_a_move_brought_is_kept_where_its_new_owner_reads_a_later_map_first() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, client) = filled(cluster).await;
        let (map, mut moving) = (newest(&store).await, moving(&store).await);
        take_steps(&mut moving, 0..5).await.expect("nobody is dead");
        // The mover dies when the keeper has its map, and another change follows before anybody looks.
        let next = map.moved(&map.slots_of(0), 1, Some(Id([9; 16]))).expect("a map");
        store.replace(1, &next).await.expect("the epoch is right");
        store.replace(2, &next.fenced().expect("a map")).await.expect("the epoch is right");
        let map = settled(cluster, &store, None).await;
        assert_eq!((map.epoch(), map.slots_of(0)), (3, SlotSet::NONE));
        assert_nothing_lost(cluster, &map, &client, None).await;
    });
}

#[test]
fn slots_that_are_taken_by_hand_leave_nothing_behind_and_find_nothing() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, turned(0));
        give_all(cluster, &map);
        let (store, client) = client_of(&map).await;
        let keys = keys();
        assert_all(&put_all(&client, &keys).await, &DONE);
        for (epoch, by) in [(2, 1), (3, 0)] {
            let map = cluster.map(epoch, turned(by));
            give_all(cluster, &map);
            store.replace(epoch - 1, &map).await.expect("the epoch is right");
            assert_all(&get_all(&client, &keys).await, &Outcome::NotFound);
            assert_eq!((0..NODES).map(|node| cluster.stats(node).store.records).sum::<u64>(), 0);
        }
    });
}

#[test]
fn a_version_of_a_lost_life_matches_nothing_that_comes_behind_it() {
    // One shard, so that both lives would count alike.
    let one_shard = plan(Wire::Sim).node(|config| (config.mapped, config.shards) = (true, Some(1)));
    one_shard.run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, turned(0));
        give_all(cluster, &map);
        let (store, client) = client_of(&map).await;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 0).expect("a third");
        for _ in 0..3 {
            client.put(&key, b"lost").await.expect("written");
        }
        let (_, version) = client.get_with_version(&key).await.expect("an answer").expect("there");
        let by_hand = cluster.map(2, turned(1));
        give_all(cluster, &by_hand);
        store.replace(1, &by_hand).await.expect("the epoch is right");
        for _ in 0..10 {
            client.put(&key, b"new").await.expect("written");
            let swapped = client.compare_and_swap(&key, version, b"taken for the old one").await.expect("an answer");
            assert!(swapped.expect_err("another life's") > version);
        }
    });
}

#[test]
fn slots_of_a_dead_node_are_taken_only_where_that_is_confirmed_and_it_is_dead() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, client) = filled(cluster).await;
        let map = newest(&store).await;
        let [dead, to] = [0, 1].map(|node| map.nodes()[node].incarnation);
        let all = SlotSet::ALL;
        let alive = mover(&store).move_slots(&all, to, &[dead], &mut |_| ()).await.expect_err("it answers");
        assert!(matches!(alive, MoveError::Alive { .. }), "{alive}");
        cluster.stop(0).await;
        let refused = mover(&store).move_slots(&map.slots_of(0), to, &[], &mut |_| ()).await.expect_err("dead");
        assert!(matches!(refused, MoveError::Unreachable { .. }), "{refused}");
        let mut mover = mover(&store);
        mover.move_slots(&map.slots_of(0), to, &[dead], &mut |_| ()).await.expect("given up");
        assert!(matches!(mover.forget(to).await, Err(MoveError::OwnsSlots { .. })));
        mover.forget(dead).await.expect("it owns nothing");
        assert!(matches!(mover.forget(dead).await, Err(MoveError::NoNode { .. })));
        for key in keys() {
            let expected = (node_of(&key, 0) != 0).then(|| key.clone());
            assert_eq!(client.get(&key).await.expect("an answer"), expected);
        }
        // Another life of it comes into the map with nothing.
        cluster.start_node(0).await;
        let map = newest(&store).await;
        cluster.take_map(0, &map);
        cluster.follow(0, Arc::clone(&store));
        mover.add(cluster.named(0)).await.expect("it answers");
        let map = newest(&store).await;
        assert_eq!((map.nodes().len(), cluster.stats(0).map_epoch, cluster.stats(0).slots), (3, map.epoch(), 0));
    });
}

#[test]
fn a_node_with_a_copy_of_the_map_takes_part_in_no_move() {
    for copied in [0, 1] {
        plan(Wire::Sim).run(async |cluster: &mut Cluster| {
            let map = cluster.map(1, turned(0));
            give_all(cluster, &map);
            let ((store, client), (copy, _)) = (client_of(&map).await, client_of(&map).await);
            let store: Arc<dyn MapStore> = store;
            for node in 0..NODES {
                let own: Arc<dyn MapStore> = if node == copied { copy.clone() } else { Arc::clone(&store) };
                cluster.follow(node, own);
            }
            assert_all(&put_all(&client, &keys()).await, &DONE);
            let (slots, to) = (map.slots_of(0), map.nodes()[1].incarnation);
            let error = mover(&store).move_slots(&slots, to, &[], &mut |_| ()).await.expect_err("no move");
            assert!(matches!(error, MoveError::Behind { got: 1, expected: 2, .. }), "{error}");
            // It could end no move that is left alone: nothing was given up, and nothing ever is.
            sleep(Duration::from_secs(600)).await;
            assert!((0..NODES).all(|node| cluster.stats(node).moves.is_empty()));
            assert_eq!(copy.load().await.expect("memory").expect("a map").epoch(), 1);
            assert_nothing_lost(cluster, &map, &client, None).await;
        });
    }
}

#[test]
fn what_came_for_slots_that_a_later_map_gives_to_others_is_swept_out() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let (store, _client) = filled(cluster).await;
        let mut moving = moving(&store).await;
        moving.begin().await.expect("both nodes are there");
        moving.copy().await.expect("both nodes are there");
        moving.freeze().await.expect("the old owner is there");
        moving.hand_over().await.expect("both nodes are there");
        moving.finish().await.expect("the new owner is there");
        let map = newest(&store).await;
        let slots = map.slots_of(0);
        let half: SlotSet = slots.ranges().flatten().filter(|slot| slot % 2 == 0).collect();
        let arrived = map.moved(&slots, 1, Some(Id([9; 16]))).expect("a map");
        let later = arrived.moved(&half, 2, None).expect("a map");
        store.replace(map.epoch(), &later).await.expect("the epoch is right");
        let map = settled(cluster, &store, None).await;
        let held = keys().iter().filter(|key| map.owner(slot(&key[..])) == Some(1)).count();
        assert!(keys().iter().any(|key| half.contains(slot(&key[..]))), "some were taken again");
        assert_eq!(cluster.stats(1).store.records, held as u64);
    });
}
