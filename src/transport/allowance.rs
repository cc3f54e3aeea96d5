//! Bytes that connections have on their way together: how many, and who waits until there are fewer.
//!
//! ```text
//!   long frame's header --> admitted? --yes--> read, executed, answered --> given back --+
//!                               `--no--> not read until                         <--------+
//! ```
//!
//! Only the beginning of a frame waits, never the rest of it, nor its reply: so whoever holds bytes comes to its end
//! without waiting for others, and none of those that share an allowance wait for each other in a ring.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Frames up to so many bytes are not counted: a connection has one of them at a time, and memory for it in any case.
pub(crate) const UNCOUNTED_BYTES: u32 = 16 << 10;

/// What connections share. Every method may be called from any thread.
#[derive(Debug)]
pub struct Allowance {
    bytes_max: AtomicU64,
    bytes: AtomicU64,
    /// How often a frame had to wait, of this and of other allowances.
    waits: Arc<AtomicU64>,
    /// Each that is given back wakes one, and each that was admitted the next, if there is room.
    freed: Notify,
}

impl Allowance {
    /// Of so many bytes, `u64::MAX` for any number. Counts in `waits` how often a frame had to wait.
    #[must_use]
    pub fn new(bytes_max: u64, waits: Arc<AtomicU64>) -> Self {
        Self { bytes_max: AtomicU64::new(bytes_max), bytes: AtomicU64::new(0), waits, freed: Notify::new() }
    }

    /// So many bytes from now on; `u64::MAX` for any number. What is on its way already is not changed.
    pub fn set(&self, bytes_max: u64) {
        if self.bytes_max.swap(bytes_max, Ordering::Relaxed) < bytes_max {
            self.freed.notify_one();
        }
    }

    /// Lets a frame in now, if there is room: there always is where nothing else is on its way.
    pub(crate) fn try_admit(self: &Arc<Self>, bytes: u64) -> Option<OnTheWay> {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        if bytes_max == u64::MAX {
            // Whoever waited for fewer bytes has to be woken by somebody: nothing of this one is given back.
            self.freed.notify_one();
            return Some(OnTheWay { allowance: Arc::clone(self), bytes: 0 });
        }
        // Relaxed: it only counts; what was read and sent meanwhile has owners of its own.
        let admitted = self.bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            let after = before.saturating_add(bytes);
            (before == 0 || after <= bytes_max).then_some(after)
        });
        let before = admitted.ok()?;
        if before + bytes < bytes_max {
            // Whoever is next may find room too.
            self.freed.notify_one();
        }
        Some(OnTheWay { allowance: Arc::clone(self), bytes })
    }

    /// Lets a frame in as soon as there is room.
    pub(crate) async fn admit(self: &Arc<Self>, bytes: u64) -> OnTheWay {
        if let Some(admitted) = self.try_admit(bytes) {
            return admitted;
        }
        self.waits.fetch_add(1, Ordering::Relaxed);
        loop {
            self.freed.notified().await;
            if let Some(admitted) = self.try_admit(bytes) {
                return admitted;
            }
        }
    }

    /// Counts what cannot wait, a reply.
    pub(crate) fn overdraw(self: &Arc<Self>, bytes: u64) -> OnTheWay {
        let bytes = if self.bytes_max.load(Ordering::Relaxed) == u64::MAX { 0 } else { bytes };
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        OnTheWay { allowance: Arc::clone(self), bytes }
    }
}

/// Bytes on their way, counted as long as this lives.
#[derive(Debug)]
pub(crate) struct OnTheWay {
    allowance: Arc<Allowance>,
    bytes: u64,
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.allowance.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
            self.allowance.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn allowance(bytes_max: u64) -> (Arc<Allowance>, Arc<AtomicU64>) {
        let waits = Arc::new(AtomicU64::new(0));
        (Arc::new(Allowance::new(bytes_max, Arc::clone(&waits))), waits)
    }

    fn is_ready(future: std::pin::Pin<&mut impl Future<Output = OnTheWay>>) -> Option<OnTheWay> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(admitted) => Some(admitted),
            Poll::Pending => None,
        }
    }

    #[test]
    fn everybody_goes_on_when_the_limit_is_taken_away() {
        let (allowance, _) = allowance(100);
        let holder = allowance.try_admit(100).expect("nothing else is on its way");
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(allowance.admit(10))).collect();
        assert!(waiting.iter_mut().all(|waiter| is_ready(waiter.as_mut()).is_none()));
        allowance.set(u64::MAX);
        drop(holder);
        // In the order in which they came: each wakes the next.
        let admitted = waiting.iter_mut().filter_map(|waiter| is_ready(waiter.as_mut())).count();
        assert_eq!(admitted, 5);
    }

    #[test]
    fn what_there_is_no_room_for_waits_until_there_is() {
        let (allowance, waits) = allowance(100);
        let first = allowance.try_admit(60).expect("nothing is on its way");
        let mut second = pin!(allowance.admit(60));
        let mut third = pin!(allowance.admit(50));
        assert!(is_ready(second.as_mut()).is_none() && is_ready(third.as_mut()).is_none());
        assert_eq!(waits.load(Ordering::Relaxed), 2);
        drop(first);
        let second = is_ready(second.as_mut()).expect("it came first");
        assert!(is_ready(third.as_mut()).is_none());
        drop(second);
        assert!(is_ready(third.as_mut()).is_some());
    }

    #[test]
    fn one_that_is_longer_than_all_there_is_room_for_goes_alone() {
        let (allowance, _) = allowance(100);
        let long = allowance.try_admit(1_000).expect("nothing else is on its way");
        assert!(allowance.try_admit(1).is_none());
        drop(long);
        let reply = allowance.overdraw(1);
        assert!(allowance.try_admit(1_000).is_none());
        drop(reply);
        assert!(allowance.try_admit(1_000).is_some());
    }

    #[test]
    fn whoever_was_woken_wakes_the_next_where_there_is_room_for_both() {
        let (allowance, _) = allowance(100);
        let long = allowance.try_admit(100).expect("nothing is on its way");
        let mut waiting: Vec<_> = (0..5).map(|_| Box::pin(allowance.admit(20))).collect();
        assert!(waiting.iter_mut().all(|one| is_ready(one.as_mut()).is_none()));
        drop(long);
        let admitted: Vec<_> = waiting.iter_mut().filter_map(|one| is_ready(one.as_mut())).collect();
        assert_eq!(admitted.len(), 5);
    }

    #[test]
    fn one_that_gave_up_waiting_keeps_nobody_from_being_woken() {
        let (allowance, _) = allowance(100);
        let long = allowance.try_admit(100).expect("nothing is on its way");
        let mut gone = Box::pin(allowance.admit(50));
        let mut next = pin!(allowance.admit(50));
        assert!(is_ready(gone.as_mut()).is_none() && is_ready(next.as_mut()).is_none());
        drop(long);
        drop(gone);
        assert!(is_ready(next.as_mut()).is_some());
    }

    #[test]
    fn a_bound_that_is_raised_lets_in_who_waits() {
        let (allowance, _) = allowance(100);
        let _long = allowance.try_admit(100).expect("nothing is on its way");
        let mut next = pin!(allowance.admit(50));
        assert!(is_ready(next.as_mut()).is_none());
        allowance.set(u64::MAX);
        assert!(is_ready(next.as_mut()).is_some());
    }
}
