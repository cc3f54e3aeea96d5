//! Clients that lie in shared memory: the node goes on, and so do its other connections.
#![forbid(unsafe_code)]

use crate::peer::{CONSUMED, PUBLISHED, Peer, RELEASED, Served, connect_silently, hello, serve};
use freight::client::{Client, ClientConfig};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Op};
use freight::wire::{Capabilities, Hello, HelloReply, Origin, Refusal, ReplyView, RequestBuilder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::fs::{FallocateFlags, fallocate, ftruncate};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// An honest client is served, whatever the others did.
fn assert_serves(served: &Served) {
    runtime().block_on(async {
        let client = Client::connect(served.node.endpoints(), ClientConfig::default()).await.expect("connected");
        client.put(b"honest", &[5; 100_000]).await.expect("written");
        assert_eq!(client.get(b"honest").await.expect("an answer").as_deref(), Some(&[5; 100_000][..]));
    });
}

fn greeted(served: &Served) -> Peer {
    let mut peer = Peer::connect(&served.node);
    peer.send(&freight::wire::hello(&Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default())));
    HelloReply::parse(&peer.frame().expect("an answer")).expect("a hello");
    peer
}

fn request(number: u64, ops: u32) -> Vec<u8> {
    let mut builder = RequestBuilder::new(Vec::new(), ops, FRAME_BYTES_DEFAULT).expect("room");
    for key in 0..ops {
        let (key, value) = (key.to_le_bytes(), [key as u8; 50]);
        let action = if key[0] % 2 == 0 { Action::Put { value: &value } } else { Action::Get };
        builder.push(&Op { key: &key, action, version_wanted: false }).expect("room");
    }
    let (mut bytes, length) = builder.finish(Origin { request: number, ..Origin::default() });
    bytes.truncate(length as usize);
    bytes
}

#[test]
fn a_client_that_speaks_for_itself_is_served() {
    let served = serve(|_| {});
    let mut peer = greeted(&served);
    for number in 1..600 {
        peer.send(&request(number, 20));
        let reply = peer.frame().expect("a reply");
        assert_eq!(ReplyView::parse(&reply).expect("a reply").op_count(), 20);
    }
    drop(peer);
    served.node.drain();
}

#[test]
fn memory_can_be_neither_cut_nor_grown_and_replies_not_written() {
    let served = serve(|_| {});
    let mut peer = greeted(&served);
    for file in [&peer.requests, &peer.replies] {
        let bytes = file.metadata().expect("a size").len();
        for bytes in [0, 4096, bytes - 1, bytes + 4096] {
            assert_eq!(ftruncate(file, bytes), Err(rustix::io::Errno::PERM), "{bytes}");
        }
        assert_eq!(rustix::fs::fcntl_add_seals(file, rustix::fs::SealFlags::WRITE), Err(rustix::io::Errno::PERM));
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(fallocate(&peer.replies, hole, 0, 4096), Err(rustix::io::Errno::PERM));
    assert!(peer.replies.write_all_at(b"x", 0).is_err(), "replies are the node's alone");
    // Holes in its own segment are pages of zeroes: no frame, and no end of the node.
    fallocate(&peer.requests, hole, 0, peer.requests.metadata().expect("a size").len()).expect("its own");
    peer.publish(0, 500);
    assert_serves(&served);
    served.node.drain();
}

/// What is told, and how.
type Lie = (&'static str, fn(&mut Peer));

#[test]
fn lies_in_counters_and_descriptors_end_their_connection_alone() {
    let lies: [Lie; 7] = [
        ("a frame past the end", |peer| peer.publish(peer.request_granules - 1, 1025)),
        ("a frame far outside", |peer| peer.publish(u32::MAX, u32::MAX)),
        ("a frame of nothing", |peer| peer.publish(0, 0)),
        ("more frames than slots", |peer| {
            peer.store(PUBLISHED, 300);
            peer.ring();
        }),
        ("fewer frames than before", |peer| {
            peer.store(PUBLISHED, 0);
            peer.ring();
        }),
        ("no frame at all", |peer| peer.send(&[0xA5; 700])),
        ("replies taken that were never sent", |peer| {
            peer.store(CONSUMED, u64::MAX);
            // Enough for the node to look whether there is a slot.
            for number in 1..400 {
                peer.send(&request(number, 2));
                while peer.load(CONSUMED) <= number && !is_closed(peer) {
                    std::thread::yield_now();
                }
            }
        }),
    ];
    let served = serve(|_| {});
    for (lie, tell) in lies {
        println!("{lie}");
        let mut peer = greeted(&served);
        tell(&mut peer);
        while !is_closed(&peer) {
            std::thread::yield_now();
        }
        assert_serves(&served);
    }
    served.node.drain();
}

/// Whether the node has closed the socket; takes bells that are in it.
fn is_closed(peer: &Peer) -> bool {
    peer.socket.set_nonblocking(true).expect("a socket");
    let read = (&peer.socket).read(&mut [0; 64]);
    peer.socket.set_nonblocking(false).expect("a socket");
    match read {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn bytes_that_change_while_they_are_read_harm_nobody() {
    let seed = 1;
    println!("seed {seed}");
    let served = serve(|_| {});
    let stop = AtomicBool::new(false);
    let (mut answered, mut refused) = (0, 0);
    for round in 0..60 {
        let mut peer = greeted(&served);
        let frame = request(1, 400);
        let other = {
            let (requests, granules) = (peer.requests.try_clone().expect("a descriptor"), peer.reply_granules);
            (requests, (8 * (RELEASED + u64::from(granules))).next_multiple_of(4096))
        };
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let (stop, bytes) = (&stop, frame.len() as u64);
            scope.spawn(move || {
                let ((requests, data_at), mut random) = (other, ChaCha8Rng::seed_from_u64(seed + round));
                while !stop.load(Ordering::Relaxed) {
                    // Anywhere in the frame, or the length in its header, or a descriptor.
                    let (at, value) = match random.random_range(0..4) {
                        0 => (data_at + 8, random.random_range(0..400_000_u32)),
                        1 => (data_at + random.random_range(64..68 + 4 * 400), random.random()),
                        2 => (8 * 64 + 8 * random.random_range(0..4), random.random_range(0..8000)),
                        _ => (data_at + random.random_range(0..bytes - 4), random.random()),
                    };
                    requests.write_all_at(&value.to_le_bytes(), at).expect("its own segment");
                }
            });
            for _ in 0..8 {
                peer.send(&frame);
            }
            // A length that was made too large would be waited for: this says that nothing more comes.
            peer.end();
            while let Some(reply) = peer.frame() {
                match ReplyView::parse(&reply) {
                    Ok(_) => answered += 1,
                    Err(_) => {
                        Refusal::parse(&reply).expect("a reply or a refusal");
                        refused += 1;
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    println!("{answered} answered, {refused} refused");
    assert_serves(&served);
    served.node.drain();
}

#[test]
fn strange_half_and_missing_handshakes_end_their_connection_alone() {
    let served = serve(|config| config.hello_wait = Duration::from_millis(50));
    let other_version = hello(2);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &other_version, &hello(1)[..7], b""] {
        let mut socket = connect_silently(&served.node);
        socket.write_all(bytes).expect("the node reads");
        // Whatever the node had to say, it hangs up.
        let mut said = Vec::new();
        let _reset = socket.read_to_end(&mut said);
        assert!(said.starts_with(b"FSHM\x01\0"), "an offer comes first: {said:?}");
        assert_serves(&served);
    }
    served.node.drain();
}
