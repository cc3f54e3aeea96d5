//! A node that evicts tells again what it told, though records go in the middle of a batch.
#![forbid(unsafe_code)]

use crate::table::{Node, again, first};
use freight::op::{Action, Content, Edit, Expiry, Op, Outcome};
use freight::shard::Eviction;

const RECORD_BYTES_MAX: u64 = 8 << 20;

/// Enough puts to evict nearly all that was there.
const OTHERS: u32 = 50_000;

const EVICTIONS: [Eviction; 2] = [Eviction::S3Fifo, Eviction::Random];

fn op<'a>(key: &'a [u8], action: Action<'a>) -> Op<'a> {
    Op { key, action, version_wanted: false }
}

fn names(prefix: char, count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| format!("{prefix}{number:09}").into_bytes()).collect()
}

fn full(eviction: Eviction) -> Node {
    let mut node = Node::evicting(eviction, RECORD_BYTES_MAX);
    let mut carrier = node.connect();
    for (sequence, prefix) in (1..).zip(['v', 'w', 'x']) {
        let names = names(prefix, OTHERS);
        let puts: Vec<_> = names.iter().map(|name| op(name, Action::Put { value: &[1; 40] })).collect();
        node.execute(&mut carrier, first(1, sequence), &puts);
    }
    assert!(node.store.stats().records_evicted > 0, "it is full");
    node
}

/// Puts each key, then others until many are evicted, then does `behind` with each: once, and again when somebody else
/// has written them all. How many keys were there by then, and how many were not, as the last operation says.
fn play<const N: usize>(
    eviction: Eviction,
    behind: [Action<'_>; N],
    was_there: impl Fn(Outcome<'_>) -> bool,
) -> (usize, usize) {
    let mut node = full(eviction);
    let mut carrier = node.connect();
    let (keys, others) = (names('k', 3_000), names('o', OTHERS));
    let mut batch: Vec<Op<'_>> = keys.iter().map(|key| op(key, Action::Put { value: b"a" })).collect();
    batch.extend(others.iter().map(|key| op(key, Action::Put { value: &[2; 40] })));
    let tail = batch.len();
    batch.extend(keys.iter().flat_map(|key| behind.map(|action| op(key, action))));
    let saw = node.execute(&mut carrier, first(2, 1), &batch);
    let theirs: Vec<_> = keys.iter().map(|key| op(key, Action::Put { value: b"theirs" })).collect();
    node.execute(&mut carrier, first(3, 1), &theirs);
    let sees = node.execute(&mut carrier, again(2, 1), &batch);
    for (op, (saw, sees)) in batch.iter().zip(saw.iter().zip(sees.iter())) {
        assert_eq!(sees, saw, "{eviction}: {op:?}");
    }
    let there = saw.iter().skip(tail + N - 1).step_by(N).filter(|outcome| was_there(*outcome)).count();
    (there, keys.len() - there)
}

#[test]
fn a_get_behind_an_append_tells_again_that_the_record_was_gone_before_it() {
    for eviction in EVICTIONS {
        let append = Action::Edit(Edit::new(Content::Append(b"b"), Expiry::Keep));
        let is_whole = |outcome: Outcome<'_>| outcome == Outcome::Value { value: b"ab", version: None };
        let (whole, gone) = play(eviction, [append, Action::Get], is_whole);
        assert!(whole > 0 && gone > 0, "{eviction}: {whole} whole, {gone} gone");
    }
}

#[test]
fn a_get_behind_a_put_tells_again_that_the_record_was_gone() {
    for eviction in EVICTIONS {
        let (there, gone) = play(eviction, [Action::Get], |outcome: Outcome<'_>| outcome != Outcome::NotFound);
        assert!(there > 0 && gone > 0, "{eviction}: {there} there, {gone} gone");
    }
}
