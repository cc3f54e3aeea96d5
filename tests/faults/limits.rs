//! Limits of a node: connections, and what counts as one.
#![forbid(unsafe_code)]

use crate::raw::{Raw, node, op, request};
use crate::support::cluster::{Cluster, Plan, Wire, on_each_wire};
use crate::support::scripted::Peer;
use freight::client::{Client, ClientConfig, ClientError};
use freight::limits::VALUE_BYTES_MAX;
use freight::op::Action;
use freight::wire::{Refusal, RefusalCode};
use std::io::Write;

#[test]
fn one_connection_too_many_is_refused_and_the_others_go_on() {
    let node = node(|config| config.connections_max = 3);
    let mut served: Vec<Raw> = (0..3).map(|_| Raw::connect(&node)).collect();
    for _ in 0..5 {
        let text = Raw::connect_silently(&node).expect_refusal(RefusalCode::Connections);
        assert!(text.contains("3 connections"), "{text}");
    }
    served.iter_mut().for_each(Raw::works);
    drop(served.pop());
    // The node sees the end of a connection in its own time.
    while node.stats().connections > 2 {
        std::thread::yield_now();
    }
    Raw::connect(&node).works();
    node.drain();
}

#[test]
fn refused_peers_that_send_much_cost_no_memory() {
    let node = node(|config| config.connections_max = 1);
    let mut served = Raw::connect(&node);
    let put = request(1, &[op(b"k", Action::Put { value: &vec![1; VALUE_BYTES_MAX as usize] })]);
    let before = node.stats().memory_bytes_used;
    let refused: Vec<Raw> = (0..100)
        .map(|_| {
            let mut raw = Raw::connect_silently(&node);
            let _sent_or_refused = raw.stream.write_all(&put[..put.len() - 1]);
            let more = node.stats().memory_bytes_used.saturating_sub(before);
            assert!(more < 4 << 20, "{more} bytes for those who were refused");
            raw
        })
        .collect();
    served.works();
    drop(refused);
    node.drain();
}

#[test]
fn a_client_is_told_that_there_is_no_room_for_it() {
    for wire in Wire::ALL {
        Plan::new(wire).node(|config| config.connections_max = 1).run(async |cluster: &mut Cluster| {
            let client = cluster.client().await;
            let second = Client::connect(&cluster.endpoints(), ClientConfig::default()).await;
            let error = second.expect_err("one connection and no more");
            assert!(matches!(error, ClientError::Refused { code: RefusalCode::Connections, .. }), "{error}");
            client.ping().await.expect("the first goes on");
        });
    }
}

#[test]
fn a_refused_connection_takes_no_place() {
    Plan::new(Wire::Sim).node(|config| config.connections_max = 1).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        client.ping().await.expect("served");
        // Refused, and slow to go.
        let mut lingering = Peer::connect_silently(&cluster.endpoints()[0]).await;
        let frame = lingering.next().await;
        assert_eq!(Refusal::parse(&frame).expect("a refusal").code, RefusalCode::Connections);
        let before = cluster.stats(0).connections;
        assert_eq!(before, 1, "a refused connection is none");
        drop(client);
        while cluster.stats(0).connections == before {
            tokio::task::yield_now().await;
        }
        cluster.client().await.ping().await.expect("there is a place");
    });
}

#[test]
fn connections_come_and_go_without_a_trace() {
    on_each_wire(async |cluster| {
        let idle = cluster.stats(0).memory_bytes_used;
        for _ in 0..50 {
            let clients = [cluster.client().await, cluster.client().await, cluster.client().await];
            for client in &clients {
                client.put(b"k", b"v").await.expect("written");
            }
        }
        while cluster.stats(0).connections > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let left = cluster.stats(0).memory_bytes_used - idle;
        assert!(left < 4 << 20, "{left} bytes are left of closed connections");
    });
}

#[test]
fn an_idle_connection_keeps_no_large_buffer() {
    let node = node(|config| config.threads = 1);
    let mut writer = Raw::connect(&node);
    let put = request(1, &[op(b"k", Action::Put { value: &vec![1; VALUE_BYTES_MAX as usize] })]);
    let idle: Vec<Raw> = (0..20)
        .map(|_| {
            writer.send(&put);
            writer.frame().expect("a reply");
            Raw::connect(&node)
        })
        .collect();
    let used = node.stats().memory_bytes_used;
    assert!(used < 80 << 20, "{used} bytes for one record and {} idle connections", idle.len());
    node.drain();
}
