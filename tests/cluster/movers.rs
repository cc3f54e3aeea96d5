//! Moves of slots by `freight cluster move`: a process at a client host, which is stopped in the middle, goes on, or is
//! killed and started again.
#![forbid(unsafe_code)]

use crate::binary::{Running, freight};
use crate::nemesis::{Nemesis, wait_until};
use crate::nodes::{Cluster, state_of};
use freight::slots::SlotSet;
use rand::RngExt;
use rustix::process::Signal;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a move is begun until it takes place, or is met in the middle.
const TRIES_MAX: u32 = 50;

/// What is to be moved.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) slots: SlotSet,
    /// The client host at which the mover runs.
    pub(crate) at: usize,
}

/// A mover that runs.
pub(crate) struct Mover {
    process: Running,
    /// When it said that slots begin to move; `None` if it never did.
    began: Option<Instant>,
}

impl Mover {
    /// Starts one, and waits until it moves slots.
    pub(crate) fn start(cluster: &Cluster<'_>, moved: &Moved) -> Self {
        let (map, slots, to) = (cluster.map_path(), moved.slots.to_string(), cluster.endpoint(moved.to).to_string());
        let map = map.to_str().expect("text");
        let command = freight(&["cluster", "move", &slots, &to, "--map", map, "--deadline", "1s"]);
        let mut command = cluster.network().at(&cluster.clients[moved.at], &command);
        let piped = std::process::Stdio::piped;
        command.stdin(std::process::Stdio::null()).stdout(piped()).stderr(piped());
        let mut process = Running::of(command.spawn().expect("it starts"));
        let began = process.stdout.next().map(|_| Instant::now());
        Self { process, began }
    }

    /// Stops it where it is; false where it has ended.
    fn stop(&mut self) -> bool {
        self.process.signal(Signal::STOP);
        loop {
            match state_of(self.process.child.id()) {
                'T' => return true,
                'Z' => return false,
                _ => sleep(Duration::from_millis(1)),
            }
        }
    }

    pub(crate) fn go_on(&self) {
        self.process.signal(Signal::CONT);
    }

    fn kill(mut self) {
        self.process.signal(Signal::KILL);
        let (code, _) = self.process.end();
        assert_eq!(code, None, "it ended by itself");
    }

    /// Waits for its end: how long it moved slots, where all have moved.
    pub(crate) fn end(mut self) -> Option<Duration> {
        let mut said = self.process.stdout.by_ref().map_while(Result::ok).filter(|line| line.starts_with("moved, "));
        let took = said.next().and_then(|_| Some(self.began?.elapsed())).unwrap_or_default();
        said.for_each(drop);
        let (code, said) = self.process.end();
        if code != Some(0) {
            println!("    not moved: {said:?}");
        }
        (code == Some(0)).then_some(took)
    }
}

impl Nemesis<'_, '_> {
    /// Draws a move of slots to a node from the one that has most, or from it to the one that has fewest, so that all
    /// keep some; `besides` keeps out of it.
    pub(crate) fn draw_move(&mut self, node: usize, besides: Option<usize>, at: Option<usize>) -> Moved {
        let map = self.cluster.map();
        let count = |node: &usize| map.slots_of(*node).count();
        let able: Vec<_> = (0..self.cluster.nodes()).filter(|able| Some(*able) != besides).collect();
        let richest = able.iter().copied().max_by_key(count).expect("more than one");
        let poorest = able.iter().copied().min_by_key(count).expect("more than one");
        let (from, to) = if richest == node { (node, poorest) } else { (richest, node) };
        let slots: Vec<_> = map.slots_of(from).ranges().flatten().collect();
        let (start, share) = (self.random.random_range(0.0..0.5), self.random.random_range(0.1..0.5));
        let part = |share: f64| (slots.len() as f64 * share) as usize;
        let slots = slots.iter().copied().skip(part(start)).take(part(share)).collect();
        let at = at.unwrap_or_else(|| self.random.random_range(0..self.cluster.clients.len()));
        Moved { from, to, slots, at }
    }

    /// Runs the command until slots have moved: where something came in between, once more.
    pub(crate) fn complete(&mut self, moved: &Moved) {
        for tried in 0..TRIES_MAX {
            if let Some(took) = self.end_mover(Mover::start(self.cluster, moved)) {
                self.move_took = if tried == 0 { took } else { self.move_took };
                return;
            }
        }
        panic!("{moved:?} never took place");
    }

    /// Waits for a mover's end: how long it moved slots, where all have moved.
    pub(crate) fn end_mover(&mut self, mover: Mover) -> Option<Duration> {
        let took = mover.end();
        // With the map in files clients learn of it now.
        self.cluster.tell_clients(&self.cluster.map());
        took
    }

    /// A mover that was stopped in the middle, and what nodes tell of its move.
    pub(crate) fn stopped_mover(
        &mut self,
        node: usize,
        besides: Option<usize>,
        at: Option<usize>,
    ) -> (Moved, Mover, Vec<String>) {
        for _ in 0..TRIES_MAX {
            let moved = self.draw_move(node, besides, at);
            let mut mover = Mover::start(self.cluster, &moved);
            sleep(self.move_took.mul_f64(self.random.random_range(0.0..1.0)));
            while mover.stop() {
                let told = self.cluster.moves(&[moved.from, moved.to]);
                if !told.is_empty() {
                    println!("    in the middle, stopped within {:?}: {told:?}", self.move_took);
                    return (moved, mover, told);
                }
                // Nobody knows of it yet, or any more.
                mover.go_on();
                sleep(Duration::from_millis(1));
            }
            // It was through.
            if self.end_mover(mover).is_none() {
                self.complete(&moved);
            }
            self.move_took = self.move_took.mul_f64(0.7);
        }
        panic!("no mover was met in the middle");
    }

    /// Kills a mover in the middle, perhaps waits until the nodes have ended its move, and does it again.
    pub(crate) fn kill_mover(&mut self, node: usize, besides: Option<usize>, at: Option<usize>) {
        let (moved, mover, told) = self.stopped_mover(node, besides, at);
        mover.kill();
        let is_given_up = told.iter().any(|told| told.contains("given up"));
        if is_given_up && self.random.random() {
            wait_until("the nodes end the move", || self.cluster.moves(&[moved.from, moved.to]).is_empty());
        }
        self.complete(&moved);
    }
}
