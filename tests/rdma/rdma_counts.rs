//! Work requests, signalled completions and events are as many as the design says: counts, never times.
#![forbid(unsafe_code)]

use crate::support::{End, pair, pair_with, run};
use freight::transport::rdma::{Counts, RdmaOptions};
use freight::transport::{FrameReceiver, FrameSender};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

const ROUNDS: u64 = 64;

/// One frame, to an end that sleeps already.
async fn one_way(from: &mut End, to: &mut End, frame_bytes: u32) {
    let mut expecting = pin!(to.expect(frame_bytes));
    assert!(poll_fn(|cx| Poll::Ready(expecting.as_mut().poll(cx).is_pending())).await, "nobody has sent anything");
    from.send(frame_bytes).await;
    expecting.await;
}

/// Requests and replies in turn; what they cost each end.
async fn rounds(request_bytes: u32, reply_bytes: u32, rounds: u64) -> [Counts; 2] {
    let (mut near, mut far) = pair().await;
    for _ in 0..rounds {
        one_way(&mut near, &mut far, request_bytes).await;
        one_way(&mut far, &mut near, reply_bytes).await;
    }
    [near.counts(), far.counts()]
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_small_request_and_its_reply_are_one_send_each() {
    run(async || {
        for counts in rounds(200, 5_000, ROUNDS).await {
            assert_eq!((counts.sends, counts.reads, counts.updates), (ROUNDS, 0, 0), "{counts:?}");
            // One send in 16; credits come back with the next message.
            assert_eq!((counts.signalled, counts.send_posts), (ROUNDS / 16, ROUNDS), "{counts:?}");
            // 52 at first, in two lists, then eight at a time.
            assert_eq!((counts.receives - 52) % 8, 0, "{counts:?}");
            assert!((ROUNDS - 8..=ROUNDS).contains(&(counts.receives - 52)), "{counts:?}");
            assert_eq!(counts.receive_posts, 2 + (counts.receives - 52) / 8, "{counts:?}");
            // One a message that is waited for; a signalled send may end while somebody waits for something else.
            assert!((ROUNDS..=ROUNDS + ROUNDS / 16).contains(&counts.events), "{counts:?}");
        }
        for counts in rounds(200, 5_000, 15).await {
            assert_eq!((counts.signalled, counts.events), (0, 15), "nothing else is waited for: {counts:?}");
        }
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_frame_that_fits_a_receive_is_sent_and_a_longer_one_is_read() {
    run(async || {
        let (mut near, mut far) = pair_with(RdmaOptions { receive_bytes: 65_536, ..RdmaOptions::default() }).await;
        for (frame_bytes, sends, reads) in [(65_536, 1, 0), (65_537, 2, 1)] {
            one_way(&mut near, &mut far, frame_bytes).await;
            assert_eq!((near.counts().sends, far.counts().reads), (sends, reads), "a frame of {frame_bytes} bytes");
        }
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_large_request_is_an_announcement_and_a_read() {
    run(async || {
        let [near, far] = rounds(100_000, 200, ROUNDS).await;
        assert_eq!((near.sends, near.reads, near.updates, near.signalled), (ROUNDS, 0, 0, ROUNDS / 16), "{near:?}");
        assert!((ROUNDS..=ROUNDS + ROUNDS / 16).contains(&near.events), "{near:?}");
        // The reply says that the request was read. READs are signalled, and with them all sends before them.
        assert_eq!((far.sends, far.reads, far.updates, far.signalled), (ROUNDS, ROUNDS, 0, ROUNDS), "{far:?}");
        assert_eq!(far.send_posts, 2 * ROUNDS, "{far:?}");
        // The announcement and the end of the READ, where that takes longer than going to sleep.
        assert!((ROUNDS..=2 * ROUNDS).contains(&far.events), "{far:?}");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_frame_of_many_chunks_is_read_by_one_doorbell() {
    run(async || {
        // Five chunks of 1 MiB, the last one shorter.
        let [near, far] = rounds(4_500_000, 200, 4).await;
        assert_eq!((near.sends, near.send_posts, near.reads), (4, 4, 0), "{near:?}");
        assert_eq!((far.sends, far.reads, far.signalled), (4, 20, 20), "{far:?}");
        assert_eq!(far.send_posts, 8, "{far:?}");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn frames_sent_together_share_a_doorbell() {
    for (post_list, posts) in [(8, 1), (3, 3), (1, 8)] {
        run(async || {
            let (mut near, mut far) = pair_with(RdmaOptions { post_list, ..RdmaOptions::default() }).await;
            let before = opened(&mut near, &mut far).await;
            send_together(&mut near, &[2_000; 8]).await;
            let counts = near.counts();
            assert_eq!((counts.sends - before.sends, counts.send_posts - before.send_posts), (8, posts));
            for _ in 0..8 {
                far.expect(2_000).await;
            }
        });
    }
}

/// One frame each way; what the near end has posted by then.
async fn opened(near: &mut End, far: &mut End) -> Counts {
    one_way(near, far, 300).await;
    one_way(far, near, 300).await;
    near.counts()
}

async fn send_together(from: &mut End, frame_bytes: &[u32]) {
    let mut frames: Vec<_> = frame_bytes.iter().map(|&frame_bytes| from.frame(frame_bytes)).collect();
    from.sender.send_all(&mut frames).await.expect("the peer is there");
    assert!(frames.is_empty());
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn short_frames_sent_together_share_messages() {
    let table: [(&[u32], u64); 6] = [
        (&[100, 64, 300, 1_024], 1),
        (&[1_024; 8], 1),
        (&[1_024; 9], 2),
        (&[100, 1_025, 200, 300], 3),
        (&[100, 200, 1_025], 2),
        (&[100, 200, 100_000, 300, 400], 3),
    ];
    run(async || {
        let (mut near, mut far) = pair().await;
        let mut sends = opened(&mut near, &mut far).await.sends;
        for (frames, messages) in table {
            send_together(&mut near, frames).await;
            for &frame_bytes in frames {
                far.expect(frame_bytes).await;
            }
            sends += messages;
            assert_eq!(near.counts().sends, sends, "{frames:?}");
        }
        // Both ends' memory comes back: another thousand of them cost no more.
        let used = [near.budget.bytes_used(), far.budget.bytes_used()];
        for _ in 0..250 {
            send_together(&mut near, &[200; 4]).await;
            for _ in 0..4 {
                far.expect(200).await;
            }
        }
        assert_eq!([near.budget.bytes_used(), far.budget.bytes_used()], used);
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn the_frames_of_a_message_are_all_here_at_once() {
    run(async || {
        let (mut near, mut far) = pair().await;
        opened(&mut near, &mut far).await;
        send_together(&mut near, &[100, 200, 300]).await;
        far.expect(100).await;
        let mut now = || far.receiver.receive_now().expect("no fault").map(|frame| frame.frame_bytes());
        assert_eq!([now(), now(), now()], [Some(200), Some(300), None]);
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn long_frames_sent_together_are_announced_together() {
    run(async || {
        let (mut near, mut far) = pair().await;
        let mut sends = opened(&mut near, &mut far).await.sends;
        for (frames, messages) in [(8, 1), (3, 1), (1, 1)] {
            send_together(&mut near, &vec![100_000; frames]).await;
            for _ in 0..frames {
                far.expect(100_000).await;
            }
            // Eight at most lie unread: the next ones wait until it has told what it read.
            one_way(&mut far, &mut near, 300).await;
            sends += messages;
            assert_eq!(near.counts().sends, sends, "{frames} frames");
        }
        assert_eq!(far.counts().reads, 12);
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn more_frames_than_there_is_room_for_arrive_in_order_all_the_same() {
    // Forty fill ten messages, for which there are four credits; of twelve that are announced eight may lie unread.
    let table = [(1_000, 40), (100_000, 12)];
    run(async || {
        let (mut near, mut far) = pair_with(RdmaOptions { rx_depth: 4, ..RdmaOptions::default() }).await;
        for (least, frames) in table {
            let before = opened(&mut near, &mut far).await;
            let frame_bytes: Vec<u32> = (least..least + frames).collect();
            tokio::join!(send_together(&mut near, &frame_bytes), async {
                for &frame_bytes in &frame_bytes {
                    far.expect(frame_bytes).await;
                }
            });
            let sends = near.counts().sends - before.sends;
            assert!((2..u64::from(frames)).contains(&sends), "{sends} messages of {frames} frames");
        }
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
