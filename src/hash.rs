//! Two hashes of one key, taken in one pass.
//!
//! The *routing hash* is published: XXH3-64 (xxHash, default secret, seed 0), which every language has. Its low
//! 14 bits name one of 16,384 slots; a map deals slots to nodes, and a node deals them to shards. The *index
//! hash* places a record inside its shard. It is keyed with a secret of the node's own, so that nobody outside
//! can choose keys that collide; it never comes from, or goes to, the wire.
#![forbid(unsafe_code)]

use crate::limits::SLOTS;
use xxhash_rust::xxh3::xxh3_64;

/// The published routing hash of a key: XXH3-64.
#[inline]
#[must_use]
pub fn routing_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The slot of a key: the low 14 bits of its routing hash.
#[inline]
#[must_use]
pub fn slot(key: &[u8]) -> u16 {
    slot_of(routing_hash(key))
}

#[inline]
fn slot_of(routing_hash: u64) -> u16 {
    (routing_hash & u64::from(SLOTS - 1)) as u16
}

/// Both hashes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyHashes {
    /// The key's slot, 0 to [`SLOTS`] - 1.
    pub slot: u16,
    /// The keyed hash that places the record in its shard.
    pub index: u64,
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

    /// The key's slot and its keyed index hash.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHashes {
        KeyHashes { slot: slot(key), index: self.index_hash(key) }
    }

    /// The keyed hash alone: 64 x 64 -> 128-bit products of key words masked with secret words, folded by xor
    /// (the construction of wyhash and of aHash's fallback).
    #[inline]
    #[must_use]
    pub fn index_hash(&self, key: &[u8]) -> u64 {
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

/// Up to 16 bytes as two words; together with the length they name the bytes.
#[inline]
fn last_words(bytes: &[u8]) -> (u64, u64) {
    let n = bytes.len();
    if n >= 8 {
        (read_u64(bytes), read_u64(&bytes[n - 8..]))
    } else if n >= 4 {
        (u64::from(read_u32(bytes)), u64::from(read_u32(&bytes[n - 4..])))
    } else if n > 0 {
        (u64::from(bytes[0]) | u64::from(bytes[n / 2]) << 8, u64::from(bytes[n - 1]))
    } else {
        (0, 0)
    }
}

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
        assert_eq!(slot(b""), 0x14C2);
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
        assert_eq!(a.hash(b"key").slot, b.hash(b"key").slot);
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
