//! Frames that are sent together: how many messages a peer gets, which may be an older one.
#![forbid(unsafe_code)]

use super::super::message::ANNOUNCEMENT_BYTES;
use super::super::work::Done;
use super::{Manners, run};
use crate::transport::FrameSender;

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_peer_gets_as_many_announcements_in_a_message_as_it_takes() {
    // An older one says nothing of it, which is 0.
    for (announcements, messages) in [(0, 3), (1, 3), (2, 2), (8, 1), (255, 1)] {
        run(async |mut scene| {
            let (mut peer, mut end) = scene.peer(Manners { announcements, ..Manners::GOOD }).await;
            // What is sent before the connection is open goes by itself.
            end.send(300).await.expect("room");
            peer.done().await.expect("a message");
            let mut frames = vec![end.frame(100_000), end.frame(100_000), end.frame(100_000)];
            end.sender.send_all(&mut frames).await.expect("there are credits");
            let (mut came, mut left) = (0, 3 * ANNOUNCEMENT_BYTES as u32);
            while left > 0 {
                let done = peer.done().await.expect("a message");
                let Done::Received { bytes, .. } = done else { panic!("{done:?}") };
                came += 1;
                left -= bytes;
            }
            assert_eq!(came, messages, "{announcements} in a message");
            drop(peer);
            scene.end(end).await;
        });
    }
}
