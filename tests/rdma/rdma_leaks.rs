//! Nothing stays behind: no memory, descriptor, queue or region.
#![forbid(unsafe_code)]

use crate::support::{connect_to, endpoint, rdma, resources, run_alone};
use freight::transport::Transport;
use std::fs;

/// As many as the issue of leaks needs to show: one descriptor a connection would pass the usual limit.
const CONNECTIONS: usize = 1_000;

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_thousand_connections_leave_nothing_behind() {
    run_alone(async || {
        let mut listener = rdma().listen(&endpoint()).await.expect("the endpoint is free");
        // The device stays open from here on.
        let (mut open, mut other) = connect_to(&mut listener).await;
        tokio::join!(open.send(300), other.expect(300));
        tokio::join!(other.send(300), open.expect(300));
        let before = (descriptors(), resources());
        for number in 0..CONNECTIONS {
            let (mut near, mut far) = connect_to(&mut listener).await;
            if number % 4 > 0 {
                tokio::join!(near.send(100_000), far.expect(100_000));
            }
            let budgets = [near.budget.clone(), far.budget.clone()];
            if number % 2 == 0 {
                drop((near, far))
            } else {
                drop((far, near))
            }
            assert_eq!(budgets.map(|budget| budget.bytes_used()), [0, 0], "connection {number}");
        }
        // Keepers close their control connections when they are next run.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!((descriptors(), resources()), before);
    });
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("this process has descriptors").count()
}
