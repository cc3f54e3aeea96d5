//! Bytes that connections have on their way together: how many, and who waits until there are fewer.
//!
//! ```text
//!   long frame's header --room, and nobody waits--> read, executed, answered --> given back --+
//!                     `--> the line's end ........ its front, first come, first served <------+
//! ```
//!
//! Only the beginning of a frame waits, never the rest of it, nor its reply: so whoever holds bytes comes to its end
//! without waiting for others, and none of those that share an allowance wait for each other in a ring. Whoever is
//! first waits for what is on its way already and for nothing that comes later: newcomers stand behind it, and replies
//! that begin meanwhile do not count for it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Frames up to so many bytes are not counted: a connection has one of them at a time, and memory for it in any case.
pub(crate) const UNCOUNTED_BYTES: u32 = 16 << 10;

/// Bit of [`Allowance::bytes`] that says that somebody waits: in one word with them, so that whoever gives bytes back
/// and whoever comes to wait cannot miss each other.
const SOMEBODY_WAITS: u64 = 1 << 63;

/// What connections share. Every method may be called from any thread.
#[derive(Debug)]
pub struct Allowance {
    bytes_max: AtomicU64,
    /// Those on their way, and [`SOMEBODY_WAITS`], which changes under the lock of `line` alone. Relaxed: what was read
    /// and sent has owners of its own, and this only counts.
    bytes: AtomicU64,
    /// How often a frame had to wait, of this and of other allowances.
    waits: Arc<AtomicU64>,
    line: Mutex<Line>,
}

/// Who waits, in the order in which they came, and for how many bytes.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<(u64, oneshot::Sender<OnTheWay>)>,
    /// Whose turn it is: one more each time that the first leaves.
    turn: u64,
    /// Bytes on their way that came when it was that turn already.
    late_bytes: u64,
}

impl Allowance {
    /// Of so many bytes, `u64::MAX` for any number. Counts in `waits` how often a frame had to wait.
    #[must_use]
    pub fn new(bytes_max: u64, waits: Arc<AtomicU64>) -> Self {
        Self { bytes_max: AtomicU64::new(bytes_max), bytes: AtomicU64::new(0), waits, line: Mutex::default() }
    }

    /// So many bytes from now on; `u64::MAX` for any number. What is on its way already is not changed.
    pub fn set(self: &Arc<Self>, bytes_max: u64) {
        if self.bytes_max.swap(bytes_max, Ordering::Relaxed) < bytes_max {
            self.let_in(&mut self.line());
        }
    }

    /// Lets a frame in now, or gives it a place in the line. Where nothing is on its way, there is room for any.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64) -> Result<OnTheWay, Waiting> {
        if let Some(admitted) = self.try_enter(bytes) {
            return Ok(admitted);
        }
        let mut line = self.line();
        let (sender, mut place) = oneshot::channel();
        line.waiting.push_back((bytes, sender));
        self.bytes.fetch_or(SOMEBODY_WAITS, Ordering::Relaxed);
        // Others may have come to their end meanwhile.
        self.let_in(&mut line);
        place.try_recv().map_err(|_| {
            self.waits.fetch_add(1, Ordering::Relaxed);
            Waiting { allowance: Arc::clone(self), place: Some(place) }
        })
    }

    /// Lets a frame in now, if there is room and nobody waits.
    pub(crate) fn try_enter(self: &Arc<Self>, bytes: u64) -> Option<OnTheWay> {
        self.take(bytes, None)
    }

    /// Counts what cannot wait, a reply.
    pub(crate) fn overdraw(self: &Arc<Self>, bytes: u64) -> OnTheWay {
        let unlimited = self.bytes_max.load(Ordering::Relaxed) == u64::MAX;
        let mut counted = OnTheWay { allowance: Arc::clone(self), bytes: 0, late_for: None };
        if !unlimited {
            counted.bytes = bytes;
            if self.bytes.fetch_add(bytes, Ordering::Relaxed) & SOMEBODY_WAITS != 0 {
                let mut line = self.line();
                if !line.waiting.is_empty() {
                    line.late_bytes += bytes;
                    counted.late_for = Some(line.turn);
                    // Until now they counted for whoever is first, and others may have come to their end meanwhile.
                    self.let_in(&mut line);
                }
            }
        }
        counted
    }

    /// Takes bytes where there is room for them, for the first of the line or for a newcomer, who overtakes nobody.
    fn take(self: &Arc<Self>, bytes: u64, line: Option<&Line>) -> Option<OnTheWay> {
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let admitted = |bytes| OnTheWay { allowance: Arc::clone(self), bytes, late_for: None };
        if bytes_max == u64::MAX {
            return Some(admitted(0));
        }
        let late_bytes = line.map_or(0, |line| line.late_bytes);
        let taken = self.bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            let counted = (before & !SOMEBODY_WAITS) - late_bytes;
            let is_in_turn = line.is_some() || before & SOMEBODY_WAITS == 0;
            let has_room = counted == 0 || counted.saturating_add(bytes) <= bytes_max;
            (is_in_turn && has_room).then_some(before + bytes)
        });
        taken.ok().map(|_| admitted(bytes))
    }

    /// Lets in whoever is first, as long as there is room.
    fn let_in(self: &Arc<Self>, line: &mut Line) {
        while let Some((bytes, _)) = line.waiting.front() {
            let Some(admitted) = self.take(*bytes, Some(line)) else { return };
            let left = line.first_leaves().map(|(_, first)| first.send(admitted));
            if let Some(Err(mut gone)) = left {
                // By hand: it would look for the next one, and that is done here.
                self.bytes.fetch_sub(std::mem::take(&mut gone.bytes), Ordering::Relaxed);
            }
        }
        self.bytes.fetch_and(!SOMEBODY_WAITS, Ordering::Relaxed);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // A panic elsewhere cannot leave a line half changed.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// It is the next one's turn, for whom all counts that is on its way by now.
    fn first_leaves(&mut self) -> Option<(u64, oneshot::Sender<OnTheWay>)> {
        (self.turn, self.late_bytes) = (self.turn + 1, 0);
        self.waiting.pop_front()
    }
}

/// A place in the line, which is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    allowance: Arc<Allowance>,
    /// Until it is let in.
    place: Option<oneshot::Receiver<OnTheWay>>,
}

impl Waiting {
    /// Returns when it is let in, once. Dropping the future loses nothing, the place neither.
    pub(crate) async fn admitted(&mut self) -> OnTheWay {
        let place = self.place.as_mut().expect("whoever was let in does not wait again");
        let admitted = place.await.expect("nobody is taken from the line before it is let in");
        self.place = None;
        admitted
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        place.close();
        if place.try_recv().is_ok() {
            return;
        }
        let mut line = self.allowance.line();
        match line.waiting.iter().position(|(_, waiting)| waiting.is_closed()) {
            Some(0) => drop(line.first_leaves()),
            Some(at) => drop(line.waiting.remove(at)),
            None => {}
        }
        self.allowance.let_in(&mut line);
    }
}

/// Bytes on their way, counted as long as this lives.
#[derive(Debug)]
pub(crate) struct OnTheWay {
    allowance: Arc<Allowance>,
    bytes: u64,
    /// The turn for which they came too late to count.
    late_for: Option<u64>,
}

impl OnTheWay {
    /// Counts so many bytes from now on, for whom they counted before. What is more does not wait.
    pub(crate) fn set_bytes(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.give_back(self.bytes - bytes);
        } else if self.allowance.bytes_max.load(Ordering::Relaxed) != u64::MAX {
            let more = bytes - self.bytes;
            let late_line = self.late_for.map(|_| self.allowance.line());
            self.allowance.bytes.fetch_add(more, Ordering::Relaxed);
            if let Some(mut line) = late_line.filter(|line| self.late_for == Some(line.turn)) {
                line.late_bytes += more;
            }
            self.bytes = bytes;
        }
    }

    fn give_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
        // Late bytes leave both counts together, as far as anybody sees who has the lock.
        let mut late_line = self.late_for.map(|_| self.allowance.line());
        if let Some(line) = late_line.as_mut().filter(|line| self.late_for == Some(line.turn)) {
            line.late_bytes -= bytes;
        }
        let before = self.allowance.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before & SOMEBODY_WAITS != 0 {
            let line = &mut late_line.unwrap_or_else(|| self.allowance.line());
            self.allowance.let_in(line);
        }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.give_back(self.bytes);
        }
    }
}

#[cfg(test)]
#[path = "tests/allowance.rs"]
mod tests;
