//! Properties of random batches and random bytes. A failure prints its seed and its smallest example.
#![forbid(unsafe_code)]

#[path = "../fuzz/src/bodies.rs"]
mod bodies;

use freight::limits::{DEADLINE_MAX, FRAME_BYTES_MIN};
use freight::op::{Action, Batch as _, Condition, Content, Edit, Edited, Expiry, Op, Outcome, Outcomes as _};
use freight::wire::{BuildError, Origin, ReplyBuilder, ReplyView, RequestBuilder, RequestView};
use proptest::collection::vec;
use proptest::prelude::*;
use std::num::NonZeroU64;

/// An operation that owns its bytes.
#[derive(Debug, Clone)]
struct OwnedOp {
    key: Vec<u8>,
    value: Vec<u8>,
    code: u8,
    number: u64,
    version_wanted: bool,
}

impl OwnedOp {
    fn op(&self) -> Op<'_> {
        let action = match self.code {
            0 => Action::Get,
            1 => Action::Put { value: &self.value },
            2 => Action::Delete,
            3 => Action::CompareAndSwap { expected: self.number, value: &self.value },
            4 => Action::Add { delta: self.number.cast_signed() },
            _ => Action::Edit(self.edit()),
        };
        Op { key: &self.key, action, version_wanted: self.version_wanted }
    }
}

impl OwnedOp {
    /// An edit whose every part the operation's number says.
    fn edit(&self) -> Edit<'_> {
        let part = |shift: u32, bound: usize| (self.number >> shift) as usize % bound;
        let contents = [Content::Keep, Content::Write(&self.value), Content::Append(&self.value), Content::Remove];
        let expiries = [Expiry::Keep, Expiry::Clear, Expiry::At(self.number), Expiry::After(self.number)];
        let edit = Edit::new(contents[part(8, 4)], expiries[part(16, 4)]).on(Condition::ALL[part(0, 8)]);
        if part(24, 2) == 0 { edit.wanting_value() } else { edit }
    }

    fn edited(&self) -> Edited<'_> {
        let has = |bit: u32| self.number >> bit & 1 == 1;
        Edited {
            is_done: has(0),
            was_there: has(1),
            is_there: has(2),
            value: has(3).then_some(&self.value),
            value_bytes: self.key.len() as u32,
            deadline: NonZeroU64::new(self.number & DEADLINE_MAX).filter(|_| has(4)),
            version: NonZeroU64::new(self.number).filter(|_| self.version_wanted),
        }
    }
}

/// Mostly short, sometimes long, sometimes of the greatest length.
fn bytes(bytes_max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![20 => vec(any::<u8>(), 0..40), 2 => vec(any::<u8>(), 0..2_000), 1 => Just(vec![7; bytes_max])]
}

fn owned_op() -> impl Strategy<Value = OwnedOp> {
    (bytes(65_535), bytes(100_000), 0..6_u8, any::<u64>(), any::<bool>())
        .prop_map(|(key, value, code, number, version_wanted)| OwnedOp { key, value, code, number, version_wanted })
}

fn origin() -> impl Strategy<Value = Origin> {
    any::<[u64; 5]>().prop_map(|[request, session, sequence, acknowledged_up_to, map_epoch]| Origin {
        request,
        session,
        sequence,
        acknowledged_up_to,
        map_epoch,
    })
}

fn outcome<'a>(owned: &'a OwnedOp) -> Outcome<'a> {
    let version = owned.version_wanted.then_some(owned.number);
    match (owned.code, owned.key.len() % 7) {
        (0 | 1, _) => Outcome::Value { value: &owned.value, version },
        (2, _) => Outcome::Done { version },
        (3, _) => Outcome::Counter { value: owned.number.cast_signed(), version },
        (5, _) => Outcome::Edited(owned.edited()),
        (_, 0) => Outcome::NotFound,
        (_, 1) => Outcome::VersionMismatch { current: owned.number },
        (_, 2) => Outcome::NotANumber,
        (_, 4) => Outcome::WrongNode,
        (_, 3) => Outcome::CounterOverflow,
        (_, 5) => Outcome::ValueTooLong,
        _ => Outcome::OutOfMemory,
    }
}

proptest! {
    #[test]
    fn operations_come_back_as_they_were_pushed(
        owned in vec(owned_op(), 0..60), ops_expected in 0..100_u32, origin in origin()
    ) {
        let mut builder = RequestBuilder::new(Vec::new(), ops_expected, FRAME_BYTES_MIN).expect("room");
        let mut pushed = Vec::new();
        for op in owned.iter().map(OwnedOp::op) {
            match builder.push(&op) {
                Ok(()) => pushed.push(op),
                Err(error) => prop_assert!(matches!(error, BuildError::FrameFull { .. }), "{:?}", error),
            }
            prop_assert_eq!(builder.op_count() as usize, pushed.len());
        }
        let (frame, frame_bytes) = builder.finish(origin);
        prop_assert!(frame_bytes <= FRAME_BYTES_MIN);
        let frame = &frame[..frame_bytes as usize];
        let view = RequestView::parse(frame).expect("valid");
        prop_assert_eq!(view.header().origin(), origin);
        prop_assert_eq!(view.op_count() as usize, pushed.len());
        prop_assert!(view.ops().eq(pushed));
        prop_assert_eq!(bodies::request(frame), Ok(()));
    }

    #[test]
    fn outcomes_come_back_in_request_order_whatever_order_they_were_set_in(
        owned in vec(owned_op(), 0..60), stride in 1..60_usize, origin in origin()
    ) {
        let count = owned.len();
        let mut builder = ReplyBuilder::new(Vec::new(), count as u32, FRAME_BYTES_MIN).expect("room");
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|index| (index % stride, *index));
        for index in order {
            builder.set(index as u32, outcome(&owned[index]));
        }
        let (frame, frame_bytes) = builder.finish(origin);
        let frame = &frame[..frame_bytes as usize];
        let view = ReplyView::parse(frame).expect("valid");
        prop_assert_eq!(view.header().origin(), origin);
        prop_assert!(view.outcomes().eq(owned.iter().map(outcome)));
        prop_assert_eq!(bodies::reply(frame), Ok(()));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = (bodies::request(&bytes), bodies::reply(&bytes), bodies::hello(&bytes));
    }

    /// Random bytes behind a header that is in order, so that they get past it.
    #[test]
    fn random_bytes_behind_a_valid_header_never_panic(
        body in vec(prop_oneof![any::<u8>(), 0..6_u8], 0..300), kind in 1..10_u8, op_count in 0..40_u32
    ) {
        let mut frame = b"FRGT\x01".to_vec();
        frame.extend([kind, 0, 0]);
        frame.extend((64 + body.len() as u32).to_le_bytes());
        frame.extend(if matches!(kind, 3 | 4) { op_count } else { 0 }.to_le_bytes());
        frame.resize(64, 0);
        frame.extend(body);
        let _ = (bodies::request(&frame), bodies::reply(&frame), bodies::hello(&frame));
    }

    /// Descriptors that add up, at random offsets: nearly a valid reply.
    #[test]
    fn random_offsets_never_make_two_values_share_a_byte(
        lengths in vec(0..9_u32, 1..20), offsets in vec(0..100_u32, 20)
    ) {
        let payload: u32 = lengths.iter().sum();
        let begin = 64 + 8 * lengths.len() as u32;
        let mut frame = b"FRGT\x01\x04\0\0".to_vec();
        frame.extend((begin + payload).to_le_bytes());
        frame.extend((lengths.len() as u32).to_le_bytes());
        frame.resize(64, 0);
        for (length, offset) in lengths.iter().zip(&offsets) {
            frame.extend([1, *length as u8, 0, 0]);
            frame.extend((begin + offset % (payload - length + 1)).to_le_bytes());
        }
        frame.resize((begin + payload) as usize, 0);
        let mut used = vec![0; payload as usize];
        for (length, offset) in lengths.iter().zip(&offsets) {
            let at = (offset % (payload - length + 1)) as usize;
            used[at..at + *length as usize].iter_mut().for_each(|count| *count += 1);
        }
        prop_assert_eq!(bodies::reply(&frame).is_ok(), used.iter().all(|count| *count == 1));
    }
}
