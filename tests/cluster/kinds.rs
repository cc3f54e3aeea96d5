//! The kinds of faults, and a schedule of them that is drawn from a seed.
#![forbid(unsafe_code)]

use crate::nodes::Cluster;
use crate::relay::Ways;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// What a nemesis does. Another kind is one more variant, and one more arm of `Nemesis::begin` and `Nemesis::end`.
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
    /// A map takes slots from a node, the next gives them to another: by hand, without their records.
    Give,
    /// `freight cluster move`: slots move with their records.
    Move,
    /// The same, killed in the middle, and started again.
    KillMover,
    /// SIGSTOP for etcd, then SIGCONT.
    StopEtcd,
    /// SIGKILL for etcd; then it comes back with what it held.
    KillEtcd,
}

impl Kind {
    pub(crate) const ALL: [Self; 13] = [
        Self::Kill,
        Self::Stop,
        Self::CutToNode,
        Self::CutFromNode,
        Self::CutBoth,
        Self::Unplug,
        Self::Delay,
        Self::Drop,
        Self::Give,
        Self::Move,
        Self::KillMover,
        Self::StopEtcd,
        Self::KillEtcd,
    ];

    /// Those of a cluster whose map is in files.
    pub(crate) const IN_FILES: [Self; 11] = *Self::ALL.first_chunk().expect("etcd's are the last");

    /// Those that leave nodes alive, and may last while another works against another node.
    const LASTING: [Self; 7] =
        [Self::Stop, Self::CutToNode, Self::CutFromNode, Self::CutBoth, Self::Unplug, Self::StopEtcd, Self::KillEtcd];

    pub(crate) fn ways(self) -> Ways {
        let (to_node, from_node) = (self != Self::CutFromNode, self != Self::CutToNode);
        Ways { to_node, from_node }
    }

    fn needs_relay(self) -> bool {
        matches!(self, Self::Delay | Self::Drop)
    }

    fn is_of_etcd(self) -> bool {
        matches!(self, Self::StopEtcd | Self::KillEtcd)
    }

    /// Whether it hurts while a move is under way, the move's own nodes or etcd. What is given by hand meanwhile would
    /// have to be given past the mover too.
    fn is_at_moves(self) -> bool {
        !matches!(self, Self::Give | Self::Move | Self::KillMover)
    }

    /// Whether it comes to its end only with a keeper that answers.
    fn needs_keeper(self) -> bool {
        matches!(self, Self::Kill | Self::Give | Self::Move | Self::KillMover) || self.is_of_etcd()
    }

    /// Whether it is felt only behind its end.
    pub(crate) fn is_felt_late(self) -> bool {
        matches!(self, Self::Give | Self::Move | Self::KillMover)
    }
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    /// For etcd's: nobody's.
    pub(crate) node: usize,
    /// For cuts: the client host cut off, or all.
    pub(crate) client: Option<usize>,
    /// How long it lasts; `None` for until a client has felt it.
    pub(crate) lasts: Option<Duration>,
}

/// What goes on around a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Around {
    /// Nothing.
    Calm,
    /// Another fault, of another node.
    Fault(Step),
    /// A move of slots from or to its node.
    Move,
}

/// A fault, perhaps inside of something else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) step: Step,
    pub(crate) around: Around,
}

/// Draws so many rounds of faults of these kinds. Each comes to be felt, alone, and in the middle of a move where there
/// are moves.
pub(crate) fn schedule(seed: u64, kinds: &[Kind], rounds: usize, cluster: &Cluster<'_>) -> Vec<Round> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let of = |some: &[Kind]| some.iter().copied().filter(|kind| kinds.contains(kind)).collect::<Vec<_>>();
    let has_moves = kinds.contains(&Kind::Move);
    let at_a_move: Vec<_> = kinds.iter().copied().filter(|kind| has_moves && kind.is_at_moves()).collect();
    let lasting = of(&Kind::LASTING);
    let mut first: Vec<_> = kinds.iter().map(|kind| (*kind, Around::Calm)).collect();
    first.extend(at_a_move.iter().map(|kind| (*kind, Around::Move)));
    first.shuffle(&mut random);
    let round = |index: usize| {
        if let Some((kind, around)) = first.get(index) {
            return Round { step: step(&mut random, *kind, None, true, cluster), around: *around };
        }
        let around = match random.random_range(0..10) {
            0..3 if !lasting.is_empty() => {
                let kind = *lasting.choose(&mut random).expect("there is one");
                Around::Fault(step(&mut random, kind, None, false, cluster))
            }
            3..6 if !at_a_move.is_empty() => Around::Move,
            _ => Around::Calm,
        };
        let (able, besides) = match around {
            Around::Calm => (kinds.to_vec(), None),
            Around::Move => (at_a_move.clone(), None),
            Around::Fault(fault) if fault.kind.is_of_etcd() => {
                (kinds.iter().copied().filter(|kind| !kind.needs_keeper()).collect(), None)
            }
            Around::Fault(fault) => (kinds.to_vec(), Some(fault.node)),
        };
        let kind = *able.choose(&mut random).expect("there is one");
        Round { step: step(&mut random, kind, besides, false, cluster), around }
    };
    (0..rounds.max(first.len())).map(round).collect()
}

fn step(random: &mut ChaCha8Rng, kind: Kind, besides: Option<usize>, is_first: bool, cluster: &Cluster<'_>) -> Step {
    let able = |node: &usize| Some(*node) != besides && (!kind.needs_relay() || cluster.is_relayed(*node));
    let able: Vec<_> = (0..cluster.nodes()).filter(able).collect();
    let node = *able.choose(random).expect("there is one");
    let client = random.random_bool(0.5).then(|| random.random_range(0..cluster.clients.len()));
    let short = Duration::from_millis(random.random_range(10..300));
    let lasts = (!is_first && random.random_bool(0.5)).then_some(short);
    Step { kind, node, client, lasts }
}
