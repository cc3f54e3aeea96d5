//! What is no frame is refused by its first bytes, with the numbers that say why.
#![forbid(unsafe_code)]

use crate::lab::{Lab, Side, bytes, pair};
use freight::transport::{FrameReceiver, FrameSender, Transport, TransportError};
use freight::wire::{HEADER_BYTES, WireError};

/// The error that these bytes cause; the peer stays connected and silent behind them.
async fn error_on<T: Transport>(transport: T, lab: Lab, bytes: &[u8]) -> WireError {
    let (mut near, mut far) = pair(&transport, &lab).await;
    near.send_bytes(bytes).await;
    let error = far.expect_error().await;
    near.sender.close().await.expect("the peer is there");
    let again = far.expect_error().await;
    assert!(matches!(again, TransportError::Framing(_)), "lost framing does not come back: {again}");
    let TransportError::Framing(error) = error else { panic!("{error}") };
    error
}

pub(crate) async fn something_else_is_refused_by_its_first_byte<T: Transport>(transport: T, lab: Lab) {
    let error = error_on(transport, lab, b"G").await;
    assert_eq!(error, WireError::BadMagic { got: u32::from(b'G') });
}

pub(crate) async fn another_version_is_refused_by_its_fifth_byte<T: Transport>(transport: T, lab: Lab) {
    let error = error_on(transport, lab, b"FRGT\x02").await;
    assert_eq!(error, WireError::BadVersion { got: 2 });
}

pub(crate) async fn a_frame_past_the_limit_is_refused_by_its_header<T: Transport>(transport: T, lab: Lab) {
    let max = Side::NODE.frame_bytes_max;
    let error = error_on(transport, lab, &bytes(1, max + 1)[..64]).await;
    assert_eq!(error, WireError::BadFrameBytes { got: max + 1, min: HEADER_BYTES, max });
}

pub(crate) async fn lengths_shorter_than_a_header_are_refused<T: Transport>(transport: T, lab: Lab) {
    let mut header = bytes(1, 64);
    header[8..12].copy_from_slice(&63_u32.to_le_bytes());
    let error = error_on(transport, lab, &header).await;
    assert_eq!(error, WireError::BadFrameBytes { got: 63, min: HEADER_BYTES, max: Side::NODE.frame_bytes_max });
}

pub(crate) async fn what_came_before_garbage_still_arrives<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    let mut stream = bytes(1, 64);
    stream.extend_from_slice(&bytes(2, 5_000));
    stream.extend_from_slice(&[0xA5; 70_000]);
    tokio::join!(near.send_bytes(&stream), async {
        far.expect(1, 64).await;
        far.expect(2, 5_000).await;
        let error = far.expect_error().await;
        assert!(matches!(error, TransportError::Framing(WireError::BadMagic { got: 0xA5A5_A5A5 })), "{error}");
    });
}

pub(crate) async fn the_limit_can_be_raised_between_frames<T: Transport>(transport: T, lab: Lab) {
    let (mut near, mut far) = pair(&transport, &lab).await;
    far.receiver.set_frame_bytes_max(1_000);
    tokio::join!(near.send(1, 1_000), far.expect(1, 1_000));
    far.receiver.set_frame_bytes_max(200_000);
    tokio::join!(near.send(2, 200_000), far.expect(2, 200_000));
    let ((), error) = tokio::join!(near.send(3, 200_001), far.expect_error());
    let expected = WireError::BadFrameBytes { got: 200_001, min: HEADER_BYTES, max: 200_000 };
    assert!(matches!(&error, TransportError::Framing(got) if *got == expected), "{error}");
}
