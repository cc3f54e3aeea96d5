//! The same limits where connections come by RDMA, and what only they can do: a queue pair has a handshake of its own.
#![forbid(unsafe_code)]

use crate::bytes::{
    long_frames_of_many_connections_are_all_answered, what_there_is_no_room_for_stays_with_its_clients,
};
use crate::connections::refused;
use crate::support::cluster::{Cluster, Plan, Wire, rdma_address};
use crate::{as_user, users};
use freight::budget::Budget;
use freight::client::{Client, ClientConfig, ClientError};
use freight::server::NodeConfig;
use freight::transport::rdma::Rdma;
use freight::transport::{Connection, ConnectionConfig, FrameReceiver, HeapPool, Transport};
use freight::wire::{Refusal, RefusalCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

fn plan(change: impl Fn(&mut NodeConfig) + 'static) -> Plan {
    Plan::new(Wire::Rdma).node(change)
}

/// Waits until there are so many.
async fn wait_for_connections(cluster: &Cluster, count: u64) {
    while cluster.stats(0).connections != count {
        sleep(Duration::from_millis(5)).await;
    }
}

/// One connection is served, a second one refused with these words, and another served as soon as there is a place.
fn one_and_no_more(change: impl Fn(&mut NodeConfig) + 'static, config: &ClientConfig, words: &str) {
    plan(change).run(async |cluster: &mut Cluster| {
        let first = cluster.client_with(config.clone()).await;
        first.ping().await.expect("served");
        assert_eq!(refused(Client::connect(&cluster.endpoints(), config.clone()).await), words);
        first.ping().await.expect("served");
        drop(first);
        wait_for_connections(cluster, 0).await;
        cluster.client_with(config.clone()).await.ping().await.expect("served");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn connections_beyond_each_limit_are_refused_in_its_words() {
    let anybody = ClientConfig::default();
    one_and_no_more(|config| config.connections_max = 1, &anybody, "this node serves 1 connections and no more");
    let words = format!("{} has 1 connections here, and may have no more", rdma_address());
    one_and_no_more(|config| config.connections_per_client_max = Some(1), &anybody, &words);
    let of_users = |config: &mut NodeConfig| {
        (config.users, config.connections_per_user_max) = (Some(users(&[("ada", None)])), Some(1));
    };
    one_and_no_more(of_users, &as_user("ada"), "user 'ada' has 1 connections here, and may have no more");
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn of_many_that_are_too_many_few_get_a_queue_pair_to_be_told_by() {
    const MANY: usize = 40;
    plan(|config| config.connections_max = 1).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let address = cluster.endpoints()[0].address().to_owned();
        let mut flood = Vec::new();
        for _ in 0..MANY {
            flood.push(TcpStream::connect(&address).await.expect("it listens"));
        }
        let mut told = 0;
        for mut stream in flood {
            let mut greeting = Vec::new();
            stream.read_to_end(&mut greeting).await.expect("it is closed in order");
            told += usize::from(!greeting.is_empty());
        }
        // As many as the log has lines for.
        assert!((1..MANY).contains(&told), "{told} of {MANY}");
        assert_eq!(cluster.stats(0).refusals, MANY as u64);
        client.ping().await.expect("served");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn bytes_in_flight_are_bounded_and_all_are_answered() {
    what_there_is_no_room_for_stays_with_its_clients(Wire::Rdma);
    long_frames_of_many_connections_are_all_answered(Wire::Rdma);
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_user_waits_for_its_turn_or_is_denied_and_another_does_not_notice() {
    plan(|config| config.users = Some(users(&[("slow", Some(1)), ("fast", None)]))).run(
        async |cluster: &mut Cluster| {
            let (slow, fast) = (cluster.client_with(as_user("slow")).await, cluster.client_with(as_user("fast")).await);
            let gets = async |count| {
                let mut batch = slow.batch(count);
                (0..count).for_each(|_| batch.get(b"k").expect("room"));
                slow.execute(batch).await.expect("outcomes").failures().next().map(|failure| failure.error.clone())
            };
            let Some(ClientError::Denied { text, .. }) = gets(11).await else { panic!("more than ever") };
            assert_eq!(text, "not allowed: 11 operations at once, and user 'slow' may have 1 a second, 10 at once");
            assert!(gets(10).await.is_none(), "on credit");
            tokio::select! {
                biased;
                _ = slow.get(b"k") => panic!("that is to be paid for"),
                () = async { for _ in 0..50 { fast.get(b"k").await.expect("served"); } } => {}
            }
        },
    );
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn whoever_says_nothing_has_its_time_and_no_more() {
    plan(|config| config.hello_wait = Duration::from_secs(1)).run(async |cluster: &mut Cluster| {
        let endpoint = cluster.endpoints()[0].clone();
        // Queue pairs are connected, and no hello follows.
        let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
        let config = ConnectionConfig::of_client(pool, 1 << 20);
        let (_sender, mut receiver) = Rdma::default().connect(&endpoint, &config).await.expect("it listens").split();
        let frame = receiver.receive().await.expect("no fault").expect("a refusal");
        let refusal = Refusal::parse(&frame).expect("a refusal");
        assert_eq!((refusal.code, refusal.text), (RefusalCode::Malformed, "no hello within 1s"));
        assert!(receiver.receive().await.expect("no fault").is_none(), "the last frame");
        // Not even those are.
        let mut control = TcpStream::connect(endpoint.address()).await.expect("it listens");
        let mut greeting = Vec::new();
        control.read_to_end(&mut greeting).await.expect("it is closed in order");
        assert!(greeting.starts_with(b"FRDM"));
        wait_for_connections(cluster, 0).await;
        assert_eq!(cluster.stats(0).refusals, 2);
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn an_idle_connection_is_closed_and_its_client_connects_anew() {
    plan(|config| config.idle_wait = Some(Duration::from_secs(1))).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        client.put(b"k", b"v").await.expect("written");
        wait_for_connections(cluster, 0).await;
        assert_eq!(client.get(b"k").await.expect("read").as_deref(), Some(&b"v"[..]));
        assert_eq!(cluster.stats(0).refusals, 0, "nobody is at fault");
    });
}
