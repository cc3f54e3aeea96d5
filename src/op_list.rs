//! A batch and its outcomes as plain lists, for callers that have no frames: tests, benches, examples.
#![forbid(unsafe_code)]

use crate::hash::Key;
use crate::op::{Action, Batch, Edit, Edited, Op, Outcome, Outcomes, Position, ReadBack, Version};
use std::ops::Range;

/// A batch that owns its bytes. Clear it and fill it again to reuse its memory.
#[derive(Debug, Clone, Default)]
pub struct OpList {
    ops: Vec<ListedOp>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone)]
struct ListedOp {
    kind: Kind,
    version_wanted: bool,
    key: Range<usize>,
    value: Range<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Get,
    Put,
    Delete,
    CompareAndSwap {
        expected: Version,
    },
    Add {
        delta: i64,
    },
    /// Its bytes are the operation's value.
    Edit(Edit<'static>),
}

impl OpList {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a copy of an operation.
    pub fn push(&mut self, op: Op<'_>) {
        let (kind, value): (_, &[u8]) = match op.action {
            Action::Get => (Kind::Get, &[]),
            Action::Put { value } => (Kind::Put, value),
            Action::Delete => (Kind::Delete, &[]),
            Action::CompareAndSwap { expected, value } => (Kind::CompareAndSwap { expected }, value),
            Action::Add { delta } => (Kind::Add { delta }, &[]),
            Action::Edit(edit) => (Kind::Edit(edit.with_bytes(&[])), edit.bytes()),
        };
        let (key, value) = (append(&mut self.bytes, op.key), append(&mut self.bytes, value));
        self.ops.push(ListedOp { kind, version_wanted: op.version_wanted, key, value });
    }

    /// Removes all operations and keeps their memory.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.bytes.clear();
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

impl<'a> FromIterator<Op<'a>> for OpList {
    fn from_iter<T: IntoIterator<Item = Op<'a>>>(ops: T) -> Self {
        let mut list = Self::new();
        ops.into_iter().for_each(|op| list.push(op));
        list
    }
}

impl Batch for OpList {
    fn op_count(&self) -> u32 {
        self.ops.len() as u32
    }

    #[inline]
    fn for_each_key<'a>(&'a self, mut visit: impl FnMut(Position, Key<'a>, bool)) {
        for (index, op) in self.ops.iter().enumerate() {
            let is_plain_get = matches!(op.kind, Kind::Get) && !op.version_wanted;
            visit(Position { index: index as u32, offset: 0 }, Key::from(&self.bytes[op.key.clone()]), is_plain_get);
        }
    }

    #[inline]
    fn op(&self, position: Position) -> Op<'_> {
        let op = &self.ops[position.index as usize];
        let value = &self.bytes[op.value.clone()];
        let action = match op.kind {
            Kind::Get => Action::Get,
            Kind::Put => Action::Put { value },
            Kind::Delete => Action::Delete,
            Kind::CompareAndSwap { expected } => Action::CompareAndSwap { expected, value },
            Kind::Add { delta } => Action::Add { delta },
            Kind::Edit(edit) => Action::Edit(edit.with_bytes(value)),
        };
        Op { key: &self.bytes[op.key.clone()], action, version_wanted: op.version_wanted }
    }
}

/// The outcomes of a batch, with copies of the values. Clear it to reuse its memory.
#[derive(Debug, Clone, Default)]
pub struct OutcomeList {
    /// A value's bytes are not in its outcome but where the range says.
    outcomes: Vec<Option<(Outcome<'static>, Range<usize>)>>,
    bytes: Vec<u8>,
}

impl OutcomeList {
    /// An empty list; it grows as outcomes come.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The outcome of the operation at `index`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn outcome(&self, index: usize) -> Outcome<'_> {
        let (outcome, value) = self.outcomes[index].as_ref().expect("every operation of a batch has an outcome");
        match *outcome {
            Outcome::Value { version, .. } => Outcome::Value { value: &self.bytes[value.clone()], version },
            Outcome::Edited(edited) => {
                let value = edited.value.is_some().then(|| &self.bytes[value.clone()]);
                Outcome::Edited(Edited { value, ..edited })
            }
            outcome => outcome,
        }
    }

    /// Every outcome, in the order of the batch.
    pub fn iter(&self) -> impl Iterator<Item = Outcome<'_>> {
        (0..self.outcomes.len()).map(|index| self.outcome(index))
    }

    /// Removes all outcomes and keeps their memory.
    pub fn clear(&mut self) {
        self.outcomes.clear();
        self.bytes.clear();
    }
}

impl Outcomes for OutcomeList {
    const TELLS_AGAIN: bool = true;

    fn set(&mut self, index: u32, outcome: Outcome<'_>) {
        let index = index as usize;
        if self.outcomes.len() <= index {
            self.outcomes.resize(index + 1, None);
        }
        assert!(self.outcomes[index].is_none(), "operation {index} has two outcomes");
        let (outcome, value) = match outcome {
            Outcome::Value { value, version } => {
                (Outcome::Value { value: &[], version }, append(&mut self.bytes, value))
            }
            Outcome::Done { version } => (Outcome::Done { version }, 0..0),
            Outcome::Counter { value, version } => (Outcome::Counter { value, version }, 0..0),
            Outcome::NotFound => (Outcome::NotFound, 0..0),
            Outcome::VersionMismatch { current } => (Outcome::VersionMismatch { current }, 0..0),
            Outcome::Edited(edited) => {
                let value = append(&mut self.bytes, edited.value.unwrap_or_default());
                (Outcome::Edited(Edited { value: edited.value.map(|_| &[][..]), ..edited }), value)
            }
            Outcome::ValueTooLong => (Outcome::ValueTooLong, 0..0),
            Outcome::NotANumber => (Outcome::NotANumber, 0..0),
            Outcome::CounterOverflow => (Outcome::CounterOverflow, 0..0),
            Outcome::OutOfMemory => (Outcome::OutOfMemory, 0..0),
            Outcome::ReplyFull => (Outcome::ReplyFull, 0..0),
            Outcome::WrongNode => (Outcome::WrongNode, 0..0),
            Outcome::Unknown => (Outcome::Unknown, 0..0),
            Outcome::NotSent => (Outcome::NotSent, 0..0),
        };
        self.outcomes[index] = Some((outcome, value));
    }

    fn set_again(&mut self, index: u32, first: u32) {
        let (outcome, value) = self.outcomes[first as usize].clone().expect("the first has its outcome");
        self.set(index, outcome);
        self.outcomes[index as usize] = Some((outcome, value));
    }
}

impl ReadBack for OutcomeList {
    fn read_back(&self, index: u32) -> Outcome<'_> {
        self.outcome(index as usize)
    }
}

fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Range<usize> {
    let begin = bytes.len();
    bytes.extend_from_slice(more);
    begin..bytes.len()
}
