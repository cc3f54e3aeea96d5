//! What a connection keeps while nothing is sent.
#![forbid(unsafe_code)]

use super::{HANG, Scene, run};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A frame of this size there, and a short one back, which tells that it was read.
async fn there_and_back(scene: &mut Scene, frame_bytes: u32) -> [u64; 2] {
    tokio::join!(async { scene.near.send(frame_bytes).await.expect("room") }, scene.far.expect(frame_bytes));
    tokio::join!(async { scene.far.send(300).await.expect("room") }, scene.near.expect(300));
    pinned(scene)
}

fn pinned(scene: &Scene) -> [u64; 2] {
    [&scene.near, &scene.far].map(|end| end.budget.bytes_used())
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn an_idle_connection_gives_back_what_large_frames_lay_in() {
    run(async |mut scene| {
        let small = there_and_back(&mut scene, 300).await;
        let large = there_and_back(&mut scene, 1_000_000).await;
        assert!(small.iter().zip(&large).all(|(small, large)| large - small >= 1_000_000), "{small:?} {large:?}");
        let given_back = async {
            while pinned(&scene) != small {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(HANG, given_back).await.expect("it is given back");
        assert_eq!(there_and_back(&mut scene, 1_000_000).await, large, "and taken again");
    });
}
