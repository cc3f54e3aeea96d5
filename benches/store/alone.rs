//! What a core does with frames where nothing carries them: the client's part alone, and the node's alone.
//!
//! ```text
//!   client   drawn operations --build--> request      reply --check, count--> hits
//!   node     request --check, deal, execute--> reply
//! ```
//!
//! The default workload of `freight bench`: decimal keys, 128-byte values, Zipf 0.99, 95 % reads. Two cores that lose
//! nothing to each other and to what carries their frames do 2 / (client + node) operations a nanosecond: what a
//! transport is held against.
#![forbid(unsafe_code)]

use crate::contenders::freight;
use crate::throughput::{Settings, seconds, sorted};
use crate::workload::{VALUE_BYTES, draw_records};
use freight::budget::Budget;
use freight::completions::{Carrier, Completions, CompletionsConfig};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Op, Outcome};
use freight::session::{NodeFacts, Session};
use freight::shard::{IndexKind, Scratch};
use freight::wire::{Origin, ReplyView, RequestBuilder};
use std::sync::Arc;

/// Records of a frame that loads them.
const LOAD_OPS: usize = 1_000;

/// An operation drawn: a record's key, and whether it is written.
type Drawn = (String, bool);

pub(crate) fn run(settings: &Settings) {
    let Settings { records, batch, rounds, round_ms, shards, seed, .. } = *settings;
    println!("{records} records, batch {batch}, {shards} shards, seed {seed}, one thread");
    let mut node = Node::new(shards as u32);
    for first in (0..records).step_by(LOAD_OPS) {
        let loading = (first..records.min(first + LOAD_OPS)).map(|record| (record.to_string(), true));
        let request = build(&loading.collect::<Vec<_>>(), Vec::new());
        node.answer(&request);
    }
    let drawn = draw_records(records, settings.batches(), batch, seed);
    let named = |batch: Vec<(usize, bool)>| batch.into_iter().map(|(record, put)| (record.to_string(), put)).collect();
    let batches: Vec<Vec<Drawn>> = drawn.into_iter().map(named).collect();
    let requests: Vec<Vec<u8>> = batches.iter().map(|batch| build(batch, Vec::new())).collect();
    let replies: Vec<Vec<u8>> = requests.iter().map(|request| node.answer(request).to_vec()).collect();

    let (mut client_ns, mut node_ns) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut lent = Vec::new();
        client_ns.push(round(settings, |at| {
            lent = build(&batches[at], std::mem::take(&mut lent));
            assert!(hits(&replies[at]) <= batch);
        }));
        node_ns.push(round(settings, |at| {
            node.answer(&requests[at]);
        }));
    }
    println!("{rounds} rounds of {round_ms} ms: median (least - most)");
    let (client, node) = (line("client alone, ns/op", &mut client_ns), line("node alone, ns/op", &mut node_ns));
    println!("{:<34} {:.1}", "two cores could do, M op/s", 2e3 / (client + node));
}

/// A node without connections.
struct Node {
    session: Session,
    carrier: Carrier,
    scratch: Scratch,
    lent: Vec<u8>,
    reply_bytes: u32,
}

impl Node {
    fn new(shards: u32) -> Self {
        let facts = NodeFacts { incarnation: [1; 16], frame_bytes_max: FRAME_BYTES_DEFAULT, frames_in_flight_max: 1 };
        let completions = Completions::new(CompletionsConfig::new(Arc::new(Budget::new(u64::MAX))));
        let session = Session::new(Arc::new(freight(IndexKind::Buckets, shards)), Arc::new(completions), facts);
        Self { carrier: session.carrier(), session, scratch: Scratch::new(0), lent: Vec::new(), reply_bytes: 0 }
    }

    fn answer(&mut self, request: &[u8]) -> &[u8] {
        let lent = std::mem::take(&mut self.lent);
        let lend = |bytes: usize| {
            let mut lent = lent;
            lent.resize(lent.len().max(bytes), 0);
            Some(lent)
        };
        let answered =
            self.session.execute(request, 0, FRAME_BYTES_DEFAULT, lend, &mut self.carrier, &mut self.scratch);
        (self.lent, self.reply_bytes) = answered.expect("a bench may panic");
        &self.lent[..self.reply_bytes as usize]
    }
}

/// Builds a request in lent memory.
fn build(batch: &[Drawn], lent: Vec<u8>) -> Vec<u8> {
    let mut builder = RequestBuilder::new(lent, batch.len() as u32, FRAME_BYTES_DEFAULT).expect("a vector grows");
    let mut value = [0; VALUE_BYTES];
    for (key, put) in batch {
        let pushed = if *put {
            value.fill(key.as_bytes()[0]);
            builder.push(&Op { key: key.as_bytes(), action: Action::Put { value: &value }, version_wanted: false })
        } else {
            builder.push_get(key.as_bytes())
        };
        pushed.expect("far below the limit");
    }
    let (mut frame, bytes) = builder.finish(Origin::default());
    frame.truncate(bytes as usize);
    frame
}

/// Checks a reply and counts what was found in it.
fn hits(reply: &[u8]) -> usize {
    let reply = ReplyView::parse(reply).expect("a node's reply");
    reply
        .outcomes()
        .filter(|outcome| matches!(outcome, Outcome::Value { value, .. } if value.len() == VALUE_BYTES))
        .count()
}

/// Nanoseconds an operation of `work`, which does one batch.
fn round(settings: &Settings, mut work: impl FnMut(usize)) -> f64 {
    let batches = settings.batches();
    let (begin, mut ops) = (seconds(settings.clock), 0);
    loop {
        (0..batches).for_each(&mut work);
        ops += batches * settings.batch;
        let elapsed = seconds(settings.clock) - begin;
        if elapsed * 1e3 >= settings.round_ms as f64 {
            return elapsed * 1e9 / ops as f64;
        }
    }
}

/// Prints a line, and gives its median.
fn line(what: &str, rounds: &mut [f64]) -> f64 {
    let (median, least, most) = sorted(rounds);
    println!("{what:<34} {:>24}", format!("{median:.1} ({least:.1} - {most:.1})"));
    median
}
