//! A client whose every call is taken down.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test target uses a part")]

use crate::support::history::{Recorder, Token};
use freight::client::{Client, ClientError, EditReply, Failure};
use freight::op::{Action, Edited, Op, Outcome, Version};
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU64;

pub(crate) struct Recorded {
    id: u32,
    client: Client,
    recorder: Recorder,
    /// The versions this client saw last, for its compare-and-swaps.
    versions: RefCell<HashMap<Vec<u8>, Version>>,
}

impl Recorded {
    pub(crate) fn new(id: u32, client: Client, recorder: &Recorder) -> Self {
        Self { id, client, recorder: recorder.clone(), versions: RefCell::default() }
    }

    pub(crate) fn version_seen(&self, key: &[u8]) -> Version {
        self.versions.borrow().get(key).copied().unwrap_or_default()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Goes on with another client.
    pub(crate) fn replace(&mut self, client: Client) {
        self.client = client;
    }

    /// Executes operations as one batch: why nodes failed it, or some of it.
    pub(crate) async fn execute(&self, ops: &[Op<'_>]) -> Vec<Failure> {
        let mut batch = self.client.batch(ops.len() as u32);
        ops.iter().for_each(|op| batch.push(op).expect("room in the frame"));
        let token = self.recorder.begin(self.id, ops);
        let reply = match self.client.execute(batch).await {
            Ok(reply) => reply,
            Err(error) => {
                token.lost();
                return vec![Failure { endpoint: None, error }];
            }
        };
        ops.iter().zip(reply.outcomes()).for_each(|(op, outcome)| self.remember(op, outcome));
        token.finish(reply.outcomes());
        reply.failures().cloned().collect()
    }

    /// Issues one operation by itself.
    pub(crate) async fn issue(&self, op: &Op<'_>) {
        let token = self.recorder.begin(self.id, &[*op]);
        let client = &self.client;
        match op.action {
            Action::Get => match client.get_with_version(op.key).await {
                Ok(Some((value, version))) => {
                    self.finish(token, op, Outcome::Value { value: &value, version: Some(version) });
                }
                Ok(None) => self.finish(token, op, Outcome::NotFound),
                Err(error) => self.fail(token, op, &error),
            },
            Action::Put { value } => match client.put(op.key, value).await {
                Ok(()) => self.finish(token, op, Outcome::Done { version: None }),
                Err(error) => self.fail(token, op, &error),
            },
            Action::Delete => match client.delete(op.key).await {
                Ok(true) => self.finish(token, op, Outcome::Done { version: None }),
                Ok(false) => self.finish(token, op, Outcome::NotFound),
                Err(error) => self.fail(token, op, &error),
            },
            Action::CompareAndSwap { expected, value } => {
                match client.compare_and_swap(op.key, expected, value).await {
                    Ok(Ok(version)) => self.finish(token, op, Outcome::Done { version: Some(version) }),
                    Ok(Err(current)) => self.finish(token, op, Outcome::VersionMismatch { current }),
                    Err(error) => self.fail(token, op, &error),
                }
            }
            Action::Add { delta } => match client.add(op.key, delta).await {
                Ok(value) => self.finish(token, op, Outcome::Counter { value, version: None }),
                Err(error) => self.fail(token, op, &error),
            },
            Action::Edit(edit) => match client.edit(op.key, edit).await {
                Ok(reply) => self.finish(token, op, Outcome::Edited(edited(&reply))),
                Err(error) => self.fail(token, op, &error),
            },
        }
    }

    fn finish(&self, token: Token, op: &Op<'_>, outcome: Outcome<'_>) {
        self.remember(op, outcome);
        token.finish([outcome]);
    }

    fn fail(&self, token: Token, op: &Op<'_>, error: &ClientError) {
        match error {
            ClientError::NotANumber => self.finish(token, op, Outcome::NotANumber),
            ClientError::CounterOverflow => self.finish(token, op, Outcome::CounterOverflow),
            error if error.may_have_taken_effect() => token.lost(),
            _ => self.finish(token, op, Outcome::NotSent),
        }
    }

    fn remember(&self, op: &Op<'_>, outcome: Outcome<'_>) {
        let seen = match outcome {
            Outcome::Value { version, .. } | Outcome::Done { version } | Outcome::Counter { version, .. } => version,
            Outcome::VersionMismatch { current } => Some(current),
            Outcome::NotFound => Some(0),
            Outcome::Edited(edited) => edited.version.map(NonZeroU64::get).or((!edited.is_there).then_some(0)),
            _ => None,
        };
        if let Some(version) = seen {
            self.versions.borrow_mut().insert(op.key.to_vec(), version);
        }
    }
}

fn edited(reply: &EditReply) -> Edited<'_> {
    let EditReply { is_done, was_there, is_there, value, value_bytes, deadline, version, .. } = reply;
    Edited {
        is_done: *is_done,
        was_there: *was_there,
        is_there: *is_there,
        value: value.as_deref(),
        value_bytes: *value_bytes,
        deadline: deadline.and_then(NonZeroU64::new),
        version: version.and_then(NonZeroU64::new),
    }
}
