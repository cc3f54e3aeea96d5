//! What works against the cluster: a schedule of faults drawn from a seed, each held until a client has felt it.
#![forbid(unsafe_code)]

use crate::load::Felt;
use crate::nodes::Cluster;
use crate::relay::Ways;
use freight::hash::slot;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

/// What a nemesis does. Another kind is one more variant, and one more arm of [`Nemesis::begin`] and [`Nemesis::end`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// SIGKILL; then a new incarnation, which the next map names.
    Kill,
    /// SIGSTOP, then SIGCONT.
    Stop,
    /// What clients send to a node is lost.
    CutToNode,
    /// What a node sends is lost.
    CutFromNode,
    /// Both are.
    CutBoth,
    /// A link is down.
    Unplug,
    /// Each piece of a stream comes late.
    Delay,
    /// Connections end in the middle of a frame.
    Drop,
    /// A map takes slots from a node, the next gives them to another.
    MoveSlots,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Kill,
        Self::Stop,
        Self::CutToNode,
        Self::CutFromNode,
        Self::CutBoth,
        Self::Unplug,
        Self::Delay,
        Self::Drop,
        Self::MoveSlots,
    ];

    /// Those that leave a node alive, and may last while another works against another node.
    const LASTING: [Self; 5] = [Self::Stop, Self::CutToNode, Self::CutFromNode, Self::CutBoth, Self::Unplug];

    fn ways(self) -> Ways {
        let (to_node, from_node) = (self != Self::CutFromNode, self != Self::CutToNode);
        Ways { to_node, from_node }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    kind: Kind,
    node: usize,
    /// For cuts: the client host cut off, or all.
    client: Option<usize>,
    /// How long it lasts; `None` for until a client has felt it.
    lasts: Option<Duration>,
}

/// A fault, perhaps inside of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    step: Step,
    around: Option<Step>,
}

/// Draws so many rounds of faults of these kinds, each of which comes to be felt.
pub(crate) fn schedule(seed: u64, kinds: &[Kind], rounds: usize, cluster: &Cluster<'_>) -> Vec<Round> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut first = kinds.to_vec();
    first.shuffle(&mut random);
    let nodes = cluster.nodes();
    let step = |kind: Kind, random: &mut ChaCha8Rng, besides: Option<usize>, is_first: bool| {
        let able = |node: &usize| Some(*node) != besides && (!kind.needs_relay() || cluster.is_relayed(*node));
        let able: Vec<_> = (0..nodes).filter(able).collect();
        let node = able[random.random_range(0..able.len())];
        let client = random.random_bool(0.5).then(|| random.random_range(0..cluster.clients.len()));
        let short = Duration::from_millis(random.random_range(10..300));
        let lasts = (!is_first && random.random_bool(0.5)).then_some(short);
        Step { kind, node, client, lasts }
    };
    let round = |index: usize| {
        let is_first = index < first.len();
        let kind = if is_first { first[index] } else { kinds[random.random_range(0..kinds.len())] };
        let lasting: Vec<_> = Kind::LASTING.into_iter().filter(|kind| kinds.contains(kind)).collect();
        let around = (!is_first && !lasting.is_empty() && random.random_bool(0.3)).then(|| {
            let kind = lasting[random.random_range(0..lasting.len())];
            step(kind, &mut random, None, false)
        });
        let step = step(kind, &mut random, around.map(|around: Step| around.node), is_first);
        Round { step, around }
    };
    (0..rounds).map(round).collect()
}

impl Kind {
    fn needs_relay(self) -> bool {
        matches!(self, Self::Delay | Self::Drop)
    }
}

/// How often a kind ran, and how often a client felt it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) ran: u32,
    pub(crate) felt: u32,
}

/// What works against a cluster and its clients.
pub(crate) struct Nemesis<'a, 'b> {
    pub(crate) cluster: &'a mut Cluster<'b>,
    pub(crate) felt: &'a Felt,
    pub(crate) random: ChaCha8Rng,
    pub(crate) counts: BTreeMap<Kind, Count>,
    /// Whether lost keys get fresh names; if not, the loss itself is what a test is about.
    pub(crate) renews: bool,
}

/// What was so before a fault.
struct Before {
    failures: u64,
    delayed: u64,
    dropped: u64,
    epoch: u64,
}

impl Nemesis<'_, '_> {
    pub(crate) fn run(&mut self, rounds: &[Round]) {
        for Round { step, around } in rounds {
            println!("{step:?}{}", around.map(|around| format!(" inside of {around:?}")).unwrap_or_default());
            if step.lasts.is_none() && around.is_none() {
                self.wait_for_calm(step.node);
            }
            let before = around.map(|around| self.begin(&around));
            self.play(step, around.map(|around| around.node));
            if let (Some(around), Some(before)) = (around, before) {
                self.last(around, &before);
                self.end(around, None);
                self.count(around, &before);
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
        if step.kind != Kind::MoveSlots {
            self.last(step, &before);
        }
        self.end(step, besides);
        if step.kind == Kind::MoveSlots {
            self.last(step, &before);
        }
        self.count(step, &before);
    }

    fn begin(&mut self, step: &Step) -> Before {
        let node = step.node;
        let (mut delayed, mut dropped) = (0, 0);
        if self.cluster.is_relayed(node) {
            let relay = self.cluster.relay_of(node);
            (delayed, dropped) = (relay.delayed(), relay.dropped());
        }
        let before = Before { failures: self.felt.failures(node), delayed, dropped, epoch: self.felt.epoch() };
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
            Kind::MoveSlots => {}
        }
        before
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
                let slots = self.cluster.slots_of(node);
                self.lose(&slots);
                self.cluster.publish();
            }
            Kind::Stop => self.cluster.stop(node, false),
            Kind::CutToNode | Kind::CutFromNode | Kind::CutBoth => {
                self.cluster.cut(node, step.client, step.kind.ways(), false);
            }
            Kind::Unplug => self.cluster.plug(node, true),
            Kind::Delay => self.cluster.relay_of(node).set(|faults| faults.delay = Duration::ZERO),
            Kind::Drop => {}
            Kind::MoveSlots => self.move_slots(node, besides),
        }
    }

    /// Moves slots to a node from the one that has most, or from it to the one that has fewest, so that all keep some.
    /// By hand, without their records: their keys are lost. Who moves records too does it here, and loses none.
    fn move_slots(&mut self, node: usize, besides: Option<usize>) {
        let count = |node: &usize| self.cluster.slots_of(*node).len();
        let able: Vec<_> = (0..self.cluster.nodes()).filter(|able| Some(*able) != besides).collect();
        let richest = able.iter().copied().max_by_key(count).expect("more than one");
        let poorest = able.iter().copied().min_by_key(count).expect("more than one");
        let (from, to) = if richest == node { (node, poorest) } else { (richest, node) };
        let mut slots = self.cluster.slots_of(from);
        let (start, share) = (self.random.random_range(0.0..0.5), self.random.random_range(0.1..0.5));
        let part = |share: f64| (slots.len() as f64 * share) as usize;
        let (start, count) = (part(start), part(share));
        slots.drain(..start);
        slots.truncate(count);
        self.cluster.give(&slots, None);
        self.lose(&slots);
        self.cluster.give(&slots, Some(to));
    }

    fn lose(&self, slots: &[u16]) {
        if self.renews {
            let mut old = self.felt.keys.renew(|name| slots.contains(&slot(name)));
            while old.are_held() {
                sleep(Duration::from_millis(1));
            }
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
        let (node, failed) = (step.node, self.felt.failures(step.node) > before.failures);
        match step.kind {
            Kind::Delay => self.cluster.relay_of(node).delayed() > before.delayed + 20,
            // Nothing fails: what was in flight is sent again.
            Kind::Drop => self.cluster.relay_of(node).dropped() > before.dropped,
            Kind::MoveSlots => self.felt.epoch() > before.epoch,
            _ => failed,
        }
    }

    fn count(&mut self, step: &Step, before: &Before) {
        let is_felt = self.is_felt(step, before);
        let count = self.counts.entry(step.kind).or_default();
        count.ran += 1;
        count.felt += u32::from(is_felt);
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
