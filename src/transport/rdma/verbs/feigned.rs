//! A device's asynchronous events, feigned: a pipe that the library reads as it reads the kernel.
//!
//! The context keeps its own descriptor, which completion queues are made with. Events are asked of a copy of it, with
//! all that the library has in front of it, whose descriptor is the pipe.
#![forbid(unsafe_code)]

use super::abi::RawContext;
use std::fs::File;
use std::io::{self, PipeReader};
use std::mem::offset_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use zerocopy::IntoBytes;

/// `struct verbs_context`, and where in it the context is: its last member.
pub(super) const CONTEXT_WHOLE_BYTES: usize = 648;
pub(super) const CONTEXT_BEGINS: usize = 320;

/// What the library opened, as numbers.
pub(super) type Whole = [u64; CONTEXT_WHOLE_BYTES / 8];

#[derive(Debug)]
pub(super) struct Feigned {
    context: NonNull<RawContext>,
    _reader: PipeReader,
}

impl Feigned {
    /// Events of a copy of what the library opened, and where to write them.
    pub(super) fn new(whole: Whole) -> io::Result<(Self, File)> {
        let (reader, writer) = io::pipe()?;
        // For the rest of the test.
        let whole = Box::leak(Box::new(whole));
        let at = CONTEXT_BEGINS + offset_of!(RawContext, async_fd);
        whole.as_mut_bytes()[at..at + 4].copy_from_slice(&reader.as_raw_fd().to_ne_bytes());
        let context = NonNull::from(whole).cast::<RawContext>().as_ptr().wrapping_byte_add(CONTEXT_BEGINS);
        let context = NonNull::new(context).expect("it is memory");
        Ok((Self { context, _reader: reader }, OwnedFd::from(writer).into()))
    }

    pub(super) fn raw(&self) -> NonNull<RawContext> {
        self.context
    }
}
