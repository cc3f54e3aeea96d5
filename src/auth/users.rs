//! The users of a store, as a file has them: hashed secrets only.
#![forbid(unsafe_code)]

use super::keys::{self, Digest, SALT_BYTES, SALT_BYTES_MAX, Verifier};
use super::message;
use super::rights::{BadRight, Rights};
use super::{ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Most users of a store.
const USERS_MAX: usize = 10_000;

/// Somebody who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub rights: Rights,
    /// What is kept of its password.
    pub verifier: Verifier,
    /// Operations a second that it may have on one node, 0 for any number; as the node says for everybody, where there
    /// is none.
    pub ops_per_second: Option<u32>,
}

/// Everybody who may connect.
#[derive(Clone, PartialEq, Eq)]
pub struct Users {
    /// What the salts of users who are not there are made from: the same on every node, and not known to anybody else.
    secret: Digest,
    users: BTreeMap<String, Arc<User>>,
}

/// Why a text is no list of users, or a user none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UsersError {
    /// No TOML, or a key that is not known.
    #[error("{0}")]
    Toml(String),
    /// A name that no user can have.
    #[error("'{name}' is no user's name: letters, digits and .-_@+ are, {NAME_BYTES_MAX} at most")]
    Name {
        /// The name.
        name: String,
    },
    /// Two users of one name.
    #[error("there are two users '{name}'")]
    Twice {
        /// Their name.
        name: String,
    },
    /// A field of a user that is not what it should be.
    #[error("user '{name}': unreadable {what}")]
    Field {
        /// The user.
        name: String,
        /// Which.
        what: &'static str,
    },
    /// Iterations out of range.
    #[error("user '{name}': {got} iterations, allowed are {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    Iterations {
        /// The user.
        name: String,
        /// How many.
        got: u32,
    },
    /// A right that there is not.
    #[error("user '{name}': {source}")]
    Right {
        /// The user.
        name: String,
        /// Which.
        source: BadRight,
    },
    /// The secret of the file is not what it should be.
    #[error("the file's secret is not 32 bytes in base64")]
    Secret,
    /// Too many users.
    #[error("more than {USERS_MAX} users")]
    TooMany,
}

/// Whether a user can have this name.
///
/// # Errors
/// It cannot.
pub fn check_name(name: &str) -> Result<(), UsersError> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@+".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_good) {
        return Err(UsersError::Name { name: name.escape_debug().to_string() });
    }
    Ok(())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersText {
    secret: String,
    #[serde(default)]
    user: Vec<UserText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserText {
    name: String,
    rights: Vec<String>,
    salt: String,
    iterations: u32,
    stored_key: String,
    server_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ops_per_second: Option<u32>,
}

impl Users {
    /// Nobody yet. The secret is random.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret, users: BTreeMap::new() }
    }

    /// The users in a text.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let told: UsersText = toml::from_str(text).map_err(|error| UsersError::Toml(one_line(&error)))?;
        let mut users = Self::new(message::decode_array(&told.secret, "secret").map_err(|_| UsersError::Secret)?);
        for user in told.user {
            let user = user.read()?;
            if users.get(&user.name).is_some() {
                return Err(UsersError::Twice { name: user.name });
            }
            users.set(user)?;
        }
        Ok(users)
    }

    /// The text of the users.
    ///
    /// # Panics
    /// Never: every user can be written.
    #[must_use]
    pub fn text(&self) -> String {
        let told = UsersText {
            secret: message::encode(&self.secret),
            user: self.iter().map(|user| UserText::of(user)).collect(),
        };
        let body = toml::to_string(&told).expect("names, numbers and base64 can be written");
        format!(
            "# Users of Freight, written by `freight user`. Passwords cannot be read from it, but guessed.\n\n{body}"
        )
    }

    /// The users, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    /// The user of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    /// Adds a user, in the place of one who has the name already.
    ///
    /// # Errors
    /// It can be none.
    pub fn set(&mut self, user: User) -> Result<(), UsersError> {
        check_name(&user.name)?;
        if self.users.len() >= USERS_MAX && !self.users.contains_key(&user.name) {
            return Err(UsersError::TooMany);
        }
        self.users.insert(user.name.clone(), Arc::new(user));
        Ok(())
    }

    /// Removes a user; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.users.remove(name).is_some()
    }

    /// The user of a name, and what to check a password by: where there is no such user, by what nobody knows one for,
    /// the same each time.
    #[must_use]
    pub fn verifier(&self, name: &[u8]) -> (Option<Arc<User>>, Verifier) {
        let user = std::str::from_utf8(name).ok().and_then(|name| self.users.get(name));
        // Made for each, so that the time does not tell who is there.
        let nobody = self.nobody(name);
        match user {
            Some(user) => (Some(Arc::clone(user)), user.verifier.clone()),
            None => (None, nobody),
        }
    }

    fn nobody(&self, name: &[u8]) -> Verifier {
        let made = |what: &str| keys::mac(&self.secret, &[what.as_bytes(), b" of ", name]);
        // Those of some user, another one for another name: no number tells who is there.
        let drawn = made("iterations")
            .iter()
            .fold(0, |drawn, byte| (256 * drawn + usize::from(*byte)) % self.users.len().max(1));
        let iterations = self.iter().nth(drawn).map_or(ITERATIONS_DEFAULT, |user| user.verifier.iterations);
        Verifier {
            salt: made("salt")[..SALT_BYTES].to_vec(),
            iterations,
            stored_key: made("stored key"),
            server_key: made("server key"),
        }
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.users.keys()).finish()
    }
}

impl UserText {
    fn of(user: &User) -> Self {
        let Verifier { salt, iterations, stored_key, server_key } = &user.verifier;
        Self {
            name: user.name.clone(),
            rights: user.rights.names().map(ToOwned::to_owned).collect(),
            salt: message::encode(salt),
            iterations: *iterations,
            stored_key: message::encode(stored_key),
            server_key: message::encode(server_key),
            ops_per_second: user.ops_per_second,
        }
    }

    fn read(self) -> Result<User, UsersError> {
        check_name(&self.name)?;
        let Self { name, rights, salt, iterations, stored_key, server_key, ops_per_second } = self;
        let field = |what| UsersError::Field { name: name.clone(), what };
        let salt = message::decode(&salt, "salt").map_err(|_| field("salt"))?;
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX {
            return Err(field("salt"));
        }
        let stored_key = message::decode_array(&stored_key, "stored_key").map_err(|_| field("stored_key"))?;
        let server_key = message::decode_array(&server_key, "server_key").map_err(|_| field("server_key"))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(UsersError::Iterations { name, got: iterations });
        }
        let rights = rights.iter().try_fold(Rights::NONE, |rights, right| Ok(rights.and(Rights::of(right)?)));
        let rights = rights.map_err(|source| UsersError::Right { name: name.clone(), source })?;
        let verifier = Verifier { salt, iterations, stored_key, server_key };
        Ok(User { name, rights, verifier, ops_per_second })
    }
}

/// What is wrong with a text, in one line: its first line names the place.
fn one_line(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let place = text.lines().next().unwrap_or_default();
    if place.starts_with("TOML parse error") {
        format!("{place}: {}", error.message())
    } else {
        text.replace('\n', " ")
    }
}

#[cfg(test)]
#[path = "tests/users.rs"]
mod tests;
