//! A client used from several threads, each with a runtime of its own that may end before the client does.
#![forbid(unsafe_code)]

use crate::support::cluster::{Wire, identity};
use crate::support::scripted::ScriptedNode;
use freight::client::{Client, ClientConfig, ClientError, Loss, Unsent};
use freight::server::{Node, NodeConfig};
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout;

fn node() -> Node {
    let mut config = NodeConfig::new(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], identity(1, 1));
    (config.threads, config.cores) = (1, Vec::new());
    Node::start(config).expect("a node on loopback")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn a_client_may_connect_on_a_runtime_that_another_thread_drives() {
    let node = node();
    let (send_handle, handle) = mpsc::channel();
    let driver = std::thread::spawn(move || {
        let runtime = runtime();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        send_handle.send((runtime.handle().clone(), end)).expect("the test waits");
        runtime.block_on(async {
            tokio::select! {
                _ = ended => {}
                () = pending() => {}
            }
        });
    });
    let (handle, end) = handle.recv().expect("the driver runs");
    // The client's tasks start on the other thread at once, while this one is still connecting.
    for round in 0..200_u32 {
        handle.block_on(async {
            let client = Client::connect(node.endpoints(), ClientConfig::default()).await.expect("connected");
            client.put(b"k", &round.to_le_bytes()).await.expect("written");
        });
    }
    drop(end);
    driver.join().expect("the driver ends");
}

#[test]
fn an_operation_issued_on_a_runtime_that_ended_is_not_sent() {
    let (node, living, ended) = (node(), runtime(), runtime());
    let client = living.block_on(Client::connect(node.endpoints(), ClientConfig::default())).expect("connected");
    let handle = ended.handle().clone();
    drop(ended);
    {
        let _entered = handle.enter();
        let put = pin!(client.put(b"k", b"v")).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(Err(error)) = put else { panic!("{put:?}") };
        assert!(matches!(error, ClientError::NotSent { source: Unsent::RuntimeEnded, .. }), "{error}");
        assert!(!error.may_have_taken_effect());
    }
    assert_eq!(living.block_on(client.get(b"k")).expect("the client goes on"), None);
}

#[test]
fn a_deadline_is_kept_where_the_runtime_that_carries_rests() {
    let (resting, running) = (Wire::Sim.runtime(), Wire::Sim.runtime());
    let (_node, mut peer, client) = running.block_on(ScriptedNode::connected(ClientConfig::default()));
    // Both frames that may be in flight are on a runtime that is not driven any more.
    let mut first = Box::pin(client.put(b"k", b"v"));
    let mut second = Box::pin(client.put(b"k", b"v"));
    resting.block_on(async {
        for put in [&mut first, &mut second] {
            assert!(put.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        yield_now().await;
    });
    running.block_on(async {
        let _request = peer.next().await;
        let get = timeout(2 * ClientConfig::default().deadline, client.get(b"k")).await;
        let error = get.expect("its deadline is kept").expect_err("nobody carries it");
        assert!(matches!(error, ClientError::NotSent { source: Unsent::Late(_), .. }), "{error}");
    });
    drop((first, second));
}

#[test]
fn what_is_carried_by_a_runtime_that_ends_is_lost_at_once() {
    let (ending, living) = (Wire::Sim.runtime(), Wire::Sim.runtime());
    let (_node, mut peer, client) = living.block_on(ScriptedNode::connected(ClientConfig::default()));
    let poll = |call: Pin<&mut dyn Future<Output = Result<(), ClientError>>>| {
        call.poll(&mut Context::from_waker(Waker::noop()))
    };
    let issue = |runtime: &Runtime, call: Pin<&mut dyn Future<Output = Result<(), ClientError>>>| {
        let _entered = runtime.enter();
        assert!(poll(call).is_pending());
    };
    let put = |key: &'static [u8]| {
        let client = client.clone();
        Box::pin(async move { client.put(key, b"v").await })
    };
    // Both tasks that carry are of the runtime that ends: the first takes two operations, the other the third.
    let (mut first, mut second, mut carried) = (put(b"first"), put(b"second"), put(b"carried"));
    issue(&ending, first.as_mut());
    issue(&ending, second.as_mut());
    issue(&living, carried.as_mut());
    ending.block_on(async { yield_now().await });
    living.block_on(async { drop(peer.next().await) });
    drop(ending);
    for (mut call, name) in [(first, "first"), (second, "second"), (carried, "carried")] {
        let Poll::Ready(Err(error)) = poll(call.as_mut()) else { panic!("{name} still waits") };
        assert!(matches!(error, ClientError::Lost { source: Loss::RuntimeEnded, .. }), "{name}: {error}");
    }
}

#[test]
fn a_client_that_is_dropped_leaves_no_task_behind() {
    let node = node();
    let runtime = runtime();
    runtime.block_on(async {
        let config = ClientConfig { deadline: Duration::MAX, ..ClientConfig::default() };
        let client = Client::connect(node.endpoints(), config).await.expect("connected");
        client.put(b"k", b"v").await.expect("written");
        drop(client);
        // The deadline of its operation never comes.
        while runtime.metrics().num_alive_tasks() > 0 {
            yield_now().await;
        }
    });
}

#[test]
fn a_client_outlives_the_runtime_that_connected_it() {
    let node = node();
    let first = runtime();
    let client = first.block_on(Client::connect(node.endpoints(), ClientConfig::default())).expect("connected");
    first.block_on(client.put(b"k", b"v")).expect("written");
    drop(first);
    runtime().block_on(async {
        // The tasks of its connection ended with their runtime: that is a lost connection, and the next call
        // connects anew.
        let mut batch = client.batch(1);
        batch.get(b"k").expect("room");
        let reply = client.execute(batch).await.expect("an answer");
        for failure in reply.failures() {
            assert!(matches!(failure.error, ClientError::Lost { .. }), "{}", failure.error);
        }
        client.ping().await.expect("connected anew");
        assert_eq!(client.get(b"k").await.expect("an answer").as_deref(), Some(&b"v"[..]));
    });
}
