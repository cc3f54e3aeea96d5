//! Two hashes of a key.
//!
//! The *routing hash* is published: XXH3-64 (xxHash, default secret, seed 0), which every language has. Its low
//! 14 bits name one of 16,384 slots, and a map deals slots to nodes. The *index hash* places a record inside its node:
//! in a shard and there in its index. It is keyed with a secret of the node's own, so that nobody outside can choose
//! keys that collide, or that all lie in one shard; it never comes from, or goes to, the wire.
#![forbid(unsafe_code)]

use crate::limits::SLOTS;
use crate::short;
use std::hint::select_unpredictable;
use std::ops::Deref;
use xxhash_rust::xxh3::xxh3_64;

/// Keys of up to so many bytes are hashed as one word. Lengths of short keys follow no pattern, so that a processor
/// that must guess them guesses wrong half of the time: nothing here branches on them.
const WORD_BYTES: usize = 8;

/// A key, and the bytes that happen to follow it in memory, so that a short one can be read in one piece.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    ahead: &'a [u8],
    bytes: usize,
}

impl<'a> Key<'a> {
    /// The first `bytes` bytes of `ahead`.
    ///
    /// # Panics
    /// Where `ahead` is shorter.
    #[inline(always)]
    #[must_use]
    pub fn at_front(ahead: &'a [u8], bytes: usize) -> Self {
        if bytes > ahead.len() {
            panic_beyond(bytes, ahead.len());
        }
        Self { ahead, bytes }
    }

    /// The key's bytes.
    #[inline(always)]
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        &self.ahead[..self.bytes]
    }

    /// Copies the key to the front of `to`, and past a short one may leave zeros, so that it is written in one piece.
    ///
    /// # Panics
    /// Where `to` is shorter than the key.
    #[inline(always)]
    pub(crate) fn copy_to(self, to: &mut [u8]) {
        if self.bytes <= WORD_BYTES
            && let Some(word) = to.first_chunk_mut()
        {
            *word = self.word().to_le_bytes();
        } else {
            short::copy(&mut to[..self.bytes], self.as_bytes());
        }
    }

    /// The key, if it is short enough to be carried instead of named.
    #[inline(always)]
    #[must_use]
    pub fn short(self) -> Option<ShortKey> {
        (self.bytes <= WORD_BYTES).then(|| ShortKey { word: self.word(), bytes: self.bytes as u8 })
    }

    /// Whether it is this short key.
    #[inline(always)]
    pub(crate) fn is(self, short: ShortKey) -> bool {
        self.bytes == usize::from(short.bytes) && self.word() == short.word
    }

    /// A key of up to [`WORD_BYTES`] bytes, zeros above it.
    #[inline(always)]
    fn word(self) -> u64 {
        match self.ahead.first_chunk() {
            Some(bytes) => low_bytes(u64::from_le_bytes(*bytes), self.bytes),
            None => word_of(self.as_bytes()),
        }
    }
}

/// Takes numbers, where `assert!` would take their addresses, and so have them stored for every key.
#[cold]
#[inline(never)]
fn panic_beyond(bytes: usize, ahead: usize) -> ! {
    panic!("a key of {bytes} bytes in {ahead}")
}

/// A key of up to [`WORD_BYTES`] bytes, as a word with zeros above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShortKey {
    pub(crate) word: u64,
    pub(crate) bytes: u8,
}

impl ShortKey {
    /// The most bytes of one.
    pub(crate) const BYTES_MAX: usize = WORD_BYTES;

    /// The first `bytes` bytes of `ahead`, up to all of them.
    #[inline(always)]
    pub(crate) fn at_front(ahead: &[u8; WORD_BYTES], bytes: u8) -> Self {
        Self { word: low_bytes(u64::from_le_bytes(*ahead), bytes.into()), bytes }
    }

    /// As [`slot`].
    #[inline(always)]
    pub(crate) fn slot(self) -> u16 {
        slot_of(routing_hash_of_word(self.word, self.bytes.into()))
    }
}

impl<'a> From<&'a [u8]> for Key<'a> {
    #[inline(always)]
    fn from(key: &'a [u8]) -> Self {
        Self { ahead: key, bytes: key.len() }
    }
}

impl<'a> From<&'a Vec<u8>> for Key<'a> {
    fn from(key: &'a Vec<u8>) -> Self {
        Self::from(&key[..])
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Key<'a> {
    fn from(key: &'a [u8; N]) -> Self {
        Self::from(&key[..])
    }
}

impl Deref for Key<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The published routing hash of a key: XXH3-64.
#[inline]
#[must_use]
pub fn routing_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The slot of a key, 0 to [`SLOTS`] - 1: the low 14 bits of its routing hash.
#[inline(always)]
#[must_use]
pub fn slot<'k>(key: impl Into<Key<'k>>) -> u16 {
    let key = key.into();
    match key.short() {
        Some(short) => short.slot(),
        None => slot_of(routing_hash(&key)),
    }
}

#[inline(always)]
fn slot_of(routing_hash: u64) -> u16 {
    (routing_hash & u64::from(SLOTS - 1)) as u16
}

/// Hashes keys with a node's secret. Cheap to copy; safe to share.
#[derive(Clone, Copy)]
pub struct KeyHasher {
    secret: [u64; 4],
}

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher { secret: .. }")
    }
}

impl KeyHasher {
    /// A hasher keyed with 32 secret random bytes.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        let word = |i: usize| read_u64(&secret[8 * i..]);
        // An odd multiplier half never lets a product collapse to zero for every input.
        Self { secret: [word(0) | 1, word(1) | 1, word(2) | 1, word(3) | 1] }
    }

    /// The keyed hash: 64 x 64 -> 128-bit products of key words masked with secret words, folded by xor
    /// (the construction of wyhash and of aHash's fallback).
    #[inline(always)]
    #[must_use]
    pub fn index_hash<'k>(&self, key: impl Into<Key<'k>>) -> u64 {
        let key = key.into();
        match key.short() {
            Some(short) => self.index_hash_of_short(short),
            None => self.index_hash_of_long(&key),
        }
    }

    /// The same, of a short key.
    #[inline(always)]
    pub(crate) fn index_hash_of_short(&self, ShortKey { word, bytes }: ShortKey) -> u64 {
        let [s0, s1, s2, s3] = self.secret;
        let state = s0 ^ u64::from(bytes);
        fold(fold(word ^ s1, state) ^ s2, s3 ^ state)
    }

    /// The same, of a longer one.
    #[inline(never)]
    pub(crate) fn index_hash_of_long(&self, key: &[u8]) -> u64 {
        let [s0, s1, s2, s3] = self.secret;
        let mut state = s0 ^ key.len() as u64;
        let mut rest = key;
        while rest.len() > 16 {
            state = fold(read_u64(rest) ^ s1, read_u64(&rest[8..]) ^ state);
            rest = &rest[16..];
        }
        let (low, high) = last_words(rest);
        fold(fold(low ^ s1, high ^ state) ^ s2, s3 ^ state)
    }
}

/// The last 16 bytes of a key as two words; of a shorter one, which has more than 8, the words overlap.
#[inline]
fn last_words(bytes: &[u8]) -> (u64, u64) {
    let n = bytes.len();
    if n >= 8 { (read_u64(bytes), read_u64(&bytes[n - 8..])) } else { (word_of(bytes), 0) }
}

/// Up to 8 bytes as one word, zeros above them.
#[inline]
fn word_of(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    if n >= 4 {
        u64::from(read_u32(bytes)) | u64::from(read_u32(&bytes[n - 4..])) << (8 * (n - 4))
    } else if n > 0 {
        let byte = |at: usize| u64::from(bytes[at]) << (8 * at);
        byte(0) | byte(n / 2) | byte(n - 1)
    } else {
        0
    }
}

/// The lowest `bytes` of a word's 8 bytes.
#[inline(always)]
fn low_bytes(word: u64, bytes: usize) -> u64 {
    word & LOW_BYTES[bytes]
}

/// The lowest so many bytes: a mask that is looked up is quicker than one that is shifted.
const LOW_BYTES: [u64; WORD_BYTES + 1] = {
    let mut masks = [0; WORD_BYTES + 1];
    let mut bytes = 1;
    while bytes <= WORD_BYTES {
        masks[bytes] = masks[bytes - 1] << 8 | 0xFF;
        bytes += 1;
    }
    masks
};

/// XXH3-64 (seed 0, default secret) of a key of up to 8 bytes, given as a word: what [`routing_hash`] says of the same
/// key, with both of its cases worked out and one taken.
#[inline(always)]
fn routing_hash_of_word(word: u64, bytes: usize) -> u64 {
    let length = bytes as u64;
    let byte = |at: usize| word >> (8 * (at & 7)) & 0xFF;
    // 1 to 3 bytes: XXH64's avalanche of first, middle and last byte and the length.
    let combined = byte(0) << 16 | byte(bytes >> 1) << 24 | byte(bytes.wrapping_sub(1)) | length << 8;
    let mut short = combined ^ 0x8727_5A9B;
    short = (short ^ short >> 33).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    short = (short ^ short >> 29).wrapping_mul(0x1656_67B1_9E37_79F9);
    short ^= short >> 32;
    // 4 to 8 bytes: rrmxmx of the first and the last four.
    let last = word >> (8 * (bytes.wrapping_sub(4) & 7)) & 0xFFFF_FFFF;
    let keyed = last.wrapping_add(word << 32) ^ 0xC73A_B174_C5EC_D5A2;
    let mut long = keyed ^ keyed.rotate_left(49) ^ keyed.rotate_left(24);
    long = long.wrapping_mul(0x9FB2_1C65_1E98_DF25);
    long = (long ^ (long >> 35).wrapping_add(length)).wrapping_mul(0x9FB2_1C65_1E98_DF25);
    long ^= long >> 28;
    let hash = select_unpredictable(bytes < 4, short, long);
    if bytes == 0 { ROUTING_HASH_OF_NOTHING } else { hash }
}

/// XXH3-64 of no bytes.
const ROUTING_HASH_OF_NOTHING: u64 = 0x2D06_8005_38D3_94C2;

/// Both halves of a product, folded by xor.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn read_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("the caller checked the length"))
}

#[inline]
fn read_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(*bytes.first_chunk().expect("the caller checked the length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Bytes that look random: the hash is only as good as its secret.
    fn secret(seed: u64) -> [u8; 32] {
        std::array::from_fn(|i| (xxhash_rust::xxh3::xxh3_64_with_seed(&[i as u8], seed) >> 8) as u8)
    }

    #[test]
    fn routing_hash_is_the_published_xxh3() {
        // Vectors of the reference implementation, xxh3 64 bits, seed 0.
        assert_eq!(routing_hash(b""), 0x2D06_8005_38D3_94C2);
        assert_eq!(slot(&b""[..]), 0x14C2);
    }

    #[test]
    fn a_key_has_the_same_hashes_whatever_follows_it() {
        let hasher = KeyHasher::new(secret(3));
        let mut random = secret(5).repeat(20);
        for length in 0..300 {
            random[length / 2] ^= length as u8;
            let (alone, followed) = (Key::from(&random[..length]), Key::at_front(&random, length));
            assert_eq!(hasher.index_hash(alone), hasher.index_hash(followed), "length {length}");
            for other in 0..=length + 1 {
                let key = Key::at_front(&random, other);
                let is_it = followed.short().is_some_and(|short| key.is(short));
                assert_eq!(is_it, other == length && length <= WORD_BYTES, "{other} of length {length}");
            }
            let published = (routing_hash(&alone) & u64::from(SLOTS - 1)) as u16;
            assert_eq!((slot(alone), slot(followed)), (published, published), "length {length}");
        }
    }

    #[test]
    fn the_routing_hash_of_short_keys_is_the_published_one_to_the_last_bit() {
        for (length, byte) in (0..=WORD_BYTES).flat_map(|length| (0..=255_u8).map(move |byte| (length, byte))) {
            let key: Vec<u8> = (0..length as u8).map(|i| byte.wrapping_mul(i | 1).wrapping_add(i)).collect();
            assert_eq!(routing_hash_of_word(word_of(&key), length), routing_hash(&key), "{key:?}");
        }
    }

    #[test]
    fn index_hash_tells_lengths_and_bytes_apart() {
        let hasher = KeyHasher::new(secret(7));
        let mut seen = HashSet::new();
        for length in 0..200_usize {
            for byte in [0_u8, 1, 255] {
                let unique = length > 0 || byte == 0;
                assert_eq!(seen.insert(hasher.index_hash(&vec![byte; length])), unique, "length {length} byte {byte}");
            }
        }
        for position in 0..64 {
            let mut key = [0_u8; 64];
            key[position] = 1;
            if position != 0 {
                assert!(seen.insert(hasher.index_hash(&key)), "byte {position} is not hashed");
            }
        }
    }

    #[test]
    fn index_hash_depends_on_the_secret() {
        let (a, b) = (KeyHasher::new(secret(1)), KeyHasher::new(secret(2)));
        assert_ne!(a.index_hash(b"key"), b.index_hash(b"key"));
    }

    #[test]
    fn decimal_keys_spread_evenly() {
        let hasher = KeyHasher::new(secret(9));
        let mut buckets = [0_u32; 256];
        for i in 0..256_000 {
            buckets[(hasher.index_hash(i.to_string().as_bytes()) >> 56) as usize] += 1;
        }
        assert!(buckets.iter().all(|n| (800..1200).contains(n)), "{buckets:?}");
    }
}
