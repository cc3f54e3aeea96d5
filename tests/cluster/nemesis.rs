//! What works against the cluster: faults, each held until a client has felt it or for a drawn time, alone, inside of
//! another, or in the middle of a move.
#![forbid(unsafe_code)]

use crate::kinds::{Around, Kind, Round, Step};
use crate::load::Felt;
use crate::nodes::Cluster;
use freight::hash::slot;
use freight::slots::SlotSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Operations that go on while etcd is away, at least.
const GOING_ON: u64 = 200;

/// How often a kind ran, and how often a client felt it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) ran: u32,
    pub(crate) felt: u32,
}

/// Of each kind, alone or around and inside of another; and, with `true`, in the middle of a move.
pub(crate) type Counts = BTreeMap<(Kind, bool), Count>;

/// What works against a cluster and its clients.
pub(crate) struct Nemesis<'a, 'b> {
    pub(crate) cluster: &'a mut Cluster<'b>,
    pub(crate) felt: &'a Felt,
    pub(crate) random: ChaCha8Rng,
    pub(crate) counts: Counts,
    /// Whether lost keys get fresh names; if not, the loss itself is what a test is about.
    renews: bool,
    /// How long the last move took that was not hurt.
    pub(crate) move_took: Duration,
}

/// What was so before a fault.
struct Before {
    failures: u64,
    delayed: u64,
    dropped: u64,
    epoch: u64,
    answered: u64,
    unstarted: u64,
}

impl<'a, 'b> Nemesis<'a, 'b> {
    pub(crate) fn new(cluster: &'a mut Cluster<'b>, felt: &'a Felt, seed: u64, renews: bool) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed + 1);
        Self { cluster, felt, random, counts: Counts::new(), renews, move_took: Duration::from_millis(20) }
    }

    pub(crate) fn run(&mut self, rounds: &[Round]) {
        let began = Instant::now();
        for Round { step, around } in rounds {
            println!("{:.1?} {step:?} in {around:?}", began.elapsed());
            match around {
                Around::Calm => {
                    if step.lasts.is_none() {
                        self.wait_for_calm(step.node);
                    }
                    self.play(step, None);
                }
                Around::Fault(around) => {
                    let before = self.begin(around);
                    self.play(step, Some(around.node));
                    self.last(around, &before);
                    self.end(around, None);
                    self.count(around, &before, false);
                }
                Around::Move => self.play_at_a_move(step),
            }
        }
    }

    /// Waits until nothing fails any more at a node, so that what is felt next is the next fault.
    fn wait_for_calm(&self, node: usize) {
        const CALM: Duration = Duration::from_millis(400);
        while {
            let failures = self.felt.failures(node);
            sleep(CALM);
            self.felt.failures(node) > failures
        } {}
    }

    fn play(&mut self, step: &Step, besides: Option<usize>) {
        let before = self.begin(step);
        if !step.kind.is_felt_late() {
            self.last(step, &before);
        }
        self.end(step, besides);
        if step.kind.is_felt_late() {
            self.last(step, &before);
        }
        self.count(step, &before, false);
    }

    /// Hurts a node from or to which slots are on the move, or etcd meanwhile; then the move takes place.
    fn play_at_a_move(&mut self, step: &Step) {
        let (moved, mover, _) = self.stopped_mover(step.node, None, step.client);
        let before = self.begin(step);
        mover.go_on();
        self.last(step, &before);
        self.end(step, None);
        self.count(step, &before, true);
        if self.end_mover(mover).is_none() {
            self.complete(&moved);
        }
    }

    fn begin(&mut self, step: &Step) -> Before {
        let node = step.node;
        let (mut delayed, mut dropped) = (0, 0);
        if self.cluster.is_relayed(node) {
            let relay = self.cluster.relay_of(node);
            (delayed, dropped) = (relay.delayed(), relay.dropped());
        }
        let (failures, epoch) = (self.felt.failures(node), self.felt.epoch());
        match step.kind {
            Kind::Kill => self.cluster.kill(node),
            Kind::Stop => self.cluster.stop(node, true),
            Kind::CutToNode | Kind::CutFromNode | Kind::CutBoth => {
                self.cluster.cut(node, step.client, step.kind.ways(), true);
            }
            Kind::Unplug => self.cluster.plug(node, false),
            Kind::Delay => {
                let delay = Duration::from_millis(self.random.random_range(1..60));
                self.cluster.relay_of(node).set(|faults| faults.delay = delay);
            }
            Kind::Drop => self.cluster.relay_of(node).set(|faults| faults.drops += 1),
            Kind::StopEtcd => self.cluster.etcd().signal(Signal::STOP),
            Kind::KillEtcd => self.cluster.etcd().kill(),
            Kind::Give | Kind::Move | Kind::KillMover => {}
        }
        // What etcd's absence is measured by begins with it.
        let (answered, unstarted) = (self.felt.answered(), self.felt.unstarted());
        Before { failures, delayed, dropped, epoch, answered, unstarted }
    }

    /// Ends a fault of a node; slots may move to any node but `besides`.
    fn end(&mut self, step: &Step, besides: Option<usize>) {
        let node = step.node;
        match step.kind {
            Kind::Kill => {
                let losses = self.felt.losses(node);
                self.cluster.start_node(node);
                if step.lasts.is_none() {
                    wait_until("the loss is told", || self.felt.losses(node) > losses);
                }
                let (felt, renews) = (self.felt, self.renews);
                self.cluster.name_anew(node, |slots| lose(felt, slots, renews));
            }
            Kind::Stop => self.cluster.stop(node, false),
            Kind::CutToNode | Kind::CutFromNode | Kind::CutBoth => {
                self.cluster.cut(node, step.client, step.kind.ways(), false);
            }
            Kind::Unplug => self.cluster.plug(node, true),
            Kind::Delay => self.cluster.relay_of(node).set(|faults| faults.delay = Duration::ZERO),
            Kind::Drop => {}
            Kind::Give => {
                let given = self.draw_move(node, besides, step.client);
                self.cluster.give(&given.slots, None);
                lose(self.felt, &given.slots, self.renews);
                self.cluster.give(&given.slots, Some(given.to));
            }
            Kind::Move => {
                let moved = self.draw_move(node, besides, step.client);
                self.complete(&moved);
            }
            Kind::KillMover => self.kill_mover(node, besides, step.client),
            Kind::StopEtcd => self.cluster.etcd().signal(Signal::CONT),
            Kind::KillEtcd => self.cluster.etcd().restart(),
        }
    }

    /// Lets a fault last.
    fn last(&self, step: &Step, before: &Before) {
        match step.lasts {
            Some(time) => sleep(time),
            None => wait_until(&format!("{step:?} is felt"), || self.is_felt(step, before) || self.drop_again(step)),
        }
    }

    /// Connections that began behind a drop are not dropped by it, and there may have been no other: drops once more.
    fn drop_again(&self, step: &Step) -> bool {
        if step.kind == Kind::Drop {
            sleep(Duration::from_millis(50));
            self.cluster.relay_of(step.node).set(|faults| faults.drops += 1);
        }
        false
    }

    fn is_felt(&self, step: &Step, before: &Before) -> bool {
        let node = step.node;
        match step.kind {
            Kind::Delay => self.cluster.relay_of(node).delayed() > before.delayed + 20,
            // Nothing fails: what was in flight is sent again.
            Kind::Drop => self.cluster.relay_of(node).dropped() > before.dropped,
            Kind::Give | Kind::Move | Kind::KillMover => self.felt.epoch() > before.epoch,
            // A client cannot begin, and operations go on.
            Kind::StopEtcd | Kind::KillEtcd => {
                self.felt.unstarted() > before.unstarted && self.felt.answered() > before.answered + GOING_ON
            }
            _ => self.felt.failures(node) > before.failures,
        }
    }

    fn count(&mut self, step: &Step, before: &Before, at_a_move: bool) {
        let is_felt = self.is_felt(step, before);
        let count = self.counts.entry((step.kind, at_a_move)).or_default();
        count.ran += 1;
        count.felt += u32::from(is_felt);
    }
}

/// Gives the keys of lost slots fresh names, and waits until nobody holds the old ones.
fn lose(felt: &Felt, slots: &SlotSet, renews: bool) {
    if !renews {
        return;
    }
    let mut old = felt.keys.renew(|name| slots.contains(slot(name)));
    while old.are_held() {
        sleep(Duration::from_millis(1));
    }
}

/// Waits, not by the clock: a machine that stood still for a minute has not waited.
pub(crate) fn wait_until(what: &str, is_it: impl Fn() -> bool) {
    const LOOKS_MAX: u32 = 30_000;
    for _ in 0..LOOKS_MAX {
        if is_it() {
            return;
        }
        sleep(Duration::from_millis(2));
    }
    panic!("never came to be: {what}");
}
