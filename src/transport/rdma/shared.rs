//! What the two halves, the keeper and the frames of one connection share.
//!
//! ```text
//!   sender half --+                          +-- keeper: control connection, asynchronous events
//!                 +--> Shared (one lock) <---+                        (weak: it keeps nothing alive)
//!   receiver half +      queue, channel      +-- frames read in place (weak likewise)
//! ```
//!
//! A half that waits spins for a while, then arms the completion queue, looks again, and sleeps until the channel is
//! readable or the other half or the keeper wakes it. Whoever takes completions wakes the other half, where that
//! sleeps: it must look again, and arm again.
#![forbid(unsafe_code)]

use super::counts::Counts;
use super::options::PollMode;
use super::pool::RegisteredPool;
use super::queue::{Half, Queue};
use super::slab::Span;
use super::spin::Spin;
use super::verbs::CompletionChannel;
use crate::transport::HeapPool;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// One connection. Fields are dropped in order: the queue before the channel that it reports to.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    channel: AsyncFd<Arc<CompletionChannel>>,
    wakes: [Notify; 2],
    pub(super) spin: Mutex<Spin>,
    pub(super) poll: PollMode,
    pub(super) pool: Arc<RegisteredPool>,
    pub(super) heap: Arc<HeapPool>,
    /// Frames that may be read in place at a time.
    pub(super) in_place_max: u16,
    keeper: OnceLock<AbortHandle>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("counts", &self.lock().counts()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

impl Shared {
    /// Binds a queue and its channel to the runtime of the calling thread.
    pub(super) fn new(
        queue: Queue,
        channel: Arc<CompletionChannel>,
        (poll, in_place_max): (PollMode, u16),
        heap: Arc<HeapPool>,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            pool: Arc::clone(&queue.pool),
            queue: Mutex::new(queue),
            channel: channel.watch()?,
            wakes: [Notify::new(), Notify::new()],
            spin: Mutex::new(Spin::new()),
            poll,
            heap,
            in_place_max,
            keeper: OnceLock::new(),
        }))
    }

    /// Gives the connection its keeper, which ends with it.
    pub(super) fn set_keeper(&self, keeper: AbortHandle) {
        let first = self.keeper.set(keeper).is_ok();
        debug_assert!(first, "a connection has one keeper");
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Whatever panicked, the connection is dropped with it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the queue make progress, then looks at it for one half.
    pub(super) fn look<R>(&self, half: Half, look: impl FnOnce(&mut Queue) -> R) -> R {
        self.look_after(half, |queue, _| look(queue))
    }

    /// As [`Shared::look`], knowing how many completions there were.
    pub(super) fn look_after<R>(&self, half: Half, look: impl FnOnce(&mut Queue, usize) -> R) -> R {
        let mut queue = self.lock();
        let handled = queue.progress();
        let seen = look(&mut queue, handled);
        queue.ring();
        let wake = handled > 0 && queue.is_waiting(half.other());
        drop(queue);
        if wake {
            self.wakes[half.other() as usize].notify_one();
        }
        seen
    }

    /// Changes the queue from outside both halves, and wakes them.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        let mut queue = self.lock();
        queue.progress();
        let changed = change(&mut queue);
        queue.ring();
        drop(queue);
        self.wakes.iter().for_each(Notify::notify_one);
        changed
    }

    /// Arms the completion queue for a half that is about to sleep; true where there is something to look at instead.
    pub(super) fn arm(&self, half: Half) -> bool {
        self.look_after(half, |queue, handled| {
            // What came since the half looked may be what it waits for.
            if handled > 0 || queue.end().is_some() {
                return true;
            }
            let told = queue.tell_read().and_then(|()| queue.replenish());
            let armed = told.and_then(|()| Ok(queue.work.completions.arm()?));
            let found = match armed {
                Ok(()) => queue.progress() > 0,
                Err(error) => {
                    queue.fail(error);
                    true
                }
            };
            queue.set_waiting(half, !found);
            found
        })
    }

    /// Takes a receive buffer back that was read in place.
    pub(super) fn give_back(&self, span: Span) {
        let mut queue = self.lock();
        queue.give_back(span);
        queue.ring();
    }

    /// Its completion queue and its queue pair, as events of the device name them.
    pub(super) fn elements(&self) -> (usize, usize) {
        self.lock().work.elements()
    }

    /// What was posted so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// Takes the channel's events. The other half must arm again, for it may have relied on them.
    fn take_events(&self, half: Half) {
        let mut queue = self.lock();
        let events = queue.work.completions.take_events();
        queue.work.counts.events += u64::from(events);
        let wake = queue.is_waiting(half.other());
        drop(queue);
        if wake {
            self.wakes[half.other() as usize].notify_one();
        }
    }

    /// Sleeps until something may have changed.
    pub(super) async fn sleep(&self, half: Half) {
        let _awake = Awake { shared: self, half };
        tokio::select! {
            biased;
            () = self.wakes[half as usize].notified() => {}
            ready = self.channel.readable() => {
                if let Ok(mut ready) = ready {
                    self.take_events(half);
                    ready.clear_ready();
                }
            }
        }
    }
}

/// Marks a half awake again, also where its future was dropped.
struct Awake<'a> {
    shared: &'a Shared,
    half: Half,
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        self.shared.lock().set_waiting(self.half, false);
    }
}
