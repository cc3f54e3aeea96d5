//! What the operations of a request were, and what became of each: counted from both frames' descriptors.
#![forbid(unsafe_code)]

use super::number::wide;
use super::reply::{DESCRIPTOR_BYTES as OUTCOME_BYTES, ReplyDescriptor, ReplyView, Status};
use super::request::{DESCRIPTOR_BYTES as OP_BYTES, OpCode, OpDescriptor, RequestView};

/// Descriptors that are looked at together: where most operations are gets that are found, most are counted so.
const TOGETHER: usize = 8;

/// Calls `count` with [`OpCode`], [`Status`] and how many operations had both.
///
/// # Panics
/// On bytes that are no request that was validated, and no reply to it.
#[inline]
pub fn count_outcomes(request: &[u8], reply: &[u8], mut count: impl FnMut(u8, u8, u64)) {
    let (ops, outcomes) = (RequestView::parsed(request).descriptors(), ReplyView::parsed(reply).descriptors());
    debug_assert_eq!(ops.len(), outcomes.len(), "an outcome for each operation");
    let ((ops, ops_rest), (outcomes, outcomes_rest)) = (ops.as_chunks::<TOGETHER>(), outcomes.as_chunks());
    let mut found: u64 = 0;
    for (ops, outcomes) in ops.iter().zip(outcomes) {
        if all_found(ops, outcomes) {
            found = wide(TOGETHER).wrapping_add(found);
        } else {
            count_each(ops, outcomes, &mut count);
        }
    }
    count(OpCode::Get.code(), Status::Value.code(), found);
    count_each(ops_rest, outcomes_rest, &mut count);
}

/// Whether all are gets that found a value and wanted no version: both codes are 1, and no other code or mark of a
/// valid frame lacks a higher bit. Without an early end: several are looked at by one instruction.
#[inline(always)]
fn all_found(ops: &[OpDescriptor; TOGETHER], outcomes: &[ReplyDescriptor; TOGETHER]) -> bool {
    let ops = ops.iter().fold(0, |all, op| all | u32::from_le_bytes(zerocopy::transmute!(*op)));
    let outcomes = outcomes.iter().fold(0, |all, outcome| all | u64::from_le_bytes(zerocopy::transmute!(*outcome)));
    ops & u32::from(u8::MAX) == 1 && outcomes & u64::from(u8::MAX) == 1
}

const _: () = assert!(OpCode::Get.code() == 1 && Status::Value.code() == 1);

#[inline(always)]
fn count_each(ops: &[OpDescriptor], outcomes: &[ReplyDescriptor], count: &mut impl FnMut(u8, u8, u64)) {
    for (op, outcome) in ops.iter().zip(outcomes) {
        count(op.code, outcome.status & !ReplyDescriptor::VERSION, 1);
    }
}

const _: () = assert!(OP_BYTES == size_of::<u32>() && OUTCOME_BYTES == size_of::<u64>());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_BYTES_MIN;
    use crate::op::{Action, Op, Outcome, Outcomes};
    use crate::wire::{Origin, ReplyBuilder, RequestBuilder};
    use std::collections::BTreeMap;

    /// Counts a batch of which every `each`th operation is a put, and every `fails`th get finds nothing.
    fn counted(ops: u32, each: u32, fails: u32) -> BTreeMap<(u8, u8), u64> {
        let mut request = RequestBuilder::new(Vec::new(), ops, FRAME_BYTES_MIN).expect("room");
        let mut reply = ReplyBuilder::new(Vec::new(), ops, FRAME_BYTES_MIN).expect("room");
        for index in 0..ops {
            let is_put = index.wrapping_add(1).is_multiple_of(each);
            let action = if is_put { Action::Put { value: b"v" } } else { Action::Get };
            request.push(&Op { key: b"key", action, version_wanted: is_put }).expect("room");
            reply.set(
                index,
                match () {
                    () if is_put => Outcome::Done { version: Some(1) },
                    () if index.is_multiple_of(fails) => Outcome::NotFound,
                    () => Outcome::Value { value: b"v", version: None },
                },
            );
        }
        let whole = |(mut frame, bytes): (Vec<u8>, u32)| {
            frame.truncate(usize::try_from(bytes).expect("it fits"));
            frame
        };
        let (request, reply) = (whole(request.finish(Origin::default())), whole(reply.finish(Origin::default())));
        let mut counts = BTreeMap::<_, u64>::new();
        RequestView::parse(&request).expect("the view reads what the builder writes");
        count_outcomes(&request, &reply, |kind, result, count| {
            let counted = counts.entry((kind, result)).or_default();
            *counted = counted.wrapping_add(count);
        });
        counts.retain(|_, count| *count > 0);
        counts
    }

    #[test]
    fn each_operation_is_counted_once_by_what_it_was_and_what_became_of_it() {
        let (get, put) = (OpCode::Get.code(), OpCode::Put.code());
        let [value, done, not_found] = [Status::Value, Status::Done, Status::NotFound].map(Status::code);
        for ops in [1, 7, 8, 9, 64, 100] {
            assert_eq!(counted(ops, 1_000, 1_000).into_values().sum::<u64>(), u64::from(ops));
            assert_eq!(counted(ops, 1, 1_000), [((put, done), ops.into())].into());
        }
        assert_eq!(counted(100, 10, 30), [((get, value), 86), ((get, not_found), 4), ((put, done), 10)].into());
        assert_eq!(counted(0, 1, 1), [].into());
    }
}
