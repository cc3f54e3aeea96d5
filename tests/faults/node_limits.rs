//! What a node refuses to be, and how long it waits for its clients.
#![forbid(unsafe_code)]

use crate::raw::{Raw, node, op, request};
use crate::support::cluster::{Cluster, Plan, Wire, identity};
use crate::support::scripted::Peer;
use freight::budget::Budget;
use freight::client::{Client, ClientConfig, ClientError};
use freight::completions::{Completions, CompletionsConfig};
use freight::limits::FRAME_BYTES_MIN;
use freight::op::Action;
use freight::server::{Node, NodeConfig, ServerError};
use freight::session::{NodeFacts, Session, SessionError};
use freight::shard::{Eviction, Scratch, Store, StoreConfig};
use freight::transport::{Endpoint, FrameReceiver, TransportError};
use freight::wire::{HEADER_BYTES, Refusal, RefusalCode, wire_limit_request};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Why a node with such a configuration does not start.
fn does_not_start(change: impl FnOnce(&mut NodeConfig)) -> ServerError {
    let mut config = NodeConfig::new(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], identity(1, 1));
    change(&mut config);
    Node::start(config).expect_err("a node that cannot be")
}

#[test]
fn configurations_that_cannot_be_served_are_refused() {
    let error = does_not_start(|config| config.listen.clear());
    assert!(matches!(error, ServerError::NoEndpoint), "{error}");
    for got in [FRAME_BYTES_MIN - 1, u32::MAX] {
        let error = does_not_start(|config| config.frame_bytes_max = got);
        assert!(matches!(error, ServerError::FrameLimit { min: FRAME_BYTES_MIN, .. }), "{error}");
    }
    let error = does_not_start(|config| config.memory_bytes_max = Some(1 << 20));
    assert!(matches!(error, ServerError::MemoryCap { got: 0x10_0000, .. }), "{error}");
    let error = does_not_start(|config| config.shards = Some(3));
    assert!(matches!(error, ServerError::Store(_)), "{error}");
    let everywhere: Endpoint = "tcp://0.0.0.0:0".parse().expect("an endpoint");
    let error = does_not_start(|config| config.listen.push(everywhere));
    assert!(matches!(&error, ServerError::Insecure { endpoint } if endpoint.starts_with("tcp://0.0.0.0")));
    let first = node(|_| {});
    let taken = first.endpoints()[0].clone();
    let error = does_not_start(|config| config.listen = vec![taken]);
    assert!(matches!(error, ServerError::Transport(TransportError::Listen { .. })), "{error}");
    first.drain();
}

#[test]
fn a_node_listens_at_several_endpoints_and_on_both_address_families() {
    let both = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://localhost:0"];
    let node = node(|config| config.listen = both.map(|text| text.parse().expect("an endpoint")).to_vec());
    Wire::Tcp.runtime().block_on(async {
        for (number, endpoint) in (0_i64..).zip(node.endpoints()) {
            let client = Client::connect(std::slice::from_ref(endpoint), ClientConfig::default()).await;
            assert_eq!(client.expect("it listens").add(b"n", 1).await.expect("an answer"), number + 1);
        }
    });
    node.drain();
}

#[test]
fn a_window_of_no_frames_is_a_window_of_one() {
    let node = node(|config| config.frames_in_flight_max = 0);
    Raw::connect(&node).works();
    Wire::Tcp.runtime().block_on(async {
        let client = Client::connect(node.endpoints(), ClientConfig::default()).await.expect("connected");
        client.ping().await.expect("an answer");
    });
    node.drain();
}

#[test]
fn wire_limit_frames_from_other_machines_need_permission() {
    for allowed in [false, true] {
        let node = node(|config| {
            config.listen = vec!["tcp://0.0.0.0:0".parse().expect("an endpoint")];
            (config.insecure, config.allow_wire_limit) = (true, allowed);
        });
        let (_, port) = node.endpoints()[0].host_port().expect("host and port");
        let endpoint: Endpoint = format!("tcp://127.0.0.1:{port}").parse().expect("an endpoint");
        Wire::Tcp.runtime().block_on(async {
            let client = Client::connect(&[endpoint], ClientConfig::default()).await.expect("connected");
            match client.wire_limit(0, 1_000, 1_000).await {
                Ok(_) => assert!(allowed),
                Err(ClientError::Refused { code, .. }) => assert_eq!((allowed, code), (false, RefusalCode::Forbidden)),
                Err(error) => panic!("{error}"),
            }
        });
        node.drain();
    }
}

#[test]
fn wire_limit_replies_tell_nothing_of_other_clients() {
    for address in ["0.0.0.0", "127.0.0.1"] {
        let node = node(|config| {
            config.listen = vec![format!("tcp://{address}:0").parse().expect("an endpoint")];
            (config.threads, config.insecure, config.allow_wire_limit) = (1, true, true);
        });
        let mut owner = Raw::connect(&node);
        owner.send(&request(1, &[op(b"secret", Action::Put { value: &[0xAB; 100_000] })]));
        owner.frame().expect("a reply");
        owner.send(&request(2, &[op(b"secret", Action::Get)]));
        owner.frame().expect("a reply");
        let mut other = Raw::connect(&node);
        for reply_bytes in [100, 60_000, 110_000, 1 << 20] {
            let mut ask = vec![0; 68];
            wire_limit_request(&mut ask, 1, 68, reply_bytes);
            other.send(&ask);
            let reply = other.frame().expect("a reply");
            assert_eq!(reply.len(), reply_bytes as usize);
            assert!(reply[HEADER_BYTES as usize..].iter().all(|byte| *byte == 0), "{reply_bytes} bytes, not all zero");
        }
        node.drain();
    }
}

#[test]
fn statistics_on_demand_read_the_store_ten_times_a_second_at_most() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let client = cluster.client().await;
        let records = async || client.stats().await.expect("an answer")[0].store.records;
        assert_eq!(records().await, 0);
        client.put(b"k", b"v").await.expect("written");
        assert_eq!(records().await, 0, "what was told a moment ago");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(records().await, 1);
        assert_eq!(client.stats().await.expect("an answer")[0].frames, 5, "counters are of now");
    });
}

#[test]
fn one_client_s_long_frames_take_turns_with_others() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let mut greedy = Peer::connect(&cluster.endpoints()[0]).await;
        let mut other = Peer::connect(&cluster.endpoints()[0]).await;
        let gets = vec![op(b"k", Action::Get); 5_000];
        // All of them are on their way when the other's comes.
        for number in 0..20 {
            greedy.send(&request(number, &gets)).await;
        }
        other.send(&request(100, &gets[..1])).await;
        other.next().await;
        let frames = cluster.stats(0).frames;
        assert!(frames < 10, "{frames} frames were answered before a short one");
        for _ in 0..20 {
            greedy.next().await;
        }
    });
}

#[test]
fn a_client_that_does_not_say_hello_is_told_so() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let mut silent = Peer::connect_silently(&cluster.endpoints()[0]).await;
        let frame = silent.next().await;
        let refusal = Refusal::parse(&frame).expect("a refusal");
        assert_eq!((refusal.code, refusal.text), (RefusalCode::Malformed, "no hello within 5s"));
        assert!(matches!(silent.receiver.receive().await, Ok(None)));
        assert_eq!(cluster.stats(0).refusals, 1);
    });
}

#[test]
fn a_client_that_stops_inside_a_frame_is_told_so() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let put = request(1, &[op(b"k", Action::Put { value: &[1; 100_000] })]);
        let mut silent = Peer::connect(&cluster.endpoints()[0]).await;
        silent.send(&put[..70_000]).await;
        let frame = silent.next().await;
        let refusal = Refusal::parse(&frame).expect("a refusal");
        assert_eq!(refusal.code, RefusalCode::Malformed);
        assert!(refusal.text.contains("70000 of"), "{}", refusal.text);
        assert_eq!(cluster.stats(0).refusals, 1);
    });
}

#[test]
fn a_client_that_trickles_keeps_no_large_frame_for_ever() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let put = request(1, &[op(b"k", Action::Put { value: &vec![1; 8 << 20] })]);
        let mut slow = Peer::connect(&cluster.endpoints()[0]).await;
        slow.send(&put[..put.len() - 1_000]).await;
        let refused = async {
            while cluster.stats(0).refusals == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        // A byte a second, as long as anybody listens.
        for byte in put[put.len() - 1_000..].chunks(1) {
            slow.send(byte).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if cluster.stats(0).refusals > 0 {
                break;
            }
        }
        tokio::time::timeout(Duration::from_secs(1), refused).await.expect("a client that trickles is let go");
        let frame = slow.next().await;
        assert_eq!(Refusal::parse(&frame).expect("a refusal").code, RefusalCode::Malformed);
    });
}

#[test]
fn a_client_that_does_not_take_its_reply_is_let_go() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let mut slow = Peer::connect(&cluster.endpoints()[0]).await;
        slow.send(&request(1, &[op(b"k", Action::Put { value: &vec![1; 5 << 20] })])).await;
        slow.next().await;
        slow.send(&request(2, &[op(b"k", Action::Get)])).await;
        while cluster.stats(0).connections > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let error = slow.receiver.receive().await.expect_err("half a reply");
        assert!(matches!(error, TransportError::CutShort { .. }), "{error}");
        assert_eq!(cluster.stats(0).refusals, 1);
    });
}

#[test]
fn a_client_that_takes_its_reply_slowly_gets_all_of_it() {
    Plan::new(Wire::Sim).run(async |cluster: &mut Cluster| {
        let mut slow = Peer::connect(&cluster.endpoints()[0]).await;
        slow.send(&request(1, &[op(b"k", Action::Put { value: &vec![1; 8 << 20] })])).await;
        slow.next().await;
        slow.send(&request(2, &[op(b"k", Action::Get)])).await;
        // What the network holds, a mebibyte, every five seconds: forty seconds in all.
        let reply = loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            tokio::select! {
                biased;
                reply = slow.receiver.receive() => break reply.expect("no fault").expect("a reply"),
                () = std::future::ready(()) => {}
            }
        };
        assert!(reply.frame_bytes() > 8 << 20);
        assert_eq!(cluster.stats(0).refusals, 0);
    });
}

#[test]
fn frames_past_the_memory_cap_are_refused_and_nobody_else_suffers() {
    let node = node(|config| config.memory_bytes_max = Some(64 << 20));
    let mut other = Raw::connect(&node);
    let put = request(1, &[op(b"k", Action::Put { value: &vec![1; 8 << 20] })]);
    let mut greedy = Vec::new();
    // All but the last byte of a frame each: the node holds them and waits, up to one too many.
    while node.stats().refusals == 0 {
        if greedy.len() < 20 {
            let mut raw = Raw::connect(&node);
            let _sent_or_refused = raw.stream.write_all(&put[..put.len() - 1]);
            raw.stream.set_nonblocking(true).expect("a socket");
            greedy.push(raw);
        }
        let used = node.stats().memory_bytes_used;
        assert!(used <= 64 << 20, "{used} bytes");
    }
    other.works();
    let mut turns = (0..greedy.len()).cycle();
    let refused = turns.find(|index| greedy[*index].stream.peek(&mut [0]).is_ok()).expect("a cycle has no end");
    greedy[refused].stream.set_nonblocking(false).expect("a socket");
    greedy[refused].expect_refusal(RefusalCode::Memory);
    drop(greedy);
    other.works();
    let mut again = Raw::connect(&node);
    again.send(&put);
    again.frame().expect("a reply");
    node.drain();
}

#[test]
fn a_request_without_memory_for_its_reply_is_not_executed() {
    let store = Store::new(StoreConfig {
        shards: 1,
        index: freight::shard::IndexKind::Buckets,
        hash_secret: [1; 32],
        budget: Arc::new(Budget::new(u64::MAX)),
        eviction: Eviction::None,
    });
    let facts = NodeFacts { incarnation: [1; 16], frame_bytes_max: FRAME_BYTES_MIN, frames_in_flight_max: 1 };
    let completions = Completions::new(CompletionsConfig::new(Arc::new(Budget::new(u64::MAX))));
    let session = Session::new(Arc::new(store.expect("a store")), Arc::new(completions), facts);
    let put = request(1, &[op(b"k", Action::Put { value: b"v" })]);
    let nothing = |_| None::<Vec<u8>>;
    let refused = session.execute(&put, 0, FRAME_BYTES_MIN, nothing, &mut session.carrier(), &mut Scratch::new(0));
    let refused = refused.expect_err("no memory");
    assert!(matches!(refused, SessionError::OutOfMemory { ops: 1 }), "{refused}");
    assert_eq!(refused.refusal_code(), RefusalCode::Memory);
    assert_eq!(session.store().stats().records, 0);
}
