//! One operation at a time: many callers' operations share frames by themselves.
#![forbid(unsafe_code)]

use super::coalescer::{Answered, SingleAction};
use super::node::NodeClient;
use super::routing::Cause;
use super::{Client, ClientError};
use crate::op::{Outcome, VERSION_ABSENT, Version};
use std::sync::Arc;
use tokio::time::Instant;

impl Client {
    /// The value of a key; `None` where there is no record.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(self.read(key, false).await?.map(|(value, _)| value))
    }

    /// The value of a key and its record's version; `None` where there is no record.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get_with_version(&self, key: &[u8]) -> Result<Option<(Vec<u8>, Version)>, ClientError> {
        self.read(key, true).await
    }

    /// A value, and its version where that is wanted.
    async fn read(&self, key: &[u8], version_wanted: bool) -> Result<Option<(Vec<u8>, Version)>, ClientError> {
        let deadline = self.deadline();
        loop {
            let (node, answered) = self.issue(key, || SingleAction::Get { version_wanted }, deadline).await?;
            match answered.outcome() {
                Outcome::Value { value, version } if version.is_some() || !version_wanted => {
                    return Ok(Some((value.to_vec(), version.unwrap_or(VERSION_ABSENT))));
                }
                Outcome::NotFound => return Ok(None),
                Outcome::ReplyFull if answered.without_any_value() => return Err(ClientError::OutOfMemory),
                // The frame it shared with others was full: a get has no effect, so it is asked again. One value
                // always fits a frame, so everybody is served in the end.
                Outcome::ReplyFull => {}
                _ => return Err(unexpected(&node, &answered)),
            }
        }
    }

    /// Writes a value, whatever was there.
    ///
    /// # Errors
    /// Why it was not written, or may not have been: see [`ClientError::may_have_taken_effect`].
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<(), ClientError> {
        let (node, answered) = self.issue(key, || SingleAction::Put(value.into()), self.deadline()).await?;
        match answered.outcome() {
            Outcome::Done { .. } => Ok(()),
            _ => Err(unexpected(&node, &answered)),
        }
    }

    /// Removes a record; false where there was none.
    ///
    /// # Errors
    /// Why it was not removed, or may not have been: see [`ClientError::may_have_taken_effect`].
    pub async fn delete(&self, key: &[u8]) -> Result<bool, ClientError> {
        let (node, answered) = self.issue(key, || SingleAction::Delete, self.deadline()).await?;
        match answered.outcome() {
            Outcome::Done { .. } => Ok(true),
            Outcome::NotFound => Ok(false),
            _ => Err(unexpected(&node, &answered)),
        }
    }

    /// Writes a value if the record's version is `expected`, 0 for no record. `Ok(Ok(new version))` where it was
    /// written, `Ok(Err(version that is there))` where not.
    ///
    /// # Errors
    /// Why it was not written, or may not have been: see [`ClientError::may_have_taken_effect`].
    pub async fn compare_and_swap(
        &self,
        key: &[u8],
        expected: Version,
        value: &[u8],
    ) -> Result<Result<Version, Version>, ClientError> {
        let (node, answered) =
            self.issue(key, || SingleAction::CompareAndSwap(expected, value.into()), self.deadline()).await?;
        match answered.outcome() {
            Outcome::Done { version } => Ok(Ok(version.unwrap_or(VERSION_ABSENT))),
            Outcome::VersionMismatch { current } => Ok(Err(current)),
            _ => Err(unexpected(&node, &answered)),
        }
    }

    /// Adds to a counter and returns what it counts then; an absent record counts from 0.
    ///
    /// # Errors
    /// Why it was not added, or may not have been: see [`ClientError::may_have_taken_effect`].
    pub async fn add(&self, key: &[u8], delta: i64) -> Result<i64, ClientError> {
        let (node, answered) = self.issue(key, || SingleAction::Add(delta), self.deadline()).await?;
        match answered.outcome() {
            Outcome::Counter { value, .. } => Ok(value),
            _ => Err(unexpected(&node, &answered)),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.inner.config.deadline_from_now()
    }

    /// Issues an operation, and with a map issues it again while its node is not the one to ask, until the deadline.
    pub(super) async fn issue(
        &self,
        key: &[u8],
        action: impl Fn() -> SingleAction,
        deadline: Instant,
    ) -> Result<(Arc<NodeClient>, Answered), ClientError> {
        let router = &self.inner.router;
        let (mut owner, mut epoch) = router.owner(key);
        for round in 0.. {
            let (cause, failed) = match owner {
                None => (Cause::NoOwner, ClientError::NoOwner { epoch }),
                // A newer map may have been found in no time: what nobody waits for any more is not sent.
                Some(node) if round > 0 && Instant::now() >= deadline => return Err(node.not_sent_in_time()),
                Some(node) => match node.coalescer().issue((&node, router), epoch, key, action(), deadline).await {
                    Ok(answered) if router.is_mapped() && answered.outcome() == Outcome::WrongNode => {
                        (Cause::WrongNode { epoch: answered.epoch() }, unexpected(&node, &answered))
                    }
                    Ok(answered) => return Ok((node, answered)),
                    Err(error) if error.is_unsent() => (Cause::Unsent, error),
                    Err(error) => return Err(error),
                },
            };
            (owner, epoch) = match router.next(epoch, cause, round, deadline).await {
                Ok(next) => next.owner(key),
                Err(_) if cause == Cause::NoOwner => return Err(failed),
                Err(error) => return Err(error.unwrap_or(failed)),
            };
        }
        unreachable!("the deadline comes first")
    }
}

pub(super) fn unexpected(node: &NodeClient, answered: &Answered) -> ClientError {
    match answered.outcome() {
        Outcome::WrongNode => ClientError::WrongNode { endpoint: node.endpoint().clone(), epoch: answered.epoch() },
        Outcome::Unknown => ClientError::Forgotten { endpoint: node.endpoint().clone() },
        Outcome::OutOfMemory => ClientError::OutOfMemory,
        Outcome::NotANumber => ClientError::NotANumber,
        Outcome::CounterOverflow => ClientError::CounterOverflow,
        Outcome::ValueTooLong => ClientError::ValueTooLong,
        outcome => ClientError::WrongOutcome { endpoint: node.endpoint().clone(), outcome: format!("{outcome:?}") },
    }
}
