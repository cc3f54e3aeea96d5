//! A session whose marks are lost again and again, while its client sends, loses connections and sends again: nothing
//! is executed twice, and what was certainly never there before is executed.
#![forbid(unsafe_code)]

use crate::bounds::marks_lost;
use crate::support::for_each_seed;
use crate::table::{Node, again, first};
use freight::completions::{Carrier, Identity};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeSet, VecDeque};

#[test]
fn first_frames_of_a_new_session_are_executed_in_whatever_order_they_come() {
    let (mut node, mut old) = marks_lost();
    let mut new = node.connect();
    for (sequence, value) in [(3, 2), (1, 3), (2, 4)] {
        assert_eq!(node.add(&mut new, first(6_000, sequence), b"k"), Some(value), "sequence {sequence}");
    }
    for (sequence, value) in [(1, 3), (2, 4), (3, 2)] {
        assert_eq!(node.add(&mut old, again(6_000, sequence), b"k"), Some(value), "sequence {sequence}");
    }
    let (mut node, mut old) = marks_lost();
    let mut new = node.connect();
    assert_eq!(node.add(&mut new, first(1, 5), b"k"), Some(2));
    assert_eq!(node.add(&mut old, first(1, 4), b"k"), None, "it may have been on its way since before");
    assert_eq!(node.add(&mut new, again(1, 3), b"k"), None, "it may have been executed before");
}

#[test]
fn what_was_sent_when_the_first_in_doubt_was_answered_is_executed_in_whatever_order_it_comes() {
    let (mut node, mut old) = marks_lost();
    assert_eq!(node.add(&mut old, first(1, 2), b"k"), None);
    let behind = |sequence| Identity { acknowledged_up_to: 3, ..first(1, sequence) };
    assert_eq!(node.add(&mut old, behind(4), b"k"), Some(2));
    assert_eq!(node.add(&mut old, behind(3), b"k"), Some(3));
    assert_eq!(node.add(&mut old, again(1, 2), b"k"), None);
}

/// A connection, and what is on its way on it.
struct Connection {
    carrier: Carrier,
    on_its_way: VecDeque<Identity>,
    /// How often marks had been lost when it began.
    losses: u32,
}

/// One client of a node that remembers next to nothing.
struct Play {
    random: ChaCha8Rng,
    node: Node,
    /// Its client still listens on the last alone.
    connections: Vec<Connection>,
    next: u64,
    unanswered: BTreeSet<u64>,
    losses: u32,
    others: u64,
    /// Whether a retry came since marks were lost: what is numbered below it may be unknown.
    retried: bool,
    executed: BTreeSet<u64>,
    unknown: u32,
    /// First frames that came behind one with a higher number.
    overtaken: u32,
}

const MINE: u64 = 1;

impl Play {
    fn new(seed: u64) -> Self {
        let mut play = Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            node: Node::with(16 << 10),
            connections: Vec::new(),
            next: 1,
            unanswered: BTreeSet::new(),
            losses: 0,
            others: MINE,
            retried: false,
            executed: BTreeSet::new(),
            unknown: 0,
            overtaken: 0,
        };
        play.connect();
        play
    }

    fn identity(&self, sequence: u64) -> Identity {
        let acknowledged_up_to = self.unanswered.first().copied().unwrap_or(self.next);
        Identity { acknowledged_up_to, ..first(MINE, sequence) }
    }

    /// The connection before is lost: what is on its way may still arrive, and is sent again.
    fn connect(&mut self) {
        let again = self.unanswered.iter().map(|sequence| Identity { is_retry: true, ..self.identity(*sequence) });
        let on_its_way = again.collect();
        self.connections.push(Connection { carrier: self.node.connect(), on_its_way, losses: self.losses });
    }

    /// Several tasks number their frames, and are as quick as they are.
    fn send(&mut self) {
        let count = self.random.random_range(1..4);
        let mut sequences: Vec<_> = (self.next..self.next + count).collect();
        self.next += count;
        self.unanswered.extend(&sequences);
        sequences.shuffle(&mut self.random);
        let frames: Vec<_> = sequences.into_iter().map(|sequence| self.identity(sequence)).collect();
        self.connections.last_mut().expect("there is one").on_its_way.extend(frames);
    }

    fn deliver(&mut self) {
        let at = self.random.random_range(0..self.connections.len());
        let is_heard = at + 1 == self.connections.len();
        let connection = &mut self.connections[at];
        let Some(identity) = connection.on_its_way.pop_front() else { return };
        let Identity { sequence, is_retry, .. } = identity;
        let outcome = self.node.add(&mut connection.carrier, identity, &sequence.to_le_bytes());
        assert!(matches!(outcome, None | Some(1)), "executed twice: {identity:?}");
        self.retried |= is_retry;
        let is_new = !is_retry && connection.losses == self.losses && self.unanswered.contains(&sequence);
        assert!(outcome.is_some() || !is_new || self.retried, "never here before: {identity:?}");
        self.overtaken += u32::from(is_new && outcome.is_some() && self.executed.last() > Some(&sequence));
        self.unknown += u32::from(outcome.is_none());
        if outcome.is_some() {
            self.executed.insert(sequence);
        }
        if is_heard {
            self.unanswered.remove(&sequence);
        }
    }

    /// Connections serve others, whose sessions push this one out, mark and all.
    fn lose_marks(&mut self) {
        for connection in &mut self.connections {
            for _ in 0..60 {
                self.others += 1;
                self.node.add(&mut connection.carrier, first(self.others, 1), b"theirs");
            }
        }
        (self.losses, self.retried) = (self.losses + 1, false);
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..30 => self.send(),
            30..92 => self.deliver(),
            92..96 => self.connect(),
            96..98 if self.connections.len() > 1 => {
                let at = self.random.random_range(0..self.connections.len() - 1);
                self.connections.remove(at);
            }
            98 => self.lose_marks(),
            _ => {}
        }
    }
}

#[test]
fn where_marks_are_lost_nothing_is_executed_twice_and_what_is_new_is_executed() {
    let (mut unknown, mut overtaken) = (0, 0);
    for_each_seed(300, |seed| {
        let mut play = Play::new(seed);
        (0..400).for_each(|_| play.step());
        (unknown, overtaken) = (unknown + play.unknown, overtaken + play.overtaken);
    });
    println!("{unknown} unknown, {overtaken} overtaken and executed");
    assert!(unknown > 1_000 && overtaken > 1_000 || std::env::var_os("FREIGHT_SEED").is_some());
}
