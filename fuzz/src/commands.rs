//! What must hold of any bytes that a Redis client sends: the body of the fuzz target `resp`, and of the test that
//! replays its corpus.
//!
//! ```text
//!   bytes --whole------------> session, store --> replies, records --+
//!     |-----byte by byte-----> session, store --> replies, records --+--> the same
//!     |-----in some pieces---> session, store --> replies, records --+
//!     `-----whole------------> session, store of half the keys, and another node's of the rest
//! ```
//!
//! Whatever the cut the memory lent stays within a bound that the length of a command sets, and nothing panics.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::metrics::NodeStats;
use freight::op::{Op, Outcome, Time};
use freight::op_list::{OpList, OutcomeList};
use freight::resp::{
    Admission, ClientFacts, ClientLine, Commands, Denied, Desk, Host, Lend, NodeFacts, Output, ProtocolError, Session,
    SessionLimits, Takes, Until,
};
use freight::shard::{Eviction, IndexKind, Ownership, Scratch, Store, StoreConfig};
use freight::slots::SlotSet;
use freight::wire::FrameBuffer;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

/// The longest command; longer than any input of `scripts/fuzz`.
const COMMAND_BYTES_MAX: usize = 16 << 10;

/// Bytes of replies that may wait.
const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// Memory lent at most: what waits, what is staged, and 32 bytes for each operation of a batch; doubled, as it grows.
const LENT_BYTES_MAX: usize = 512 << 10;

/// Every client's time.
const NOW: Time = 1_700_000_000_000;

/// Bytes as what a client sends: how many operations they were, or why they end the connection.
pub(crate) fn resp(bytes: &[u8]) -> Result<usize, ProtocolError> {
    let whole = served(Node::new(), [bytes]);
    let one_by_one = served(Node::new(), bytes.chunks(1));
    assert_eq!(whole, one_by_one, "byte by byte");
    // Each byte says how far the piece behind it reaches.
    let mut rest = bytes;
    let pieces = std::iter::from_fn(|| {
        let length = usize::from(*rest.first()? % 37 + 1).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        rest = behind;
        Some(piece)
    });
    assert_eq!(whole, served(Node::new(), pieces), "in pieces");
    if !OF_ONE_NODE.iter().any(|name| has_word(bytes, name)) {
        assert_eq!(whole, served(Node::of_half(), [bytes]), "over two nodes");
    }
    whole.error.map_or(Ok(whole.ops), Err)
}

/// Commands that tell of the node alone, or have an effect on it alone.
const OF_ONE_NODE: [&[u8]; 5] = [b"scan", b"dbsize", b"info", b"flushall", b"flushdb"];

fn has_word(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// What came of serving a client.
#[derive(Debug, PartialEq, Eq)]
struct Served {
    replies: Vec<u8>,
    records: Vec<Vec<u8>>,
    ops: usize,
    /// Bytes left of a command that is not all there.
    left: usize,
    error: Option<ProtocolError>,
}

fn served<'a>(mut host: Node, pieces: impl IntoIterator<Item = &'a [u8]>) -> Served {
    let lender = Lender::default();
    let limits = SessionLimits { command_bytes_max: COMMAND_BYTES_MAX, output_bytes_max: OUTPUT_BYTES_MAX };
    let mut session = Session::new(ClientFacts { id: 1, ..ClientFacts::default() }, limits);
    let (mut desk, mut output) = (Desk::new(lender.clone()), Output::new(lender.clone()));
    let (mut input, mut replies, mut ops) = (Vec::new(), Vec::new(), 0);
    let mut ended = None;
    'pieces: for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let served = session.serve(&mut input, &mut desk, &mut host, &mut output);
            assert!(!output.is_lost() && lender.0.get() <= LENT_BYTES_MAX, "{} bytes", lender.0.get());
            input.drain(..served.consumed);
            ops += served.ops;
            let waiting = output.waiting_bytes();
            replies.extend_from_slice(output.waiting());
            output.written(waiting);
            match served.until {
                Until::MoreInput { needed } => {
                    assert!(input.len() < needed && needed <= COMMAND_BYTES_MAX, "{needed} of {}", input.len());
                    assert!(!desk.is_unfinished(), "what waits for its client keeps no desk");
                    break;
                }
                Until::OutputWritten => assert!(waiting > 0, "nothing waits to be written"),
                Until::Turn => host.answers.clear(),
                Until::Foreign => host.ask(desk.foreign(&input)),
                Until::Verify => {
                    assert!(session.asked().is_some_and(|asked| asked.password == b"later"), "nobody else waits");
                    session.verified(Err(Denied::Busy), &mut host, &mut output);
                }
                Until::Ended(error) => {
                    ended = Some(error);
                    break 'pieces;
                }
            }
        }
    }
    // What is behind the end is nobody's.
    let left = if ended.is_some() { 0 } else { input.len() };
    Served { replies, records: host.records_told(), ops, left, error: ended.flatten() }
}

/// A store of one shard, whose clock stands still, and one of another node where there is one.
struct Node {
    store: Store,
    other: Option<Store>,
    /// What the other node answered.
    answers: BTreeMap<u32, OutcomeList>,
    scratch: Scratch,
}

fn store() -> Store {
    let budget = Arc::new(Budget::new(u64::MAX));
    let config =
        StoreConfig { shards: 1, index: IndexKind::default(), hash_secret: [7; 32], budget, eviction: Eviction::None };
    Store::new(config).expect("a valid configuration")
}

impl Node {
    fn new() -> Self {
        Self { store: store(), other: None, answers: BTreeMap::new(), scratch: Scratch::default() }
    }

    /// A node that owns every other slot.
    fn of_half() -> Self {
        let node = Self { other: Some(store()), ..Self::new() };
        let mut slots = SlotSet::NONE;
        (0..freight::limits::SLOTS as u16).step_by(2).for_each(|slot| _ = slots.insert(slot));
        node.store.set_ownership(Ownership { epoch: 1, slots });
        node
    }

    /// Asks the other node, once for each operation that nobody has answered.
    fn ask<'a>(&mut self, foreign: impl Iterator<Item = (u32, Op<'a>)>) {
        let other = self.other.as_ref().expect("what is foreign is the other's");
        for (index, op) in foreign {
            if self.answers.contains_key(&index) {
                continue;
            }
            let mut outcomes = OutcomeList::new();
            other.execute(&OpList::from_iter([op]), NOW, &mut outcomes, &mut self.scratch);
            self.answers.insert(index, outcomes);
        }
    }

    fn records_told(&self) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        for store in std::iter::once(&self.store).chain(&self.other) {
            let mut cursor = 0;
            loop {
                cursor = store.scan(cursor, NOW, |key| keys.push(key.to_vec()));
                if cursor == 0 {
                    break;
                }
            }
        }
        keys.sort();
        keys
    }
}

impl Host for Node {
    fn execute(&mut self, batch: &impl Commands, now: Time, outcomes: &mut impl Takes) {
        self.store.execute(batch, now, outcomes, &mut self.scratch);
    }

    fn forwarded(&self, index: u32) -> Option<Outcome<'_>> {
        Some(self.answers.get(&index)?.outcome(0))
    }

    fn now(&self) -> Time {
        NOW
    }

    fn records(&self) -> u64 {
        self.store.stats().records
    }

    fn scan(&mut self, cursor: u64, visit: &mut dyn FnMut(&[u8])) -> u64 {
        self.store.scan(cursor, NOW, visit)
    }

    fn flush(&mut self, cursor: u64) -> u64 {
        self.store.flush(cursor, NOW)
    }

    fn facts(&self) -> NodeFacts {
        let (eviction, store) = (Eviction::None.to_string(), self.store.stats());
        let stats = NodeStats { eviction, connections: 1, store, ..NodeStats::default() };
        NodeFacts { stats, process: 1, port: 6379, connections_max: 1, is_mapped: false }
    }

    fn clients(&self) -> Vec<ClientLine> {
        Vec::new()
    }

    fn client_changed(&mut self, _: &ClientFacts) {}

    fn authenticate(&mut self, _: Option<&[u8]>, password: &[u8]) -> Admission {
        match password {
            b"right" => Admission::Granted,
            b"later" => Admission::Later,
            _ => Admission::Denied(Denied::WrongPassword),
        }
    }
}

/// Lends memory, and counts what is lent.
#[derive(Debug, Clone, Default)]
struct Lender(Rc<Cell<usize>>);

#[derive(Debug)]
struct Lent {
    bytes: Vec<u8>,
    lender: Lender,
}

impl Lend for Lender {
    type Buffer = Lent;

    fn lend(&self, bytes: usize) -> Option<Lent> {
        self.0.set(self.0.get() + bytes);
        Some(Lent { bytes: vec![0; bytes], lender: self.clone() })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lender.0.set(self.lender.0.get() - self.bytes.len());
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl FrameBuffer for Lent {
    fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes.len());
        self.lender.0.set(self.lender.0.get() + more);
        self.bytes.grow(bytes)
    }
}
