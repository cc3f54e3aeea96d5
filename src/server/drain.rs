//! That the node drains, for all who wait for it.
//!
//! Who serves a connection asks with every frame, on every thread: that reads, and writes nothing that threads share.
#![forbid(unsafe_code)]

use super::standing::Standing;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::sleep;

/// Begins once, and never ends.
#[derive(Debug, Default)]
pub(super) struct Drain {
    has_begun: AtomicBool,
    told: Notify,
}

impl Drain {
    /// From here on the node drains.
    pub(super) fn begin(&self) {
        self.has_begun.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Ends when the node drains; may be waited for again and again.
    pub(super) fn wait(&self) -> DrainWait<'_> {
        DrainWait { drain: self, told: Standing::new(self.told.notified()) }
    }
}

/// One that waits for the drain.
#[derive(Debug)]
pub(super) struct DrainWait<'a> {
    drain: &'a Drain,
    told: Standing<Notified<'a>>,
}

impl DrainWait<'_> {
    /// Ends when the node has drained for so long.
    pub(super) async fn lasts(&mut self, wait: Duration) {
        (&mut *self).await;
        sleep(wait).await;
    }
}

impl Future for DrainWait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let has_begun = self.drain.has_begun();
        if has_begun { Poll::Ready(()) } else { self.told.poll(cx, |_| false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_asks_last_is_woken_and_told_again_and_again() {
        let (drain, wakers) = (Drain::default(), [Arc::new(Woken::default()), Arc::new(Woken::default())]);
        let (mut early, mut moved) = (drain.wait(), drain.wait());
        let woken = || wakers.each_ref().map(|woken| woken.0.load(Ordering::Relaxed));
        let poll = |wait: &mut DrainWait<'_>, by: usize| {
            Pin::new(wait).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&wakers[by]))))
        };
        assert!(poll(&mut early, 0).is_pending() && poll(&mut early, 0).is_pending());
        assert!(poll(&mut moved, 0).is_pending() && poll(&mut moved, 1).is_pending());
        assert_eq!(woken(), [0, 0]);
        drain.begin();
        assert_eq!(woken(), [1, 1]);
        for wait in [&mut early, &mut moved, &mut drain.wait()] {
            assert!((0..2).all(|_| poll(wait, 0).is_ready()));
        }
    }
}
