//! A batch that comes again sees what it saw, whatever its operations are and whoever wrote meanwhile.
#![forbid(unsafe_code)]

use crate::support::for_each_seed;
use crate::table::{Node, again, first};
use freight::hash::Key;
use freight::op::{Action, Batch, Condition, Content, Edit, Expiry, Op, Outcome, Position};
use freight::op_list::OpList;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Keys that travel with their entry in a bin, and one that is too long to.
const KEYS: [&[u8]; 4] = [b"", b"k", b"eight by", b"a key longer than a word"];

/// What puts write: a number, so that adds work, and text, so that they do not.
const VALUES: [&[u8]; 4] = [b"7", b"-3", b"text", b"9223372036854775807"];

fn draw(random: &mut ChaCha8Rng) -> Op<'static> {
    let value = VALUES[random.random_range(0..VALUES.len())];
    let action = match random.random_range(0..14) {
        0 => Action::Put { value },
        1 => Action::Delete,
        2 => Action::Add { delta: random.random_range(-2..3) },
        3 => Action::CompareAndSwap { expected: random.random_range(0..8), value },
        4..8 => Action::Edit(draw_edit(random, value)),
        _ => Action::Get,
    };
    Op { key: KEYS[random.random_range(0..KEYS.len())], action, version_wanted: random.random_range(0..8) == 0 }
}

fn draw_edit(random: &mut ChaCha8Rng, value: &'static [u8]) -> Edit<'static> {
    let conditions = [Condition::Always, Condition::IfAbsent, Condition::IfPresent, Condition::IfLasting];
    let contents = [Content::Keep, Content::Write(value), Content::Append(value), Content::Remove];
    let expiries = [Expiry::Keep, Expiry::Clear, Expiry::At(1_050), Expiry::After(random.random_range(0..20))];
    let (content, expiry) = (contents[random.random_range(0..4)], expiries[random.random_range(0..4)]);
    let edit = Edit::new(content, expiry).on(conditions[random.random_range(0..4)]);
    if random.random() { edit.wanting_value() } else { edit }
}

fn draw_batch(random: &mut ChaCha8Rng) -> Vec<Op<'static>> {
    (0..random.random_range(1..24)).map(|_| draw(random)).collect()
}

/// Some of the operations of a batch, which keep their places.
struct Part {
    ops: OpList,
    places: Vec<u32>,
}

impl Part {
    /// All on some of the keys.
    fn draw(random: &mut ChaCha8Rng, batch: &[Op<'_>]) -> Self {
        let is_in = KEYS.map(|_| random.random::<bool>());
        let is_in = |op: &Op<'_>| is_in[KEYS.iter().position(|key| *key == op.key).expect("one of them")];
        let places: Vec<u32> = (0..).zip(batch).filter(|(_, op)| is_in(op)).map(|(place, _)| place).collect();
        Self { ops: places.iter().map(|place| batch[*place as usize]).collect(), places }
    }
}

impl Batch for Part {
    fn op_count(&self) -> u32 {
        self.ops.op_count()
    }

    fn for_each_key<'a>(&'a self, visit: impl FnMut(Position, Key<'a>, bool)) {
        self.ops.for_each_key(visit);
    }

    fn op(&self, position: Position) -> Op<'_> {
        Batch::op(&self.ops, position)
    }

    fn first_index(&self, index: u32) -> u32 {
        self.places[index as usize]
    }
}

/// Executes batches and asks each again behind the next, whole and in part; how many operations on keys that their
/// batch changes were told again, and how many of those were gets.
fn play(seed: u64) -> (u32, u32) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut node = Node::new();
    let mut carrier = node.connect();
    let (mut told, mut gets) = (0, 0);
    for sequence in 1..40 {
        let batch = draw_batch(&mut random);
        let saw = node.execute(&mut carrier, first(1, sequence), &batch);
        node.now += random.random_range(0..10);
        node.execute(&mut carrier, first(2, sequence), &draw_batch(&mut random));
        let sees = node.execute(&mut carrier, again(1, sequence), &batch);
        let is_plain_get = |op: &Op<'_>| op.action == Action::Get && !op.version_wanted;
        let is_changed = |key: &[u8]| batch.iter().any(|op| op.key == key && !is_plain_get(op));
        for (op, (saw, sees)) in batch.iter().zip(saw.iter().zip(sees.iter())).filter(|(op, _)| is_changed(op.key)) {
            assert_eq!(sees, saw, "seed {seed}, {op:?} in {batch:?}");
            assert_ne!(sees, Outcome::Unknown, "there is room");
            told += 1;
            gets += u32::from(is_plain_get(op));
        }
        let part = Part::draw(&mut random, &batch);
        let sees = node.execute_batch(&mut carrier, again(1, sequence), &part);
        for (place, sees) in part.places.iter().zip(sees.iter()).filter(|(at, _)| is_changed(batch[**at as usize].key))
        {
            assert_eq!(sees, saw.outcome(*place as usize), "seed {seed}, {:?} of {batch:?}", part.places);
        }
    }
    (told, gets)
}

#[test]
fn what_a_batch_did_and_saw_is_told_again() {
    let (mut told, mut gets) = (0, 0);
    for_each_seed(300, |seed| {
        let (more_told, more_gets) = play(seed);
        (told, gets) = (told + more_told, gets + more_gets);
    });
    println!("{told} told again, {gets} of them gets");
    assert!(gets > 10_000 || std::env::var_os("FREIGHT_SEED").is_some());
}
