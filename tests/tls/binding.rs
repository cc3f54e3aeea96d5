//! Somebody in between, whom the client trusts: it takes the frames of a client and gives them to the real node.
//!
//! ```text
//!   client ==TLS, certificate `between` of the client's CA==> relay ==TLS==> node with users
//! ```
#![forbid(unsafe_code)]

use crate::certificates::Authority;
use freight::auth::{Credentials, ITERATIONS_MIN, Rights, User, Users, Verifier};
use freight::budget::Budget;
use freight::client::{Client, ClientConfig, ClientError};
use freight::server::{Identity, Node, NodeConfig};
use freight::transport::tls::{Tls, TlsListener, TlsNode, TlsOptions};
use freight::transport::{
    Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, HeapPool, Incoming, Listener, Transport,
    TransportOptions,
};
use freight::wire::RefusalCode;
use std::sync::Arc;
use tokio::runtime::Builder;

pub(crate) fn identity() -> Identity {
    Identity { incarnation: [1; 16], hash_secret: [2; 32] }
}

/// A node in this process, with or without a user `ada`.
pub(crate) fn started(tls: TlsOptions, change: impl FnOnce(&mut NodeConfig)) -> Node {
    let mut config = NodeConfig::new(vec!["tls://127.0.0.1:0".parse().expect("an endpoint")], identity());
    (config.threads, config.cores) = (1, Vec::new());
    config.transport = TransportOptions { tls, ..TransportOptions::default() };
    change(&mut config);
    Node::start(config).expect("a node on this machine")
}

fn users() -> Users {
    let mut users = Users::new([9; 32]);
    let verifier = Verifier::new(b"ada-word", [5; 16], ITERATIONS_MIN);
    users.set(User { name: "ada".to_owned(), rights: Rights::ALL, verifier, ops_per_second: None }).expect("a user");
    users
}

pub(crate) fn client_config(tls: TlsOptions, credentials: Option<Credentials>) -> ClientConfig {
    let transport = TransportOptions { tls, ..TransportOptions::default() };
    ClientConfig { transport, credentials, ..ClientConfig::default() }
}

fn ada() -> Option<Credentials> {
    Some(Credentials::new("ada", b"ada-word").expect("a name and a password"))
}

pub(crate) fn connection_config() -> ConnectionConfig {
    ConnectionConfig::of_client(HeapPool::new(Arc::new(Budget::new(u64::MAX))), 16 << 20)
}

/// Takes one connection and gives every frame on to the node, and back.
async fn relay(mut listener: TlsListener, node: Endpoint, tls: Tls) {
    let config = connection_config();
    let mut near = listener.accept().await.expect("a client").attach(&config).expect("no cap");
    let mut far = tls.connect(&node, &config).await.expect("the node listens");
    let established = tokio::join!(near.establish(), far.establish());
    established.0.and(established.1).expect("both believe it");
    assert_ne!(near.channel_binding(), far.channel_binding());
    let ((near_sender, near_receiver), (far_sender, far_receiver)) = (near.split(), far.split());
    tokio::join!(carry(near_receiver, far_sender), carry(far_receiver, near_sender));
}

async fn carry(mut from: impl FrameReceiver, mut to: impl FrameSender) {
    while let Ok(Some(frame)) = from.receive().await {
        let copy = Frame::unaccounted(frame.to_vec());
        if to.send(copy).await.is_err() {
            break;
        }
    }
    // Whoever is gone needs no farewell.
    let _ = to.close().await;
}

/// What comes of a client's put by way of the relay, to a node with users or without.
fn through_a_relay(has_users: bool) -> Result<(), ClientError> {
    let authority = Authority::with_node();
    authority.sign("between", "subjectAltName=IP:127.0.0.1", "-days 10");
    let real = authority.options();
    let node = started(real.clone(), |config| config.users = has_users.then(users));
    let between = TlsNode::read(authority.identity("between"), None).expect("a certificate");
    let tls = Tls::new(TlsOptions { node: Some(between), ..real.clone() });
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let put = runtime.block_on(async {
        let listener = tls.listen(&"tls://127.0.0.1:0".parse().expect("an endpoint")).await.expect("a free port");
        let (relayed, node_endpoint) = (listener.endpoint().clone(), node.endpoints()[0].clone());
        let relaying = tokio::spawn(relay(listener, node_endpoint, tls));
        let config = client_config(real, ada().filter(|_| has_users));
        let put = async { Client::connect(&[relayed], config).await?.put(b"k", b"v").await };
        let put = put.await;
        relaying.await.expect("it does not panic");
        put.map(drop)
    });
    node.drain();
    put
}

#[test]
fn a_relay_that_the_client_trusts_gets_no_proof_that_the_node_takes() {
    match through_a_relay(true) {
        Err(ClientError::Refused { code: RefusalCode::Unauthorized, text, .. }) => {
            let words =
                "the proof is bound to another TLS connection: somebody stands between this client and this node";
            assert_eq!(text, words);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_relay_is_one_where_nobody_proves_anything() {
    through_a_relay(false).expect("that is what it can do");
}

#[test]
fn a_proof_over_tls_is_bound_and_taken() {
    let authority = Authority::with_node();
    let node = started(authority.options(), |config| {
        config.users = Some(users());
        config.listen.push("tcp://127.0.0.1:0".parse().expect("an endpoint"));
    });
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for endpoint in node.endpoints() {
            let config = client_config(authority.options(), ada());
            let client = Client::connect(std::slice::from_ref(endpoint), config).await.expect("ada may");
            client.put(b"k", b"v").await.expect("ada may");
            let wrong = Some(Credentials::new("ada", b"ada-wort").expect("a name and a password"));
            let config = client_config(authority.options(), wrong);
            let refused = Client::connect(std::slice::from_ref(endpoint), config).await.expect_err("wrong");
            assert!(refused.to_string().contains("wrong user or password"), "{refused}");
        }
    });
    node.drain();
}
