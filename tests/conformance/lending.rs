//! Memory: lent again, credited back, and never more than the budget allows.
#![forbid(unsafe_code)]

use crate::lab::{Lab, Side, bytes, connect_to, pair, pair_of, random};
use freight::transport::{FrameReceiver, FrameSender, Incoming, Listener, Transport, TransportError};
use rand::RngExt;
use std::sync::Arc;

pub(crate) async fn buffers_are_lent_again_and_credited_back<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let mut random = random(6);
    let budgets = [Arc::clone(&near.budget), Arc::clone(&far.budget)];
    for number in 0..300 {
        let frame_bytes = random.random_range(64..200_000);
        tokio::join!(near.send(number, frame_bytes), far.expect(number, frame_bytes));
    }
    for budget in &budgets {
        // Staging, one frame of each power of two: all else was lent before.
        assert!(budget.bytes_used() <= (1 << 20) + lab.own_bytes, "{budget:?}");
    }
    let ((), received) = tokio::join!(near.send(300, 200_000), far.receiver.receive());
    let kept = received.expect("no fault").expect("a frame");
    drop((near, far));
    // The frame holds its pool; all else has been given back.
    assert!(budgets[1].bytes_used() >= 200_000);
    drop(kept);
    assert_eq!(budgets.map(|budget| budget.bytes_used()), [0, 0]);
}

pub(crate) async fn an_untrusted_peer_is_lent_memory_as_its_bytes_arrive<T: Transport>(transport: T, lab: Lab) {
    let far_side = Side { frame_bytes_max: 1 << 30, ..Side::NODE };
    let (mut near, mut far) = pair_of(&transport, &lab, &Side::CLIENT, &far_side).await;
    let mut promise = bytes(1, 300_000);
    promise[8..12].copy_from_slice(&(1_u32 << 30).to_le_bytes());
    let breaking_it = async {
        near.send_bytes(&promise).await;
        near.sender.close().await.expect("the peer is there");
    };
    let ((), error) = tokio::join!(breaking_it, far.expect_error());
    assert!(matches!(error, TransportError::CutShort { got: 300_000, needed: 0x4000_0000 }), "{error}");
    assert!(far.budget.bytes_used() <= 2 << 20, "{:?}", far.budget);
}

pub(crate) async fn a_frame_that_the_budget_cannot_hold_is_refused<T: Transport>(transport: T, lab: Lab) {
    let far_side = Side { budget_bytes: 1 << 20, ..Side::NODE };
    let (mut near, mut far) = pair_of(&transport, &lab, &Side::CLIENT, &far_side).await;
    tokio::join!(near.send(1, 200_000), far.expect(1, 200_000));
    let huge = bytes(2, 4 << 20);
    // It is refused before all of it has arrived: who sends it finds nobody to take the rest.
    let ((), error) = tokio::join!(near.send_bytes(&huge[..700_000]), far.expect_error());
    assert!(matches!(error, TransportError::OutOfMemory { frame_bytes: 0x40_0000 }), "{error}");
    assert!(far.budget.bytes_used() <= 1 << 20);
}

pub(crate) async fn no_budget_no_connection<T: Transport>(transport: T, lab: Lab) {
    let poor = Side { budget_bytes: 100, ..Side::NODE };
    let mut listener = transport.listen(&lab.endpoint).await.expect("the endpoint is free");
    let endpoint = listener.endpoint().clone();
    let rich = Side::CLIENT.config();
    let (connected, accepted) = tokio::join!(transport.connect(&endpoint, &rich), listener.accept());
    let refused = accepted.expect("a connection").attach(&poor.config()).err().expect("no memory for a connection");
    assert!(matches!(refused, TransportError::Accept { .. }), "{refused}");
    drop(connected);
    let (mut near, mut far) = connect_to(&transport, &mut listener, &Side::CLIENT, &Side::NODE).await;
    tokio::join!(near.send(1, 64), far.expect(1, 64));
}
