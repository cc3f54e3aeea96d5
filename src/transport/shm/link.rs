//! What the two halves of one end share: the socket, both segments, and who sleeps.
//!
//! ```text
//!   sending half ----+                    +---- receiving half
//!                    +---- Link ----------+
//!                           socket: handshake, then the bell (a byte says "look"), then the end
//!                           segments, once the handshake is over
//! ```
//!
//! The bell is a byte on the control socket, sent only to a peer that says in its segment that it sleeps, and once a
//! sleep. Not an eventfd: whether reads and writes of one may block is a flag that both ends share, so a client could
//! make its node's write block. A socket's end is its owner's alone.
#![forbid(unsafe_code)]

use super::error::ShmError;
use super::handshake::{self, Segments};
use super::layout::{self, ENDED, ENDED_RECEIVING, ENDED_SENDING};
use super::watch;
use crate::transport::TransportError;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// How long the other end's part of the handshake is waited for.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

/// The halves of an end, as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Sender = 0,
    Receiver = 1,
}

/// What the halves of one end share.
#[derive(Debug)]
pub(super) struct Link {
    socket: AsyncFd<UnixStream>,
    segments: OnceLock<Segments>,
    /// The peer's part of the handshake: taken, or why not.
    shaken: Mutex<Result<bool, ShmError>>,
    greeted: AtomicBool,
    /// The peer's socket is closed: it is dead, or gone.
    gone: AtomicBool,
    /// Something happened that the half may not have heard itself.
    heard: [Notify; 2],
    /// The peer's sleep that each of its halves was last woken from.
    rung_for: [AtomicU64; 2],
    sleeps: AtomicU64,
    halves_left: AtomicU64,
}

impl Half {
    /// The word that says that it sleeps.
    fn asleep_word(self) -> usize {
        match self {
            Self::Sender => layout::SENDER_ASLEEP,
            Self::Receiver => layout::RECEIVER_ASLEEP,
        }
    }
}

impl Link {
    /// An end whose peer's part of the handshake is to come. A node has its segments already.
    ///
    /// # Errors
    /// The runtime cannot take the socket.
    pub(super) fn new(socket: UnixStream, segments: Option<Segments>) -> io::Result<Self> {
        let socket = watch::readable(socket)?;
        let segments = segments.map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self {
            socket,
            segments,
            shaken: Mutex::new(Ok(false)),
            greeted: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            heard: [Notify::new(), Notify::new()],
            rung_for: [AtomicU64::new(0), AtomicU64::new(0)],
            sleeps: AtomicU64::new(1),
            halves_left: AtomicU64::new(2),
        })
    }

    /// Both segments, once there are any.
    pub(super) fn segments(&self) -> Option<&Segments> {
        self.segments.get()
    }

    /// Waits until the peer's part of the handshake is there and right. A node's sender need not wait.
    pub(super) async fn ready(&self, half: Half) -> Result<&Segments, TransportError> {
        // Relaxed: what it guards is published by the `OnceLock`.
        if let Some(segments) = self.segments.get()
            && (half == Half::Sender || self.greeted.load(Ordering::Relaxed))
        {
            return Ok(segments);
        }
        let shaking = async {
            loop {
                let shaken = self.shaken.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match (shaken, self.segments.get()) {
                    (Err(error), _) => return Err(TransportError::Shm(error)),
                    (Ok(true), Some(segments)) => return Ok(segments),
                    _ if self.is_gone() => return Err(lost(io::ErrorKind::ConnectionReset)),
                    _ => self.listen(half).await?,
                }
            }
        };
        let stalled = |_| TransportError::Shm(ShmError::Stalled { waited: HANDSHAKE_WAIT });
        tokio::time::timeout(HANDSHAKE_WAIT, shaking).await.map_err(stalled)?
    }

    /// Whether the peer's socket was seen closed.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Waits until the bell rings, the peer goes, or the other half heard something: then look again.
    pub(super) async fn listen(&self, half: Half) -> Result<(), TransportError> {
        tokio::select! {
            biased;
            () = self.heard[half as usize].notified() => Ok(()),
            readable = self.socket.readable() => {
                let mut readable = readable.map_err(|source| TransportError::Lost { source })?;
                let (heard, empty) = self.hear();
                if empty {
                    readable.clear_ready();
                }
                if heard {
                    self.heard[1 - half as usize].notify_one();
                }
                Ok(())
            }
        }
    }

    /// Takes what is in the socket: whether there was anything, and whether that was all.
    fn hear(&self) -> (bool, bool) {
        let mut shaken = self.shaken.lock().unwrap_or_else(PoisonError::into_inner);
        if *shaken == Ok(false) {
            *shaken = self.shake();
            self.greeted.store(*shaken == Ok(true), Ordering::Relaxed);
            let waiting = *shaken == Ok(false);
            return (!waiting, waiting);
        }
        drop(shaken);
        let mut rings = [0; 64];
        match recv(self.socket.get_ref(), &mut rings, RecvFlags::DONTWAIT) {
            Ok((got, _)) if got == rings.len() => (true, false),
            Ok((1.., _)) => (true, true),
            Err(Errno::AGAIN) => (false, true),
            Ok((0, _)) | Err(_) => {
                // Release, partner: `is_gone`. What the half that heard it did before is seen by the other.
                self.gone.store(true, Ordering::Release);
                (true, true)
            }
        }
    }

    /// Takes the peer's part of the handshake, if it is there.
    fn shake(&self) -> Result<bool, ShmError> {
        if self.segments.get().is_some() {
            return handshake::take_hello(self.socket.get_ref().as_fd());
        }
        let Some(segments) = handshake::take_offer(self.socket.get_ref().as_fd())? else { return Ok(false) };
        self.segments.set(segments).expect("the lock is held: nobody else took an offer");
        Ok(true)
    }

    /// Rings the peer's bell if that half of it sleeps, once a sleep.
    ///
    /// What it is woken for must have been stored before.
    pub(super) fn wake(&self, half: Half) {
        let Some(segments) = self.segments.get() else { return };
        // SeqCst, partner: the fence in `sleep` of the peer. Either it sees what was stored before this fence, or
        // this load sees that it sleeps.
        fence(Ordering::SeqCst);
        let sleep = segments.peer.words()[half.asleep_word()].load(Ordering::Relaxed);
        // Relaxed: this only saves bells.
        if sleep != 0 && self.rung_for[half as usize].swap(sleep, Ordering::Relaxed) != sleep {
            // A full socket has bells enough in it; one that is closed is noticed elsewhere.
            let _full_or_gone = send(self.socket.get_ref(), b"!", SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }

    /// Sleeps until something happens, unless `ready` says that it has: then look again.
    pub(super) async fn sleep(&self, half: Half, mut ready: impl FnMut() -> bool) -> Result<(), TransportError> {
        let segments = self.segments.get().expect("halves sleep when the handshake is over");
        let word = &segments.own.control()[half.asleep_word()];
        // Never 0, and another number each sleep: the peer rings once for each.
        word.store(self.sleeps.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        // SeqCst, partner: the fence in `wake` of the peer.
        fence(Ordering::SeqCst);
        if !ready() && !self.is_gone() {
            self.listen(half).await?;
        }
        // Where the future is dropped before this, the word stays, and the peer rings once for nothing.
        word.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Tells the peer which processor this end waits on, and whether the peer last waited on the same.
    pub(super) fn shares_core(&self) -> bool {
        let Some(segments) = self.segments.get() else { return false };
        // Relaxed, both: a hint.
        let (own, here) = (&segments.own.control()[layout::PROCESSOR], 1 + rustix::thread::sched_getcpu() as u64);
        if own.load(Ordering::Relaxed) != here {
            own.store(here, Ordering::Relaxed);
        }
        segments.peer.words()[layout::PROCESSOR].load(Ordering::Relaxed) == here
    }

    /// Tells the peer that a half has ended.
    pub(super) fn tell_ended(&self, half: Half) {
        let Some(segments) = self.segments.get() else { return };
        let ended = if half == Half::Sender { ENDED_SENDING } else { ENDED_RECEIVING };
        // Release, partner: `load` in the peer's `ended`. What was published before is seen with it.
        segments.own.control()[ENDED].fetch_or(ended, Ordering::Release);
        self.wake(Half::Receiver);
        self.wake(Half::Sender);
    }

    /// Ends a half that is dropped; behind the last the connection closes.
    pub(super) fn drop_half(&self, half: Half) {
        self.tell_ended(half);
        // AcqRel, partner: itself in the other half, so that the last one comes behind all that both did.
        if self.halves_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Frames that are still read keep the link, and must not keep the connection.
            let _closed = shutdown(self.socket.get_ref(), Shutdown::Both);
        }
    }

    /// What the peer has ended, of [`ENDED_SENDING`] and [`ENDED_RECEIVING`].
    pub(super) fn ended(&self) -> u64 {
        self.segments.get().map_or(0, |segments| load(&segments.peer.words()[ENDED]))
    }
}

/// Loads a word of a read-only mapping, ordered as by `Acquire`: on such memory only relaxed loads are defined.
///
/// Partner: the peer's `Release` store to the word.
pub(super) fn load(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// A connection that is lost without more to say.
pub(super) fn lost(kind: io::ErrorKind) -> TransportError {
    TransportError::Lost { source: kind.into() }
}
