//! The client's threads: one tokio runtime each, pinned as the placement says.
//!
//! ```text
//!   main thread          spawns tasks on them, waits, prints
//!   client thread 0      runtime: lanes 0, n, 2n ... and their connections
//!   client thread 1      runtime: lanes 1, n+1 ...
//! ```
//!
//! A thread does nothing by itself: whoever holds it spawns tasks there. Dropping it ends its tasks and joins it.
#![forbid(unsafe_code)]

use crate::cores;
use rustix::time::{ClockId, clock_gettime};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// A thread with a runtime.
#[derive(Debug)]
pub(super) struct ClientThread {
    runtime: Handle,
    /// The core it is pinned to.
    pub(super) core: Option<usize>,
    /// Operations that lanes of this thread have had answered.
    pub(super) live: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ClientThread {
    /// Starts client thread `index`, on `core` where one is given.
    ///
    /// # Errors
    /// Where the system has no thread, no descriptor or no such core for it.
    pub(super) fn start(index: usize, core: Option<usize>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (started, starting) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name(format!("client-{index}")).spawn(move || run(core, &started, stopped))?;
        let runtime = starting.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        Ok(Self { runtime, core, live: Arc::default(), stop: Some(stop), thread: Some(thread) })
    }

    /// Runs a task on this thread.
    ///
    /// # Panics
    /// Where the task panics.
    pub(super) async fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        self.spawn(task).await.expect("a task of the benchmark neither panics nor is aborted")
    }

    /// Begins a task on this thread.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(task)
    }

    /// Begins a task on this thread as one of a set.
    pub(super) fn spawn_in<T: Send + 'static>(
        &self,
        set: &mut JoinSet<T>,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        set.spawn_on(task, &self.runtime);
    }

    /// CPU time that the thread has used, in nanoseconds.
    pub(super) async fn cpu_ns(&self) -> u64 {
        self.run(async {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
        })
        .await
    }
}

impl Drop for ClientThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed, and dropping must not panic again.
            let _ = thread.join();
        }
    }
}

fn run(core: Option<usize>, started: &mpsc::Sender<io::Result<Handle>>, stopped: oneshot::Receiver<()>) {
    let pinned = match core.filter(|core| !cores::pin_current_thread(*core)) {
        Some(core) => Err(io::Error::other(format!("the system keeps us from core {core}"))),
        None => Ok(()),
    };
    let runtime = pinned.and_then(|()| Builder::new_current_thread().enable_all().build());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // The starter waits for this answer; it can't be gone.
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(runtime.handle().clone()));
    // Ends when the sender is dropped: that is the signal.
    let _ = runtime.block_on(stopped);
}
