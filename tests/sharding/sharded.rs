//! What the tests here share: three nodes with a map, and a client that goes by it.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire};
use freight::client::{Client, ClientConfig, Reply};
use freight::hash::slot;
use freight::limits::SLOTS;
use freight::map::{MapMemory, MapStore, ShardMap};
use freight::op::Outcome;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const NODES: usize = 3;

pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Three nodes that own nothing yet.
pub(crate) fn plan(wire: Wire) -> Plan {
    Plan { nodes: NODES, ..Plan::new(wire) }.node(|config| config.mapped = true)
}

/// Dealt evenly, and then turned on by so many nodes.
pub(crate) fn turned(by: usize) -> impl Fn(u16) -> Option<usize> {
    move |slot| Some((usize::from(slot) * NODES / SLOTS as usize + by) % NODES)
}

/// The node of a key, by a map so turned.
pub(crate) fn node_of(key: &[u8], by: usize) -> usize {
    turned(by)(slot(key)).expect("every slot is owned")
}

pub(crate) fn give_all(cluster: &Cluster, map: &ShardMap) {
    (0..NODES).for_each(|node| cluster.take_map(node, map));
}

/// A keeper of a map, and a client that goes by it.
pub(crate) async fn client_of(map: &ShardMap) -> (Arc<MapMemory>, Client) {
    let store = Arc::new(MapMemory::default());
    store.replace(0, map).await.expect("nothing was there");
    let config = ClientConfig { deadline: DEADLINE, jitter_seed: Some(1), ..ClientConfig::default() };
    let client = Client::connect_mapped(Arc::<MapMemory>::clone(&store), config).await.expect("there is a map");
    (store, client)
}

pub(crate) fn keys() -> Vec<Vec<u8>> {
    (0..300).map(|number| format!("key {number}").into_bytes()).collect()
}

pub(crate) async fn put_all(client: &Client, keys: &[Vec<u8>]) -> Reply {
    let mut batch = client.batch(keys.len() as u32);
    keys.iter().for_each(|key| batch.put(key, key).expect("room"));
    client.execute(batch).await.expect("an answer")
}

pub(crate) async fn get_all(client: &Client, keys: &[Vec<u8>]) -> Reply {
    let mut batch = client.batch(keys.len() as u32);
    keys.iter().for_each(|key| batch.get(key).expect("room"));
    client.execute(batch).await.expect("an answer")
}

pub(crate) fn assert_all(reply: &Reply, expected: &Outcome<'_>) {
    for (index, outcome) in reply.outcomes().enumerate() {
        assert_eq!(outcome, *expected, "operation {index}");
    }
    assert_eq!(reply.failures().count(), 0);
}

pub(crate) const DONE: Outcome<'static> = Outcome::Done { version: None };
