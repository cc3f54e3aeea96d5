//! How fast a peer has to be: every lump of a frame has its time.
//!
//! ```text
//!   | 256 KiB | 256 KiB | 256 KiB | rest |      each within `wait` of the one before, or the peer has stalled
//! ```
//!
//! A limit on a whole frame would cut off peers that are slow and steady; one on each byte would let a peer keep
//! a large buffer for ever by a byte now and then.
#![forbid(unsafe_code)]

use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A lump, in bytes.
const LUMP_BYTES: usize = 256 << 10;

/// Holds one direction of a connection to its time.
#[derive(Debug)]
pub(crate) struct Pace {
    wait: Duration,
    /// Bytes of the lump that have moved.
    moved: usize,
    /// When the lump must have moved; `None` while nobody waits for it.
    deadline: Option<Instant>,
}

impl Pace {
    /// A peer that has `wait` for each lump; [`Duration::MAX`] for one that may take as long as it likes.
    pub(crate) fn new(wait: Duration) -> Self {
        Self { wait, moved: 0, deadline: None }
    }

    /// Moves some bytes of a frame that has begun; `None` where the peer has stalled. Dropping the future gives the
    /// peer no more time than it had.
    pub(crate) async fn step(&mut self, step: impl Future<Output = io::Result<usize>>) -> Option<io::Result<usize>> {
        let moved = self.in_time(step).await?;
        self.moved(moved.as_ref().map_or(0, |bytes| *bytes));
        Some(moved)
    }

    /// Waits for a peer in the middle of a frame; `None` where it has stalled, likewise.
    pub(crate) async fn in_time<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        let deadline = &mut self.deadline;
        // Where they lie they stay: to move them into the loop of `select` took longer than most steps.
        let (mut step, mut stalled) = (
            pin!(step),
            pin!(async {
                if deadline.is_none() {
                    *deadline = Instant::now().checked_add(self.wait);
                }
                match *deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            }),
        );
        tokio::select! {
            biased;
            done = &mut step => Some(done),
            () = &mut stalled => None,
        }
    }

    /// So many bytes of the frame have moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
        if self.moved >= LUMP_BYTES {
            self.begin();
        }
    }

    /// What moves next begins a frame.
    pub(crate) fn begin(&mut self) {
        (self.moved, self.deadline) = (0, None);
    }
}
