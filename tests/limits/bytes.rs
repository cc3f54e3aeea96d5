//! Bytes in flight: frames that are too many wait in their clients, and a client that does not read is bounded.
#![forbid(unsafe_code)]

use crate::raw::{Raw, op, request};
use crate::resp::command;
use crate::support::cluster::{Cluster, Plan, Wire};
use crate::{as_user, node, redis, users};
use freight::client::Client;
use freight::op::Action;
use freight::server::Node;
use std::future::poll_fn;
use std::io::{ErrorKind, Write};
use std::task::Poll;

const MIB: usize = 1 << 20;

/// All but the last byte of a put of 4 MiB.
fn most_of_a_put() -> (Vec<u8>, u8) {
    let mut put = request(1, &[op(b"large", Action::Put { value: &vec![7; 4 * MIB] })]);
    let last = put.pop().expect("it is long");
    (put, last)
}

/// Sends as much as is taken without waiting for anybody.
fn push(raw: &mut Raw, bytes: &[u8]) -> usize {
    raw.stream.set_nonblocking(true).expect("a socket");
    let mut sent = 0;
    while sent < bytes.len() {
        match raw.stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    raw.stream.set_nonblocking(false).expect("a socket");
    sent
}

/// What its connections hold, once nothing moves any more while another client works on and on.
fn settled(node: &Node, other: &mut Raw) -> u64 {
    let (mut last, mut same) = (0, 0);
    while same < 200 {
        other.works();
        let used = node.stats().memory_bytes_used;
        same = if used == last { same + 1 } else { 0 };
        last = used;
    }
    last
}

#[test]
fn frames_of_one_client_beyond_its_share_stay_with_it_until_there_is_room() {
    let node = node(|config| config.bytes_in_flight_max = Some(8 * MIB as u64));
    let mut other = Raw::connect(&node);
    let before = settled(&node, &mut other);
    let (put, last) = most_of_a_put();
    let mut greedy: Vec<Raw> = (0..20).map(|_| Raw::connect(&node)).collect();
    let mut sent = vec![0; greedy.len()];
    for _ in 0..20 {
        for (raw, sent) in greedy.iter_mut().zip(&mut sent) {
            *sent += push(raw, &put[*sent..]);
        }
        other.works();
    }
    // One of 4 MiB and a little: two would be more than 8 MiB. It has grown on its way, and its smaller buffers are
    // kept for others; all twenty would be 80 MiB.
    let held = settled(&node, &mut other) - before;
    assert!(held < 20 * MIB as u64, "{} MiB for one client", held >> 20);
    // Nothing is lost: each comes to its turn. Whose turn it is nobody says, so all go on at once.
    let finishing: Vec<_> = greedy
        .into_iter()
        .zip(sent)
        .map(|(mut raw, sent)| {
            let rest = [&put[sent..], &[last]].concat();
            std::thread::spawn(move || {
                raw.send(&rest);
                raw.frame().expect("a reply");
            })
        })
        .collect();
    finishing.into_iter().for_each(|one| one.join().expect("answered"));
    other.works();
    assert_eq!(node.stats().refusals, 0);
    node.drain();
}

#[test]
fn one_user_s_share_is_no_other_s() {
    let node = node(|config| {
        config.users = Some(users(&[("ada", None), ("bob", None)]));
        config.bytes_in_flight_max = Some(MIB as u64);
    });
    let mut greedy = redis(&node);
    assert_eq!(greedy.says("AUTH ada ada"), "+OK\r\n");
    let set = command(&[&b"SET"[..], b"k", &vec![b'v'; 2 * MIB]]);
    greedy.send(&set[..MIB]);
    Wire::Tcp.runtime().block_on(async {
        let connect = async |name| Client::connect(node.endpoints(), as_user(name)).await.expect("a user");
        let (ada, bob) = (connect("ada").await, connect("bob").await);
        // Small ones go past.
        ada.put(b"small", b"v").await.expect("it goes past");
        let value = vec![7; MIB];
        for _ in 0..10 {
            bob.put(b"large", &value).await.expect("his share is his");
        }
        let waiting = ada.put(b"large", &value);
        let mut waiting = std::pin::pin!(waiting);
        // What comes of it while others wait counts as what was there before.
        for more in [&set[MIB..MIB + 1000], &set[MIB + 1000..set.len() - 2], &[]] {
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("her share is taken"),
                read = async { for _ in 0..100 { bob.get(b"large").await.expect("read"); } } => read,
            }
            greedy.send(more);
        }
        greedy.send(&set[set.len() - 2..]);
        assert_eq!(greedy.reply(), b"+OK\r\n");
        waiting.await.expect("there is room again");
    });
    node.drain();
}

/// On a node that has room for one such frame at a time.
pub(crate) fn long_frames_of_many_connections_are_all_answered(wire: Wire) {
    println!("{wire:?}");
    Plan::new(wire).node(|config| config.bytes_in_flight_max = Some(MIB as u64)).run(async |cluster: &mut Cluster| {
        let (a, b, c) = (cluster.client().await, cluster.client().await, cluster.client().await);
        let value = vec![7; 3 * MIB / 4];
        let work = async |client: &Client, key: &'static [u8]| {
            for _ in 0..10 {
                client.put(key, &value).await.expect("written");
                assert_eq!(client.get(key).await.expect("read").as_deref(), Some(&value[..]));
            }
        };
        tokio::join!(work(&a, b"a"), work(&b, b"b"), work(&c, b"c"));
    });
}

#[test]
fn long_frames_of_many_connections_are_all_answered_on_each_wire() {
    Wire::ALL.into_iter().for_each(long_frames_of_many_connections_are_all_answered);
}

/// Frames whose turn comes in seconds are held meanwhile: as many as there is room for, of four one.
pub(crate) fn what_there_is_no_room_for_stays_with_its_clients(wire: Wire) {
    println!("{wire:?}");
    let plan = Plan::new(wire).node(|config| {
        config.users = Some(users(&[("slow", Some(1)), ("fast", None)]));
        config.bytes_in_flight_max = Some(3 * MIB as u64 / 2);
    });
    plan.run(async |cluster: &mut Cluster| {
        let fast = cluster.client_with(as_user("fast")).await;
        fast.ping().await.expect("served");
        let mut slow = Vec::new();
        for _ in 0..4 {
            slow.push(cluster.client_with(as_user("slow")).await);
        }
        // On credit: what comes behind it waits until it is paid for.
        let mut batch = slow[0].batch(10);
        (0..10).for_each(|_| batch.get(b"k").expect("room"));
        slow[0].execute(batch).await.expect("executed");
        let before = cluster.stats(0).memory_bytes_used;
        // A frame of it is a MiB at most.
        let value = vec![7; MIB - 1_000];
        let mut puts: Vec<_> = slow.iter().map(|client| Box::pin(client.put(b"k", &value))).collect();
        let putting = poll_fn(|context| {
            assert!(puts.iter_mut().all(|put| put.as_mut().poll(context).is_pending()), "it is nobody's turn");
            Poll::<()>::Pending
        });
        let settling = async {
            let (mut held, mut same) = (0, 0);
            while held < MIB as u64 || same < 50 {
                fast.get(b"k").await.expect("read");
                let now = cluster.stats(0).memory_bytes_used - before;
                same = if now == held { same + 1 } else { 0 };
                held = now;
            }
            held
        };
        let held = tokio::select! {
            () = putting => unreachable!("it waits"),
            held = settling => held,
        };
        assert!(held < 3 * MIB as u64, "{held} bytes for one of four");
    });
}

#[test]
fn what_there_is_no_room_for_stays_with_its_clients_on_each_wire() {
    [Wire::Tcp, Wire::Shm].into_iter().for_each(what_there_is_no_room_for_stays_with_its_clients);
}

#[test]
fn clients_that_never_read_hold_a_reply_each_and_no_more() {
    let node = node(|_| {});
    let mut other = Raw::connect(&node);
    other.send(&request(1, &[op(b"large", Action::Put { value: &vec![7; 4 * MIB] })]));
    other.frame().expect("a reply");
    let before = settled(&node, &mut other);
    let get = request(2, &[op(b"large", Action::Get)]);
    let mut greedy: Vec<Raw> = (0..8).map(|_| Raw::connect(&node)).collect();
    for raw in &mut greedy {
        // Of each a thousand replies of 4 MiB are asked for.
        push(raw, &get.repeat(1_000));
    }
    let held = settled(&node, &mut other) - before;
    assert!(held <= 8 * 8 * MIB as u64, "{} MiB for eight replies", held >> 20);
    drop(greedy);
    other.works();
    node.drain();
}
