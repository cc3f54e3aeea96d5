//! What the clients do: batches and single operations of all kinds on few keys, drawn from a seed.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test target uses a part")]

use crate::recorded::Recorded;
use freight::op::{Action, Condition, Content, Edit, Expiry, Op};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;
use tokio::time::timeout;

/// How much of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) keys: u32,
    /// Calls of each client.
    pub(crate) calls: u32,
    /// Most operations in a batch.
    pub(crate) batch_ops_max: usize,
    /// How many calls are single operations.
    pub(crate) singles_percent: u32,
    /// How many calls are dropped in the middle.
    pub(crate) dropped_percent: u32,
    /// How many operations are edits, most of them of deadlines.
    pub(crate) edits_percent: u32,
}

impl Workload {
    /// Plays one client's part.
    pub(crate) async fn run(self, client: &Recorded, seed: u64) {
        self.run_on(client, seed, || |place| format!("key {place}").into_bytes()).await;
    }

    /// The same, on keys whose names are held while a call uses them.
    pub(crate) async fn run_on<N: Fn(u32) -> Vec<u8>>(self, client: &Recorded, seed: u64, hold: impl Fn() -> N) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for call in 0..self.calls {
            let single = random.random_range(0..100) < self.singles_percent;
            let count = if single { 1 } else { random.random_range(1..=self.batch_ops_max) };
            let name = hold();
            let mut key = |random: &mut ChaCha8Rng| name(random.random_range(0..self.keys));
            let drawn: Vec<_> = (0..count)
                .map(|_| Drawn::new(&mut random, &mut key, seed, call).edited(&mut random, self.edits_percent))
                .collect();
            let ops: Vec<_> = drawn.iter().map(|drawn| drawn.op(client)).collect();
            let called = async {
                if single {
                    client.issue(&ops[0]).await;
                } else {
                    client.execute(&ops).await;
                }
            };
            if random.random_range(0..100) < self.dropped_percent {
                let _dropped = timeout(Duration::from_micros(random.random_range(0..4_000)), called).await;
            } else {
                called.await;
            }
        }
    }
}

/// An operation, but for the version that a compare-and-swap expects: its client knows that when it asks.
pub(crate) struct Drawn {
    key: Vec<u8>,
    value: Vec<u8>,
    kind: u32,
    delta: i64,
    version_wanted: bool,
    edit: Option<Edit<'static>>,
}

impl Drawn {
    /// Draws an operation on a key that is drawn too, after the value; `seed` and `call` are the client's.
    pub(crate) fn new(
        random: &mut ChaCha8Rng,
        key: &mut impl FnMut(&mut ChaCha8Rng) -> Vec<u8>,
        seed: u64,
        call: u32,
    ) -> Self {
        // Numbers and texts, so that adds meet both; each written once or seldom, so that an order shows.
        let unique = seed % 1_000 * 1_000_000 + u64::from(call) * 100 + random.random_range(0..100);
        let value = if random.random() { unique.to_string() } else { format!("v{unique}") };
        Self {
            key: key(random),
            value: value.into_bytes(),
            kind: random.random_range(0..100),
            delta: random.random_range(-2..3),
            version_wanted: random.random(),
            edit: None,
        }
    }

    /// The same, or an edit of its key in so many of a hundred cases.
    fn edited(mut self, random: &mut ChaCha8Rng, edits_percent: u32) -> Self {
        if edits_percent > 0 && random.random_range(0..100) < edits_percent {
            self.edit = Some(edit(random));
        }
        self
    }

    pub(crate) fn op<'a>(&'a self, client: &Recorded) -> Op<'a> {
        let action = match self.kind {
            _ if let Some(edit) = self.edit => Action::Edit(edit.with_bytes(&self.value)),
            0..45 => Action::Get,
            45..70 => Action::Put { value: &self.value },
            70..77 => Action::Delete,
            77..88 => Action::CompareAndSwap { expected: client.version_seen(&self.key), value: &self.value },
            _ => Action::Add { delta: self.delta },
        };
        Op { key: &self.key, action, version_wanted: self.version_wanted }
    }
}

/// Deadlines are nearer than so many milliseconds.
const SOON_MS: u64 = 40;

/// An edit whose bytes are still to come; of those that write, most set a deadline.
fn edit(random: &mut ChaCha8Rng) -> Edit<'static> {
    let content = match random.random_range(0..10) {
        0..5 => Content::Keep,
        5..9 => Content::Write(&[]),
        _ => Content::Remove,
    };
    let expiry = match random.random_range(0..8) {
        0..2 => Expiry::Keep,
        2 => Expiry::Clear,
        _ => Expiry::After(random.random_range(0..SOON_MS)),
    };
    let condition = if random.random() { Condition::Always } else { Condition::ALL[random.random_range(1..8)] };
    let edit = Edit::new(content, expiry).on(condition);
    if random.random() { edit.wanting_value() } else { edit }
}
