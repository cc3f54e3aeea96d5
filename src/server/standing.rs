//! A wait that stands while others beside it come and go: it is told once whom to wake, not each time it is asked.
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Waits for `F`, which ends once.
#[derive(Debug)]
pub(super) struct Standing<F> {
    awaited: Pin<Box<F>>,
    /// Whom `awaited` wakes.
    woken: Option<Waker>,
}

impl<F: Future> Standing<F> {
    pub(super) fn new(awaited: F) -> Self {
        Self { awaited: Box::pin(awaited), woken: None }
    }

    /// As [`Future::poll`]. It may be over without `cx` being woken for this call, by a wake-up that came before: then
    /// `is_over` says so.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, is_over: impl FnOnce(&F) -> bool) -> Poll<F::Output> {
        let is_told = self.woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker()));
        if is_told && !is_over(&self.awaited) {
            return Poll::Pending;
        }
        let polled = self.awaited.as_mut().poll(cx);
        if !is_told {
            self.woken = Some(cx.waker().clone());
        }
        polled
    }
}
