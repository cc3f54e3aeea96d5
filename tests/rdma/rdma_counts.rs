//! Work requests are as many as the design says: counts, never times.
#![forbid(unsafe_code)]

use crate::support::{End, pair, run};

const ROUNDS: u64 = 64;

/// Requests and replies in turn, and one more round before, in which both sides come up.
async fn rounds(near: &mut End, far: &mut End, request_bytes: u32, reply_bytes: u32, rounds: u64) {
    for _ in 0..rounds {
        tokio::join!(near.send(request_bytes), far.expect(request_bytes));
        tokio::join!(far.send(reply_bytes), near.expect(reply_bytes));
    }
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_small_request_and_its_reply_are_one_send_each() {
    run(async || {
        let (mut near, mut far) = pair().await;
        rounds(&mut near, &mut far, 200, 5_000, ROUNDS).await;
        for counts in [near.counts(), far.counts()] {
            assert_eq!((counts.sends, counts.reads, counts.updates), (ROUNDS, 0, 0), "{counts:?}");
            // One send in 16; credits come back with the next message.
            assert_eq!(counts.signalled, ROUNDS / 16, "{counts:?}");
            // 52 at first, in two lists, then eight at a time.
            let again = counts.receives - 52;
            assert!((ROUNDS - 8..=ROUNDS).contains(&again), "{counts:?}");
            assert!(counts.receive_posts <= 2 + ROUNDS / 8, "{counts:?}");
            assert!(counts.events <= ROUNDS + 2, "a wait costs an event at most: {counts:?}");
        }
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_large_request_is_an_announcement_and_a_read() {
    run(async || {
        let (mut near, mut far) = pair().await;
        rounds(&mut near, &mut far, 100_000, 200, ROUNDS).await;
        let (near, far) = (near.counts(), far.counts());
        assert_eq!((near.sends, near.reads, near.updates, near.signalled), (ROUNDS, 0, 0, ROUNDS / 16), "{near:?}");
        // The reply says that the request was read. READs are signalled, and with them all sends before them.
        assert_eq!((far.sends, far.reads, far.updates, far.signalled), (ROUNDS, ROUNDS, 0, ROUNDS), "{far:?}");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn frames_one_way_bring_their_credits_back_in_halves() {
    run(async || {
        let (mut near, mut far) = pair().await;
        let frames = 640;
        tokio::join!(
            async {
                for _ in 0..frames {
                    near.send(300).await;
                }
            },
            async {
                for _ in 0..frames {
                    far.expect(300).await;
                }
            }
        );
        let (near, far) = (near.counts(), far.counts());
        assert_eq!((near.sends, near.updates), (frames, 0), "{near:?}");
        // Sixteen at least, all 32 at most; the last may still be owed.
        assert!(far.sends == far.updates && (frames / 32 - 1..=frames / 16).contains(&far.updates), "{far:?}");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn who_keeps_frames_does_not_starve_the_peer() {
    use freight::transport::FrameReceiver;
    run(async || {
        let (mut near, mut far) = pair().await;
        let mut kept = Vec::new();
        for _ in 0..200 {
            tokio::join!(near.send(300), async {
                kept.push(far.receiver.receive().await.expect("no fault").expect("a frame"));
            });
        }
        assert!(kept.iter().all(|frame| frame.frame_bytes() == 300));
    });
}
