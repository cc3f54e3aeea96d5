//! Frames arrive whole, in order, each once.
#![forbid(unsafe_code)]

use crate::lab::{End, Lab, Side, any_size, assert_is, frame, pair, pair_of, poll_once, random, send};
use freight::transport::{FrameReceiver, FrameSender, Transport};
use rand::RngExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

pub(crate) async fn frames_of_every_size_arrive_whole_and_in_order<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    // A page, the longest SEND of RDMA, the staging buffer, what an untrusted peer is lent at once, the window of the
    // simulated network.
    let edges = [4 << 10, 8 << 10, 16 << 10, 256 << 10, 512 << 10, 1 << 20, 4 << 20];
    let around = edges.iter().flat_map(|edge| edge - 70..(edge + 2).min(Side::NODE.frame_bytes_max + 1)).step_by(7);
    let sizes: Vec<u32> = (64..400).chain(around).chain([Side::NODE.frame_bytes_max]).collect();
    let numbered = || (0..).zip(sizes.iter().copied());
    tokio::join!(
        async {
            for (number, frame_bytes) in numbered() {
                near.send(number, frame_bytes).await;
            }
        },
        async {
            for (number, frame_bytes) in numbered() {
                far.expect(number, frame_bytes).await;
            }
        }
    );
    // And the way back, where the receiver trusts its peer.
    tokio::join!(far.send(1, 4 << 20), near.expect(1, 4 << 20));
}

pub(crate) async fn the_longest_frame_arrives<T: Transport>(transport: T, lab: Lab) {
    let frame_bytes_max = freight::limits::FRAME_BYTES_DEFAULT;
    let side = |side| Side { frame_bytes_max, ..side };
    let (mut near, mut far) = pair_of(&transport, &lab, &side(Side::CLIENT), &side(Side::NODE)).await;
    tokio::join!(near.send(1, frame_bytes_max), far.expect(1, frame_bytes_max));
    tokio::join!(far.send(2, frame_bytes_max), near.expect(2, frame_bytes_max));
}

/// Sends a frame of each size, numbered from 0.
async fn send_numbered<T: Transport>(near: &mut End<T>, sizes: &[u32]) {
    for (number, frame_bytes) in (0..).zip(sizes) {
        near.send(number, *frame_bytes).await;
    }
}

pub(crate) async fn many_frames_in_flight_arrive_in_order<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let mut random = random(3);
    let sizes: Vec<u32> = (0..10_000).map(|_| random.random_range(64..700)).collect();
    tokio::join!(send_numbered(&mut near, &sizes), async {
        for (number, frame_bytes) in (0..).zip(&sizes) {
            far.expect(number, *frame_bytes).await;
        }
    });
}

pub(crate) async fn frames_sent_together_arrive_in_order<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    // More than there are credits for, small and large ones in turn.
    let size = |number: u64| if number % 7 == 3 { 50_000 } else { 64 + number as u32 };
    let lender = near.sender.lender();
    let lend = |number| Arc::clone(&lender).lend(size(number) as usize).expect("no cap");
    let mut frames: Vec<_> = (0..100).map(|number| frame(lend(number), number, size(number))).collect();
    tokio::join!(
        async {
            near.sender.send_all(&mut frames).await.expect("the peer is there");
            assert!(frames.is_empty(), "{} frames are left", frames.len());
        },
        async {
            for number in 0..100 {
                far.expect(number, size(number)).await;
            }
        }
    );
}

pub(crate) async fn frames_taken_as_soon_as_they_are_here_arrive_in_order<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let mut random = random(6);
    let mut size = |number| if number % 50 == 7 { 50_000 } else { random.random_range(64..900) };
    let sizes: Vec<u32> = (0..2_000).map(&mut size).collect();
    let mut at_once = 0;
    tokio::join!(send_numbered(&mut near, &sizes), async {
        for (number, frame_bytes) in (0..).zip(&sizes) {
            match far.receiver.receive_now().expect("no fault") {
                Some(frame) => {
                    at_once += 1;
                    assert_is(&frame, number, *frame_bytes);
                }
                None => far.expect(number, *frame_bytes).await,
            }
        }
    });
    assert!(at_once > 0, "no frame was here already: the fact was not tested");
}

pub(crate) async fn a_dropped_receive_loses_nothing<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let (mut random, mut pauses) = (random(4), random(5));
    let sizes: Vec<u32> = (0..300).map(|_| any_size(&mut random, 1 << 20)).collect();
    let mut dropped = 0;
    tokio::join!(
        async {
            for (number, frame_bytes) in (0..).zip(&sizes) {
                send(&mut near.sender, number, *frame_bytes).await.expect("the peer is there");
                tokio::task::yield_now().await;
            }
        },
        async {
            for (number, frame_bytes) in (0..).zip(&sizes) {
                let received = loop {
                    let polled = match pauses.random_range(0..3) {
                        0 => timeout(Duration::from_millis(1), far.receiver.receive()).await.ok(),
                        _ => poll_once(far.receiver.receive()).await,
                    };
                    match polled {
                        Some(received) => break received,
                        None => dropped += 1,
                    }
                };
                let frame = received.expect("no fault").expect("a frame");
                assert_is(&frame, number, *frame_bytes);
            }
        }
    );
    assert!(dropped > 0, "no receive was dropped: the fact was not tested");
}
