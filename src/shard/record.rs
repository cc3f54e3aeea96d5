//! Records: version, key and value side by side in one slot.
//!
//! ```text
//!   byte 0        8            12          14
//!        +--------+------------+-----------+-----+-------+- - - - -+
//!        | version| value bytes| key bytes | key | value | unused  |
//!        | u64    | u32 (24)   | u16       |     |       |         |
//!        +--------+------------+-----------+-----+-------+- - - - -+
//! ```
//!
//! 14 bytes beyond key and value, little-endian, at any alignment. A value's length needs 24 bits; the 8 bits
//! above are zero, reserved for marks such as expiry.
#![forbid(unsafe_code)]

use super::index::Keys;
use super::memory::Pool;
use super::prefetch::prefetch;
use super::slab::{Handle, Slab};
use crate::hash::{Key, KeyHasher};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::op::{VERSION_ABSENT, Version};
use std::sync::Arc;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Header {
    version: U64,
    value_bytes: U32,
    key_bytes: U16,
}

const HEADER_BYTES: usize = size_of::<Header>();

const _: () = {
    assert!(size_of::<Header>() == 14);
    assert!(align_of::<Header>() == 1);
    assert!(std::mem::offset_of!(Header, version) == 0);
    assert!(std::mem::offset_of!(Header, value_bytes) == 8);
    assert!(std::mem::offset_of!(Header, key_bytes) == 12);
};

/// Cache lines of a record to prefetch: what follows them the processor fetches ahead by itself.
const PREFETCH_LINES: usize = 4;

/// A record, borrowed from its slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) version: Version,
    pub(super) key: Key<'a>,
    pub(super) value: &'a [u8],
}

/// The records of one shard.
#[derive(Debug)]
pub(super) struct Records {
    slab: Slab,
    hasher: KeyHasher,
    count: u64,
    payload_bytes: u64,
}

impl Records {
    pub(super) fn new(pool: &Arc<Pool>, hasher: KeyHasher) -> Self {
        Self { slab: Slab::new(pool), hasher, count: 0, payload_bytes: 0 }
    }

    /// The record at a handle.
    #[inline(always)]
    pub(super) fn get(&self, handle: Handle) -> Record<'_> {
        let slot = self.slab.slot(handle);
        let (header, payload) = Header::ref_from_prefix(slot).expect("a slot is at least 16 bytes");
        let key = Key::at_front(payload, header.key_bytes.get().into());
        let value = &payload[usize::from(header.key_bytes.get())..][..header.value_bytes.get() as usize];
        Record { version: header.version.get(), key, value }
    }

    /// Stores a new record; `None`, and nothing changed, where the budget refuses.
    pub(super) fn insert(&mut self, version: Version, key: &[u8], value: &[u8]) -> Option<Handle> {
        debug_assert!(version != VERSION_ABSENT, "a record has a version");
        let handle = self.slab.allocate(record_bytes(key, value))?;
        self.write(handle, version, key, value);
        self.count += 1;
        self.payload_bytes += (key.len() + value.len()) as u64;
        Some(handle)
    }

    /// Gives the record of `key` another version and value: in place if the slot is of the right size, else under
    /// another handle. `None`, and nothing changed, where the budget refuses.
    #[inline]
    pub(super) fn overwrite(&mut self, handle: Handle, version: Version, key: &[u8], value: &[u8]) -> Option<Handle> {
        let old = self.get(handle);
        debug_assert!(*old.key == *key && old.version < version, "a newer version of the same record");
        let old_value_bytes = old.value.len();
        let stays = old_value_bytes == value.len() || self.slab.fits_exactly(handle, record_bytes(key, value));
        let target = if stays { handle } else { self.slab.allocate(record_bytes(key, value))? };
        self.write(target, version, key, value);
        if target != handle {
            self.slab.free(handle);
        }
        self.payload_bytes = self.payload_bytes - old_value_bytes as u64 + value.len() as u64;
        Some(target)
    }

    /// Forgets a record: its handle is invalid from here on.
    pub(super) fn remove(&mut self, handle: Handle) {
        let record = self.get(handle);
        let payload_bytes = (record.key.len() + record.value.len()) as u64;
        self.slab.free(handle);
        debug_assert!(self.count > 0 && self.payload_bytes >= payload_bytes, "what is removed was counted");
        self.count -= 1;
        self.payload_bytes -= payload_bytes;
    }

    #[inline]
    fn write(&mut self, handle: Handle, version: Version, key: &[u8], value: &[u8]) {
        let header = Header {
            version: version.into(),
            value_bytes: (value.len() as u32).into(),
            key_bytes: (key.len() as u16).into(),
        };
        let slot = self.slab.slot_mut(handle);
        let (head, payload) = slot.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(header.as_bytes());
        let (key_slot, payload) = payload.split_at_mut(key.len());
        key_slot.copy_from_slice(key);
        payload[..value.len()].copy_from_slice(value);
        debug_assert_eq!(self.get(handle).value.len(), value.len(), "what is written is what is read");
    }

    /// Asks the processor for a record that will be read soon.
    #[inline]
    pub(super) fn prefetch(&self, handle: Handle) {
        prefetch::<PREFETCH_LINES>(self.slab.slot(handle));
    }

    /// As [`Slab::used_from`]: every handle that it gives has a record.
    pub(super) fn used_from(&self, from: Handle, looks: usize) -> (Vec<Handle>, Option<Handle>) {
        self.slab.used_from(from, looks)
    }

    /// Number of records.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of all keys and values.
    pub(super) fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Bytes held for records: spans and the tables that describe them.
    pub(super) fn bytes(&self) -> u64 {
        self.slab.bytes()
    }
}

impl Keys for Records {
    fn hash(&self, handle: Handle) -> u64 {
        self.hasher.index_hash(self.get(handle).key)
    }

    fn prefetch(&self, handle: Handle) {
        prefetch::<1>(self.slab.slot(handle));
    }
}

#[inline]
fn record_bytes(key: &[u8], value: &[u8]) -> u32 {
    debug_assert!(key.len() <= KEY_BYTES_MAX as usize && value.len() <= VALUE_BYTES_MAX as usize);
    (HEADER_BYTES + key.len() + value.len()) as u32
}
