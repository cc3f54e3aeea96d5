//! Connections of one client and of one user: counted together over everything that it connects by.
#![forbid(unsafe_code)]

use crate::raw::Raw;
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::{as_user, node, redis, users};
use freight::client::{Client, ClientConfig, ClientError};
use freight::server::Node;
use freight::wire::RefusalCode;
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::{SocketAddr, TcpStream};

/// A connection from another loopback address: another client.
fn from(address: &str, node: &Node) -> Raw {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let own: SocketAddr = format!("{address}:0").parse().expect("an address");
    socket.bind(&own.into()).expect("every loopback address is ours");
    let to: SocketAddr = node.endpoints()[0].address().parse().expect("an address");
    socket.connect(&SockAddr::from(to)).expect("the node listens");
    Raw { stream: TcpStream::from(socket) }
}

fn wait_for_connections(node: &Node, count: u64) {
    while node.stats().connections != count {
        std::thread::yield_now();
    }
}

pub(crate) fn refused(result: Result<Client, ClientError>) -> String {
    match result.expect_err("one too many") {
        ClientError::Refused { code: RefusalCode::Connections, text, .. } => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_has_all_its_connections_gets_no_more_and_others_get_theirs() {
    let node = node(|config| config.connections_per_client_max = Some(2));
    let (mut frames, mut door) = (Raw::connect(&node), redis(&node));
    frames.works();
    assert_eq!(door.says("PING"), "+PONG\r\n");
    for _ in 0..5 {
        let text = Raw::connect_silently(&node).expect_refusal(RefusalCode::Connections);
        assert_eq!(text, "127.0.0.1 has 2 connections here, and may have no more");
        assert_eq!(redis(&node).rest(), b"-ERR max number of clients reached for 127.0.0.1\r\n");
    }
    let mut other = from("127.0.0.2", &node);
    other.greet();
    other.works();
    frames.works();
    assert_eq!((node.stats().connections, node.stats().refusals), (3, 10));
    drop(frames);
    wait_for_connections(&node, 2);
    Raw::connect(&node).works();
    node.drain();
}

#[test]
fn processes_of_one_user_are_one_client_over_shared_memory() {
    Plan::new(Wire::Shm).node(|config| config.connections_per_client_max = Some(1)).run(
        async |cluster: &mut Cluster| {
            let first = cluster.client().await;
            first.ping().await.expect("served");
            let uid = rustix::process::getuid().as_raw();
            let text = refused(Client::connect(&cluster.endpoints(), ClientConfig::default()).await);
            assert_eq!(text, format!("user {uid} of this machine has 1 connections here, and may have no more"));
            first.ping().await.expect("served");
        },
    );
}

#[test]
fn a_user_that_has_all_its_connections_gets_no_more_wherever_it_connects_from() {
    let node = node(|config| {
        config.users = Some(users(&[("ada", None), ("bob", None)]));
        config.connections_per_user_max = Some(2);
    });
    Wire::Tcp.runtime().block_on(async {
        let connect = async |name| Client::connect(node.endpoints(), as_user(name)).await;
        let first = connect("ada").await.expect("a place");
        let mut door = redis(&node);
        assert_eq!(door.says("AUTH ada ada"), "+OK\r\n");
        let text = refused(connect("ada").await);
        assert_eq!(text, "user 'ada' has 2 connections here, and may have no more");
        let mut other_door = redis(&node);
        assert_eq!(other_door.says("AUTH ada ada"), "-ERR max number of clients reached for this user\r\n");
        assert_eq!(other_door.says("GET k"), "-NOAUTH Authentication required.\r\n");
        assert_eq!(door.says("AUTH ada ada"), "+OK\r\n", "who is in already comes in again");
        connect("bob").await.expect("another one's place").ping().await.expect("served");
        // One that becomes another user leaves its place.
        assert_eq!(door.says("AUTH bob bob"), "+OK\r\n");
        assert_eq!(other_door.says("AUTH ada ada"), "+OK\r\n");
        first.ping().await.expect("served");
    });
    node.drain();
}

#[test]
fn a_new_limit_holds_for_new_connections_and_ends_none() {
    let node = node(|_| {});
    let mut served: Vec<Raw> = (0..3).map(|_| Raw::connect(&node)).collect();
    let limits = freight::server::Limits { connections_per_client_max: Some(2), ..node_limits() };
    node.set_limits(limits);
    Raw::connect_silently(&node).expect_refusal(RefusalCode::Connections);
    served.iter_mut().for_each(Raw::works);
    node.set_limits(freight::server::Limits { connections_max: 3, connections_per_client_max: None, ..limits });
    let text = Raw::connect_silently(&node).expect_refusal(RefusalCode::Connections);
    assert_eq!(text, "this node serves 3 connections and no more");
    node.set_limits(node_limits());
    Raw::connect(&node).works();
    node.drain();
}

/// What a node has unless told otherwise.
fn node_limits() -> freight::server::Limits {
    let identity = crate::support::cluster::identity(1, 1);
    freight::server::NodeConfig::new(Vec::new(), identity).limits()
}
