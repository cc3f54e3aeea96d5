//! What the two halves, the keeper and the frames of one connection share, and how a half waits.
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

use super::options::PollMode;
use super::pool::RegisteredPool;
use super::queue::{Half, Queue};
use super::slab::Span;
use super::spin::Spin;
use super::verbs::CompletionChannel;
use super::work::Counts;
use crate::transport::{Buffer, HeapPool, Lender, Memory};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Polls between two yields to the runtime: a yield costs as much as a few of them.
const POLLS_PER_YIELD: u32 = 8;

/// One connection. Fields are dropped in order: the queue before the channel that it reports to.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    channel: AsyncFd<Arc<CompletionChannel>>,
    wakes: [Notify; 2],
    spin: Mutex<Spin>,
    poll: PollMode,
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
    fn look_after<R>(&self, half: Half, look: impl FnOnce(&mut Queue, usize) -> R) -> R {
        let mut queue = self.lock();
        let handled = queue.progress();
        let seen = look(&mut queue, handled);
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
        drop(queue);
        self.wakes.iter().for_each(Notify::notify_one);
        changed
    }

    /// Arms the completion queue for a half that is about to sleep; true where there is something to look at instead.
    fn arm(&self, half: Half) -> bool {
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
    async fn sleep(&self, half: Half) {
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

/// One half's wait for one thing: called again each time the thing is not there yet.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    shared: &'a Shared,
    half: Half,
    began: Option<Instant>,
    slept: bool,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(shared: &'a Shared, half: Half) -> Self {
        Self { shared, half, began: None, slept: false }
    }

    /// Waits until it is worth looking again.
    pub(super) async fn wait(&mut self) {
        if self.spins() {
            for _ in 0..POLLS_PER_YIELD {
                if self.shared.look_after(self.half, |_, handled| handled > 0) {
                    return;
                }
                std::hint::spin_loop();
            }
            self.shared.look(self.half, |queue| {
                if queue.end().is_none() {
                    let told = queue.replenish();
                    told.unwrap_or_else(|error| queue.fail(error));
                }
            });
            tokio::task::yield_now().await;
            return;
        }
        self.slept = true;
        if !self.shared.arm(self.half) {
            self.shared.sleep(self.half).await;
        }
    }

    fn spins(&mut self) -> bool {
        match self.shared.poll {
            PollMode::Spin => true,
            PollMode::Event => false,
            PollMode::Adaptive => {
                let length = self.shared.spin.lock().unwrap_or_else(PoisonError::into_inner).length();
                let began = *self.began.get_or_insert_with(Instant::now);
                !self.slept && began.elapsed() < length
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(began) = self.began {
            let mut spin = self.shared.spin.lock().unwrap_or_else(PoisonError::into_inner);
            spin.waited(began.elapsed(), self.slept);
        }
    }
}

/// Lends what frames are built in, and looks at what has come back before it registers more.
#[derive(Debug)]
pub(super) struct ToSend {
    pub(super) pool: Arc<RegisteredPool>,
    pub(super) shared: Weak<Shared>,
}

impl Lender for ToSend {
    fn lend(self: Arc<Self>, bytes: usize) -> Option<Buffer> {
        if !self.pool.has_kept(bytes)
            && let Some(shared) = self.shared.upgrade()
        {
            shared.look(Half::Sender, |_| ());
        }
        Arc::clone(&self.pool).lend(bytes)
    }

    fn grow(&self, memory: &mut Memory, bytes: usize) -> bool {
        self.pool.grow(memory, bytes)
    }

    fn take_back(&self, memory: Memory) {
        self.pool.take_back(memory);
    }
}

/// Lends receive buffers to frames that are read in place.
#[derive(Debug)]
pub(super) struct InPlace(pub(super) Weak<Shared>);

impl Lender for InPlace {
    fn lend(self: Arc<Self>, _: usize) -> Option<Buffer> {
        None
    }

    fn grow(&self, _: &mut Memory, _: usize) -> bool {
        false
    }

    fn take_back(&self, memory: Memory) {
        // Without a connection the span is the last claim on its slab, and dropped.
        let (Memory::Registered(span), Some(shared)) = (memory, self.0.upgrade()) else { return };
        shared.give_back(span);
    }
}

impl Shared {
    fn give_back(&self, span: Span) {
        self.lock().give_back(span);
    }

    /// What was posted so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts()
    }
}
