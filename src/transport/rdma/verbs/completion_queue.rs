//! Completion queues: where work requests end.
//!
//! To sleep without missing one: arm, poll again, then wait for the channel. Events taken from it are counted and
//! acknowledged in bulk, for each acknowledgement takes a lock; a queue with some unacknowledged can't be destroyed.
#![expect(unsafe_code, reason = "the library gives pointers")]

use super::abi::{self, Completion, RawQueue};
use super::{CompletionChannel, VerbsError};
use std::ptr::NonNull;
use std::sync::Arc;

/// Events acknowledged at a time.
const ACKNOWLEDGED_AT_ONCE: u32 = 64;

/// A completion queue, in the hands of one connection.
#[derive(Debug)]
pub(in super::super) struct CompletionQueue {
    raw: NonNull<RawQueue>,
    channel: Arc<CompletionChannel>,
    unacknowledged: u32,
}

// SAFETY: libibverbs locks what threads share.
unsafe impl Send for CompletionQueue {}

/// How a work request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Ended {
    /// A SEND of ours was taken.
    Sent,
    /// A READ of ours is here.
    Read,
    /// A SEND of the peer's is in one of our receives, with this immediate word.
    Received(u32),
    /// The same without one.
    Wordless,
    /// It did not succeed.
    Failed(Failure),
}

/// The classes of failed completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Our device could not: it has no way out, or was asked for memory that it has not.
    #[error("a local error: the device's port is down (`rdma link`), or this build asked it for what cannot be")]
    Local,
    /// The peer's message is longer than the receive it found.
    #[error("a message longer than its receive buffer")]
    TooLong,
    /// The peer's side refused, or could not.
    #[error("the peer refused the operation")]
    Remote,
    /// The peer's memory may not be reached.
    #[error("the peer's memory cannot be reached where it said")]
    RemoteAccess,
    /// The peer's device does not answer.
    #[error("the peer's device does not answer: it is gone, or the network is")]
    Unreachable,
    /// The peer had no receive posted.
    #[error("the peer had no receive buffer ready")]
    NotReady,
    /// The queue pair had failed before any request of ours did: what the peer asked of it could not be.
    #[error("the queue pair had failed: the peer asked its device for memory or an operation that it may not have")]
    Flushed,
    /// The device failed.
    #[error("the device failed")]
    Device,
    /// Whatever else.
    #[error("status {0} of the device")]
    Other(i32),
}

impl Completion {
    /// How it ended.
    pub(in super::super) fn ended(&self) -> Ended {
        match (self.status, self.opcode) {
            (0, abi::DONE_SEND) => Ended::Sent,
            (0, abi::DONE_READ) => Ended::Read,
            (0, abi::DONE_RECEIVE) if self.flags & abi::DONE_WITH_IMMEDIATE.cast_unsigned() != 0 => {
                Ended::Received(u32::from_be(self.immediate))
            }
            (0, abi::DONE_RECEIVE) => Ended::Wordless,
            (status, _) => Ended::Failed(failure(status)),
        }
    }
}

fn failure(status: i32) -> Failure {
    match status {
        abi::STATUS_LOCAL_LENGTH => Failure::TooLong,
        abi::STATUS_LOCAL_OPERATION | abi::STATUS_LOCAL_PROTECTION | abi::STATUS_LOCAL_ACCESS => Failure::Local,
        abi::STATUS_FLUSHED => Failure::Flushed,
        abi::STATUS_REMOTE_ACCESS => Failure::RemoteAccess,
        abi::STATUS_BAD_RESPONSE | abi::STATUS_REMOTE_REQUEST | abi::STATUS_REMOTE_OPERATION => Failure::Remote,
        abi::STATUS_RETRIES => Failure::Unreachable,
        abi::STATUS_NOT_READY => Failure::NotReady,
        abi::STATUS_FATAL => Failure::Device,
        other => Failure::Other(other),
    }
}

impl CompletionQueue {
    /// A queue with room for `completions`, that tells `channel` when it is armed.
    pub(in super::super) fn new(channel: &Arc<CompletionChannel>, completions: u32) -> Result<Self, VerbsError> {
        let context = channel.context();
        // SAFETY: context and channel live; the queue holds the channel, which holds the context.
        let raw = unsafe {
            (context.library.ibv_create_cq)(
                context.raw(),
                completions.cast_signed(),
                std::ptr::null_mut(),
                channel.raw(),
                0,
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| VerbsError::last("cannot make a completion queue"))?;
        Ok(Self { raw, channel: Arc::clone(channel), unacknowledged: 0 })
    }

    pub(super) fn raw(&self) -> *mut RawQueue {
        self.raw.as_ptr()
    }

    /// What asynchronous events call it.
    pub(in super::super) fn element(&self) -> usize {
        self.raw.addr().get()
    }

    /// Takes what has ended, as many as there is room for.
    #[inline]
    pub(in super::super) fn poll<'a>(&mut self, room: &'a mut [Completion]) -> Result<&'a [Completion], VerbsError> {
        let poll_cq = self.channel.context().operations().poll_cq;
        // SAFETY: the queue lives, and the function writes at most as many completions as there is room for.
        let count = unsafe { poll_cq(self.raw.as_ptr(), room.len() as i32, room.as_mut_ptr()) };
        let count = usize::try_from(count).map_err(|_| VerbsError::returned("cannot poll", count))?;
        Ok(&room[..count])
    }

    /// Has the channel told of the next completion. One that is there already is not told: poll again.
    pub(in super::super) fn arm(&mut self) -> Result<(), VerbsError> {
        let request_notify = self.channel.context().operations().req_notify_cq;
        // SAFETY: the queue lives; 0 asks for every completion, not only solicited ones.
        let failed = unsafe { request_notify(self.raw.as_ptr(), 0) };
        if failed == 0 { Ok(()) } else { Err(VerbsError::returned("cannot arm a completion queue", failed)) }
    }

    /// Takes the channel's events, all of them; how many there were.
    pub(in super::super) fn take_events(&mut self) -> u32 {
        let mut taken = 0;
        while self.channel.take_event() {
            taken += 1;
        }
        self.unacknowledged += taken;
        if self.unacknowledged >= ACKNOWLEDGED_AT_ONCE {
            self.acknowledge();
        }
        taken
    }

    /// Takes back that asynchronous events were acknowledged which the kernel never reported: destroying waits until
    /// both have counted as many.
    #[cfg(test)]
    pub(in super::super) fn forget_events(&self) {
        let completed = self.raw.as_ptr().wrapping_byte_add(super::tests::QUEUE_EVENTS_COMPLETED).cast::<u32>();
        // SAFETY: the queue lives, and the library's struct has its count there, as the test of the ABI compares.
        unsafe { completed.write(0) };
    }

    fn acknowledge(&mut self) {
        // SAFETY: so many events of this queue, the only one of its channel, were taken and not yet acknowledged.
        unsafe { (self.channel.context().library.ibv_ack_cq_events)(self.raw(), self.unacknowledged) };
        self.unacknowledged = 0;
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        self.acknowledge();
        // SAFETY: the queue pair that used it is gone, for whoever holds both drops it first.
        let failed = unsafe { (self.channel.context().library.ibv_destroy_cq)(self.raw()) };
        if failed != 0 {
            tracing::warn!("a completion queue stays behind: {failed}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_a_word_only_where_its_flag_says_so() {
        let received = Completion { opcode: abi::DONE_RECEIVE, immediate: 7_u32.to_be(), ..Completion::default() };
        assert_eq!(received.ended(), Ended::Wordless);
        assert_eq!(Completion { flags: 2, ..received }.ended(), Ended::Received(7));
        assert_eq!(Completion { flags: 1, ..received }.ended(), Ended::Wordless, "a routing header is none");
    }
}
