//! The inputs: batches of 1,000 operations, 95 % gets, 24-byte decimal keys, 128-byte values.
#![forbid(unsafe_code)]

use freight::op::{Action, Op};

/// Operations of one batch, and of one round.
pub(crate) const BATCH_OPS: u32 = 1_000;

/// Bytes of every value.
pub(crate) const VALUE: [u8; 128] = [b'v'; 128];

/// The node's hash secret.
pub(crate) const SECRET: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";

/// One operation in this many is a put.
const OPS_PER_PUT: u32 = 20;

/// A key of 24 decimal digits.
pub(crate) type Key = [u8; 24];

/// The first `count` keys, in an order that follows no counter.
pub(crate) fn keys(count: u32) -> Vec<Key> {
    // 7919 is prime, so that every key comes up once where `count` is no multiple of it.
    (0..count).map(|number| key(number * 7_919 % count)).collect()
}

/// The operations on `keys`.
pub(crate) fn ops(keys: &[Key]) -> impl Iterator<Item = Op<'_>> {
    (0..).zip(keys).map(|(number, key)| Op { key, action: action(number), version_wanted: false })
}

/// Whether the operation at `number` is a put.
pub(crate) fn is_put(number: u32) -> bool {
    number.is_multiple_of(OPS_PER_PUT)
}

fn action(number: u32) -> Action<'static> {
    if is_put(number) { Action::Put { value: &VALUE } } else { Action::Get }
}

fn key(number: u32) -> Key {
    let mut key = [b'0'; 24];
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    key
}
