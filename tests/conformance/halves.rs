//! The two directions of a connection know nothing of each other.
#![forbid(unsafe_code)]

use crate::lab::{End, Lab, assert_is, pair, send};
use freight::transport::{FrameReceiver, Transport};

const FRAMES: u64 = 6;
const FRAME_BYTES: u32 = 4 << 20;

/// Sends and receives at the same time: far more than any buffer on the way holds.
async fn both_ways<T: Transport>(end: &mut End<T>) {
    let End { sender, receiver, .. } = end;
    tokio::join!(
        async {
            for number in 0..FRAMES {
                send(sender, number, FRAME_BYTES).await.expect("the peer is there");
            }
        },
        async {
            for number in 0..FRAMES {
                let frame = receiver.receive().await.expect("no fault").expect("a frame");
                assert_is(&frame, number, FRAME_BYTES);
            }
        }
    );
}

pub(crate) async fn both_directions_at_once_do_not_wait_for_each_other<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    tokio::join!(both_ways(&mut near), both_ways(&mut far));
}

pub(crate) async fn halves_work_on_tasks_of_their_own<T: Transport>(transport: T, lab: Lab) {
    let (near, far) = pair(&transport, &lab).await;
    let End::<T> { mut sender, receiver: _near_receiver, .. } = near;
    let End::<T> { sender: _far_sender, mut receiver, .. } = far;
    let sending = tokio::spawn(async move {
        for number in 0..50 {
            send(&mut sender, number, 100_000).await.expect("the peer is there");
        }
        sender
    });
    let receiving = tokio::spawn(async move {
        for number in 0..50 {
            let frame = receiver.receive().await.expect("no fault").expect("a frame");
            assert_is(&frame, number, 100_000);
        }
        receiver
    });
    let (sender, receiver) = tokio::join!(sending, receiving);
    drop((sender.expect("it sent"), receiver.expect("it received")));
}
