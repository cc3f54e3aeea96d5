//! Keys from passwords, and what a node keeps of them.
//!
//! ```text
//!   password --PBKDF2(salt, iterations)--> SaltedPassword --MAC "Client Key"--> ClientKey --SHA-256--> StoredKey
//!                                                        `--MAC "Server Key"--> ServerKey
//! ```
#![forbid(unsafe_code)]

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// Least iterations of a key's derivation: a client takes no fewer, so that no node can ask it for a key that is quick
/// to guess from (RFC 7677).
pub const ITERATIONS_MIN: u32 = 4_096;

/// Iterations unless told otherwise: what a guess of a stolen file costs.
pub const ITERATIONS_DEFAULT: u32 = 600_000;

/// Most iterations: seconds of a processor, which a client spends on whatever node it connects to.
pub const ITERATIONS_MAX: u32 = 10_000_000;

/// Bytes of a salt that is drawn here.
pub const SALT_BYTES: usize = 16;

/// Longest salt, in bytes.
pub(super) const SALT_BYTES_MAX: usize = 64;

/// Random bytes that are used once.
pub type Nonce = [u8; 18];

/// What SHA-256 gives.
pub(super) type Digest = [u8; 32];

/// The MAC of what the parts are together.
pub(super) fn mac(key: &[u8], parts: &[&[u8]]) -> Digest {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

pub(super) fn hash(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Whether two secrets are the same, in a time that says nothing of where they differ.
pub(super) fn are_same(one: &Digest, other: &Digest) -> bool {
    one.ct_eq(other).into()
}

pub(super) fn xor(one: &Digest, other: &Digest) -> Digest {
    std::array::from_fn(|at| one[at] ^ other[at])
}

/// What whoever knows a password derives from it, with much work.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedKeys {
    pub(super) client_key: Digest,
    pub(super) server_key: Digest,
}

impl SaltedKeys {
    /// Derives them. `iterations` is at least 1.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = Digest::default();
        pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
        Self { client_key: mac(&salted, &[b"Client Key"]), server_key: mac(&salted, &[b"Server Key"]) }
    }
}

impl fmt::Debug for SaltedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedKeys")
    }
}

/// What a node keeps of a user's password: enough to check it, too little to log in with.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    pub(super) stored_key: Digest,
    pub(super) server_key: Digest,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Verifier {
    /// Of a new password, with a salt that was never used.
    #[must_use]
    pub fn new(password: &[u8], salt: [u8; SALT_BYTES], iterations: u32) -> Self {
        let keys = SaltedKeys::derive(password, &salt, iterations);
        let stored_key = hash(&keys.client_key);
        Self { salt: salt.to_vec(), iterations, stored_key, server_key: keys.server_key }
    }

    /// Whether this is the password. As much work as for whoever logs in.
    #[must_use]
    pub fn is_password(&self, password: &[u8]) -> bool {
        let keys = SaltedKeys::derive(password, &self.salt, self.iterations);
        are_same(&hash(&keys.client_key), &self.stored_key)
    }

    /// How much work that is.
    #[must_use]
    pub fn iterations(&self) -> u32 {
        self.iterations
    }
}

/// Turns secrets into what can be compared and says nothing else, as long as its key is not known.
#[derive(Clone)]
pub struct Seal {
    key: Digest,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// With a random key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The seal of a secret.
    #[must_use]
    pub fn of(&self, secret: &[u8]) -> [u8; 32] {
        mac(&self.key, &[secret])
    }

    /// Whether two seals are the same, in a time that does not tell.
    #[must_use]
    pub fn are_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
        are_same(one, other)
    }
}
