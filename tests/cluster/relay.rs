//! A relay in the path to a node, on a thread of its own: it passes bytes on, late, not at all, or half of them.
//!
//! ```text
//!   client --TCP--> relay --TCP--> node      each way: read, wait while held, wait for the delay, write
//! ```
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;

/// What it does to what passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// How long each piece is kept.
    pub(crate) delay: Duration,
    /// Whether what clients send, and what nodes send, is kept until it is not held any more.
    pub(crate) held: Ways,
    /// Each connection older than the last change of this ends at its next piece, half of which is passed on.
    pub(crate) drops: u64,
}

/// Which of both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ways {
    pub(crate) to_node: bool,
    pub(crate) from_node: bool,
}

/// What it did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) delayed: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// A running relay; it ends when it is dropped.
pub(crate) struct Relay {
    faults: Option<watch::Sender<Faults>>,
    done: Arc<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts one that listens at `listen`, on a thread that first does `enter`.
    pub(crate) fn start(listen: SocketAddr, node: SocketAddr, enter: impl FnOnce() + Send + 'static) -> Self {
        let (faults, seen) = watch::channel(Faults::default());
        let done = Arc::new(Done::default());
        let (ready, listening) = std::sync::mpsc::channel();
        let counted = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            enter();
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind(listen).await.expect("a free address");
                ready.send(()).expect("somebody waits");
                relay(&listener, node, seen, &counted).await;
            });
        });
        listening.recv().expect("it listens");
        Self { faults: Some(faults), done, thread: Some(thread) }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.as_ref().expect("it runs").send_modify(change);
    }

    pub(crate) fn delayed(&self) -> u64 {
        self.done.delayed.load(Ordering::Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.done.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.faults = None;
        let ended = self.thread.take().expect("it is joined once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "a relay panicked");
    }
}

/// Accepts until the relay is dropped; its connections end with the runtime.
async fn relay(listener: &TcpListener, node: SocketAddr, mut faults: watch::Receiver<Faults>, done: &Arc<Done>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // Without a descriptor, or gone again: the client notices.
                let Ok((client, _)) = accepted else { continue };
                let (faults, done) = (faults.clone(), Arc::clone(done));
                tokio::spawn(async move {
                    // A node that is not there: the connection ends as it came.
                    if let Ok(node) = TcpStream::connect(node).await {
                        pass(client, node, &faults, &done).await;
                    }
                });
            }
            gone = wait_for(&mut faults, |_| false) => if gone.is_err() { return }
        }
    }
}

async fn pass(client: TcpStream, node: TcpStream, faults: &watch::Receiver<Faults>, done: &Done) {
    let nodelay = client.set_nodelay(true).and(node.set_nodelay(true));
    let ((from_client, to_client), (from_node, to_node)) = (client.into_split(), node.into_split());
    let held_up = |faults: &Faults| faults.held.to_node;
    let held_down = |faults: &Faults| faults.held.from_node;
    let both = async {
        tokio::try_join!(
            pump(from_client, to_node, faults.clone(), held_up, done),
            pump(from_node, to_client, faults.clone(), held_down, done),
        )
    };
    // However it ended, both sides see it end.
    let _ended = nodelay.and(both.await.map(|_| ()));
}

/// Passes one way on until its end.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Faults>,
    is_held: impl Fn(&Faults) -> bool,
    done: &Done,
) -> io::Result<()> {
    let drops = faults.borrow().drops;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        wait_for(&mut faults, |faults| !is_held(faults)).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let now = *faults.borrow();
        if now.drops > drops {
            done.dropped.fetch_add(1, Ordering::Relaxed);
            to.write_all(&buffer[..count / 2]).await?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !now.delay.is_zero() {
            done.delayed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(now.delay).await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

async fn wait_for(faults: &mut watch::Receiver<Faults>, is_it: impl FnMut(&Faults) -> bool) -> io::Result<()> {
    faults.wait_for(is_it).await.map(|_| ()).map_err(|_| io::ErrorKind::BrokenPipe.into())
}
