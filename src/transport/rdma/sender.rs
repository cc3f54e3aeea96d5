//! The sending half.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::lenders::ToSend;
use super::queue::Half;
use super::shared::Shared;
use super::waiter::Waiter;
use crate::transport::pace::Pace;
use crate::transport::{Frame, FrameSender, Lender, TransportError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long closing waits for a peer that does not read.
const CLOSE_WAIT: Duration = Duration::from_millis(200);

/// Sends frames by SEND, and announces those that the peer must READ.
#[derive(Debug)]
pub struct RdmaSender {
    pub(super) shared: Arc<Shared>,
    send_wait: Duration,
    pace: Pace,
}

impl RdmaSender {
    pub(super) fn new(shared: Arc<Shared>, send_wait: Duration) -> Self {
        Self { shared, send_wait, pace: Pace::new(send_wait) }
    }

    /// The frame in memory of this connection's, copied where it is in somebody else's: a request that is sent again on
    /// a new connection.
    fn own(&self, frame: &Frame) -> Result<Frame, TransportError> {
        let pool: Arc<dyn Lender> = Arc::clone(&self.shared.pool) as _;
        if frame.is_lent_by(&pool) {
            return Ok(frame.clone());
        }
        let frame_bytes = frame.frame_bytes();
        let lent = pool.lend(frame_bytes as usize);
        let mut buffer = lent.ok_or(TransportError::OutOfMemory { frame_bytes })?;
        buffer[..frame.len()].copy_from_slice(frame);
        Ok(Frame::new(buffer, frame_bytes))
    }
}

impl FrameSender for RdmaSender {
    fn lender(&self) -> Arc<dyn Lender> {
        Arc::new(ToSend { pool: Arc::clone(&self.shared.pool), shared: Arc::downgrade(&self.shared) })
    }

    async fn send(&mut self, frame: Frame) -> Result<(), TransportError> {
        let frame = self.own(&frame)?;
        self.take(&[frame]).await
    }

    /// With one doorbell for as many as there are credits for.
    async fn send_all(&mut self, frames: &mut Vec<Frame>) -> Result<(), TransportError> {
        for frame in frames.iter_mut() {
            *frame = self.own(frame)?;
        }
        self.take(frames).await?;
        frames.clear();
        Ok(())
    }

    /// Returns when the peer has all that was sent. It reads announced frames as it comes to them: what it has not
    /// read after [`CLOSE_WAIT`] it can read as long as one of the halves lives.
    async fn close(&mut self) -> Result<(), TransportError> {
        timeout(CLOSE_WAIT, self.closed()).await.unwrap_or(Ok(()))
    }
}

impl RdmaSender {
    /// Returns when the queue has taken all of them.
    async fn take(&mut self, mut frames: &[Frame]) -> Result<(), TransportError> {
        let mut waiter = Waiter::new(&self.shared, Half::Sender);
        self.pace.begin();
        loop {
            let taken = self.shared.look(Half::Sender, |queue| queue.send_all(frames));
            let taken = taken.map_err(RdmaError::lost)?;
            frames = &frames[taken..];
            let Some(next) = frames.first() else { return Ok(()) };
            if taken > 0 {
                self.pace.begin();
            }
            if self.pace.in_time(waiter.wait()).await.is_none() {
                // Nothing of a frame is taken before the peer has room for its message.
                let (frame_bytes, wait) = (next.frame_bytes(), self.send_wait);
                return Err(TransportError::NotTaken { taken: 0, frame_bytes, wait });
            }
        }
    }

    async fn closed(&self) -> Result<(), TransportError> {
        let mut waiter = Waiter::new(&self.shared, Half::Sender);
        loop {
            let closed = self.shared.look(Half::Sender, |queue| queue.close());
            if closed.map_err(|error| error.lost())? {
                return Ok(());
            }
            waiter.wait().await;
        }
    }
}

impl Drop for RdmaSender {
    fn drop(&mut self) {
        // The other direction may go on: the peer should not wait for more in this one.
        let _lost = self.shared.look(Half::Sender, |queue| queue.close());
    }
}
