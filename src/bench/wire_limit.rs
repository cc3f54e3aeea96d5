//! The wire limit: what the same transport carries with no store behind it.
//!
//! Raw frames of the run's average sizes go there and come back over the run's own connections, threads and depth;
//! nobody builds, parses, looks up or checks anything. The distance between this rate and the store's is what the
//! store costs; if the two are close, only a better transport makes the store faster.
#![forbid(unsafe_code)]

use super::lane::client_error_kind;
use super::measure::{Measure, Window};
use crate::client::Client;
use std::time::Instant;

/// Sizes of the frames of a run, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FrameSizes {
    /// Bytes of a frame to the node.
    pub(super) request_bytes: u32,
    /// Bytes of a frame to the client.
    pub(super) reply_bytes: u32,
    /// Operations that a frame stands for.
    pub(super) ops_per_frame: f64,
}

/// Carries frames to a node, one in flight, until the window ends; a frame counts as one operation.
pub(super) async fn carry(client: Client, node: usize, sizes: FrameSizes, window: Window) -> Measure {
    let mut measure = Measure::new(window, false);
    tokio::time::sleep_until(window.start.into()).await;
    let end = window.end();
    let mut begun = Instant::now();
    while begun < end {
        let carried = client.wire_limit(node, sizes.request_bytes, sizes.reply_bytes).await;
        let answered = Instant::now();
        if let Err(error) = carried {
            measure.failed(client_error_kind(&error), 1);
            return measure;
        }
        measure.batch(1, begun, answered);
        begun = answered;
    }
    measure
}
