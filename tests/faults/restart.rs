//! A node that comes back with another incarnation has lost its memory: no call takes that for a plain miss.
#![forbid(unsafe_code)]

use crate::support::cluster::{Cluster, Plan, Wire, on_each_wire};
use freight::client::{Client, ClientError};
use freight::op::Outcome;

/// Calls until the client has noticed that its connection is gone.
async fn notice(client: &Client) -> ClientError {
    loop {
        match client.get(b"k").await {
            Err(ClientError::Lost { .. } | ClientError::Refused { .. }) => {}
            Err(error) => return error,
            Ok(found) => panic!("a restarted node answered {found:?}"),
        }
    }
}

#[test]
fn a_restarted_node_is_reported_on_every_call_until_it_is_acknowledged() {
    on_each_wire(async |cluster| {
        let client = cluster.client().await;
        client.put(b"k", b"v").await.expect("written");
        cluster.restart(0).await;
        let endpoint = cluster.endpoints().remove(0);
        let told = |error: &ClientError| match error {
            ClientError::MemoryLost { endpoint: node } => assert_eq!(*node, endpoint),
            error => panic!("{error}"),
        };
        told(&notice(&client).await);
        for _ in 0..3 {
            told(&client.get(b"k").await.expect_err("memory is lost"));
            told(&client.put(b"k", b"v").await.expect_err("memory is lost"));
            told(&client.add(b"n", 1).await.expect_err("memory is lost"));
            told(&client.ping().await.expect_err("memory is lost"));
            told(&client.stats().await.expect_err("memory is lost"));
            let mut batch = client.batch(1);
            batch.get(b"k").expect("room");
            told(&client.execute(batch).await.expect_err("memory is lost"));
        }
        assert_eq!(cluster.stats(0).store.records, 0, "nothing was executed");
        client.acknowledge_memory_loss();
        assert_eq!(client.get(b"k").await.expect("an answer"), None);
        client.put(b"k", b"again").await.expect("written");
        // And the next life is another one again.
        cluster.restart(0).await;
        told(&notice(&client).await);
    });
}

#[test]
fn a_new_client_of_a_restarted_node_knows_of_no_loss() {
    on_each_wire(async |cluster| {
        cluster.restart(0).await;
        assert_eq!(cluster.client().await.get(b"k").await.expect("an answer"), None);
    });
}

#[test]
fn a_node_that_was_cut_off_and_kept_its_memory_goes_on() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        client.put(b"k", b"v").await.expect("written");
        for _ in 0..10 {
            cluster.network().cut_all();
            let found = loop {
                match client.get(b"k").await {
                    Err(ClientError::Lost { .. }) => {}
                    found => break found.expect("the node is there"),
                }
            };
            assert_eq!(found.as_deref(), Some(&b"v"[..]));
        }
    });
}

#[test]
fn one_restarted_node_of_three_fails_what_it_has_a_part_in() {
    Plan { nodes: 3, ..Plan::new(Wire::Sim) }.run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let keys: Vec<[u8; 4]> = (0..300_u32).map(u32::to_le_bytes).collect();
        let mut batch = client.batch(300);
        keys.iter().for_each(|key| batch.put(key, key).expect("room"));
        let reply = client.execute(batch).await.expect("an answer");
        assert!(reply.outcomes().all(|outcome| outcome == Outcome::Done { version: None }));
        let held: Vec<u64> = (0..3).map(|node| cluster.stats(node).store.records).collect();
        assert_eq!(held.iter().sum::<u64>(), 300);
        cluster.restart(1).await;
        let restarted = cluster.endpoints().remove(1);
        let error = loop {
            let mut batch = client.batch(300);
            keys.iter().for_each(|key| batch.get(key).expect("room"));
            match client.execute(batch).await {
                Ok(reply) => assert!(reply.failures().count() > 0, "the loss was taken for a miss"),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, ClientError::MemoryLost { endpoint } if *endpoint == restarted), "{error}");
        let (mut found, mut lost) = (0, 0);
        for key in &keys {
            match client.get(key).await {
                Ok(Some(value)) if value == key => found += 1,
                Err(ClientError::MemoryLost { .. }) => lost += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((found, lost), (held[0] + held[2], held[1]));
        client.acknowledge_memory_loss();
        let mut batch = client.batch(300);
        keys.iter().for_each(|key| batch.get(key).expect("room"));
        let reply = client.execute(batch).await.expect("an answer");
        let misses = reply.outcomes().filter(|outcome| *outcome == Outcome::NotFound).count();
        assert_eq!(misses as u64, held[1]);
    });
}
