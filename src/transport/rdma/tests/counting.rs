//! Long frames to be read count among what others have on their way, and stay with their sender where that is too much.
#![forbid(unsafe_code)]

use super::peer::Manners;
use super::{End, HANG, run};
use crate::transport::{Allowance, FrameReceiver};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::timeout;

const BYTES_MAX: u64 = 1_000_000;
const LONG: u32 = 400_000;

/// A receiver's part of a new allowance, and how often a frame of it waited.
fn allow(end: &mut End) -> (Arc<Allowance>, Arc<AtomicU64>) {
    let waits = Arc::new(AtomicU64::new(0));
    let allowance = Arc::new(Allowance::new(BYTES_MAX, Arc::clone(&waits)));
    end.receiver.set_allowance(Arc::clone(&allowance));
    (allowance, waits)
}

/// Asks for a frame for a while, and gets none.
async fn expect_nothing(end: &mut End) {
    let received = timeout(Duration::from_millis(100), end.receiver.receive()).await;
    assert!(received.is_err(), "{received:?}");
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn frames_to_be_read_stay_with_their_sender_until_there_is_room() {
    run(async |mut scene| {
        let (allowance, waits) = allow(&mut scene.far);
        let others = allowance.try_enter(BYTES_MAX - 100_000).expect("nothing is on its way");
        // Short ones go past.
        tokio::join!(async { scene.near.send(300).await.expect("room") }, scene.far.expect(300));
        assert!(!scene.far.receiver.is_midway());
        let pinned = scene.far.budget.bytes_used();
        for _ in 0..3 {
            scene.near.send(LONG).await.expect("announced");
        }
        // Each time the future is dropped; the place in the line is kept.
        expect_nothing(&mut scene.far).await;
        expect_nothing(&mut scene.far).await;
        assert_eq!((scene.far.budget.bytes_used(), waits.load(Ordering::Relaxed)), (pinned, 1));
        assert!(scene.far.receiver.is_midway(), "its connection is not idle");
        drop(others);
        scene.far.expect(LONG).await;
        // It counts until the next one is asked for, and so does that, which comes meanwhile; the third has no room.
        assert!(allowance.try_enter(BYTES_MAX - 2 * u64::from(LONG) + 1).is_none());
        drop(allowance.try_enter(BYTES_MAX - 2 * u64::from(LONG)).expect("two are on their way"));
        scene.far.expect(LONG).await;
        scene.far.expect(LONG).await;
        tokio::join!(async { scene.near.send(300).await.expect("room") }, scene.far.expect(300));
        assert!(allowance.try_enter(BYTES_MAX).is_some(), "nothing is on its way any more");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_peer_that_goes_while_its_frame_waits_leaves_the_line() {
    run(async |mut scene| {
        let (mut peer, mut end) = scene.peer(Manners::GOOD).await;
        let (allowance, _) = allow(&mut end);
        let others = allowance.try_enter(BYTES_MAX).expect("nothing is on its way");
        let frame = peer.frame(LONG);
        peer.announce(&frame, |_| {});
        expect_nothing(&mut end).await;
        assert!(allowance.try_enter(1).is_none());
        drop((peer, frame));
        let lost = timeout(HANG, end.receiver.receive()).await.expect("it is noticed");
        lost.expect_err("half a frame is no end");
        scene.end(end).await;
        drop(others);
        assert!(allowance.try_enter(BYTES_MAX).is_some(), "nobody waits any more");
    });
}
