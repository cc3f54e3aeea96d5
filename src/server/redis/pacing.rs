//! Holding a Redis client to its rate, and what is on its way from and to it to its share.
#![forbid(unsafe_code)]

use super::{Ended, Serving, time_is_over};
use crate::server::accounts::Member;
use crate::server::rate::WAIT_MAX;
use crate::transport::allowance::UNCOUNTED_BYTES;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::{Instant, sleep_until};

impl<'a> Serving<'a> {
    /// By whose account it goes.
    pub(super) fn member(&self) -> &Member<'a> {
        self.user.as_ref().unwrap_or(self.client)
    }

    /// Waits until all that was executed is paid for, and reads nothing more meanwhile: what others of the same client
    /// owe, too.
    pub(super) async fn pay(&mut self) -> Result<(), Ended> {
        let (until, mut has_waited) = (Instant::now() + WAIT_MAX, false);
        while self.member().ops_per_second().is_some() {
            let debt = self.member().debt();
            if debt.is_zero() {
                break;
            }
            if !has_waited {
                self.member().throttled().operations.fetch_add(1, Ordering::Relaxed);
                has_waited = true;
            }
            if Instant::now() >= until {
                self.member().throttled().denied.fetch_add(1, Ordering::Relaxed);
                return Err(Ended::NoTurn(WAIT_MAX));
            }
            if self.meanwhile(sleep_until(until.min(Instant::now() + debt))).await?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Waits until a long command may come: only its beginning does, not what turns out to follow.
    pub(super) async fn admit(&mut self) -> Result<(), Ended> {
        let needed = self.needed as u64;
        if needed <= u64::from(UNCOUNTED_BYTES) {
            return Ok(());
        }
        if let Some(admitted) = &mut self.on_the_way {
            admitted.set_bytes(needed);
            return Ok(());
        }
        let allowance = Arc::clone(&self.member().account().allowance);
        let admitted = match allowance.enter(needed) {
            Ok(admitted) => Some(admitted),
            Err(mut waiting) => self.meanwhile(waiting.admitted()).await?,
        };
        self.on_the_way = Some(admitted.unwrap_or_else(|| allowance.overdraw(needed)));
        Ok(())
    }

    /// Waits for something, and lets the client take its replies meanwhile; `None` where the node drains.
    async fn meanwhile<T>(&mut self, awaited: impl Future<Output = T>) -> Result<Option<T>, Ended> {
        let (mut awaited, mut drain) = (pin!(awaited), self.shared.drain.wait());
        loop {
            let (waiting, wait) = (self.output.waiting_bytes(), self.config.send_wait);
            let is_behind = self.stream.is_behind();
            let socket = self.stream.socket();
            let writable = tokio::select! {
                biased;
                done = &mut awaited => return Ok(Some(done)),
                () = time_is_over(self.stranger_until) => return Err(Ended::Stranger(self.hello_wait)),
                () = &mut drain => return Ok(None),
                writable = self.sending.in_time(socket.writable()), if waiting > 0 || is_behind => writable,
            };
            writable.ok_or(Ended::NotTaken { waiting, wait })??;
            self.write_now()?;
            self.count_replies();
        }
    }

    /// Counts the replies that wait to be taken, where they are many bytes.
    pub(super) fn count_replies(&mut self) {
        let waiting = self.output.waiting_bytes() as u64;
        if waiting <= u64::from(UNCOUNTED_BYTES) {
            self.replies = None;
        } else if let Some(replies) = &mut self.replies {
            replies.set_bytes(waiting);
        } else {
            self.replies = Some(self.member().account().allowance.overdraw(waiting));
        }
    }
}
