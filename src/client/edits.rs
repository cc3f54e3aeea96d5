//! Deadlines, and changes of value and deadline in one step, one key at a time.
#![forbid(unsafe_code)]

use super::coalescer::SingleAction;
use super::single::unexpected;
use super::{Client, ClientError};
use crate::op::{Content, Edit, Edited, Expiry, Outcome, Time, Version};
use std::num::NonZeroU64;
use std::time::Duration;

/// What an edit found, and what is there behind it: [`Edited`] with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditReply {
    /// Whether the condition held.
    pub is_done: bool,
    /// Whether there was a record.
    pub was_there: bool,
    /// Whether there is one now.
    pub is_there: bool,
    /// The value that was there, if it was wanted.
    pub value: Option<Vec<u8>>,
    /// Length of the value that is there now, in bytes.
    pub value_bytes: u32,
    /// The deadline of the record that is there now, if it has one.
    pub deadline: Option<Time>,
    /// The version of the record that is there now.
    pub version: Option<Version>,
    /// The node's time as it answered: a deadline is to be held against this, not against another clock.
    pub time: Time,
}

/// How long a record is there from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It has no deadline.
    Forever,
    /// Until its deadline, by the clock of its node.
    Left(Duration),
}

impl Lifetime {
    /// What is left until a deadline, at a time of the same node.
    #[must_use]
    pub fn until(deadline: Option<Time>, time: Time) -> Self {
        deadline.map_or(Self::Forever, |deadline| Self::Left(Duration::from_millis(deadline.saturating_sub(time))))
    }
}

impl Client {
    /// Writes a value that is there for so long, from when its node executes it on, by the node's clock. A part of a
    /// millisecond counts as one.
    ///
    /// # Errors
    /// Why it was not written, or may not have been: see [`ClientError::may_have_taken_effect`].
    pub async fn put_expiring(&self, key: &[u8], value: &[u8], lifetime: Duration) -> Result<(), ClientError> {
        self.edit(key, Edit::new(Content::Write(value), Expiry::in_no_less_than(lifetime))).await.map(drop)
    }

    /// Sets or ends the deadline of a record and leaves its value; false where there is no record.
    ///
    /// # Errors
    /// Why it was not done, or may not have been: see [`ClientError::may_have_taken_effect`].
    pub async fn touch(&self, key: &[u8], expiry: Expiry) -> Result<bool, ClientError> {
        Ok(self.edit(key, Edit::new(Content::Keep, expiry)).await?.was_there)
    }

    /// How long the record of a key is there; `None` where there is none.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn lifetime(&self, key: &[u8]) -> Result<Option<Lifetime>, ClientError> {
        let found = self.edit(key, Edit::new(Content::Keep, Expiry::Keep)).await?;
        Ok(found.is_there.then(|| Lifetime::until(found.deadline, found.time)))
    }

    /// The value of a key and its record's deadline; `None` where there is no record.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get_with_deadline(&self, key: &[u8]) -> Result<Option<(Vec<u8>, Option<Time>)>, ClientError> {
        let found = self.edit(key, Edit::READ).await?;
        Ok(found.value.map(|value| (value, found.deadline)))
    }

    /// Changes value and deadline of a record in one step, or reads both.
    ///
    /// # Errors
    /// Why it was not done, or may not have been: see [`ClientError::may_have_taken_effect`].
    pub async fn edit(&self, key: &[u8], edit: Edit<'_>) -> Result<EditReply, ClientError> {
        let deadline = self.deadline();
        let action = || SingleAction::Edit(edit.with_bytes(&[]), edit.bytes().into());
        loop {
            let (node, answered) = self.issue(key, action, deadline).await?;
            match answered.outcome() {
                Outcome::Edited(Edited { is_done, was_there, is_there, value, value_bytes, deadline, version }) => {
                    let value = value.map(<[u8]>::to_vec);
                    let (deadline, version) = (deadline.map(NonZeroU64::get), version.map(NonZeroU64::get));
                    let time = answered.time();
                    return Ok(EditReply { is_done, was_there, is_there, value, value_bytes, deadline, version, time });
                }
                Outcome::ReplyFull if !edit.value_wanted() => return Err(unexpected(&node, &answered)),
                Outcome::ReplyFull if answered.without_any_value() => return Err(ClientError::OutOfMemory),
                // The frame that it shared with others had no room for its value: it was not executed.
                Outcome::ReplyFull => {}
                _ => return Err(unexpected(&node, &answered)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_whole_milliseconds_and_never_less_than_asked_for() {
        let ms = |nanos| Expiry::in_no_less_than(Duration::from_nanos(nanos));
        assert_eq!([ms(0), ms(1), ms(1_000_000), ms(1_000_001)], [0, 1, 1, 2].map(Expiry::After));
        assert_eq!(Expiry::in_no_less_than(Duration::MAX), Expiry::After(u64::MAX));
    }

    #[test]
    fn what_is_left_is_told_by_the_clock_of_the_node() {
        assert_eq!(Lifetime::until(Some(1_500), 1_000), Lifetime::Left(Duration::from_millis(500)));
        assert_eq!(Lifetime::until(Some(1_500), 1_501), Lifetime::Left(Duration::ZERO));
        assert_eq!(Lifetime::until(None, 1_000), Lifetime::Forever);
    }
}
