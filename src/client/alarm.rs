//! Keeps the deadlines of single operations: one task a runtime and node, which sleeps until the first of them.
//!
//! By a task of the operation's own runtime, as another one may rest while this one runs. It mostly goes off for an
//! operation that was answered long ago, and sleeps until the deadline of another: once a deadline, not an operation.
#![forbid(unsafe_code)]

use super::node::NodeClient;
use super::queue::{Alarm, Unanswered};
use super::{ClientError, Loss, Unsent};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// The alarms of one node; they end with it.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    tasks: Mutex<JoinSet<()>>,
}

impl Alarms {
    /// Sets an alarm, on the runtime of whoever calls.
    pub(super) fn set(&self, node: &Arc<NodeClient>, alarm: Alarm) {
        let ringing = Ringing { node: Arc::downgrade(node), alarm: Some(alarm) };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        // A runtime that is ending drops the task inside `spawn`, and the task's own drop takes the queue's lock.
        tasks.spawn(ringing.run());
    }
}

struct Ringing {
    node: Weak<NodeClient>,
    /// `None` once nothing is left to be kept.
    alarm: Option<Alarm>,
}

impl Ringing {
    async fn run(mut self) {
        while let Some(alarm) = self.alarm {
            sleep_until(alarm.at).await;
            let Some(node) = self.node.upgrade() else { return };
            let late = |unanswered| node.late_for(unanswered);
            self.alarm = node.coalescer().queue().ring(alarm, Instant::now(), late);
        }
    }
}

impl NodeClient {
    /// What an operation is told whose deadline passed.
    pub(super) fn late_for(&self, unanswered: Unanswered) -> ClientError {
        match unanswered {
            Unanswered::Waiting => self.not_sent_in_time(),
            Unanswered::InFlight => self.late(),
        }
    }
}

impl Drop for Ringing {
    fn drop(&mut self) {
        // Dropped with its runtime, or with its node.
        let (Some(alarm), Some(node)) = (self.alarm, self.node.upgrade()) else { return };
        node.coalescer().queue().runtime_ended(alarm, |unanswered| match unanswered {
            Unanswered::Waiting => node.not_sent(Unsent::RuntimeEnded),
            Unanswered::InFlight => node.lost(Loss::RuntimeEnded),
        });
    }
}
