//! The wire limit: what the same transport carries with no store behind it.
//!
//! ```text
//!   run     drawn operations (a circle of megabytes) --build--> request --> node --> reply
//!   here    request buffers (a circle as large)      ---------> request --> node --> reply
//! ```
//!
//! Raw frames of the run's average sizes go there and come back over the run's own connections, threads and depth;
//! nobody builds, parses, looks up or checks anything. Both frames are held at both ends as in the run, and requests
//! go out from as much memory as the run reads to build its own. The distance between this rate and the store's is
//! what the store costs; if the two are close, only a better transport makes the store faster.
#![forbid(unsafe_code)]

use super::lane::client_error_kind;
use super::measure::{Measure, Window};
use super::plan::Carrier;
use crate::client::{Client, ClientError};
use crate::transport::Frame;
use std::collections::VecDeque;
use std::time::Instant;

/// Frames of a run, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FrameSizes {
    /// Bytes of a frame to the node.
    pub(super) request_bytes: u32,
    /// Bytes of a frame to the client.
    pub(super) reply_bytes: u32,
    /// Operations that a frame stands for.
    pub(super) ops_per_frame: f64,
    /// Frames that a batch took, to all nodes.
    pub(super) frames_per_batch: f64,
}

/// Carries raw frames, one in flight.
pub(super) struct Carrying {
    client: Client,
    carrier: Carrier,
    nodes: usize,
    sizes: FrameSizes,
    /// Requests that were sent, the oldest first. Dropping it gives its buffer back, and the next request is lent it.
    sent: VecDeque<Frame>,
}

impl Carrying {
    /// Takes and touches request buffers of `bytes` in all, on the thread that will send them.
    pub(super) fn prepare(
        client: Client,
        carrier: Carrier,
        nodes: usize,
        sizes: FrameSizes,
        bytes: u64,
    ) -> Result<Self, ClientError> {
        let (mut sent, mut taken) = (VecDeque::new(), 0);
        while taken < bytes.max(1) {
            let mut buffer = client.lend(carrier.node, sizes.request_bytes as usize)?;
            // Memory that was never written is one page of zeroes, and always in the cache.
            buffer.fill(0xA5);
            taken += buffer.len() as u64;
            sent.push_back(Frame::new(buffer, sizes.request_bytes));
        }
        Ok(Self { client, carrier, nodes, sizes, sent })
    }

    /// Carries frames until the window ends; a frame counts as one operation.
    pub(super) async fn run(mut self, window: Window) -> Measure {
        let FrameSizes { request_bytes, reply_bytes, .. } = self.sizes;
        let mut measure = Measure::new(window, false);
        tokio::time::sleep_until(window.start.into()).await;
        let end = window.end();
        let mut node = self.carrier.node;
        let mut begun = Instant::now();
        while begun < end {
            drop(self.sent.pop_front());
            let carried = self.client.wire_limit(node, request_bytes, reply_bytes).await;
            let answered = Instant::now();
            match carried {
                Ok(request) => self.sent.push_back(request),
                Err(error) => {
                    measure.failed(client_error_kind(&error), 1);
                    return measure;
                }
            }
            measure.batch(1, begun, answered);
            begun = answered;
            node = (node + self.carrier.step) % self.nodes;
        }
        measure
    }
}
