//! What one connection has of an allowance: the frame at hand, from its header to the next one's.
#![forbid(unsafe_code)]

use super::allowance::{Allowance, OnTheWay, UNCOUNTED_BYTES, Waiting};
use std::sync::Arc;

/// A receiver's part of what its connections share; everything, before it is told what that is.
#[derive(Debug, Default)]
pub(super) struct Share {
    allowance: Option<Arc<Allowance>>,
    /// The frame at hand, if it is counted.
    on_the_way: Option<OnTheWay>,
    /// Its place in the line, until it may come.
    waiting: Option<Waiting>,
}

impl Share {
    /// Frames that begin from now on are counted there.
    pub(super) fn set(&mut self, allowance: Arc<Allowance>) {
        self.allowance = Some(allowance);
    }

    /// Begins a frame: counts it, if it is long and not counted yet. False where it has to [`Share::wait`].
    pub(super) fn begin(&mut self, frame_bytes: u32) -> bool {
        if self.waiting.is_some() {
            return false;
        }
        let counting = self.allowance.as_ref().filter(|_| frame_bytes > UNCOUNTED_BYTES && self.on_the_way.is_none());
        match counting.map(|allowance| allowance.enter(frame_bytes.into())) {
            Some(Ok(admitted)) => self.on_the_way = Some(admitted),
            Some(Err(waiting)) => self.waiting = Some(waiting),
            None => {}
        }
        self.waiting.is_none()
    }

    /// Leaves the line: whoever only looks whether a frame is here does not stand there meanwhile.
    pub(super) fn step_back(&mut self) {
        self.waiting = None;
    }

    /// Whether the frame at hand has to wait.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Waits until the frame may come. Dropping the future loses nothing, nor its place in the line.
    pub(super) async fn wait(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            self.on_the_way = Some(waiting.admitted().await);
            self.waiting = None;
        }
    }

    /// Hands on what the frame at hand is counted by: to wherever it is read.
    pub(super) fn take(&mut self) -> Option<OnTheWay> {
        self.on_the_way.take()
    }

    /// A frame is at hand that was counted elsewhere.
    pub(super) fn hold(&mut self, on_the_way: Option<OnTheWay>) {
        debug_assert!(self.waiting.is_none(), "what waits is not here");
        self.on_the_way = on_the_way;
    }

    /// The frame at hand is answered.
    pub(super) fn end(&mut self) {
        self.on_the_way = None;
    }

    /// No frame comes any more.
    pub(super) fn leave(&mut self) {
        *self = Self::default();
    }
}
