//! The shards' paths: batches on a store of 10,000 records, and a whole frame as a node answers it.
#![forbid(unsafe_code)]

use crate::batches::{
    Actions, BATCH_OPS, Key, ORIGIN, SECRET, expiring_puts, gets, key, keys, mostly_gets, numbers, puts, request,
};
use crate::seeing::sampler;
use freight::budget::Budget;
use freight::completions::{Carrier, Completions, CompletionsConfig, Identity};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::metrics::Counters;
use freight::op::{Action, Batch, Outcome, Outcomes, ReadBack};
use freight::shard::{Eviction, IndexKind, Scratch, Store, StoreConfig};
use freight::wire::{ReplyBuilder, RequestView, count_outcomes};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// Records in the store: enough that its index has grown several times.
const RECORDS: u32 = 10_000;

/// Gets that are found.
pub(crate) fn get() -> Box<dyn FnMut()> {
    rounds_of(IndexKind::Buckets, gets)
}

/// Puts over values of the same size.
pub(crate) fn put() -> Box<dyn FnMut()> {
    rounds_of(IndexKind::Buckets, puts)
}

/// [`get`], of records with deadlines.
pub(crate) fn get_expiring() -> Box<dyn FnMut()> {
    let (store, mut scratch) = loaded(IndexKind::Buckets);
    execute(&store, &request(&keys(), expiring_puts), &mut scratch);
    let frame = request(&keys(), gets);
    Box::new(move || execute(&store, &frame, &mut scratch))
}

/// [`put`], each with a deadline.
pub(crate) fn put_expiring() -> Box<dyn FnMut()> {
    rounds_of(IndexKind::Buckets, expiring_puts)
}

/// Puts of a client's session: [`put`], and each of them recorded until the next batch says that its reply has arrived.
pub(crate) fn put_in_a_session() -> Box<dyn FnMut()> {
    let mut once = in_a_session(request(&keys(), puts));
    Box::new(move || once(&mut Dropped))
}

/// [`answer`] to a client's session.
pub(crate) fn answer_in_a_session() -> Box<dyn FnMut()> {
    let mut once = in_a_session(request(&keys(), mostly_gets));
    let mut buffer = Vec::new();
    Box::new(move || {
        let mut reply = ReplyBuilder::new(std::mem::take(&mut buffer), BATCH_OPS, FRAME_BYTES_DEFAULT)
            .expect("a vector always grows");
        once(&mut reply);
        (buffer, _) = black_box(reply.finish(ORIGIN));
    })
}

/// Executes a frame once each time, under the next number of one session.
fn in_a_session<O: ReadBack>(frame: Vec<u8>) -> impl FnMut(&mut O) {
    let (store, mut scratch) = loaded(IndexKind::Buckets);
    let config = CompletionsConfig::new(Arc::new(Budget::new(u64::MAX)));
    let mut carrier = Carrier::new(&Arc::new(Completions::new(config)));
    let mut sequence = 0;
    move |outcomes| {
        sequence += 1;
        let identity = Identity { session: 1, sequence, acknowledged_up_to: sequence, is_retry: false };
        let view = RequestView::parse(black_box(&frame)).expect("the builder's frames are valid");
        carrier.execute(&store, &view, 0, identity, outcomes, &mut scratch).expect("there is no cap");
    }
}

/// A record deleted and put again, turn about.
pub(crate) fn churn() -> Box<dyn FnMut()> {
    let (store, mut scratch) = loaded(IndexKind::Buckets);
    // Half the batch is a key's delete, the other half the put of the same key.
    let keys: Vec<Key> = keys().into_iter().flat_map(|key| [key, key]).take(BATCH_OPS as usize).collect();
    let frame = request(&keys, |number| if number.is_multiple_of(2) { Action::Delete } else { puts(number) });
    Box::new(move || execute(&store, &frame, &mut scratch))
}

/// Gets that are found by the leapfrog index.
pub(crate) fn get_leapfrog() -> Box<dyn FnMut()> {
    rounds_of(IndexKind::Leapfrog, gets)
}

/// Puts that the leapfrog index places.
pub(crate) fn put_leapfrog() -> Box<dyn FnMut()> {
    rounds_of(IndexKind::Leapfrog, puts)
}

/// A whole frame: validated, executed, answered in a buffer that is used again.
pub(crate) fn answer() -> Box<dyn FnMut()> {
    let (store, scratch) = loaded(IndexKind::Buckets);
    answering(store, scratch, request(&keys(), mostly_gets), |_, _| ())
}

/// [`answer`], of keys of one to three digits: of those that are hashed as one word.
pub(crate) fn answer_short() -> Box<dyn FnMut()> {
    let name = |number: u32| number.to_string();
    let (store, scratch) = loaded_with(IndexKind::Buckets, name);
    let keys: Vec<String> = numbers().map(name).collect();
    answering(store, scratch, request(&keys, mostly_gets), |_, _| ())
}

/// [`answer`], and all by which a node is watched: what became of each operation, how long the batch took, hot keys.
pub(crate) fn answer_seen() -> Box<dyn FnMut()> {
    let (store, scratch) = loaded(IndexKind::Buckets);
    let counters = Counters::default();
    let scratch = scratch.sampled_by(Some(sampler()));
    answering(store, scratch, request(&keys(), mostly_gets), move |frame, reply| {
        counters.batch_times.add(black_box(Duration::from_micros(50)));
        count_outcomes(frame, reply, |kind, result, ops| counters.outcomes.add(kind, result, ops));
    })
}

/// Answers one frame again and again, and shows each reply.
fn answering(
    store: Store,
    mut scratch: Scratch,
    frame: Vec<u8>,
    seen: impl Fn(&[u8], &[u8]) + 'static,
) -> Box<dyn FnMut()> {
    let mut buffer = Vec::new();
    Box::new(move || {
        let view = RequestView::parse(black_box(&frame)).expect("the builder's frames are valid");
        let mut reply = ReplyBuilder::new(std::mem::take(&mut buffer), view.op_count(), FRAME_BYTES_DEFAULT)
            .expect("a vector always grows");
        store.execute(&view, 0, &mut reply, &mut scratch);
        let (built, frame_bytes) = reply.finish(ORIGIN);
        seen(&frame, &built[..frame_bytes as usize]);
        buffer = black_box(built);
    })
}

/// Rounds of one batch over keys that are there.
fn rounds_of(index: IndexKind, actions: Actions) -> Box<dyn FnMut()> {
    let (store, mut scratch) = loaded(index);
    let frame = request(&keys(), actions);
    Box::new(move || execute(&store, &frame, &mut scratch))
}

fn execute(store: &Store, frame: &[u8], scratch: &mut Scratch) {
    let view = RequestView::parse(black_box(frame)).expect("the builder's frames are valid");
    store.execute(&view, 0, &mut Dropped, scratch);
}

fn loaded(index: IndexKind) -> (Store, Scratch) {
    loaded_with(index, key)
}

fn loaded_with<K: AsRef<[u8]>>(index: IndexKind, key: impl Fn(u32) -> K) -> (Store, Scratch) {
    let budget = Arc::new(Budget::new(u64::MAX));
    let config = StoreConfig { shards: 16, index, hash_secret: SECRET, budget, eviction: Eviction::None };
    let store = Store::new(config).expect("sixteen shards without a cap are a valid store");
    let mut scratch = Scratch::new(0);
    for first in (0..RECORDS).step_by(BATCH_OPS as usize) {
        let keys: Vec<K> = (first..first + BATCH_OPS).map(&key).collect();
        execute(&store, &request(&keys, puts), &mut scratch);
    }
    (store, scratch)
}

/// Takes outcomes and keeps none: what is counted is the shards' own work.
struct Dropped;

impl Outcomes for Dropped {
    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        black_box((index, outcome));
    }
}

impl ReadBack for Dropped {
    fn read_back(&self, index: u32) -> Outcome<'_> {
        black_box(index);
        Outcome::Done { version: None }
    }
}
