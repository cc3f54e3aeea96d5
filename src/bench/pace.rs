//! Waiting for an instant, to within some microseconds.
//!
//! tokio's timers tick in milliseconds, as long as a whole batch takes. An open loop sleeps on a kernel timer
//! instead, a file descriptor that becomes readable: no spinning beside the node that is being measured.
#![forbid(unsafe_code)]

use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// A timer of one lane, bound to the runtime that creates it.
#[derive(Debug)]
pub(super) struct Timer {
    descriptor: AsyncFd<OwnedFd>,
}

impl Timer {
    /// A timer on the runtime of the calling thread.
    ///
    /// # Errors
    /// Where the system has no descriptor left.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(deprecated, reason = "unsound only for types whose descriptor changes; an OwnedFd's never does")]
        let descriptor = AsyncFd::new(timer)?;
        Ok(Self { descriptor })
    }

    /// Returns at `instant`, at once where it has passed.
    ///
    /// # Errors
    /// Where the system refuses the timer.
    pub(super) async fn wait_until(&mut self, instant: Instant) -> io::Result<()> {
        let wait = instant.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(wait) };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.descriptor.readable().await?;
            let expired = ready.try_io(|descriptor| Ok(rustix::io::read(descriptor, &mut [0_u8; 8])?));
            match expired {
                Ok(read) => return read.map(|_| ()),
                // Readiness left over from the timer before this one.
                Err(_would_block) => {}
            }
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().cast_signed(), tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_never_returns_before_its_instant() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new().unwrap();
            for wait_us in [0, 1, 100, 2000] {
                let instant = Instant::now() + Duration::from_micros(wait_us);
                timer.wait_until(instant).await.unwrap();
                assert!(Instant::now() >= instant);
            }
        });
    }
}
