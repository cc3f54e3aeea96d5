//! The search for an order: Wing and Gong's, with Lowe's memory of configurations.
//!
//! A *configuration* is a set of calls already ordered and the state they leave. From it, a call may come next
//! unless one that had already returned when it was invoked is still to be ordered:
//!
//! ```text
//!   a |-----|             next may be a or b; c waits for a: it was invoked after a had returned
//!   b    |----------|
//!   c          |------|
//! ```
//!
//! The search goes deep first over an explicit stack and never enters a configuration twice (see `visited`).
//! Three rules more keep it from entering needless ones, and none of them loses an order:
//!
//! - An answered read that fits the state as it is comes next at once: it constrains nothing that follows.
//! - A lost call is ordered only for the sake of the call that follows it: if that could as well have come
//!   before the lost call, the lost call is left for later, or never.
//! - Of lost calls that ask the same, the earliest invoked goes first.
//!
//! References: Wing and Gong, "Testing and verifying concurrent objects", 1993; Lowe, "Testing for
//! linearizability", 2017; per key by Herlihy and Wing, "Linearizability", 1990, theorem 1.
#![forbid(unsafe_code)]

use super::super::history::Span;
use super::Checker;
use super::model::{Ends, State, Step, run};
use super::visited::{CallSet, Visited};
use xxhash_rust::xxh3::xxh3_128;

/// An answered call, or a lost one that changed something if it took effect.
#[derive(Debug)]
pub(super) struct Candidate {
    /// The call's index in the history.
    pub(super) call: usize,
    pub(super) invoke: u64,
    /// The instant by which it took effect; never, for a lost call.
    pub(super) ret: u64,
    /// The time by which it was executed lies in here.
    pub(super) time: Span,
    pub(super) steps: Vec<Step>,
}

/// How a search ended.
pub(super) enum End {
    /// All answered calls can be ordered.
    Ordered,
    /// They cannot; this is as far as any order got.
    Stuck(Deadlock),
    /// More configurations than allowed; this is as far as any order got until then.
    GaveUp(Deadlock),
}

/// The configuration that got furthest in time: no order was found in which its most urgent call takes effect.
#[derive(Debug, Clone)]
pub(super) struct Deadlock {
    /// The instant by which the most urgent call should have taken effect.
    pub(super) ret: u64,
    pub(super) state: State,
    /// Calls ordered so far.
    pub(super) ordered: usize,
    /// The last of them, in order.
    pub(super) last: Vec<usize>,
    /// Answered calls that may come next.
    pub(super) next: Vec<usize>,
}

/// Calls of an order that a failure shows.
const ORDER_SHOWN_MAX: usize = 8;

pub(super) struct Search {
    /// Answered calls, by invocation, then lost ones, by invocation.
    calls: Vec<Candidate>,
    answered: u32,
    only_reads: Vec<bool>,
    /// For a lost call: the last one before it that asks the same.
    twin: Vec<Option<u32>>,
    /// Answered calls still to be ordered, as a ring through entry `answered`; lost calls' entries are unused.
    next: Vec<u32>,
    previous: Vec<u32>,
    /// The xor of the marks of the answered calls that are ordered.
    answered_ordered: u128,
    lost_ordered: CallSet,
    order: Vec<u32>,
    visited: Visited,
    checker: Checker,
    furthest: Option<Deadlock>,
}

/// A configuration whose followers are being tried.
struct Node {
    state: State,
    /// The state before the lost call that led here.
    before_lost: Option<State>,
    /// Followers still to be tried, the best last.
    followers: Vec<(u32, State)>,
    /// Length of the order without what led here.
    order_before: usize,
}

impl Search {
    pub(super) fn new(mut answered: Vec<Candidate>, mut lost: Vec<Candidate>, checker: &Checker) -> Self {
        answered.sort_by_key(|call| call.invoke);
        lost.sort_by_key(|call| call.invoke);
        let count = answered.len() as u32;
        let twin = twins(&lost, count);
        let mut calls = answered;
        calls.append(&mut lost);
        Self {
            only_reads: calls.iter().map(|call| call.steps.iter().all(Step::only_reads)).collect(),
            lost_ordered: vec![0; twin.len().div_ceil(64)].into(),
            twin,
            next: (0..=count).map(|index| if index == count { 0 } else { index + 1 }).collect(),
            previous: (0..=count).map(|index| if index == 0 { count } else { index - 1 }).collect(),
            calls,
            answered: count,
            answered_ordered: 0,
            order: Vec::new(),
            visited: Visited::default(),
            checker: *checker,
            furthest: None,
        }
    }

    pub(super) fn run(mut self) -> End {
        let Some(root) = self.enter(State::FRESH, None, 0) else { return End::Ordered };
        let mut stack = vec![root];
        while let Some(node) = stack.last_mut() {
            let Some((call, state)) = node.followers.pop() else {
                let order_before = node.order_before;
                stack.pop();
                self.rewind(order_before);
                continue;
            };
            if self.visited.count() >= self.checker.configurations_max {
                return End::GaveUp(self.furthest());
            }
            let before_lost = (call >= self.answered).then_some(node.state);
            let order_before = self.order.len();
            self.take(call);
            match self.enter(state, before_lost, order_before) {
                None => return End::Ordered,
                Some(node) => stack.push(node),
            }
        }
        End::Stuck(self.furthest())
    }

    fn furthest(self) -> Deadlock {
        self.furthest.expect("the first configuration is noted before the search can fail")
    }

    /// Goes to the configuration of the calls ordered so far: `None` if all answered calls are.
    fn enter(&mut self, state: State, mut before_lost: Option<State>, order_before: usize) -> Option<Node> {
        while let Some(read) = self.window().find(|&call| self.leaves_as_is(call, &state)) {
            self.take(read);
            // The read did not fit before the lost call, or it would have been taken there: it is what that was for.
            before_lost = None;
        }
        if self.next[self.answered as usize] == self.answered {
            return None;
        }
        let mut node = Node { state, before_lost, followers: Vec::new(), order_before };
        if self.visited.enter(self.answered_ordered, &self.lost_ordered, &state) {
            self.note(&state);
            node.followers = self.followers(&node);
        }
        Some(node)
    }

    fn leaves_as_is(&self, call: u32, state: &State) -> bool {
        self.only_reads[call as usize] && self.behind(call, state).are_just(state)
    }

    /// What may come next, the best last: lost calls are a last resort, then the earliest invoked goes first.
    fn followers(&self, node: &Node) -> Vec<(u32, State)> {
        let mut followers = Vec::new();
        for call in self.lost_window() {
            for state in self.ends(call, &node.state, node.before_lost.as_ref()) {
                if !node.state.includes(&state) {
                    followers.push((call, state));
                }
            }
        }
        followers.reverse();
        let first = followers.len();
        for call in self.window() {
            followers.extend(self.ends(call, &node.state, node.before_lost.as_ref()).map(|state| (call, state)));
        }
        followers[first..].reverse();
        followers
    }

    /// The states that a call leaves, without those that it could as well have left before a lost call.
    fn ends(&self, call: u32, state: &State, before_lost: Option<&State>) -> impl Iterator<Item = State> {
        let needless = before_lost.map(|before| self.behind(call, before)).unwrap_or_default();
        self.behind(call, state).into_iter().filter(move |end| !needless.include(end))
    }

    /// The lost calls that may come next, by invocation.
    fn lost_window(&self) -> impl Iterator<Item = u32> {
        let end = self.window_end();
        (self.answered..self.calls.len() as u32)
            .take_while(move |&call| self.calls[call as usize].invoke <= end)
            .filter(|&call| !self.is_ordered(call))
            .filter(|&call| self.twin[(call - self.answered) as usize].is_none_or(|twin| self.is_ordered(twin)))
    }

    /// The answered calls that may come next: those invoked before any of them returned.
    fn window(&self) -> Window<'_> {
        Window { search: self, next: self.next[self.answered as usize], ret: u64::MAX }
    }

    /// The first instant at which a call still to be ordered returned.
    fn window_end(&self) -> u64 {
        self.window().map(|call| self.calls[call as usize].ret).min().unwrap_or(u64::MAX)
    }

    /// What a call can leave behind of a record.
    fn behind(&self, call: u32, state: &State) -> Ends {
        let Candidate { steps, time, .. } = &self.calls[call as usize];
        run(steps, *time, state, self.checker.evicting)
    }

    fn take(&mut self, call: u32) {
        self.order.push(call);
        if call < self.answered {
            self.answered_ordered ^= mark(call);
            let (next, previous) = (self.next[call as usize], self.previous[call as usize]);
            self.next[previous as usize] = next;
            self.previous[next as usize] = previous;
        } else {
            self.flip_lost(call);
        }
    }

    /// Takes calls back, last first, so that each finds the neighbours it left (Knuth's dancing links).
    fn rewind(&mut self, order_before: usize) {
        while self.order.len() > order_before {
            let call = self.order.pop().expect("the loop's condition");
            if call < self.answered {
                self.answered_ordered ^= mark(call);
                let (next, previous) = (self.next[call as usize], self.previous[call as usize]);
                self.next[previous as usize] = call;
                self.previous[next as usize] = call;
            } else {
                self.flip_lost(call);
            }
        }
    }

    fn is_ordered(&self, lost: u32) -> bool {
        let index = lost - self.answered;
        self.lost_ordered[(index / 64) as usize] & (1 << (index % 64)) != 0
    }

    fn flip_lost(&mut self, lost: u32) {
        let index = lost - self.answered;
        self.lost_ordered[(index / 64) as usize] ^= 1 << (index % 64);
    }

    /// Keeps the configuration if none got further: later in time, then more calls ordered.
    fn note(&mut self, state: &State) {
        let ret = self.window_end();
        let ordered = self.order.len();
        if self.furthest.as_ref().is_some_and(|furthest| (furthest.ret, furthest.ordered) >= (ret, ordered)) {
            return;
        }
        let index = |call: &u32| self.calls[*call as usize].call;
        let last = self.order[ordered.saturating_sub(ORDER_SHOWN_MAX)..].iter().map(index).collect();
        let next = self.window().map(|call| index(&call)).collect();
        self.furthest = Some(Deadlock { ret, state: *state, ordered, last, next });
    }
}

/// 128 bits that look random, for each call other ones.
fn mark(call: u32) -> u128 {
    xxh3_128(&call.to_le_bytes())
}

/// Walks the calls still to be ordered, by invocation, up to the first return among them.
struct Window<'a> {
    search: &'a Search,
    next: u32,
    ret: u64,
}

impl Iterator for Window<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let call = self.next;
        if call == self.search.answered || self.search.calls[call as usize].invoke > self.ret {
            return None;
        }
        self.ret = self.ret.min(self.search.calls[call as usize].ret);
        self.next = self.search.next[call as usize];
        Some(call)
    }
}

fn twins(lost: &[Candidate], first: u32) -> Vec<Option<u32>> {
    let same = |one: &Candidate, other: &Candidate| one.steps == other.steps && one.time.min <= other.time.min;
    let twin = |index: usize| (0..index).rev().find(|&other| same(&lost[other], &lost[index]));
    (0..lost.len()).map(|index| twin(index).map(|other| first + other as u32)).collect()
}
