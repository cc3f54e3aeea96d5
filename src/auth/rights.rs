//! What a user may do.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

/// A word that names no right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is no right: read, write and admin are")]
pub struct BadRight(String);

impl Rights {
    /// None.
    pub const NONE: Self = Self(0);
    /// To be told what records hold.
    pub const READ: Self = Self(1);
    /// To change records.
    pub const WRITE: Self = Self(2);
    /// To move slots from node to node, and to remove every record at once.
    pub const ADMIN: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    const NAMES: [(&'static str, Self); 3] = [("read", Self::READ), ("write", Self::WRITE), ("admin", Self::ADMIN)];

    /// Whether all of `others` are among these.
    #[must_use]
    pub const fn include(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// These and others.
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// The names of those that are there.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(_, right)| self.include(*right)).map(|(name, _)| name)
    }

    /// The right of a name.
    ///
    /// # Errors
    /// There is no such right.
    pub fn of(name: &str) -> Result<Self, BadRight> {
        let found = Self::NAMES.into_iter().find(|(known, _)| *known == name);
        found.map(|(_, right)| right).ok_or_else(|| BadRight(name.to_owned()))
    }
}

impl FromStr for Rights {
    type Err = BadRight;

    /// Names, parted by commas.
    fn from_str(text: &str) -> Result<Self, BadRight> {
        text.split(',').try_fold(Self::NONE, |rights, name| Ok(rights.and(Self::of(name)?)))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(","))
    }
}
