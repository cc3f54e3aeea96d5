//! Movers and nodes that die at every step of a move, while clients write what moves, on a network that misbehaves:
//! what the clients are told is linearizable.
//!
//! ```text
//!   begin   copy   freeze   hand over   finish   settle   (through)
//!     ^       ^       ^         ^          ^        ^         ^        the mover, an owner, or both die in it
//! ```
//!
//! A node that died comes back empty, under the next map, and nobody asks again for what it held by then (`keys.rs`).
//! Planted bug: somebody does.
#![forbid(unsafe_code)]

use crate::keys::Keyring;
use crate::moves::{NODES, begin, next_move, plan};
use crate::recorded::Recorded;
use crate::support::checker::{Checker, Violation, assert_linearizable};
use crate::support::cluster::Cluster;
use crate::support::for_each_seed;
use crate::support::history::{History, Recorder};
use crate::support::moves::take_step;
use crate::workload::Workload;
use freight::hash::slot;
use freight::map::{MapStore, ShardMap};
use freight::mover::{MoveError, Moving};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::sleep;

const WORKLOAD: Workload =
    Workload { keys: 16, calls: 60, batch_ops_max: 8, singles_percent: 40, dropped_percent: 3, edits_percent: 0 };

/// Steps of a move.
const STEPS: usize = 6;

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Mover,
    Old,
    New,
    MoverAndOld,
    MoverAndNew,
}

impl Victim {
    const ALL: [Self; 5] = [Self::Mover, Self::Old, Self::New, Self::MoverAndOld, Self::MoverAndNew];

    fn node(self, [old, new]: [usize; 2]) -> Option<usize> {
        match self {
            Self::Mover => None,
            Self::Old | Self::MoverAndOld => Some(old),
            Self::New | Self::MoverAndNew => Some(new),
        }
    }

    fn has_mover(self) -> bool {
        !matches!(self, Self::Old | Self::New)
    }
}

/// How often somebody died in a step; in the one behind the last when all were through.
type Deaths = BTreeMap<(usize, Victim), u32>;

/// A cluster in which somebody dies again and again.
struct Dying<'a> {
    cluster: &'a mut Cluster,
    store: Arc<dyn MapStore>,
    keys: Rc<Keyring>,
    random: RefCell<ChaCha8Rng>,
    deaths: &'a mut Deaths,
    /// Whether lost keys get fresh names.
    renews: bool,
}

impl Dying<'_> {
    /// Goes on until it is dropped; the first death is the `number`th of all combinations of step and victim.
    async fn run(&mut self, mut number: u64) {
        loop {
            let pause = self.random.borrow_mut().random_range(0..20);
            sleep(Duration::from_millis(pause)).await;
            let (victim, step) = (number as usize / (STEPS + 1), number as usize % (STEPS + 1));
            if self.die(step, Victim::ALL[victim % Victim::ALL.len()]).await {
                number = self.random.borrow_mut().random();
            }
        }
    }

    /// Lets the victim die in a step of a move; false where the move did not come so far.
    async fn die(&mut self, step: usize, victim: Victim) -> bool {
        let (mut moving, owners) = next_move(&self.store, &self.random).await;
        let at = Cell::new(0);
        if take_steps(&mut moving, &at, step).await.is_err() {
            // Whatever is left of it is ended by the nodes, or by the next move.
            let _ended = moving.cancel().await;
            return false;
        }
        let until = Duration::from_micros(self.random.borrow_mut().random_range(0..8_000));
        let mut ran = None;
        {
            let mut rest = Box::pin(take_steps(&mut moving, &at, STEPS));
            tokio::select! {
                biased;
                () = sleep(until) => {}
                done = &mut rest, if step < STEPS => ran = Some(done),
            }
            *self.deaths.entry((at.get(), victim)).or_default() += 1;
            if let Some(node) = victim.node(owners) {
                self.cluster.kill(node).await;
            }
            if ran.is_none() && !victim.has_mover() {
                ran = Some(rest.await);
            }
        }
        if let Some(Err(_)) = ran {
            let _ended = moving.cancel().await;
        }
        drop(moving);
        if let Some(node) = victim.node(owners) {
            let pause = self.random.borrow_mut().random_range(0..2_000);
            sleep(Duration::from_millis(pause)).await;
            self.revive(node).await;
        }
        true
    }

    /// Starts a node again, and names its new life in the next map.
    async fn revive(&mut self, node: usize) {
        self.cluster.start_node(node).await;
        self.cluster.take_map(node, &*newest(&self.store).await);
        self.cluster.follow(node, Arc::clone(&self.store));
        let next = loop {
            let map = newest(&self.store).await;
            if self.renews {
                let lost = map.slots_of(node);
                let mut old = self.keys.renew(|name| lost.contains(slot(name)));
                while old.are_held() {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            // Whatever else changed it meanwhile: what is lost is the node's by the very map that is replaced.
            let next = named_anew(&map, node, self.cluster);
            if self.store.replace(map.epoch(), &next).await.is_ok() {
                break next;
            }
        };
        (0..NODES).for_each(|node| self.cluster.take_map(node, &next));
    }
}

/// Takes the steps of a move up to one; `at` says which is under way.
async fn take_steps(moving: &mut Moving, at: &Cell<usize>, until: usize) -> Result<(), MoveError> {
    while at.get() < until {
        take_step(moving, at.get()).await?;
        at.set(at.get() + 1);
    }
    Ok(())
}

async fn newest(store: &Arc<dyn MapStore>) -> Arc<ShardMap> {
    store.load().await.expect("memory").expect("a map")
}

/// The next map: the same owners, one of them in another life.
fn named_anew(map: &ShardMap, node: usize, cluster: &Cluster) -> ShardMap {
    let [old, new] = [map.nodes()[node].incarnation, cluster.named(node).incarnation].map(|life| life.to_string());
    map.fenced().expect("a map").to_string().replace(&old, &new).parse().expect("a map")
}

/// What clients are told while movers and nodes die.
fn history_of_deaths(seed: u64, renews: bool, deaths: &mut Deaths) -> History {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut history = History::default();
    plan(seed, &mut random).run(async |cluster: &mut Cluster| {
        let deadline = Duration::from_millis([200, 1_000, 30_000][random.random_range(0..3)]);
        let (store, clients) = begin(cluster, seed, deadline).await;
        let recorder = Recorder::new();
        let keys = Rc::new(Keyring::new(WORKLOAD.keys as usize));
        let tasks = LocalSet::new();
        for (id, client) in (0_u32..).zip(clients) {
            let recorded = Recorded::new(id, client, &recorder);
            let keys = Rc::clone(&keys);
            tasks.spawn_local(async move {
                let hold = || {
                    let names = keys.hold();
                    move |place| names.name(place as usize)
                };
                WORKLOAD.run_on(&recorded, seed * 8 + u64::from(id), hold).await;
            });
        }
        let random = RefCell::new(random);
        let mut dying = Dying { cluster, store, keys, random, deaths, renews };
        tokio::select! {
            biased;
            () = tasks => {}
            () = dying.run(seed) => {}
        }
        history = recorder.history();
    });
    history
}

#[test]
fn histories_over_deaths_at_every_step_of_a_move_are_linearizable() {
    let (mut calls, mut lost, mut deaths) = (0, 0, Deaths::new());
    for_each_seed(350, |seed| {
        let history = history_of_deaths(seed, true, &mut deaths);
        assert_linearizable(&history);
        calls += history.calls.values().map(Vec::len).sum::<usize>();
        lost += history.calls.values().flatten().filter(|call| call.is_lost()).count();
    });
    println!("{calls} calls, {lost} of them lost, over {} deaths: {deaths:?}", deaths.values().sum::<u32>());
    if std::env::var_os("FREIGHT_SEED").is_none() {
        assert!(lost < calls / 2, "{lost} of {calls} calls lost: too few to judge");
        let all = (0..=STEPS).flat_map(|step| Victim::ALL.map(|victim| (step, victim)));
        let missing: Vec<_> = all.filter(|death| deaths.get(death).is_none_or(|times| *times < 5)).collect();
        assert!(missing.is_empty(), "these died hardly ever: {missing:?}");
    }
}

#[test]
fn a_seed_replays_deaths() {
    for_each_seed(10, |seed| {
        let history = || history_of_deaths(seed, true, &mut Deaths::new());
        assert!(history().calls == history().calls, "the same seed, another history");
    });
}

#[test]
fn clients_that_ask_a_new_life_for_what_the_old_one_held_are_caught() {
    let (mut caught, mut runs) = (0, 0);
    for_each_seed(30, |seed| {
        let verdict = Checker::default().check(&history_of_deaths(seed, false, &mut Deaths::new()));
        assert!(!matches!(verdict, Err(Violation::GaveUp { .. })), "{verdict:?}");
        caught += u32::from(verdict.is_err());
        runs += 1;
    });
    println!("caught in {caught} of {runs} histories");
    assert!(3 * caught > runs, "caught in only {caught} of {runs} histories");
}
