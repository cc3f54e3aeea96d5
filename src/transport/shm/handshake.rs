//! The handshake: who makes the memory, and how both ends know that it is what it should be.
//!
//! ```text
//!   client --connect, hello (16 bytes: magic, version, processor)-------------------------------> node
//!          <--offer (32 bytes: magic, version, sizes) + files of requests and replies (SCM_RIGHTS)--
//! ```
//!
//! Each side speaks at once and waits for nobody: a connection is open when it is connected, and who sends or receives
//! first waits for the other's part, for a bounded time. The node makes, sizes and seals the files; the client checks
//! seals and sizes too, so that neither can cut the memory off under the other (a read past the end would kill it).
#![forbid(unsafe_code)]

use super::error::ShmError;
use super::layout::{GRANULES_MAX, Layout};
use super::segment::{OwnSegment, PeerSegment};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv,
    recvmsg, send, sendmsg,
};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of everything in this folder.
const VERSION: u16 = 1;

/// "FSHM"
const MAGIC: u32 = u32::from_le_bytes(*b"FSHM");

/// Granules for requests. The client may use all of them at any time, so all are charged at once: with the words of
/// both segments less than half a MiB a connection.
const REQUEST_GRANULES: u32 = 416;

/// Granules for replies: charged as they are first used.
const REPLY_GRANULES: u32 = 8 << 10;

/// No processor is known.
const CPU_NONE: u16 = u16::MAX;

/// What a client says first.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Hello {
    magic: U32,
    version: U16,
    /// The processor it connects from.
    cpu: U16,
    reserved: U64,
}

/// What a node says first.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Offer {
    magic: U32,
    version: U16,
    reserved: U16,
    request_granules: U32,
    reply_granules: U32,
    reserved_too: [U64; 2],
}

const HELLO_BYTES: usize = size_of::<Hello>();
const OFFER_BYTES: usize = size_of::<Offer>();

const _: () = {
    assert!(HELLO_BYTES == 16 && OFFER_BYTES == 32);
    assert!(std::mem::offset_of!(Hello, version) == 4 && std::mem::offset_of!(Hello, cpu) == 6);
    assert!(std::mem::offset_of!(Offer, version) == 4 && std::mem::offset_of!(Offer, request_granules) == 8);
    assert!(std::mem::offset_of!(Offer, reply_granules) == 12 && align_of::<Offer>() == 1);
};

/// Both segments, as one end has them.
#[derive(Debug)]
pub(super) struct Segments {
    pub(super) own: Arc<OwnSegment>,
    pub(super) peer: Arc<PeerSegment>,
}

/// Sizes of the segment of requests and of that of replies.
fn layouts(request_granules: u32, reply_granules: u32) -> (Layout, Layout) {
    (
        Layout { granules: request_granules, peer_granules: reply_granules },
        Layout { granules: reply_granules, peer_granules: request_granules },
    )
}

/// Bytes that a connection costs a node's budget from its beginning on.
pub(super) fn fixed_bytes() -> u64 {
    let (requests, replies) = layouts(REQUEST_GRANULES, REPLY_GRANULES);
    (requests.bytes() + replies.data_at()) as u64
}

/// Makes, sizes, maps and seals the memory of a connection, and offers it to a client that just connected.
///
/// # Errors
/// The system has no descriptors, no memory or no such seals for it; the client may be gone.
pub(super) fn offer(socket: BorrowedFd<'_>) -> Result<Segments, ShmError> {
    let (request_layout, reply_layout) = layouts(REQUEST_GRANULES, REPLY_GRANULES);
    let sealed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let requests = file("freight-requests", request_layout)?;
    fcntl_add_seals(&requests, sealed).map_err(ShmError::system("cannot seal memory"))?;
    let replies = file("freight-replies", reply_layout)?;
    let map = ShmError::system("cannot map memory");
    let own = OwnSegment::new(replies.as_fd(), reply_layout).map_err(map)?;
    let seal = ShmError::system("cannot seal memory against writers (this needs Linux 5.1)");
    fcntl_add_seals(&replies, sealed | SealFlags::FUTURE_WRITE).map_err(seal)?;
    let peer = PeerSegment::new(requests.as_fd(), request_layout, false);
    let peer = peer.map_err(ShmError::system("cannot map memory"))?;
    let offer = Offer {
        magic: MAGIC.into(),
        version: VERSION.into(),
        reserved: 0.into(),
        request_granules: REQUEST_GRANULES.into(),
        reply_granules: REPLY_GRANULES.into(),
        reserved_too: [0.into(); 2],
    };
    let files = [requests.as_fd(), replies.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    let pushed = rights.push(SendAncillaryMessage::ScmRights(&files));
    assert!(pushed, "the space was made for two descriptors");
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = sendmsg(socket, &[IoSlice::new(offer.as_bytes())], &mut rights, flags);
    match sent {
        // A client that is gone already is found gone by whoever serves it.
        Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(Segments { own, peer }),
        Err(errno) => Err(ShmError::system("cannot offer memory")(errno)),
    }
}

fn file(name: &str, layout: Layout) -> Result<OwnedFd, ShmError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(name, flags).map_err(ShmError::system("cannot make shared memory"))?;
    ftruncate(&file, layout.bytes() as u64).map_err(ShmError::system("cannot size shared memory"))?;
    Ok(file)
}

/// Takes a node's offer, checks it and maps it; `Ok(None)` while it is not there.
///
/// # Errors
/// Why the two do not come together.
pub(super) fn take_offer(socket: BorrowedFd<'_>) -> Result<Option<Segments>, ShmError> {
    let mut bytes = [0; OFFER_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut rights, flags) {
        Err(Errno::AGAIN) => return Ok(None),
        // Closed without having read our hello.
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(ShmError::system("cannot read the node's offer")(errno)),
        Ok(message) => message.bytes,
    };
    check_head(&bytes[..got], OFFER_BYTES)?;
    let offer = Offer::read_from_bytes(&bytes).expect("as many bytes as it has");
    let mut files = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors);
        }
    }
    let [requests, replies] =
        <[OwnedFd; 2]>::try_from(files).map_err(|files| ShmError::Descriptors { got: files.len(), needed: 2 })?;
    let (request_granules, reply_granules) = (offer.request_granules.get(), offer.reply_granules.get());
    if [request_granules, reply_granules].iter().any(|granules| !(8..=GRANULES_MAX).contains(granules)) {
        return Err(ShmError::BadOffer { requests: request_granules, replies: reply_granules });
    }
    let (request_layout, reply_layout) = layouts(request_granules, reply_granules);
    check_file(&requests, request_layout)?;
    check_file(&replies, reply_layout)?;
    let own = OwnSegment::new(requests.as_fd(), request_layout).map_err(ShmError::system("cannot map memory"))?;
    let peer = PeerSegment::new(replies.as_fd(), reply_layout, true).map_err(ShmError::system("cannot map memory"))?;
    Ok(Some(Segments { own, peer }))
}

/// The node must not be able to cut the memory off under its client either.
fn check_file(file: &OwnedFd, layout: Layout) -> Result<(), ShmError> {
    let needed = SealFlags::SHRINK | SealFlags::SEAL;
    // What is no memory file has no seals at all.
    let seals = fcntl_get_seals(file).unwrap_or(SealFlags::empty());
    if !seals.contains(needed) {
        return Err(ShmError::Unsealed { missing: format!("{:?}", needed - seals) });
    }
    let got = fstat(file).map_err(ShmError::system("cannot look at the offered memory"))?.st_size as u64;
    let needed = layout.bytes() as u64;
    if got < needed {
        return Err(ShmError::Size { got, needed });
    }
    Ok(())
}

/// Says hello.
///
/// # Errors
/// The node is gone, or does not read.
pub(super) fn say_hello(socket: BorrowedFd<'_>) -> Result<(), ShmError> {
    let cpu = u16::try_from(rustix::thread::sched_getcpu()).unwrap_or(CPU_NONE);
    let hello = Hello { magic: MAGIC.into(), version: VERSION.into(), cpu: cpu.into(), reserved: 0.into() };
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    send(socket, hello.as_bytes(), flags).map_err(ShmError::system("cannot say hello")).map(drop)
}

/// Takes a client's hello; `Ok(false)` while it is not there.
///
/// # Errors
/// It is none.
pub(super) fn take_hello(socket: BorrowedFd<'_>) -> Result<bool, ShmError> {
    Ok(read_hello(socket, RecvFlags::DONTWAIT)?.is_some())
}

/// The processor that a client's hello names, if it is there; leaves it to be taken.
pub(super) fn peek_cpu(socket: BorrowedFd<'_>) -> Option<usize> {
    let hello = read_hello(socket, RecvFlags::DONTWAIT | RecvFlags::PEEK).ok()??;
    Some(hello.cpu.get()).filter(|cpu| *cpu != CPU_NONE).map(usize::from)
}

fn read_hello(socket: BorrowedFd<'_>, flags: RecvFlags) -> Result<Option<Hello>, ShmError> {
    let mut bytes = [0; HELLO_BYTES];
    let got = match recv(socket, &mut bytes, flags) {
        Err(Errno::AGAIN) => return Ok(None),
        Err(Errno::CONNRESET) => 0,
        Err(errno) => return Err(ShmError::system("cannot read the client's hello")(errno)),
        Ok((got, _)) => got,
    };
    check_head(&bytes[..got], HELLO_BYTES)?;
    Ok(Some(Hello::read_from_bytes(&bytes).expect("as many bytes as it has")))
}

/// Magic and version stand first in both messages, so that even half a message tells what it is not.
fn check_head(bytes: &[u8], needed: usize) -> Result<(), ShmError> {
    if let Some(magic) = bytes.first_chunk::<4>().map(|magic| u32::from_le_bytes(*magic))
        && magic != MAGIC
    {
        return Err(ShmError::NotShm { got: magic });
    }
    if let Some([_, _, _, _, version @ ..]) = bytes.first_chunk::<6>()
        && u16::from_le_bytes(*version) != VERSION
    {
        return Err(ShmError::Version { got: u16::from_le_bytes(*version), expected: VERSION });
    }
    if bytes.len() < needed {
        return Err(ShmError::HalfHandshake { got: bytes.len(), needed });
    }
    Ok(())
}
