//! Gets that repeat another one of their batch: told with it, and never past an operation that may change what they
//! see.
#![forbid(unsafe_code)]

use super::support::{op, store};
use freight::budget::Budget;
use freight::hash::slot;
use freight::hot_keys::HotKeys;
use freight::op::{Action, Content, Edit, Expiry, Op, Outcome, Outcomes};
use freight::op_list::{OpList, OutcomeList};
use freight::shard::{IndexKind, Ownership, Scratch, Store};
use freight::slots::SlotSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const LONG: &[u8] = b"a key of more than eight bytes";

fn get(key: &[u8]) -> Op<'_> {
    Op { key, action: Action::Get, version_wanted: false }
}

/// Outcomes, and which of them are those of another operation.
#[derive(Default)]
struct Told {
    outcomes: OutcomeList,
    again: Vec<(u32, u32)>,
}

impl Outcomes for Told {
    const TELLS_AGAIN: bool = true;

    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        self.outcomes.set(index, outcome);
    }

    fn set_again(&mut self, index: u32, first: u32) {
        self.again.push((index, first));
        self.outcomes.set_again(index, first);
    }
}

fn told(store: &Store, scratch: &mut Scratch, ops: &[Op<'_>]) -> Told {
    let mut told = Told::default();
    store.execute(&ops.iter().copied().collect::<OpList>(), 0, &mut told, scratch);
    told
}

#[test]
fn gets_are_told_with_the_first_up_to_any_other_operation_on_their_key() {
    let edit = Action::Edit(Edit::new(Content::Keep, Expiry::Keep));
    let others = [Action::Put { value: b"new" }, Action::Delete, Action::Add { delta: 1 }, edit, Action::Get];
    for (index, key) in IndexKind::BUILT.iter().flat_map(|index| [(*index, &b"k"[..]), (*index, LONG)]) {
        for other in others {
            let (store, mut scratch) = (store(index, 4, u64::MAX), Scratch::new(0).finding_repeats());
            told(&store, &mut scratch, &[op(key, Action::Put { value: b"old" })]);
            let ops = [get(key), get(b"other"), get(key), op(key, other), get(b"other"), get(key), get(key)];
            let found = told(&store, &mut scratch, &ops);
            assert_eq!(found.again, [(2, 0), (4, 1), (6, 5)], "{other:?}");
            let old = Outcome::Value { value: b"old", version: None };
            let new = match other {
                Action::Put { value } => Outcome::Value { value, version: None },
                Action::Delete => Outcome::NotFound,
                _ => old,
            };
            let of_key = [0, 2, 5, 6].map(|index| found.outcomes.outcome(index));
            assert_eq!(of_key, [old, old, new, new], "{other:?}");
            assert_eq!([1, 4].map(|index| found.outcomes.outcome(index)), [Outcome::NotFound; 2]);
            // What was told in one batch is nothing to the next.
            assert_eq!(told(&store, &mut scratch, &[get(key)]).outcomes.outcome(0), new);
        }
    }
}

#[test]
fn keys_that_are_the_same_word_are_not_the_same_key() {
    let (store, mut scratch) = (store(IndexKind::BUILT[0], 1, u64::MAX), Scratch::new(0).finding_repeats());
    told(&store, &mut scratch, &[op(b"a", Action::Put { value: b"1" }), op(b"a\0", Action::Put { value: b"2" })]);
    let keys = [&b"a"[..], b"a\0", b"", b"\0"];
    let ops: Vec<Op<'_>> = keys.iter().cycle().take(40).map(|key| get(key)).collect();
    let found = told(&store, &mut scratch, &ops);
    let value = |value| Outcome::Value { value, version: None };
    for (at, outcome) in found.outcomes.iter().enumerate() {
        assert_eq!(outcome, [value(b"1"), value(b"2"), Outcome::NotFound, Outcome::NotFound][at % 4]);
    }
}

#[test]
fn a_batch_repeats_nothing_of_those_before_it_however_many_lie_between() {
    let (store, mut scratch) = (store(IndexKind::BUILT[0], 4, u64::MAX), Scratch::new(0).finding_repeats());
    // Past the number that tells batches apart, twice.
    for between in 0..520 {
        assert_eq!(told(&store, &mut scratch, &[get(b"k")]).again, []);
        (0..between).for_each(|_| _ = told(&store, &mut scratch, &[get(b"other")]));
    }
}

#[test]
fn nearly_all_repeats_are_found_in_batches_of_any_size() {
    let (store, mut scratch) = (store(IndexKind::BUILT[0], 4, u64::MAX), Scratch::new(0).finding_repeats());
    for ops in [1, 70, 1, 3_000, 30_000, 70] {
        let keys: Vec<String> = (0..ops).map(|key| key.to_string()).collect();
        let puts: Vec<Op<'_>> =
            keys.iter().map(|key| op(key.as_bytes(), Action::Put { value: key.as_bytes() })).collect();
        told(&store, &mut scratch, &puts);
        // A key comes again when sixty others have come.
        let gets = keys.chunks(60).flat_map(|keys| keys.iter().chain(keys)).map(|key| get(key.as_bytes()));
        let gets: Vec<Op<'_>> = gets.collect();
        let found = told(&store, &mut scratch, &gets);
        for (get, outcome) in gets.iter().zip(found.outcomes.iter()) {
            assert_eq!(outcome, Outcome::Value { value: get.key, version: None });
        }
        // Two keys may share a place.
        assert!(found.again.len() <= ops && 4 * found.again.len() >= 3 * ops, "{} of {ops}", found.again.len());
    }
}

#[test]
fn repeats_on_slots_that_are_another_nodes_are_refused_like_the_first() {
    let (store, mut scratch) = (store(IndexKind::BUILT[0], 1, u64::MAX), Scratch::new(0).finding_repeats());
    let mut foreign = SlotSet::NONE;
    foreign.insert(slot(&b"foreign"[..]));
    let slots = SlotSet::ALL.without(&foreign);
    store.set_ownership(Ownership { epoch: 1, slots });
    let found = told(&store, &mut scratch, &[get(b"foreign"), get(b"mine"), get(b"foreign"), get(b"mine")]);
    let outcomes: Vec<Outcome<'_>> = found.outcomes.iter().collect();
    let (foreign, mine) = (Outcome::WrongNode, Outcome::NotFound);
    assert_eq!(outcomes, [foreign, mine, foreign, mine]);
    assert_eq!(found.again, [(3, 1)]);
}

#[test]
fn hot_keys_count_the_repeats_too() {
    let store = store(IndexKind::BUILT[0], 4, u64::MAX);
    for is_found in [false, true] {
        let hot_keys = HotKeys::new(1, 1, &Arc::new(Budget::new(u64::MAX))).expect("memory");
        let scratch = Scratch::new(0).sampled_by(Some(hot_keys.sampler(0, 1)));
        let mut scratch = if is_found { scratch.finding_repeats() } else { scratch };
        let mut ops = vec![get(b"hot"); 70];
        ops.extend(vec![get(LONG); 20]);
        ops.extend(vec![get(b"cold"); 10]);
        assert_eq!(told(&store, &mut scratch, &ops).again.len(), if is_found { 97 } else { 0 });
        let keys = hot_keys.told().keys;
        let counts: Vec<_> = keys.iter().map(|key| (key.key.as_bytes(), key.reads)).collect();
        assert_eq!(counts, [(&b"hot"[..], 70), (LONG, 20), (b"cold", 10)]);
    }
}

/// Outcomes that take their time, while their shard is locked, until somebody waits for it.
struct Slow<'a>(&'a AtomicBool);

impl Outcomes for Slow<'_> {
    fn set(&mut self, _index: u32, _outcome: Outcome<'_>) {
        self.0.store(true, Ordering::Release);
        std::thread::yield_now();
    }
}

/// Ends the other thread, however this one does.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn who_had_to_wait_for_a_shard_begins_to_find_repeats() {
    let store = store(IndexKind::BUILT[0], 1, u64::MAX);
    let (is_locked, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let ops: Vec<Op<'_>> = vec![get(b"k"); 100];
    let mut scratch = Scratch::new(0);
    assert_eq!(told(&store, &mut scratch, &ops).again, [], "nobody else is there");
    let again = std::thread::scope(|scope| {
        let _over = Over(&is_over);
        let holder = scope.spawn(|| {
            let (batch, mut scratch) = (ops.iter().copied().collect::<OpList>(), Scratch::new(0));
            while !is_over.load(Ordering::Relaxed) {
                store.execute(&batch, 0, &mut Slow(&is_locked), &mut scratch);
            }
        });
        // Whether this thread meets the other one's lock is for the system to decide: but often it does.
        (0..100_000).find_map(|_| {
            is_locked.store(false, Ordering::Relaxed);
            while !is_locked.load(Ordering::Acquire) && !holder.is_finished() {
                std::thread::yield_now();
            }
            Some(told(&store, &mut scratch, &ops).again.len()).filter(|again| *again > 0)
        })
    });
    assert_eq!(again, Some(99));
}
