//! Every limit in one place, and the relations between them asserted.
//!
//! Units stand last in each name. What a node may tune at run time is a default here; what the wire format or
//! the record layout fixes is a maximum.
#![forbid(unsafe_code)]

/// Longest key, in bytes: the wire and the record hold it in 16 bits.
pub const KEY_BYTES_MAX: u32 = 65_535;

/// Longest value, in bytes: 8 MiB, held in 24 bits.
pub const VALUE_BYTES_MAX: u32 = 8 << 20;

/// Most operations in one frame.
pub const FRAME_OPS_MAX: u32 = 65_536;

/// The frame limit a node announces unless told otherwise, in bytes.
pub const FRAME_BYTES_DEFAULT: u32 = 16 << 20;

/// The longest hello a node takes, in bytes: who it talks to is not known yet.
pub const HELLO_BYTES_MAX: u32 = 64 << 10;

/// The least frame limit a node may announce, in bytes: one record of maximal size, or a reply to the largest
/// batch with one value of maximal size in it.
pub const FRAME_BYTES_MIN: u32 = 10 << 20;

/// The largest frame limit a node may announce, in bytes: offsets inside a frame are 32 bits.
pub const FRAME_BYTES_MAX: u32 = 1 << 30;

/// Slots that keys are dealt to by the routing hash.
pub const SLOTS: u32 = 16_384;

/// Most shards of one node: a shard is a set of whole slots.
pub const SHARDS_MAX: u32 = 4_096;

/// Records, or keys without one, that a frame of a move carries at most.
pub const MOVE_ENTRIES_MAX: u32 = 4_096;

/// Bytes of a move's frame behind which no other record is put into it: one lock's worth of copying.
pub const MOVE_CHUNK_BYTES: u32 = 256 << 10;

/// Bytes of keys that change during a move that its old owner notes, at most: past that the move is void.
pub const MOVE_NOTED_BYTES_MAX: u64 = 64 << 20;

/// The highest version that a record may bring along: half of what 64 bits hold, so that a peer cannot use up the rest.
pub const MOVE_VERSION_MAX: u64 = 1 << 63;

/// The latest deadline that a record can have, in milliseconds since 1970: 56 bits hold it. A later one counts as this.
pub const DEADLINE_MAX: u64 = (1 << 56) - 1;

/// The longest profile of a running node that may be asked for, in seconds.
pub const PROFILE_SECONDS_MAX: u32 = 60;

/// Bytes of a profile, or of anything else that is told of a node's inside, at most.
pub const PROFILE_BYTES_MAX: u64 = 16 << 20;

/// Bytes of it in one frame.
pub const PROFILE_CHUNK_BYTES: u32 = 256 << 10;

/// A counter's longest decimal text, in bytes: `-9223372036854775808`.
pub const COUNTER_BYTES_MAX: u32 = 20;

const _: () = {
    assert!(KEY_BYTES_MAX == u16::MAX as u32);
    assert!(VALUE_BYTES_MAX < 1 << 24);
    assert!(FRAME_OPS_MAX as u64 * 24 + VALUE_BYTES_MAX as u64 + 72 <= FRAME_BYTES_MIN as u64);
    assert!(KEY_BYTES_MAX as u64 + VALUE_BYTES_MAX as u64 + 128 <= FRAME_BYTES_MIN as u64);
    assert!(FRAME_BYTES_MIN <= FRAME_BYTES_DEFAULT && FRAME_BYTES_DEFAULT <= FRAME_BYTES_MAX);
    assert!(MOVE_CHUNK_BYTES as u64 + KEY_BYTES_MAX as u64 + VALUE_BYTES_MAX as u64 + 128 <= FRAME_BYTES_MIN as u64);
    assert!(PROFILE_CHUNK_BYTES as u64 + 128 <= FRAME_BYTES_MIN as u64 && PROFILE_BYTES_MAX < u32::MAX as u64);
    assert!(SLOTS.is_power_of_two() && SHARDS_MAX.is_power_of_two() && SHARDS_MAX <= SLOTS);
};
