//! Peers that break the protocol: a typed error each, bounded memory, and nobody else notices.
#![forbid(unsafe_code)]

use super::super::message::{ANNOUNCEMENT_BYTES, Kind, Word};
use super::super::verbs::Failure;
use super::peer::{Peer, word};
use super::{HANG, Manners, RdmaError, run, why};
use crate::transport::{FrameReceiver, TransportError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// What a connection ends with when its peer has done this.
fn breaks_the_protocol(by: impl AsyncFnOnce(&mut Peer), expected: &str) {
    run(async |mut scene| {
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        by(&mut peer).await;
        let error = end.loss().await;
        assert!(matches!(error, RdmaError::Protocol { what } if what.contains(expected)), "{error:?}");
        scene.end(end).await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_frame_of_absurd_length_is_not_read() {
    for bytes in [0, 2 * (1 << 20) + 1, u32::MAX] {
        breaks_the_protocol(
            async |peer| {
                let frame = peer.frame(100_000);
                peer.announce(&frame, |announcement| announcement.frame_bytes = bytes.into());
            },
            "more bytes than a frame",
        );
    }
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn forged_counts_are_found_out() {
    let forged = |frames_read, credits| Word { kind: Kind::Update, frames_read, credits };
    breaks_the_protocol(async |peer| assert!(peer.say(forged(0, 1), &[])), "more credits");
    breaks_the_protocol(async |peer| assert!(peer.say(forged(0, u16::MAX), &[])), "more credits");
    breaks_the_protocol(async |peer| assert!(peer.say(forged(1, 0), &[])), "read more frames");
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn half_an_announcement_is_none() {
    for bytes in [0, 79, 81, 159] {
        breaks_the_protocol(async |peer| assert!(peer.say(word(Kind::Announcement), &vec![0; bytes])), "half an");
    }
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn nothing_follows_a_close() {
    for kind in [Kind::Close, Kind::Frame, Kind::Announcement] {
        run(async |mut scene| {
            let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
            assert!(peer.say(word(Kind::Close), &[]));
            assert!(peer.say(word(kind), &[0; 80]));
            // Whoever does not look at the first one finds no heap of others.
            peer.done_sending().await;
            let sending = async {
                loop {
                    if let Err(error) = end.send(300).await {
                        return why(&error);
                    }
                }
            };
            let error = timeout(HANG, sending).await.expect("it ends");
            assert!(matches!(error, RdmaError::Protocol { what } if what.contains("has closed")), "{error:?}");
            scene.end(end).await;
        });
    }
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn more_announcements_than_agreed_are_too_many() {
    breaks_the_protocol(
        async |peer| {
            let frame = peer.frame(100_000);
            for _ in 0..16 {
                peer.announce(&frame, |_| ());
            }
        },
        "more frames than agreed",
    );
    breaks_the_protocol(
        async |peer| assert!(peer.say(word(Kind::Announcement), &[0; 9 * ANNOUNCEMENT_BYTES])),
        "more frames than agreed",
    );
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn who_talks_on_the_control_connection_is_cut_off() {
    breaks_the_protocol(async |peer| peer.control.write_all(b"x").await.expect("somebody reads"), "talks");
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn more_messages_than_credits_find_no_receive() {
    run(async |mut scene| {
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        let used = end.budget.bytes_used();
        let bytes = peer.frame(300).to_vec();
        while peer.say(word(Kind::Frame), &bytes) {}
        // Nobody takes any: the sender is the one that fails.
        assert_eq!(peer.failure().await, Failure::NotReady);
        assert_eq!(end.budget.bytes_used(), used, "memory for what nobody agreed to");
        let mut came = 0;
        while let Ok(received) = timeout(Duration::from_millis(200), end.receiver.receive()).await {
            received.expect("no fault").expect("a frame");
            came += 1;
        }
        assert!((32..=52).contains(&came), "{came} frames");
        drop(peer);
        let ended = timeout(HANG, end.receiver.receive()).await.expect("it ends");
        assert!(matches!(ended, Ok(None)), "{ended:?}");
        scene.end(end).await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn who_never_says_ready_is_given_up() {
    run(async |mut scene| {
        let (_peer, mut end) = scene.peer(Manners { ready: false, ..Manners::GOOD }).await;
        let error = end.loss().await;
        assert!(matches!(error, RdmaError::Stalled { waited } if waited == Duration::from_secs(4)), "{error:?}");
        scene.end(end).await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_message_that_is_no_frame_stalls_or_is_refused() {
    run(async |mut scene| {
        scene.config.frame_wait = Duration::from_millis(50);
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        assert!(peer.say(word(Kind::Frame), &[]));
        let stalled = end.refusal().await;
        assert!(matches!(stalled, TransportError::Stalled { got: 0, .. }), "{stalled}");
        let (mut peer, mut other) = scene.peer(Manners::GOOD).await;
        assert!(peer.say(word(Kind::Frame), &[0xFF; 100]));
        let refused = other.refusal().await;
        assert!(matches!(refused, TransportError::Framing(_)), "{refused}");
        drop(other);
        scene.end(end).await;
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn half_a_frame_behind_a_whole_one_stalls() {
    run(async |mut scene| {
        scene.config.frame_wait = Duration::from_millis(50);
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        let frame = peer.frame(100);
        assert!(peer.say(word(Kind::Frame), &[&frame[..], &frame[..70]].concat()));
        end.expect(100).await;
        let now = end.receiver.receive_now();
        assert!(matches!(now, Ok(None)), "{now:?}");
        let stalled = end.refusal().await;
        assert!(matches!(stalled, TransportError::Stalled { got: 70, needed: 100, .. }), "{stalled}");
        scene.exchange().await;
    });
}
