//! Whatever bytes arrive at a node, their sender gets one clear line and nobody else notices.
#![forbid(unsafe_code)]

use crate::raw::{Raw, node, op, request};
use crate::support::scripted::{reply, well_behaved};
use freight::limits::{FRAME_BYTES_DEFAULT, VALUE_BYTES_MAX};
use freight::op::{Action, Outcome};
use freight::server::Node;
use freight::wire::{
    Capabilities, FrameKind, HEADER_BYTES, Header, Hello, RefusalCode, ReplyView, hello, hello_reply, refusal,
    stats_reply, stats_request, stats_text,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::{ErrorKind, Write};

/// Sends bytes on a connection of their own, behind a hello, and expects a refusal.
#[track_caller]
fn refused(node: &Node, bytes: &[u8], code: RefusalCode) -> String {
    let mut raw = Raw::connect(node);
    raw.send(bytes);
    raw.expect_refusal(code)
}

/// A request of one put with some of its bytes changed.
fn changed_put(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = request(1, &[op(b"key", Action::Put { value: b"value" })]);
    change(&mut bytes);
    bytes
}

/// Where things stand in such a request.
const DESCRIPTOR: usize = HEADER_BYTES as usize;
const OPERAND: usize = DESCRIPTOR + 4;

#[test]
fn malformed_requests_are_refused_in_one_line() {
    let node = node(|_| {});
    let mut other = Raw::connect(&node);
    let max = u32::MAX.to_le_bytes();
    let cases: [(&str, Vec<u8>); 12] = [
        ("unknown operation code 99", changed_put(|bytes| bytes[DESCRIPTOR] = 99)),
        ("unknown flags 0x80", changed_put(|bytes| bytes[DESCRIPTOR + 1] = 0x80)),
        ("operation 0: bytes", changed_put(|bytes| bytes[DESCRIPTOR + 2..OPERAND].fill(0xFF))),
        ("value of 4294967295 bytes", changed_put(|bytes| bytes[OPERAND..OPERAND + 4].copy_from_slice(&max))),
        ("operation 0: bytes", changed_put(|bytes| bytes[OPERAND] = 6)),
        ("payload", changed_put(|bytes| bytes[OPERAND] = 4)),
        ("operations in a frame", changed_put(|bytes| bytes[12..16].copy_from_slice(&max))),
        ("frame cut short", changed_put(|bytes| bytes[12..16].copy_from_slice(&60_000_u32.to_le_bytes()))),
        ("frame of 4294967295 bytes", changed_put(|bytes| bytes[8..12].copy_from_slice(&max))),
        ("frame of 63 bytes", changed_put(|bytes| bytes[8..12].copy_from_slice(&63_u32.to_le_bytes()))),
        ("unknown frame kind 0", changed_put(|bytes| bytes[5] = 0)),
        ("reserved field", changed_put(|bytes| bytes[60] = 1)),
    ];
    for (line, bytes) in &cases {
        let text = refused(&node, bytes, RefusalCode::Malformed);
        assert!(text.contains(line), "'{text}' does not say '{line}'");
        other.works();
    }
    assert_eq!(node.stats().refusals, cases.len() as u64);
    assert_eq!(node.stats().store.records, 1, "nothing of a malformed frame was executed");
    node.drain();
}

#[test]
fn frames_that_only_a_node_sends_are_refused() {
    let node = node(|_| {});
    let get = request(1, &[op(b"k", Action::Get)]);
    for bytes in [
        reply(&get, &[Outcome::NotFound]),
        hello_reply(&well_behaved()),
        refusal(RefusalCode::Draining, "you first"),
        stats_reply(1, "{}"),
        hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default())),
    ] {
        let text = refused(&node, &bytes, RefusalCode::Malformed);
        assert!(text.contains("where 3 was expected"), "{text}");
    }
    node.drain();
}

#[test]
fn a_connection_begins_with_a_hello() {
    let node = node(|_| {});
    for bytes in [request(1, &[op(b"k", Action::Get)]), stats_request(1)] {
        let mut raw = Raw::connect_silently(&node);
        raw.send(&bytes);
        let text = raw.expect_refusal(RefusalCode::Malformed);
        assert!(text.contains("where 1 was expected"), "{text}");
    }
    node.drain();
}

#[test]
fn other_protocols_and_versions_are_refused_in_one_line() {
    let node = node(|_| {});
    let mut raw = Raw::connect_silently(&node);
    raw.send(b"GET / HTTP/1.1\r\n\r\n");
    let text = raw.expect_refusal(RefusalCode::Malformed);
    assert!(text.contains("no Freight frame"), "{text}");
    // A hello of another version, by its header or by what it offers.
    let mut newer = hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default()));
    newer[4] = 2;
    let offers = Hello { version_min: 2, version_max: 9, ..Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default()) };
    for bytes in [newer, hello(&offers)] {
        let mut raw = Raw::connect_silently(&node);
        raw.send(&bytes);
        let text = raw.expect_refusal(RefusalCode::Version);
        assert!(text.contains("version") && !text.contains('\n'), "{text}");
    }
    node.drain();
}

#[test]
fn hellos_that_cannot_be_served_are_refused() {
    let node = node(|_| {});
    let plain = Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default());
    let cases = [
        (Hello { authentication_method: 9.into(), ..plain }, RefusalCode::Unauthorized),
        (Hello { frame_bytes_max: 1_000.into(), ..plain }, RefusalCode::Malformed),
        (Hello { frame_bytes_max: u32::MAX.into(), ..plain }, RefusalCode::Malformed),
        (Hello { version_min: 3, version_max: 1, ..plain }, RefusalCode::Malformed),
    ];
    for (offer, code) in cases {
        let mut raw = Raw::connect_silently(&node);
        raw.send(&hello(&offer));
        raw.expect_refusal(code);
    }
    node.drain();
}

#[test]
fn a_client_that_ends_in_the_middle_gets_no_answer_and_does_no_harm() {
    let node = node(|_| {});
    let greeting = hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default()));
    for length in [0, 1, 4, 63, 64, greeting.len() - 1] {
        let mut raw = Raw::connect_silently(&node);
        raw.send(&greeting[..length]);
        raw.close();
        assert_eq!(raw.frame(), None);
    }
    let put = request(1, &[op(b"k", Action::Put { value: &[1; 300_000] })]);
    for length in [1, 64, 70, 299_000] {
        let mut raw = Raw::connect(&node);
        raw.send(&put[..length]);
        raw.close();
        assert_eq!(raw.frame(), None);
    }
    Raw::connect(&node).works();
    assert_eq!(node.stats().store.records, 1, "half a put is none");
    node.drain();
}

#[test]
fn half_a_frame_and_silence_keeps_nobody_waiting() {
    let node = node(|config| config.memory_bytes_max = Some(64 << 20));
    let put = request(1, &[op(b"k", Action::Put { value: &[1; 1 << 20] })]);
    let silent: Vec<Raw> = (0..50)
        .map(|index| {
            let mut raw = Raw::connect(&node);
            raw.send(&put[..65 + index * 1_000]);
            raw
        })
        .collect();
    let mut other = Raw::connect(&node);
    (0..100).for_each(|_| other.works());
    assert!(node.stats().memory_bytes_used < 32 << 20, "memory is lent as bytes arrive");
    drop(silent);
    other.works();
    node.drain();
}

#[test]
fn a_client_that_never_reads_its_replies_stops_only_itself() {
    let node = node(|_| {});
    let mut greedy: Vec<Raw> = (0..4).map(|_| Raw::connect(&node)).collect();
    greedy[0].send(&request(1, &[op(b"large", Action::Put { value: &vec![7; 4 << 20] })]));
    greedy[0].frame().expect("a reply");
    let get = request(2, &[op(b"large", Action::Get)]);
    for raw in &mut greedy {
        raw.stream.set_nonblocking(true).expect("a socket");
        // Until neither side's buffers take any more, or the replies are far more than they can hold.
        for _ in 0..100_000 {
            match raw.stream.write(&get) {
                Ok(written) if written == get.len() => {}
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let mut other = Raw::connect(&node);
    (0..1_000).for_each(|_| other.works());
    assert!(node.stats().memory_bytes_used < 200 << 20, "a connection holds one frame and one reply");
    drop(greedy);
    other.works();
    node.drain();
}

#[test]
fn random_bytes_and_mutated_frames_never_hurt_others() {
    let node = node(|_| {});
    let mut other = Raw::connect(&node);
    let mut random = ChaCha8Rng::seed_from_u64(21);
    let ops = [
        op(b"a", Action::Put { value: b"value" }),
        op(b"b", Action::Get),
        op(b"c", Action::Add { delta: 1 }),
        op(b"d", Action::CompareAndSwap { expected: 0, value: b"new" }),
        op(b"e", Action::Delete),
    ];
    let valid = request(1, &ops);
    for round in 0..300 {
        let mut bytes = valid.repeat(random.random_range(1..4));
        if round % 3 == 0 {
            random.fill(&mut bytes[..]);
        } else {
            for _ in 0..random.random_range(1..5) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
        }
        let mut raw = if random.random() { Raw::connect(&node) } else { Raw::connect_silently(&node) };
        raw.send(&bytes);
        raw.close();
        // Replies, a refusal or nothing: then the end.
        while let Some(frame) = raw.frame() {
            let (_, kind, _) = Header::split(&frame).expect("a node sends frames");
            assert!(matches!(kind, FrameKind::Reply | FrameKind::Refusal), "{kind:?}");
        }
        if round % 20 == 0 {
            other.works();
        }
    }
    other.works();
    node.drain();
}

#[test]
fn refusals_reach_a_client_that_sent_much_more() {
    let node = node(|_| {});
    let mut raw = Raw::connect(&node);
    let mut bytes = changed_put(|bytes| bytes[DESCRIPTOR] = 99);
    bytes.resize(100_000, 0);
    raw.send(&bytes);
    raw.expect_refusal(RefusalCode::Malformed);
    node.drain();
}

#[test]
fn refusals_reach_a_client_that_sent_much_that_is_no_frame() {
    let node = node(|_| {});
    let mut raw = Raw::connect(&node);
    raw.send(&vec![0xA5; 8 << 20]);
    let text = raw.expect_refusal(RefusalCode::Malformed);
    assert!(text.contains("no Freight frame"), "{text}");
    node.drain();
}

#[test]
fn a_long_hello_is_refused_by_its_header() {
    let node = node(|_| {});
    let mut raw = Raw::connect_silently(&node);
    let mut greeting = hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default()));
    greeting[8..12].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    greeting.resize(1 << 20, 0);
    raw.send(&greeting);
    let text = raw.expect_refusal(RefusalCode::Malformed);
    assert!(text.contains("frame of 1048576 bytes, allowed are 64 to 65536"), "{text}");
    node.drain();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let node = node(|_| {});
    let mut raw = Raw::connect(&node);
    let value = vec![5; VALUE_BYTES_MAX as usize / 64];
    for number in 0..200 {
        raw.send(&request(number, &[op(b"n", Action::Add { delta: 1 }), op(b"v", Action::Put { value: &value })]));
        if number % 50 == 49 {
            for number in number - 49..=number {
                let frame = raw.frame().expect("a reply");
                let view = ReplyView::parse(&frame).expect("a reply");
                assert_eq!(view.header().request.get(), number);
                assert_eq!(view.outcome(0), Outcome::Counter { value: number as i64 + 1, version: None });
            }
        }
    }
    raw.send(&stats_request(77));
    let stats = raw.frame().expect("statistics");
    assert!(stats_text(&stats).expect("text").contains("\"connections\":1"));
    node.drain();
}
