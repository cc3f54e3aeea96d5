//! Who may do what, on every transport: proofs, rights, users that change, and clients that mean no good.
#![forbid(unsafe_code)]

mod hostile;
#[path = "../support/mod.rs"]
mod support;

use freight::auth::{AuthError, Credentials, ITERATIONS_MIN, Rights, User, Users, Verifier};
use freight::client::{Client, ClientConfig, ClientError, Control, NoHello};
use freight::map::{MapMemory, MapStore as _};
use freight::op::{Action, Op, Outcome};
use freight::server::{Node, NodeConfig};
use freight::transport::Endpoint;
use freight::wire::{MoveBody, MoveCommand, RefusalCode};
use std::sync::Arc;
use std::time::Duration;
use support::cluster::{Cluster, Plan, Wire, identity};
use tokio::time::Instant;

/// Everybody's password is the name and `-word`.
pub(crate) fn user(name: &str, rights: Rights) -> User {
    let verifier = Verifier::new(format!("{name}-word").as_bytes(), [5; 16], ITERATIONS_MIN);
    User { name: name.to_owned(), rights, verifier, ops_per_second: None }
}

pub(crate) fn users() -> Users {
    let mut users = Users::new([9; 32]);
    let named = [("ada", Rights::ALL), ("reader", Rights::READ), ("writer", Rights::WRITE), ("nobody", Rights::NONE)];
    for (name, rights) in named {
        users.set(user(name, rights)).expect("a user");
    }
    users
}

pub(crate) fn as_user(name: &str) -> ClientConfig {
    with_password(name, &format!("{name}-word"))
}

fn with_password(name: &str, password: &str) -> ClientConfig {
    let credentials = Credentials::new(name, password.as_bytes()).expect("a name and a password");
    ClientConfig { credentials: Some(credentials), ..ClientConfig::default() }
}

/// Runs a test on a cluster of one node that has users.
fn on_wire(wire: Wire, test: impl AsyncFnOnce(&mut Cluster)) {
    println!("{wire:?}");
    Plan::new(wire).node(|config| config.users = Some(users())).run(test);
}

fn on_each_wire(test: impl AsyncFn(&mut Cluster)) {
    Wire::ALL.into_iter().for_each(|wire| on_wire(wire, &test));
}

async fn refusal(cluster: &Cluster, config: ClientConfig) -> ClientError {
    Client::connect(&cluster.endpoints(), config).await.expect_err("refused")
}

fn assert_unauthorized(error: &ClientError, words: &str) {
    match error {
        ClientError::Refused { code: RefusalCode::Unauthorized, text, .. } => assert_eq!(text, words),
        other => panic!("{other:?}"),
    }
}

async fn whoever_knows_the_password_comes_in(cluster: &mut Cluster) {
    let client = cluster.client_with(as_user("ada")).await;
    client.put(b"k", b"v").await.expect("she may");
    assert_eq!(client.get(b"k").await.expect("she may").as_deref(), Some(&b"v"[..]));
    assert_eq!(client.stats().await.expect("she may").len(), 1);
}

async fn whoever_does_not_stays_outside(cluster: &mut Cluster) {
    let wrong = refusal(cluster, with_password("ada", "ada-wort")).await;
    assert_unauthorized(&wrong, "wrong user or password");
    assert_unauthorized(&refusal(cluster, with_password("eve", "ada-word")).await, "wrong user or password");
    let required = "this node requires authentication: give a user and a password (--user, --password-file)";
    assert_unauthorized(&refusal(cluster, ClientConfig::default()).await, required);
    assert_eq!(cluster.client_with(as_user("ada")).await.get(b"k").await.expect("she may"), None);
}

#[test]
fn whoever_knows_the_password_comes_in_on_each_transport() {
    on_each_wire(whoever_knows_the_password_comes_in);
}

#[test]
fn whoever_does_not_stays_outside_on_each_transport() {
    on_each_wire(whoever_does_not_stays_outside);
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn over_rdma_too() {
    on_wire(Wire::Rdma, whoever_knows_the_password_comes_in);
    on_wire(Wire::Rdma, whoever_does_not_stays_outside);
    on_wire(Wire::Rdma, rights_hold_frame_by_frame);
    on_wire(Wire::Rdma, a_batch_is_denied_as_a_whole);
    on_wire(Wire::Rdma, steps_of_a_move_are_for_admins);
}

async fn rights_hold_frame_by_frame(cluster: &mut Cluster) {
    let denied = |error: ClientError, words: &str| match error {
        ClientError::Denied { text, .. } => assert_eq!(text, words),
        other => panic!("{other:?}"),
    };
    let ada = cluster.client_with(as_user("ada")).await;
    ada.put(b"k", b"1").await.expect("she may");
    let reader = cluster.client_with(as_user("reader")).await;
    let words = "not allowed: it takes the right to write, and user 'reader' has only read";
    denied(reader.put(b"k", b"2").await.expect_err("a reader"), words);
    denied(reader.delete(b"k").await.expect_err("a reader"), words);
    assert_eq!(reader.get(b"k").await.expect("a reader may").as_deref(), Some(&b"1"[..]), "the connection stays");
    let writer = cluster.client_with(as_user("writer")).await;
    let words = "not allowed: it takes the right to read, and user 'writer' has only write";
    denied(writer.get(b"k").await.expect_err("a writer"), words);
    // What it counts is what the record holds.
    denied(writer.add(b"k", 0).await.expect_err("a writer"), words);
    writer.put(b"k", b"3").await.expect("a writer may");
    assert_eq!(ada.get(b"k").await.expect("she may").as_deref(), Some(&b"3"[..]));
    let nobody = cluster.client_with(as_user("nobody")).await;
    let words = "not allowed: it takes the right to read,write, and user 'nobody' has no right";
    denied(nobody.add(b"k", 1).await.expect_err("no right"), words);
    nobody.ping().await.expect("an empty batch takes no right");
    nobody.stats().await.expect("statistics take none");
}

#[test]
fn rights_hold_frame_by_frame_on_each_transport() {
    on_each_wire(rights_hold_frame_by_frame);
}

async fn a_batch_is_denied_as_a_whole(cluster: &mut Cluster) {
    let reader = cluster.client_with(as_user("reader")).await;
    let mut batch = reader.batch(2);
    for action in [Action::Get, Action::Put { value: b"v" }] {
        batch.push(&Op { key: b"k", action, version_wanted: false }).expect("room");
    }
    let reply = reader.execute(batch).await.expect("outcomes");
    assert_eq!(reply.outcomes().collect::<Vec<_>>(), [Outcome::NotSent; 2]);
    let failures: Vec<_> = reply.failures().map(|failure| failure.error.to_string()).collect();
    assert!(failures.len() == 1 && failures[0].ends_with("user 'reader' has only read"), "{failures:?}");
}

#[test]
fn a_batch_is_denied_as_a_whole_and_told_as_not_sent() {
    on_each_wire(a_batch_is_denied_as_a_whole);
}

async fn steps_of_a_move_are_for_admins(cluster: &mut Cluster) {
    let node = cluster.named(0);
    let look = MoveBody::new(MoveCommand::Look, [0; 16], 0, 0, 0);
    let ask = async |name| Control::new(&node, &as_user(name)).ask(&look, &[]).await;
    assert!(ask("ada").await.is_ok());
    let denied = ask("writer").await.expect_err("no admin").to_string();
    assert!(denied.ends_with("not allowed: it takes the right to admin, and user 'writer' has only write"), "{denied}");
}

#[test]
fn steps_of_a_move_are_for_admins_on_each_transport() {
    on_each_wire(steps_of_a_move_are_for_admins);
}

#[test]
fn credentials_are_never_taken_by_a_node_that_does_not_ask_for_a_proof() {
    support::cluster::on_each_wire(async |cluster| {
        let words = "this node has no users and authenticates nobody: connect without credentials, or give it users";
        assert_unauthorized(&refusal(cluster, as_user("ada")).await, words);
    });
}

#[test]
fn a_mapped_client_with_a_wrong_password_does_not_wait_for_another_map() {
    on_wire(Wire::Sim, async |cluster| {
        let store = Arc::new(MapMemory::default());
        store.replace(0, &cluster.map(1, |_| Some(0))).await.expect("a map");
        let client = Client::connect_mapped(store, with_password("ada", "wrong")).await.expect("a map");
        let began = Instant::now();
        assert_unauthorized(&client.get(b"k").await.expect_err("refused"), "wrong user or password");
        // In simulated time.
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

/// A node on loopback that has users, and a runtime for its clients.
pub(crate) fn node(change: impl FnOnce(&mut NodeConfig)) -> (Node, Vec<Endpoint>) {
    let mut config = NodeConfig::new(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], identity(1, 1));
    (config.threads, config.cores, config.users) = (2, Vec::new(), Some(users()));
    change(&mut config);
    let node = Node::start(config).expect("a node on loopback");
    let endpoints = node.endpoints().to_vec();
    (node, endpoints)
}

#[test]
fn users_that_change_are_gone_by_with_the_next_frame() {
    let (node, endpoints) = node(|_| {});
    Wire::Tcp.runtime().block_on(async {
        let connect = async |name| Client::connect(&endpoints, as_user(name)).await.expect("a user");
        let (ada, reader, writer) = (connect("ada").await, connect("reader").await, connect("writer").await);
        reader.put(b"k", b"v").await.expect_err("it may only read");
        let mut changed = users();
        changed.remove("ada");
        changed.set(user("reader", Rights::ALL)).expect("a user");
        let other_password = Verifier::new(b"another", [6; 16], ITERATIONS_MIN);
        changed.set(User { verifier: other_password, ..user("writer", Rights::WRITE) }).expect("a user");
        node.set_users(changed);
        reader.put(b"k", b"v").await.expect("it may write now");
        for (client, name) in [(ada, "ada"), (writer, "writer")] {
            let error = client.put(b"k", b"w").await.expect_err("revoked");
            assert_unauthorized(&error, &format!("user '{name}' was removed, or has another password now"));
            assert_unauthorized(&client.put(b"k", b"w").await.expect_err("refused"), "wrong user or password");
        }
        assert_eq!(reader.get(b"k").await.expect("read").as_deref(), Some(&b"v"[..]));
    });
}

#[test]
fn a_node_that_is_not_who_it_should_be_is_found_out() {
    // It knows no user, and lets everybody in whatever the proof: `hostile` plays it.
    let error = hostile::against_an_impostor();
    let ClientError::Hello { source: NoHello::Authentication(error), .. } = error else { panic!("{error:?}") };
    assert_eq!(error, AuthError::NotTheNode);
    let error = hostile::against_a_node_that_asks_for_nothing();
    assert!(matches!(error, ClientError::Hello { source: NoHello::NotAuthenticating, .. }), "{error:?}");
}
