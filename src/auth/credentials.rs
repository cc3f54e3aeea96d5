//! Who a client says it is: a name, a password, and the keys that were derived from it.
#![forbid(unsafe_code)]

use super::keys::SaltedKeys;
use super::scram::{AuthError, Challenge, ClientExchange, Expected};
use super::users::{PASSWORD_BYTES_MAX, UsersError, check_name};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Keys that are kept: those of so many nodes whose users have other salts.
const KEYS_KEPT_MAX: usize = 8;

/// A user's name and password. Clones share both, and the keys that were derived, each for as long as the password
/// stays.
#[derive(Clone)]
pub struct Credentials {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    secret: RwLock<Arc<Secret>>,
}

/// A password, and what was derived from it.
struct Secret {
    password: Vec<u8>,
    /// Keys by salt and iterations: deriving them anew for each connection would take longer than connecting.
    kept: Mutex<Vec<(Vec<u8>, u32, SaltedKeys)>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The proof that a challenge asks for, still to be computed.
#[derive(Debug)]
pub struct Answer {
    exchange: ClientExchange,
    challenge: Challenge,
    secret: Arc<Secret>,
}

impl Credentials {
    /// A name and a password.
    ///
    /// # Errors
    /// A name that no user can have, or too long a password.
    pub fn new(name: &str, password: &[u8]) -> Result<Self, UsersError> {
        check_name(name)?;
        let secret = RwLock::new(Arc::new(Secret::new(name, password)?));
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), secret }) })
    }

    /// From here on this is the password, for all clones: with their next connections.
    ///
    /// # Errors
    /// As [`Credentials::new`], and nothing changes.
    pub fn set_password(&self, password: &[u8]) -> Result<(), UsersError> {
        let secret = Arc::new(Secret::new(self.name(), password)?);
        *self.inner.secret.write().unwrap_or_else(PoisonError::into_inner) = secret;
        Ok(())
    }

    /// Shows the password, for protocols that send it as it is.
    pub(crate) fn with_password<R>(&self, show: impl FnOnce(&[u8]) -> R) -> R {
        show(&self.secret().password)
    }

    fn secret(&self) -> Arc<Secret> {
        Arc::clone(&self.inner.secret.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose they are.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Takes a node's challenge.
    ///
    /// # Errors
    /// It is none that this side answers.
    pub fn answer(&self, exchange: ClientExchange, message: &[u8]) -> Result<Answer, AuthError> {
        let challenge = exchange.challenge(message)?;
        Ok(Answer { exchange, challenge, secret: self.secret() })
    }
}

impl Secret {
    fn new(name: &str, password: &[u8]) -> Result<Self, UsersError> {
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(UsersError::Field { name: name.to_owned(), what: "password: 1 to 1,024 bytes are allowed" });
        }
        Ok(Self { password: password.to_owned(), kept: Mutex::default() })
    }

    fn kept(&self, salt: &[u8], iterations: u32) -> Option<SaltedKeys> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|(of_salt, of_iterations, _)| of_salt == salt && *of_iterations == iterations);
        found.map(|(.., keys)| keys.clone())
    }

    fn keep(&self, salt: &[u8], iterations: u32, keys: &SaltedKeys) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEYS_KEPT_MAX {
            kept.remove(0);
        }
        kept.push((salt.to_vec(), iterations, keys.clone()));
    }
}

impl Answer {
    /// Whether the proof takes much work: the keys were not derived before.
    #[must_use]
    pub fn is_work(&self) -> bool {
        self.secret.kept(&self.challenge.salt, self.challenge.iterations).is_none()
    }

    /// The last message, and what the node must say to it.
    #[must_use]
    pub fn prove(self) -> (Expected, Vec<u8>) {
        let Self { exchange, challenge, secret } = self;
        let (salt, iterations) = (&challenge.salt, challenge.iterations);
        let keys = secret.kept(salt, iterations).unwrap_or_else(|| {
            let keys = SaltedKeys::derive(&secret.password, salt, iterations);
            secret.keep(salt, iterations, &keys);
            keys
        });
        exchange.prove(&challenge, &keys)
    }
}
