//! One thread of a node: a core, a runtime, and what its connections share.
#![forbid(unsafe_code)]

use super::redis_forward::Forwarder;
use super::redis_host::Lent;
use crate::budget::Budget;
use crate::cores;
use crate::metrics::Counters;
use crate::resp::Desk;
use crate::shard::Scratch;
use crate::transport::HeapPool;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, watch};

/// What the connections of one thread share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) core: Option<usize>,
    pub(super) counters: Counters,
    /// Buffers of this thread's connections, so that the next frame finds a warm one.
    pub(super) pool: Arc<HeapPool>,
    /// Uncontended: only this thread's connections execute with it.
    pub(super) scratch: Mutex<Scratch>,
    /// What serving Redis clients takes, one for each of them whose batch is unfinished and one more.
    desks: Mutex<Vec<Desk<Lent>>>,
    /// Asks other nodes for this thread's Redis clients.
    pub(super) forwarder: Forwarder,
    runtime: OnceLock<Handle>,
    thread: AtomicI32,
    tasks: watch::Sender<usize>,
}

impl Worker {
    /// One of `threads`; `scratch` makes its working memory, given the shard that it begins with.
    pub(super) fn new(
        core: Option<usize>,
        shards: u32,
        (index, threads): (usize, usize),
        budget: &Arc<Budget>,
        scratch: impl FnOnce(u32) -> Scratch,
    ) -> Self {
        let first_shard = (index * shards as usize / threads) as u32;
        Self {
            core,
            counters: Counters::default(),
            pool: HeapPool::one_of(threads, Arc::clone(budget)),
            scratch: Mutex::new(scratch(first_shard)),
            desks: Mutex::default(),
            forwarder: Forwarder::default(),
            runtime: OnceLock::new(),
            thread: AtomicI32::new(0),
            tasks: watch::Sender::new(0),
        }
    }

    /// Makes the calling thread's runtime the one this worker's tasks run on.
    pub(super) fn run_here(&self) {
        self.thread.store(cores::current_thread(), Ordering::Relaxed);
        self.runtime.set(Handle::current()).expect("a worker starts once");
    }

    /// Runs a task on this worker's thread.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(self);
        self.runtime.get().expect("workers run before connections come").spawn(async move {
            task.await;
            drop(counted);
        });
    }

    /// Returns when no task is left.
    pub(super) async fn tasks_ended(&self) {
        let ended = self.tasks.subscribe().wait_for(|tasks| *tasks == 0).await.is_ok();
        debug_assert!(ended, "the worker owns the sender");
    }

    /// Time its thread has spent on a processor, in nanoseconds.
    pub(super) fn cpu_ns(&self) -> u64 {
        cores::cpu_ns(self.thread.load(Ordering::Relaxed))
    }
}

/// Counts a task as long as it exists, also when it is dropped unfinished or panics.
struct Counted(Arc<Worker>);

impl Counted {
    fn new(worker: &Arc<Worker>) -> Self {
        worker.tasks.send_modify(|tasks| *tasks += 1);
        Self(Arc::clone(worker))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|tasks| *tasks -= 1);
    }
}

/// A worker's thread. Ends when dropped, tasks and all; `finish` lets the tasks end first.
#[derive(Debug)]
pub(super) struct WorkerThread {
    worker: Arc<Worker>,
    ending: Arc<Ending>,
    join: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Ending {
    now: Notify,
}

/// Starts a worker's thread and returns when its runtime runs.
pub(super) fn start(worker: &Arc<Worker>) -> io::Result<WorkerThread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ending = Arc::new(Ending::default());
    let (up, is_up) = std::sync::mpsc::sync_channel(1);
    let name = worker.core.map_or_else(|| "freight".to_owned(), |core| format!("freight-{core}"));
    let join = std::thread::Builder::new().name(name).spawn({
        let (worker, ending) = (Arc::clone(worker), Arc::clone(&ending));
        move || {
            if let Some(core) = worker.core
                && !cores::pin_current_thread(core)
            {
                tracing::warn!(core, "cannot bind a thread to its processor");
            }
            runtime.block_on(async {
                worker.run_here();
                let told = up.send(());
                debug_assert!(told.is_ok(), "start waits");
                ending.now.notified().await;
            });
        }
    })?;
    is_up.recv().map_err(|_| io::Error::other("the thread ended as it started"))?;
    Ok(WorkerThread { worker: Arc::clone(worker), ending, join: Some(join) })
}

impl WorkerThread {
    /// Runs a future on the thread and waits for its result. Not to be called from a runtime's thread that the
    /// future needs.
    pub(super) fn call<F, R>(&self, future: impl FnOnce() -> F) -> R
    where
        F: Future<Output = R> + Send + 'static,
        R: Send + 'static,
    {
        let (result, done) = std::sync::mpsc::sync_channel(1);
        let future: Pin<Box<dyn Future<Output = R> + Send>> = Box::pin(future());
        self.worker.spawn(async move {
            let told = result.send(future.await);
            debug_assert!(told.is_ok(), "the caller waits");
        });
        done.recv().expect("the worker's thread runs until it is finished")
    }

    /// Waits until the thread's tasks have ended, then ends the thread.
    pub(super) fn finish(&mut self) {
        let worker = Arc::clone(&self.worker);
        let (done, is_done) = std::sync::mpsc::sync_channel(1);
        let handle = self.worker.runtime.get().expect("the worker was started");
        handle.spawn(async move {
            worker.tasks_ended().await;
            let told = done.send(());
            debug_assert!(told.is_ok(), "finish waits");
        });
        let ended = is_done.recv();
        debug_assert!(ended.is_ok(), "the runtime runs until it is told to end");
        self.end();
    }

    fn end(&mut self) {
        self.ending.now.notify_one();
        if let Some(join) = self.join.take()
            && join.join().is_err()
        {
            tracing::error!("a worker's thread panicked");
        }
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.end();
    }
}

impl Worker {
    /// The thread's scratch memory.
    pub(super) fn scratch(&self) -> std::sync::MutexGuard<'_, Scratch> {
        // Scratch holds nothing across batches: a panic leaves nothing half done in it.
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A desk that nobody uses.
    pub(super) fn take_desk(&self) -> Desk<Lent> {
        let spare = self.desks.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Desk::new(Lent::by(&self.pool)))
    }

    /// Takes a desk back whose batch is finished.
    pub(super) fn give_desk_back(&self, desk: Desk<Lent>) {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if desks.len() < DESKS_KEPT_MAX {
            desks.push(desk);
        }
    }
}

/// Desks that a thread keeps, at most.
const DESKS_KEPT_MAX: usize = 4;
