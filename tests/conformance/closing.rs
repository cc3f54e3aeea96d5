//! Ends of connections: orderly, in the middle, and by a peer that is simply gone.
#![forbid(unsafe_code)]

use crate::lab::{End, Lab, Side, bytes, pair, pair_of, send};
use freight::transport::{Frame, FrameReceiver, FrameSender, Transport, TransportError};
use freight::wire::HEADER_BYTES;
use std::time::Duration;

pub(crate) async fn a_close_between_frames_is_the_end<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let sending = async {
        near.send(1, 64).await;
        near.send(2, 100_000).await;
        near.sender.close().await.expect("the peer is there");
    };
    tokio::join!(sending, async {
        far.expect(1, 64).await;
        far.expect(2, 100_000).await;
        assert!(matches!(far.receiver.receive().await, Ok(None)));
        assert!(matches!(far.receiver.receive().await, Ok(None)), "the end stays the end");
    });
}

pub(crate) async fn a_close_inside_a_frame_is_cut_short<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let sending = async {
        near.send(1, 500).await;
        near.send_bytes(&bytes(2, 100_000)[..99_999]).await;
        near.sender.close().await.expect("the peer is there");
    };
    tokio::join!(sending, async {
        far.expect(1, 500).await;
        let error = far.expect_error().await;
        assert!(matches!(error, TransportError::CutShort { got: 99_999, needed: 100_000 }), "{error}");
    });
}

pub(crate) async fn a_close_inside_a_header_is_cut_short<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    near.send_bytes(&bytes(1, 64)[..63]).await;
    near.sender.close().await.expect("the peer is there");
    let error = far.expect_error().await;
    assert!(matches!(error, TransportError::CutShort { got: 63, needed: HEADER_BYTES }), "{error}");
}

pub(crate) async fn the_other_direction_outlives_a_close<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    near.sender.close().await.expect("the peer is there");
    assert!(matches!(far.receiver.receive().await, Ok(None)));
    far.send(1, 64).await;
    tokio::join!(far.send(2, 3 << 20), async {
        near.expect(1, 64).await;
        near.expect(2, 3 << 20).await;
    });
    far.sender.close().await.expect("the peer is there");
    assert!(matches!(near.receiver.receive().await, Ok(None)));
}

pub(crate) async fn the_other_direction_outlives_a_dropped_sender<T: Transport>(transport: T, lab: Lab) {
    let (near, mut far) = pair(&transport, &lab).await;
    let End::<T> { sender, receiver, budget } = near;
    drop(sender);
    far.send(1, 64).await;
    let Ok(Some(frame)) = { receiver }.receive().await else { panic!("a frame was sent") };
    assert_eq!(frame.frame_bytes(), 64);
    drop(budget);
}

pub(crate) async fn a_dropped_peer_is_seen_by_both_halves<T: Transport>(transport: T, lab: Lab) {
    let (near, mut far) = pair(&transport, &lab).await;
    drop(near);
    assert!(matches!(far.receiver.receive().await, Ok(None) | Err(TransportError::Lost { .. })));
    // What is sent to nobody comes back as an error as soon as the transport knows.
    let error = loop {
        if let Err(error) = send(&mut far.sender, 1, 64 << 10).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(error, TransportError::Lost { .. }), "{error}");
}

pub(crate) async fn a_peer_dropped_in_the_middle_of_a_frame_is_seen<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let dying = async {
        near.send_bytes(&bytes(1, 300_000)[..200_000]).await;
        drop(near);
    };
    let ((), error) = tokio::join!(dying, far.expect_error());
    assert!(matches!(error, TransportError::CutShort { .. } | TransportError::Lost { .. }), "{error}");
}

pub(crate) async fn a_frame_that_stalls_ends_and_silence_between_frames_does_not<T: Transport>(transport: T, lab: Lab) {
    let wait = Duration::from_millis(50);
    let impatient = Side { frame_wait: wait, ..Side::NODE };
    let frame = bytes(2, 1_000_000);
    for cut in [10, 64, 5_000, 900_000] {
        let (mut near, mut far) = pair_of(&transport, &lab, &Side::CLIENT, &impatient).await;
        assert!(
            tokio::time::timeout(3 * wait, far.receiver.receive()).await.is_err(),
            "an idle peer is no stalled one"
        );
        tokio::join!(near.send(1, 1_000), far.expect(1, 1_000));
        let ((), error) = tokio::join!(near.send_bytes(&frame[..cut]), far.expect_error());
        let TransportError::Stalled { got, needed, wait: waited } = error else { panic!("{error}") };
        let expected = if cut < 64 { HEADER_BYTES } else { 1_000_000 };
        assert_eq!((got, needed, waited), (cut as u32, expected, wait));
    }
}

pub(crate) async fn last_words_reach_a_peer_that_is_still_sending<T: Transport>(transport: T, lab: Lab) {
    for first in [&[0xA5; 64][..], &bytes(1, 3 << 20)[..100_000]] {
        let (mut near, mut far) = pair(&transport, &lab).await;
        let sending = async {
            near.send_bytes(first).await;
            for _ in 0..8 {
                near.send_bytes(&[0xA5; 1 << 20]).await;
            }
            near.sender.close().await.expect("the peer is there");
            near.expect(7, 64).await;
        };
        let refusing = async {
            let last_words = Frame::unaccounted(bytes(7, 64));
            far.sender.send(last_words).await.expect("the peer is there");
            let before = far.budget.bytes_used();
            far.receiver.discard().await;
            assert_eq!(far.budget.bytes_used(), before, "what is discarded needs no memory");
            drop(far);
        };
        tokio::join!(sending, refusing);
    }
}

pub(crate) async fn a_frame_that_nobody_takes_is_given_up<T: Transport>(transport: T, lab: Lab) {
    let wait = Duration::from_millis(50);
    let impatient = Side { send_wait: wait, ..Side::NODE };
    let (near, mut far) = pair_of(&transport, &lab, &Side::CLIENT, &impatient).await;
    let error = loop {
        if let Err(error) = send(&mut far.sender, 1, 1 << 20).await {
            break error;
        }
    };
    let TransportError::NotTaken { taken, frame_bytes, wait: waited } = error else { panic!("{error}") };
    assert!(taken < frame_bytes, "{taken}");
    assert_eq!((frame_bytes, waited), (1 << 20, wait));
    drop(near);
}
