//! The single operations of one node that somebody waits for: those that wait for a frame, and those that are in one.
//!
//! ```text
//!   push --> Waiting --take--> InFlight --tell--> Answered --taken--> free, for the next
//!               |                 |                   ^
//!               +-- its deadline, or the end of its runtime --+
//!               |                 |
//!               `- its caller goes away: unsent   `- it may still take effect, and tells nobody
//! ```
//!
//! A lock to issue an operation, one to take its answer, and a few a frame between. Deadlines are kept by one task a
//! runtime (`alarm.rs`): a timer for each operation would cost more than all else here.
#![forbid(unsafe_code)]

use super::ClientError;
use super::coalescer::{Answered, Single};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::runtime;
use tokio::time::Instant;

/// Most operations of one coalesced frame: beyond that a batch gains nothing and its first caller waits.
pub(super) const OPS_MAX: usize = 4096;

/// Bytes of keys and values after which a coalesced frame is sent.
const BYTES_MAX: usize = 1 << 20;

/// Frames of singles in flight to a node.
pub(super) const CARRIERS_MAX: usize = 2;

/// How an operation ends.
pub(super) type Answer = Result<Answered, ClientError>;

/// The operations, and how many tasks carry them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: Vec<Slot>,
    /// Those that are nobody's.
    free: Vec<u32>,
    /// The slots of those that wait, by number: in the order of arrival.
    waiting: BTreeMap<u64, u32>,
    /// Number of the next.
    next: u64,
    /// Tasks that carry, and operations in flight with them.
    carriers: usize,
    in_flight: usize,
    /// A few: one a runtime, and sometimes a second one for an earlier deadline.
    alarms: Vec<Alarm>,
}

/// Where an operation is: its slot, as long as that has its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    slot: u32,
    number: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    stage: Stage,
    waker: Option<Waker>,
    kept_by: Alarm,
}

#[derive(Debug)]
enum Stage {
    Free,
    Waiting(Single),
    InFlight,
    Answered(Answer),
}

/// When, and by a task of which runtime, deadlines are looked at: of an operation, its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alarm {
    pub(super) runtime: runtime::Id,
    pub(super) at: Instant,
}

/// What an operation that came wants and nobody does yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) carrier: bool,
    pub(super) alarm: bool,
}

/// How far an operation had come that ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    Waiting,
    InFlight,
}

impl Alarm {
    /// Whether it goes off in time for an operation.
    fn keeps(self, operation: Self) -> bool {
        self.runtime == operation.runtime && self.at <= operation.at
    }
}

impl Slot {
    fn unanswered(&self) -> Option<Unanswered> {
        match self.stage {
            Stage::Waiting(_) => Some(Unanswered::Waiting),
            Stage::InFlight => Some(Unanswered::InFlight),
            Stage::Answered(_) | Stage::Free => None,
        }
    }

    /// Answers what has no answer yet; whom to wake, without the lock.
    fn answer(&mut self, answer: Answer) -> Option<Waker> {
        debug_assert!(self.unanswered().is_some(), "it is answered once");
        self.stage = Stage::Answered(answer);
        self.waker.take()
    }
}

impl State {
    fn slot(&mut self, place: Place) -> &mut Slot {
        let slot = &mut self.slots[place.slot as usize];
        assert_eq!(slot.number, place.number, "a place is given up once");
        slot
    }

    /// Whether somebody still waits for it without an answer.
    fn is_awaited(&self, place: Place) -> bool {
        let slot = &self.slots[place.slot as usize];
        slot.number == place.number && slot.unanswered().is_some()
    }

    /// Frees a slot; what was in it is to be dropped without the lock.
    fn free(&mut self, place: Place) -> (Stage, Option<Waker>) {
        let slot = self.slot(place);
        let left = (std::mem::replace(&mut slot.stage, Stage::Free), slot.waker.take());
        self.free.push(place.slot);
        if matches!(left.0, Stage::Waiting(_)) {
            self.waiting.remove(&place.number);
        }
        left
    }

    /// Ends operations that have no answer, each with the error of how far it had come; whom to wake.
    fn end(&mut self, is_over: impl Fn(&Alarm) -> bool, error: impl Fn(Unanswered) -> ClientError) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for slot in self.slots.iter_mut().filter(|slot| is_over(&slot.kept_by)) {
            let Some(unanswered) = slot.unanswered() else { continue };
            if unanswered == Unanswered::Waiting {
                self.waiting.remove(&slot.number);
            }
            wakers.extend(slot.answer(Err(error(unanswered))));
        }
        wakers
    }

    /// An alarm for the first deadline of the runtime of one that went off, where no other keeps that.
    fn alarm_behind(&mut self, rung: Alarm) -> Option<Alarm> {
        self.forget(rung);
        let is_kept = |slot: &&Slot| slot.kept_by.runtime == rung.runtime && slot.unanswered().is_some();
        let next = self.slots.iter().filter(is_kept).map(|slot| slot.kept_by).min_by_key(|kept_by| kept_by.at)?;
        self.notes(next).then_some(next)
    }

    /// Notes an alarm down, unless another one goes off in time; whether it is to be set.
    fn notes(&mut self, alarm: Alarm) -> bool {
        let has_other = self.alarms.iter().any(|other| other.keeps(alarm));
        self.alarms.extend((!has_other).then_some(alarm));
        !has_other
    }

    fn forget(&mut self, alarm: Alarm) {
        if let Some(place) = self.alarms.iter().position(|other| *other == alarm) {
            self.alarms.swap_remove(place);
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation that waits from now on. What is wanted then is taken for done.
    pub(super) fn push(&self, single: Single, kept_by: Alarm, waker: &Waker) -> (Place, Wanted) {
        let waker = Some(waker.clone());
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let slot = Slot { number, stage: Stage::Waiting(single), waker, kept_by };
        let place = match state.free.pop() {
            Some(free) => {
                state.slots[free as usize] = slot;
                free
            }
            None => {
                state.slots.push(slot);
                state.slots.len() as u32 - 1
            }
        };
        state.waiting.insert(number, place);
        let carrier = state.carriers < CARRIERS_MAX;
        state.carriers += usize::from(carrier);
        let alarm = state.notes(kept_by);
        (Place { slot: place, number }, Wanted { carrier, alarm })
    }

    /// Takes an operation's answer, and its place with it.
    pub(super) fn poll(&self, place: Place, cx: &Context<'_>) -> Poll<Answer> {
        let mut state = self.lock();
        let slot = state.slot(place);
        if slot.unanswered().is_some() {
            let is_known = slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            let before = if is_known { None } else { slot.waker.replace(cx.waker().clone()) };
            drop(state);
            drop(before);
            return Poll::Pending;
        }
        let (stage, _) = state.free(place);
        match stage {
            Stage::Answered(answer) => Poll::Ready(answer),
            _ => unreachable!("what is not unanswered is answered"),
        }
    }

    /// Gives up a place, with what waits there.
    pub(super) fn leave(&self, place: Place) {
        let left = self.lock().free(place);
        drop(left);
    }

    /// Takes a frame's worth of what is waiting, in the order of arrival, where all is for so many frames.
    pub(super) fn take(&self, frames: usize) -> Vec<(Place, Single)> {
        let mut state = self.lock();
        let share = (state.in_flight + state.waiting.len()).div_ceil(frames).min(OPS_MAX);
        let (mut bytes, mut taken) = (0, Vec::with_capacity(share.min(state.waiting.len())));
        while let Some(next) = state.waiting.first_entry().filter(|_| taken.len() < share) {
            let place = Place { number: *next.key(), slot: *next.get() };
            let slot = state.slot(place);
            let Stage::Waiting(single) = &slot.stage else { unreachable!("it is among those that wait") };
            bytes += single.bytes();
            // One that is larger by itself goes alone.
            if bytes > BYTES_MAX && !taken.is_empty() {
                break;
            }
            let Stage::Waiting(single) = std::mem::replace(&mut slot.stage, Stage::InFlight) else {
                unreachable!("it was just looked at")
            };
            state.waiting.pop_first();
            taken.push((place, single));
        }
        state.in_flight += taken.len();
        taken
    }

    /// Tells callers what came of their operations; they may have gone away, or given up.
    pub(super) fn tell(&self, answers: impl Iterator<Item = (Place, Answer)>) {
        let mut wakers = Vec::with_capacity(answers.size_hint().1.unwrap_or(0));
        let mut state = self.lock();
        for (place, answer) in answers {
            if state.is_awaited(place) {
                wakers.extend(state.slot(place).answer(answer));
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// So many operations of a task that carries are in flight no more. Whether anything waits; if not, the task ends.
    pub(super) fn goes_on(&self, landed: usize) -> bool {
        let mut state = self.lock();
        state.in_flight -= landed;
        let goes_on = !state.waiting.is_empty();
        state.carriers -= usize::from(!goes_on);
        goes_on
    }

    /// Whether more than one task carries.
    pub(super) fn has_two_carriers(&self) -> bool {
        self.lock().carriers > 1
    }

    /// A task that carries ended before its time. What waits is told so if nobody else carries, and who comes next
    /// starts another.
    pub(super) fn carrier_ended(&self, landed: usize, error: impl Fn() -> ClientError) {
        let mut state = self.lock();
        state.carriers -= 1;
        state.in_flight -= landed;
        let waiting = if state.carriers == 0 { std::mem::take(&mut state.waiting) } else { BTreeMap::new() };
        let places = waiting.into_iter().map(|(number, slot)| Place { slot, number });
        let wakers: Vec<_> = places.map(|place| state.slot(place).answer(Err(error()))).collect();
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Ends those whose deadline has passed, on whichever runtime.
    pub(super) fn end_late(&self, now: Instant, error: impl Fn(Unanswered) -> ClientError) {
        let wakers = self.lock().end(|kept_by| kept_by.at <= now, error);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// An alarm goes off: ends those whose deadline has passed. The next alarm of its runtime, if it is to have one.
    pub(super) fn ring(&self, alarm: Alarm, now: Instant, error: impl Fn(Unanswered) -> ClientError) -> Option<Alarm> {
        let mut state = self.lock();
        let wakers = state.end(|kept_by| kept_by.at <= now, error);
        let next = state.alarm_behind(alarm);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// A runtime ended, and an alarm with it: so do its operations.
    pub(super) fn runtime_ended(&self, lost: Alarm, error: impl Fn(Unanswered) -> ClientError) {
        let mut state = self.lock();
        state.forget(lost);
        let wakers = state.end(|kept_by| kept_by.runtime == lost.runtime, error);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::coalescer::SingleAction;
    use std::time::Duration;
    use tokio::runtime::{Builder, Runtime};

    const SECOND: Duration = Duration::from_secs(1);

    fn runtime() -> Runtime {
        Builder::new_current_thread().build().expect("a runtime")
    }

    fn single(bytes: usize) -> Single {
        Single { key: vec![7; bytes].into(), action: SingleAction::Delete, epoch: 0 }
    }

    fn push(queue: &Queue, runtime: &Runtime, at: Instant) -> (Place, Wanted) {
        queue.push(single(1), Alarm { runtime: runtime.handle().id(), at }, Waker::noop())
    }

    fn poll(queue: &Queue, place: Place) -> Option<Answer> {
        match queue.poll(place, &Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    fn places(taken: &[(Place, Single)]) -> Vec<u64> {
        taken.iter().map(|(place, _)| place.number).collect()
    }

    /// An error that tells how far the operation had come.
    fn error(unanswered: Unanswered) -> ClientError {
        match unanswered {
            Unanswered::Waiting => ClientError::NoMap,
            Unanswered::InFlight => ClientError::OutOfMemory,
        }
    }

    fn told(queue: &Queue, place: Place) -> Option<Unanswered> {
        match poll(queue, place)? {
            Err(ClientError::NoMap) => Some(Unanswered::Waiting),
            Err(ClientError::OutOfMemory) => Some(Unanswered::InFlight),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_takes_its_share_in_the_order_of_arrival_and_who_left_is_not_in_it() {
        let (queue, runtime, at) = (Queue::default(), runtime(), Instant::now());
        let waiting: Vec<_> = (0..6).map(|_| push(&queue, &runtime, at).0).collect();
        queue.leave(waiting[1]);
        assert_eq!(places(&queue.take(2)), [0, 2, 3], "half of five, rounded up");
        // A new operation in the slot of the one that left does not come before its time.
        assert_eq!(push(&queue, &runtime, at).0.slot, waiting[1].slot);
        assert_eq!(places(&queue.take(1)), [4, 5, 6]);
        assert!(queue.take(1).is_empty());
    }

    #[test]
    fn a_frame_takes_a_mebibyte_and_what_is_longer_goes_alone() {
        let (queue, runtime) = (Queue::default(), runtime());
        let kept_by = Alarm { runtime: runtime.handle().id(), at: Instant::now() };
        for bytes in [BYTES_MAX / 2, BYTES_MAX / 2, 1, BYTES_MAX + 1, 1] {
            queue.push(single(bytes), kept_by, Waker::noop());
        }
        let frames: Vec<_> = (0..4).map(|_| places(&queue.take(1))).collect();
        assert_eq!(frames, [vec![0, 1], vec![2], vec![3], vec![4]]);
    }

    #[test]
    fn two_tasks_carry_and_one_alarm_a_runtime_keeps_the_first_deadline() {
        let (queue, one, other, now) = (Queue::default(), runtime(), runtime(), Instant::now());
        let wanted = |runtime, at| {
            let wanted = push(&queue, runtime, at).1;
            (wanted.carrier, wanted.alarm)
        };
        assert_eq!(wanted(&one, now + SECOND), (true, true));
        assert_eq!(wanted(&one, now + 2 * SECOND), (true, false));
        assert_eq!(wanted(&one, now), (false, true), "an earlier deadline");
        assert_eq!(wanted(&other, now + SECOND), (false, true), "another runtime");
        assert_eq!(wanted(&other, now + SECOND), (false, false));
    }

    #[test]
    fn an_alarm_tells_who_is_late_and_goes_off_next_for_the_first_of_the_others() {
        let (queue, runtime, now) = (Queue::default(), runtime(), Instant::now());
        let kept_by = |at| Alarm { runtime: runtime.handle().id(), at };
        let in_flight = push(&queue, &runtime, now).0;
        assert_eq!(queue.take(1).len(), 1);
        let waiting = push(&queue, &runtime, now).0;
        let later = push(&queue, &runtime, now + SECOND).0;
        assert_eq!(queue.ring(kept_by(now), now, error), Some(kept_by(now + SECOND)));
        assert_eq!(told(&queue, in_flight), Some(Unanswered::InFlight));
        assert_eq!(told(&queue, waiting), Some(Unanswered::Waiting));
        assert_eq!(told(&queue, later), None);
        // It is kept by that alarm now; one that goes off for an earlier deadline ends.
        assert!(push(&queue, &runtime, now).1.alarm);
        assert_eq!(queue.ring(kept_by(now), now, error), None);
        queue.leave(later);
        assert_eq!(queue.ring(kept_by(now + SECOND), now, error), None, "nobody waits");
        assert!(push(&queue, &runtime, now + 9 * SECOND).1.alarm, "and the next sets another");
        assert_eq!(queue.take(1).len(), 1, "who is late is carried no more");
    }

    #[test]
    fn what_ends_without_an_answer_is_told_once_and_a_late_answer_is_nobody_s() {
        let (queue, runtime, now) = (Queue::default(), runtime(), Instant::now());
        let late = push(&queue, &runtime, now).0;
        let taken = queue.take(1);
        queue.end_late(now, error);
        queue.tell([(taken[0].0, Err(ClientError::NoMap))].into_iter());
        assert_eq!(told(&queue, late), Some(Unanswered::InFlight), "the first word stands");
        // Its slot is another's now.
        let next = push(&queue, &runtime, now).0;
        assert_eq!(next.slot, late.slot);
        queue.tell([(taken[0].0, Err(ClientError::NoMap))].into_iter());
        assert_eq!(told(&queue, next), None);
    }

    #[test]
    fn a_runtime_that_ends_takes_its_own_operations_along() {
        let (queue, ended, living, now) = (Queue::default(), runtime(), runtime(), Instant::now());
        let (in_flight, other_in_flight) = (push(&queue, &ended, now).0, push(&queue, &living, now).0);
        assert_eq!(queue.take(1).len(), 2);
        let (waiting, other_waiting) = (push(&queue, &ended, now).0, push(&queue, &living, now).0);
        queue.runtime_ended(Alarm { runtime: ended.handle().id(), at: now }, error);
        assert_eq!(told(&queue, in_flight), Some(Unanswered::InFlight));
        assert_eq!(told(&queue, waiting), Some(Unanswered::Waiting));
        assert_eq!((told(&queue, other_in_flight), told(&queue, other_waiting)), (None, None));
        assert!(push(&queue, &ended, now).1.alarm, "its alarm is gone");
    }

    #[test]
    fn what_waits_is_told_when_the_last_task_that_carries_is_dropped() {
        let (queue, runtime, now) = (Queue::default(), runtime(), Instant::now());
        let in_flight = push(&queue, &runtime, now).0;
        assert_eq!(queue.take(1).len(), 1);
        let waiting = push(&queue, &runtime, now).0;
        queue.carrier_ended(0, || error(Unanswered::Waiting));
        assert_eq!(told(&queue, waiting), None, "the other one carries");
        queue.carrier_ended(1, || error(Unanswered::Waiting));
        assert_eq!((told(&queue, waiting), told(&queue, in_flight)), (Some(Unanswered::Waiting), None));
        assert!(push(&queue, &runtime, now).1.carrier);
    }
}
