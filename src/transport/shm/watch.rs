//! A socket that wakes its task when there is something to read, and for nothing else.
//!
//! tokio's own `UnixStream` watches for room to write too: each bell that the peer takes would then wake this end.
#![expect(unsafe_code, reason = "tokio wants it promised that a descriptor stays open")]

use std::io;
use std::os::unix::net::UnixStream;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the current runtime watch a socket.
///
/// # Errors
/// The runtime cannot take it.
pub(super) fn readable(socket: UnixStream) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a `UnixStream` owns its descriptor, which it always names and closes only when it is dropped; the
    // `AsyncFd` owns the stream and gives out only shared references, which cannot close it.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(io::Error::from)
}
