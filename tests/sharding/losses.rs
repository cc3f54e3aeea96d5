//! Nodes that are gone, or came back as somebody else: they cost what they own, and a loss is never a miss.
#![forbid(unsafe_code)]

use crate::sharded::{
    DEADLINE, DONE, NODES, assert_all, client_of, get_all, give_all, keys, node_of, plan, put_all, turned,
};
use crate::support::cluster::{Cluster, Plan, Wire};
use freight::client::{Client, ClientConfig, ClientError, Reply};
use freight::map::{MapMemory, MapNode, MapStore, ShardMap};
use freight::op::Outcome;
use freight::slots::SlotSet;
use freight::transport::Endpoint;
use freight::transport::sim::NetworkConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Every operation of one node ended so, and all others found their record.
fn assert_cost_only(reply: &Reply, keys: &[Vec<u8>], node: usize, outcome_there: &[Outcome<'static>]) {
    for (key, outcome) in keys.iter().zip(reply.outcomes()) {
        if node_of(key, 0) == node {
            assert!(outcome_there.contains(&outcome), "{outcome:?}");
        } else {
            assert_eq!(outcome, Outcome::Value { value: key, version: None });
        }
    }
    assert_eq!(reply.failures().count(), 1);
}

/// Gets all until the client has noticed that a connection is gone.
async fn notice(client: &Client, keys: &[Vec<u8>], node: usize) -> Reply {
    loop {
        let reply = get_all(client, keys).await;
        assert_cost_only(&reply, keys, node, &[Outcome::Unknown, Outcome::NotSent]);
        if !reply.outcomes().any(|outcome| outcome == Outcome::Unknown) {
            return reply;
        }
    }
}

fn the_failure(reply: &Reply) -> ClientError {
    reply.failures().next().expect("a failure").error.clone()
}

#[test]
fn a_node_started_again_is_reported_as_lost_memory_until_a_map_names_it() {
    for wire in Wire::ALL {
        // With the map and without: it is the client's to know whom it trusts.
        for told in [true, false] {
            plan(wire).run(async |cluster: &mut Cluster| {
                let map = cluster.map(1, turned(0));
                give_all(cluster, &map);
                let (store, client) = client_of(&map).await;
                let keys = keys();
                assert_all(&put_all(&client, &keys).await, &DONE);
                cluster.restart(1).await;
                if told {
                    cluster.take_map(1, &map);
                }
                let reply = loop {
                    let reply = notice(&client, &keys, 1).await;
                    // A node that was just stopping refuses first.
                    if !matches!(the_failure(&reply), ClientError::Refused { .. } | ClientError::Connect(_)) {
                        break reply;
                    }
                };
                let endpoint = cluster.endpoints().remove(1);
                let is_lost =
                    |error: &ClientError| matches!(error, ClientError::MemoryLost { endpoint: at } if *at == endpoint);
                assert!(is_lost(&the_failure(&reply)), "{}", the_failure(&reply));
                client.acknowledge_memory_loss();
                for key in &keys {
                    match client.get(key).await {
                        Ok(found) => assert!(node_of(key, 0) != 1 && found.as_ref() == Some(key)),
                        Err(error) => assert!(node_of(key, 0) == 1 && is_lost(&error), "{error}"),
                    }
                }
                let again = cluster.map(2, turned(0));
                give_all(cluster, &again);
                store.replace(1, &again).await.expect("the epoch is right");
                for (key, outcome) in keys.iter().zip(get_all(&client, &keys).await.outcomes()) {
                    let found = Outcome::Value { value: key, version: None };
                    assert_eq!(outcome, if node_of(key, 0) == 1 { Outcome::NotFound } else { found });
                }
            });
        }
    }
}

#[test]
fn a_client_that_first_meets_another_incarnation_than_the_map_names_knows_of_the_loss() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, turned(0));
        for node in 0..NODES {
            cluster.restart(node).await;
        }
        let (_, client) = client_of(&map).await;
        let error = client.get(b"k").await.expect_err("a loss is no miss");
        assert!(matches!(error, ClientError::MemoryLost { .. }) && !error.may_have_taken_effect(), "{error}");
        assert_eq!(get_all(&client, &keys()).await.failures().count(), NODES);
    });
}

#[test]
fn a_dead_node_costs_only_what_it_owns_from_the_start_on() {
    for wire in Wire::ALL {
        plan(wire).run(async |cluster: &mut Cluster| {
            let map = cluster.map(1, turned(0));
            give_all(cluster, &map);
            let keys = keys();
            let (_, first) = client_of(&map).await;
            assert_all(&put_all(&first, &keys).await, &DONE);
            cluster.stop(2).await;
            let (store, client) = client_of(&map).await;
            let reply = get_all(&client, &keys).await;
            assert_cost_only(&reply, &keys, 2, &[Outcome::NotSent]);
            let lost = keys.iter().find(|key| node_of(key, 0) == 2).expect("a third");
            let error = client.get(lost).await.expect_err("nobody is there");
            assert!(!error.may_have_taken_effect(), "{error}");
            // Whoever has its slots now is asked, without another word.
            let without = cluster_without_2(&map);
            (0..2).for_each(|node| cluster.take_map(node, &without));
            store.replace(1, &without).await.expect("the epoch is right");
            let reply = get_all(&client, &keys).await;
            assert_eq!(reply.failures().count(), 0);
            let missed = reply.outcomes().filter(|outcome| *outcome == Outcome::NotFound).count();
            assert_eq!(missed, keys.iter().filter(|key| node_of(key, 0) == 2).count());
        });
    }
}

#[test]
fn what_was_in_flight_to_a_node_that_the_next_map_leaves_out_is_unknown_before_the_deadline() {
    let delay = Duration::from_millis(5)..=Duration::from_millis(5);
    let network = NetworkConfig { delay, ..NetworkConfig::calm(1) };
    Plan { network, ..plan(Wire::Sim) }.run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, turned(0));
        give_all(cluster, &map);
        let (store, client) = client_of(&map).await;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 2).expect("a third");
        client.put(&key, b"v").await.expect("written");
        let without = cluster_without_2(&map);
        let began = Instant::now();
        let (put, ()) = tokio::join!(client.put(&key, b"w"), async {
            sleep(Duration::from_millis(7)).await;
            cluster.network().cut_all();
            cluster.stop(2).await;
            sleep(Duration::from_millis(100)).await;
            store.replace(1, &without).await.expect("the epoch is right");
        });
        let error = put.expect_err("its node is gone");
        assert!(matches!(error, ClientError::Lost { .. }) && error.may_have_taken_effect(), "{error}");
        assert!(began.elapsed() < DEADLINE, "{:?} of simulated time", began.elapsed());
    });
}

/// The next map: the first node owns what the third did.
fn cluster_without_2(map: &ShardMap) -> ShardMap {
    let slots = |nodes: &[usize]| -> SlotSet {
        nodes.iter().flat_map(|node| map.slots_of(*node).ranges().flatten().collect::<Vec<_>>()).collect()
    };
    let nodes = vec![(map.nodes()[0].clone(), slots(&[0, 2])), (map.nodes()[1].clone(), slots(&[1]))];
    ShardMap::new(map.cluster(), map.epoch() + 1, nodes).expect("a map")
}

#[test]
fn a_node_is_reached_at_whichever_address_answers_as_itself() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let [one, two] = [0, 1].map(|node| cluster.named(node));
        // The first address is nobody's, the second another node's.
        let nowhere = format!("sim://{}/nowhere", cluster.network().name()).parse().expect("an endpoint");
        let addresses = vec![nowhere, two.addresses[0].clone(), one.addresses[0].clone()];
        let map = ShardMap::new(
            freight::map::Id([7; 16]),
            1,
            vec![(MapNode { addresses, incarnation: one.incarnation }, SlotSet::ALL)],
        );
        let map = map.expect("a map");
        cluster.take_map(0, &map);
        let (_, client) = client_of(&map).await;
        client.put(b"k", b"v").await.expect("written");
        assert_eq!((cluster.stats(0).store.records, cluster.stats(1).store.records), (1, 0));
    });
}

#[test]
fn of_several_addresses_each_one_s_error_is_told() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let nowhere = |place| format!("sim://{}/{place}", cluster.network().name()).parse().expect("an endpoint");
        let addresses: Vec<Endpoint> = ["here", "there"].map(nowhere).to_vec();
        let node = MapNode { addresses: addresses.clone(), incarnation: cluster.named(0).incarnation };
        let map = ShardMap::new(freight::map::Id([7; 16]), 1, vec![(node, SlotSet::ALL)]).expect("a map");
        let (_, client) = client_of(&map).await;
        let error = client.put(b"k", b"v").await.expect_err("nobody is there");
        assert!(matches!(&error, ClientError::Unreachable(each) if each.len() == 2), "{error:?}");
        assert!(addresses.iter().all(|address| error.to_string().contains(&address.to_string())), "{error}");
        assert!(!error.may_have_taken_effect());
    });
}

#[test]
fn tries_to_reach_a_dead_node_are_spread_out() {
    plan(Wire::Sim).run(async |cluster: &mut Cluster| {
        let map = cluster.map(1, turned(0));
        cluster.stop(0).await;
        let (_, client) = client_of(&map).await;
        let key = keys().into_iter().find(|key| node_of(key, 0) == 0).expect("a third");
        let began = Instant::now();
        for _ in 0..20 {
            client.get(&key).await.expect_err("nobody is there");
        }
        // 10 ms doubled to a second, each wait half of it at least: the last dozen of them alone are six seconds.
        assert!(began.elapsed().as_secs() >= 6, "{:?}", began.elapsed());
        cluster.start_node(0).await;
        let found = client.get(&key).await.expect_err("another incarnation");
        assert!(matches!(found, ClientError::MemoryLost { .. }), "{found}");
    });
}

#[test]
fn without_a_map_there_is_no_client() {
    Wire::Sim.runtime().block_on(async {
        let config = ClientConfig { deadline: DEADLINE, ..ClientConfig::default() };
        let error = Client::connect_mapped(Arc::new(MapMemory::default()), config).await.expect_err("no map");
        assert!(matches!(error, ClientError::NoMap), "{error}");
    });
}
