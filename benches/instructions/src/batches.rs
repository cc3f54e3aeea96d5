//! The inputs: requests of 1,000 operations on 24-byte decimal keys, where nothing else is said, with 128-byte values.
#![forbid(unsafe_code)]

use freight::limits::FRAME_BYTES_DEFAULT;
use freight::op::{Action, Content, Edit, Expiry, Op};
use freight::wire::{Origin, RequestBuilder};

/// Operations of one batch, and of one round.
pub(crate) const BATCH_OPS: u32 = 1_000;

/// Bytes of every value.
pub(crate) const VALUE: [u8; 128] = [b'v'; 128];

/// The node's hash secret.
pub(crate) const SECRET: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";

/// The request that every frame belongs to.
pub(crate) const ORIGIN: Origin = Origin { request: 1, session: 0, sequence: 0, acknowledged_up_to: 0, map_epoch: 0 };

/// A key of 24 decimal digits.
pub(crate) type Key = [u8; 24];

/// What the operation at a place in its batch does.
pub(crate) type Actions = fn(number: u32) -> Action<'static>;

/// The keys of one batch, in an order that follows no counter.
pub(crate) fn keys() -> Vec<Key> {
    numbers().map(key).collect()
}

/// What their keys are of. 7,919 is prime and no divisor of the batch: every number comes up once.
pub(crate) fn numbers() -> impl Iterator<Item = u32> {
    (0..BATCH_OPS).map(|number| number * 7_919 % BATCH_OPS)
}

/// A get.
pub(crate) fn gets(_: u32) -> Action<'static> {
    Action::Get
}

/// A put.
pub(crate) fn puts(_: u32) -> Action<'static> {
    Action::Put { value: &VALUE }
}

/// A put with a deadline that is never reached.
pub(crate) fn expiring_puts(_: u32) -> Action<'static> {
    Action::Edit(Edit::new(Content::Write(&VALUE), Expiry::At(u64::MAX)))
}

/// 19 gets to each put.
pub(crate) fn mostly_gets(number: u32) -> Action<'static> {
    if number.is_multiple_of(20) { puts(number) } else { Action::Get }
}

/// A request frame of one operation on each key.
pub(crate) fn request(keys: &[impl AsRef<[u8]>], actions: Actions) -> Vec<u8> {
    let (mut frame, frame_bytes) = request_in(Vec::new(), keys, actions);
    frame.truncate(frame_bytes as usize);
    frame
}

/// Builds that request in a buffer that may be used again.
pub(crate) fn request_in(buffer: Vec<u8>, keys: &[impl AsRef<[u8]>], actions: Actions) -> (Vec<u8>, u32) {
    let mut builder = RequestBuilder::new(buffer, BATCH_OPS, FRAME_BYTES_DEFAULT).expect("a vector always grows");
    for (number, key) in (0..).zip(keys) {
        let op = Op { key: key.as_ref(), action: actions(number), version_wanted: false };
        builder.push(&op).expect("the batch is far below the frame limit");
    }
    builder.finish(ORIGIN)
}

/// The key of a number.
pub(crate) fn key(number: u32) -> Key {
    let mut key = [b'0'; 24];
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    key
}
