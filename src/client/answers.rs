//! Requests without an answer yet, and whoever waits for each: one lock, and no allocation a request.
//!
//! ```text
//!   reserve --> Waiting --answer--> Answered --taken--> gone
//!                  |
//!                  `--future dropped--> Left --answer--> gone        (it keeps its place in the window until then)
//! ```
#![forbid(unsafe_code)]

use super::ClientError;
use crate::transport::Frame;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::OwnedSemaphorePermit;

/// How a request ends on a link.
pub(super) type Answer = Result<Frame, ClientError>;

/// The requests of one link.
#[derive(Debug, Default)]
pub(super) struct Answers {
    state: Mutex<State>,
    received: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Ordered, so that a seed replays the order in which they fail.
    slots: BTreeMap<u64, Slot>,
    /// Why the link is dead.
    dead: Option<ClientError>,
}

/// A request, and the place in the window that it takes until its answer comes.
#[derive(Debug)]
enum Slot {
    Waiting { waker: Option<Waker>, _permit: OwnedSemaphorePermit },
    Answered(Answer),
    Left { _permit: OwnedSemaphorePermit },
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came, whatever it is.
    pub(super) fn count_received(&self) {
        // The one that reads it waits for nothing that stands behind it: no order is needed.
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames received so far: whoever waits in vain sees from it whether the node says anything at all.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Why the link is dead, if it is.
    pub(super) fn dead(&self) -> Option<ClientError> {
        self.lock().dead.clone()
    }

    /// Makes ready to take the answer to `request`; `None` where the link is dead, and nothing may be sent.
    pub(super) fn reserve(self: &Arc<Self>, request: u64, permit: OwnedSemaphorePermit) -> Option<Awaited> {
        let mut state = self.lock();
        if state.dead.is_some() {
            return None;
        }
        let before = state.slots.insert(request, Slot::Waiting { waker: None, _permit: permit });
        debug_assert!(before.is_none(), "request {request} has a number of its own");
        Some(Awaited { answers: Arc::clone(self), request })
    }

    /// Gives an answer to whoever waits for it; false where no such request is open.
    pub(super) fn answer(&self, request: u64, answer: Answer) -> bool {
        let mut state = self.lock();
        let Some(slot) = state.slots.get_mut(&request) else { return false };
        match slot {
            // A second answer to one request.
            Slot::Answered(_) => return false,
            Slot::Waiting { waker, .. } => {
                let waker = waker.take();
                // The place in the window is given back outside the lock: that may wake somebody too.
                let place = std::mem::replace(slot, Slot::Answered(answer));
                drop(state);
                drop(place);
                waker.into_iter().for_each(Waker::wake);
            }
            Slot::Left { .. } => {
                let place = state.slots.remove(&request);
                drop(state);
                drop(place);
            }
        }
        true
    }

    /// Marks the link dead, once, and fails everything in flight.
    pub(super) fn fail(&self, error: &ClientError) {
        let (mut wakers, mut places) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        if state.dead.is_none() {
            state.dead = Some(error.clone());
        }
        for (request, slot) in std::mem::take(&mut state.slots) {
            match slot {
                Slot::Waiting { waker, _permit } => {
                    state.slots.insert(request, Slot::Answered(Err(error.clone())));
                    wakers.extend(waker);
                    places.push(_permit);
                }
                Slot::Answered(answer) => {
                    state.slots.insert(request, Slot::Answered(answer));
                }
                Slot::Left { _permit } => places.push(_permit),
            }
        }
        drop(state);
        drop(places);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// The answer to one request: a future. Dropped before it came, it leaves its place in the window taken: the reply then
/// finds nobody and is dropped.
#[derive(Debug)]
pub(super) struct Awaited {
    answers: Arc<Answers>,
    request: u64,
}

impl Awaited {
    /// Gives up a request that was not sent.
    pub(super) fn cancel(self) {
        let slot = self.answers.lock().slots.remove(&self.request);
        drop(slot);
    }
}

impl Future for Awaited {
    type Output = Answer;

    /// # Panics
    /// Where it was ready before.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut state = self.answers.lock();
        let slot = state.slots.get_mut(&self.request).expect("nobody else takes an answer, and one is taken once");
        if let Slot::Waiting { waker, .. } = slot {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let Some(Slot::Answered(answer)) = state.slots.remove(&self.request) else {
            unreachable!("only dropping leaves a slot")
        };
        Poll::Ready(answer)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut state = self.answers.lock();
        match state.slots.remove(&self.request) {
            Some(Slot::Waiting { _permit, .. }) => {
                state.slots.insert(self.request, Slot::Left { _permit });
            }
            // A frame goes back to its lender: not under the lock.
            answered => {
                drop(state);
                drop(answered);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll::Ready;
    use tokio::sync::Semaphore;

    fn frame(bytes: &[u8]) -> Frame {
        Frame::unaccounted(bytes.to_vec())
    }

    fn reserve(answers: &Arc<Answers>, window: &Arc<Semaphore>, request: u64) -> Awaited {
        let permit = Arc::clone(window).try_acquire_owned().expect("there is a place");
        answers.reserve(request, permit).expect("the link is alive")
    }

    fn poll(awaited: &mut Awaited) -> Poll<Answer> {
        Pin::new(awaited).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_reaches_who_waits_for_it_and_frees_its_place_at_once() {
        let (answers, window) = (Arc::new(Answers::default()), Arc::new(Semaphore::new(2)));
        let mut first = reserve(&answers, &window, 1);
        let mut second = reserve(&answers, &window, 2);
        assert!(poll(&mut first).is_pending() && window.available_permits() == 0);
        assert!(answers.answer(2, Ok(frame(b"two"))));
        assert_eq!(window.available_permits(), 1);
        assert!(poll(&mut first).is_pending());
        let Ready(Ok(answer)) = poll(&mut second) else { panic!("it was answered") };
        assert_eq!(&answer[..], b"two");
    }

    #[test]
    fn a_second_answer_and_one_to_nobody_are_refused() {
        let (answers, window) = (Arc::new(Answers::default()), Arc::new(Semaphore::new(1)));
        let awaited = reserve(&answers, &window, 1);
        assert!(!answers.answer(7, Ok(frame(b"nobody's"))));
        assert!(answers.answer(1, Ok(frame(b"first"))));
        assert!(!answers.answer(1, Ok(frame(b"second"))));
        drop(awaited);
        assert!(!answers.answer(1, Ok(frame(b"third"))));
    }

    #[test]
    fn who_leaves_keeps_the_place_until_the_answer_comes() {
        let (answers, window) = (Arc::new(Answers::default()), Arc::new(Semaphore::new(1)));
        drop(reserve(&answers, &window, 1));
        assert_eq!(window.available_permits(), 0);
        assert!(answers.answer(1, Ok(frame(b"late"))));
        assert_eq!(window.available_permits(), 1);
        assert!(!answers.answer(1, Ok(frame(b"again"))));
    }

    #[test]
    fn what_was_not_sent_gives_its_place_back() {
        let (answers, window) = (Arc::new(Answers::default()), Arc::new(Semaphore::new(1)));
        reserve(&answers, &window, 1).cancel();
        assert_eq!(window.available_permits(), 1);
        assert!(!answers.answer(1, Ok(frame(b"to nothing"))));
    }

    #[test]
    fn a_dead_link_fails_all_that_wait_but_not_what_was_answered() {
        let (answers, window) = (Arc::new(Answers::default()), Arc::new(Semaphore::new(4)));
        let (mut answered, mut waiting) = (reserve(&answers, &window, 1), reserve(&answers, &window, 2));
        drop(reserve(&answers, &window, 3));
        assert!(answers.answer(1, Ok(frame(b"in time"))));
        answers.fail(&ClientError::OutOfMemory);
        assert_eq!(window.available_permits(), 4);
        assert!(matches!(poll(&mut answered), Ready(Ok(_))));
        assert!(matches!(poll(&mut waiting), Ready(Err(ClientError::OutOfMemory))));
        assert!(answers.dead().is_some());
        let permit = window.try_acquire_owned().expect("a place");
        assert!(answers.reserve(4, permit).is_none());
    }
}
