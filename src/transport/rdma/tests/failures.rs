//! Each class of failed completion, provoked on real verbs: a typed error, and nobody else notices.
#![forbid(unsafe_code)]

use super::super::message::{Announcement, Kind};
use super::super::verbs::Failure;
use super::super::work::Done;
use super::peer::word;
use super::{End, HANG, Manners, Peer, RdmaError, run, why};
use crate::transport::{FrameReceiver, TransportError};
use std::time::Duration;
use tokio::time::timeout;
use zerocopy::FromBytes;

fn assert_failed(error: &RdmaError, expected: Failure) {
    assert!(matches!(error, RdmaError::Completion { failure } if *failure == expected), "{error:?}");
}

/// What `provoke` does between a peer with these manners and the end that it is connected to fails that connection so.
fn fails(expected: Failure, manners: Manners, provoke: impl AsyncFnOnce(&mut Peer, &mut End)) {
    run(async |mut scene| {
        let (mut peer, mut end) = scene.peer(manners).await;
        provoke(&mut peer, &mut end).await;
        assert_failed(&end.loss().await, expected);
        scene.end(end).await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_frame_announced_where_it_is_not_is_a_remote_access_error() {
    fails(Failure::RemoteAccess, Manners::GOOD, async |peer, _| {
        let frame = peer.frame(100_000);
        peer.announce(&frame, |announcement| announcement.key = (announcement.key.get() ^ 1).into());
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_message_past_its_receive_is_a_length_error() {
    fails(Failure::TooLong, Manners::GOOD, async |peer, _| assert!(peer.say(word(Kind::Frame), &[1; 9_000])));
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_peer_without_receives_is_not_ready() {
    fails(Failure::NotReady, Manners { receives: 0, ..Manners::GOOD }, async |_, end| {
        end.send(300).await.expect("there are credits");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_peer_whose_receives_are_too_short_refuses() {
    fails(Failure::Remote, Manners { receive_bytes: 64, ..Manners::GOOD }, async |_, end| {
        end.send(5_000).await.expect("there are credits");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_peer_that_the_network_has_lost_is_unreachable() {
    run(async |mut scene| {
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        peer.vanish();
        end.send(300).await.expect("there are credits");
        assert_failed(&end.loss().await, Failure::Unreachable);
        // Whoever sends learns it too.
        let sent = timeout(HANG, end.send(300)).await.expect("it ends");
        assert_failed(&why(&sent.expect_err("nobody is there")), Failure::Unreachable);
        scene.end(end).await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_frame_that_cannot_be_read_any_more_is_unreachable_or_stalls() {
    run(async |mut scene| {
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        let frame = peer.frame(100_000);
        peer.announce(&frame, |_| ());
        peer.done_sending().await;
        peer.vanish();
        assert_failed(&end.loss().await, Failure::Unreachable);
        drop(end);
        scene.config.frame_wait = Duration::from_millis(20);
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        peer.announce(&frame, |_| ());
        peer.done_sending().await;
        peer.vanish();
        let stalled = end.refusal().await;
        assert!(matches!(stalled, TransportError::Stalled { got: 0, needed: 100_000, .. }), "{stalled}");
        scene.end(end).await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_peer_that_reads_what_it_may_not_loses_its_connection() {
    fails(Failure::Flushed, Manners::GOOD, async |peer, end| {
        end.send(100_000).await.expect("there are credits");
        let announcement = loop {
            if let Ok(Done::Received { span, word, .. }) = peer.done().await
                && word.kind == Kind::Announcement
            {
                break Announcement::read_from_prefix(&span[..]).expect("80 bytes").0;
            }
        };
        // Behind the end of what it was given.
        peer.read(announcement.address.get() + (1 << 30), announcement.key.get());
        assert_eq!(peer.failure().await, Failure::RemoteAccess);
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn memory_of_another_connection_is_nothing_to_send_from_or_read() {
    run(async |mut scene| {
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        let (other, mut other_end) = scene.peer(Manners::GOOD).await;
        // Registered in another protection domain.
        let frame = other.frame(4_000);
        peer.send_frame(&frame);
        assert_eq!(peer.failure().await, Failure::Local);
        let (mut third, mut third_end) = scene.peer(Manners::GOOD).await;
        let frame = other.frame(100_000);
        third.announce(&frame, |_| ());
        assert_failed(&third_end.loss().await, Failure::RemoteAccess);
        drop((peer, other));
        for end in [&mut end, &mut other_end] {
            let ended = timeout(HANG, end.receiver.receive()).await;
            assert!(matches!(ended, Ok(Ok(None))), "{ended:?}");
        }
        drop((end, other_end));
        scene.end(third_end).await;
    });
}
