//! Holding a client to its rate, and what is on its way to it to its share.
#![forbid(unsafe_code)]

use super::{Ended, Serving};
use crate::server::rate::{Rate, WAIT_MAX};
use crate::transport::allowance::{OnTheWay, UNCOUNTED_BYTES};
use crate::transport::{FrameReceiver, FrameSender};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::sleep;

impl<S: FrameSender, R: FrameReceiver> Serving<'_, S, R> {
    /// Waits until a frame of so many operations may be executed, and reads nothing more meanwhile. Gives the text of a
    /// denial where it would wait for too long, or those behind it would.
    ///
    /// A frame without operations counts as one: it is work too.
    pub(super) async fn pace(&mut self, ops: u32, ops_per_second: u32) -> Result<Option<String>, Ended> {
        let (member, most) = (self.member(), Rate::batch_ops_max(ops_per_second));
        let (owner, throttled) = (member.owner(), member.throttled());
        let denied = if ops > most {
            format!("{ops} operations at once, and {owner} may have {ops_per_second} a second, {most} at once")
        } else {
            match member.take(ops.max(1)) {
                Some(wait) if wait.is_zero() => return Ok(None),
                Some(wait) => {
                    throttled.operations.fetch_add(1, Ordering::Relaxed);
                    self.wait(wait).await?;
                    return Ok(None);
                }
                None => {
                    format!("{owner} may have {ops_per_second} operations a second, and asked for {WAIT_MAX:?} more")
                }
            }
        };
        throttled.denied.fetch_add(1, Ordering::Relaxed);
        Ok(Some(format!("not allowed: {denied}")))
    }

    /// Waits for so long, or until the node drains: then what has arrived is answered.
    async fn wait(&mut self, wait: Duration) -> Result<(), Ended> {
        // Those before it have waited for long enough.
        self.send_held().await?;
        tokio::select! {
            biased;
            () = &mut self.drain => {}
            () = sleep(wait) => {}
        }
        self.idle.stir();
        Ok(())
    }

    /// Counts the replies that are held back, where they are many bytes, as long as the result lives.
    pub(super) fn count_held(&self) -> Option<OnTheWay> {
        let is_long = self.held_bytes > UNCOUNTED_BYTES as usize;
        is_long.then(|| self.member().account().allowance.overdraw(self.held_bytes as u64))
    }
}
