//! Completion channels: a descriptor that is readable when an armed queue has something.
#![expect(unsafe_code, reason = "the library gives pointers")]

use super::abi::RawChannel;
use super::{Context, VerbsError};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A completion channel that does not block.
#[derive(Debug)]
pub(in super::super) struct CompletionChannel {
    raw: NonNull<RawChannel>,
    context: Arc<Context>,
}

// SAFETY: libibverbs locks what threads share; reading a descriptor is the kernel's to order.
unsafe impl Send for CompletionChannel {}

// SAFETY: as above.
unsafe impl Sync for CompletionChannel {}

impl CompletionChannel {
    /// A channel for queues of a device.
    pub(in super::super) fn new(context: &Arc<Context>) -> Result<Arc<Self>, VerbsError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.library.ibv_create_comp_channel)(context.raw()) };
        let raw = NonNull::new(raw).ok_or_else(|| VerbsError::last("cannot make a completion channel"))?;
        let channel = Self { raw, context: Arc::clone(context) };
        // SAFETY: the descriptor is open as long as the channel.
        let fd = unsafe { BorrowedFd::borrow_raw(channel.as_raw_fd()) };
        rustix::io::ioctl_fionbio(fd, true).map_err(|error| VerbsError::System {
            what: "cannot make a completion channel non-blocking",
            source: Arc::new(io::Error::from(error)),
        })?;
        Ok(Arc::new(channel))
    }

    /// Has the calling thread's runtime watch it.
    pub(in super::super) fn watch(self: Arc<Self>) -> io::Result<AsyncFd<Arc<Self>>> {
        // SAFETY: the descriptor is open and the same as long as the channel, which the watcher holds.
        let watched = unsafe { AsyncFd::register_with_interest(self, Interest::READABLE) };
        Ok(watched?)
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn raw(&self) -> *mut RawChannel {
        self.raw.as_ptr()
    }

    /// Takes one event, of whichever queue; false where there is none. Each one taken must be acknowledged to its
    /// queue.
    pub(super) fn take_event(&self) -> bool {
        let (mut queue, mut user) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the channel lives, and the function writes two pointers, which are not used.
        let failed = unsafe { (self.context.library.ibv_get_cq_event)(self.raw(), &raw mut queue, &raw mut user) };
        failed == 0
    }
}

impl AsRawFd for CompletionChannel {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the channel lives as long as `self`, and its descriptor doesn't change.
        let channel = unsafe { self.raw.as_ref() };
        channel.fd
    }
}

impl Drop for CompletionChannel {
    fn drop(&mut self) {
        // SAFETY: queues hold their channel, so none is left.
        let failed = unsafe { (self.context.library.ibv_destroy_comp_channel)(self.raw()) };
        if failed != 0 {
            tracing::warn!("a completion channel stays behind: {failed}");
        }
    }
}
