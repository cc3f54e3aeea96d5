//! Nodes that offer something else than what they should: one typed error each, in bounded time.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::transport::shm::{Shm, ShmError};
use freight::transport::{Connection, ConnectionConfig, FrameReceiver, HeapPool, Transport, TransportError};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::IoSlice;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

fn offer(magic: &[u8; 4], version: u16, granules: [u32; 2]) -> Vec<u8> {
    let mut offer = magic.to_vec();
    offer.extend_from_slice(&version.to_le_bytes());
    offer.extend_from_slice(&[0; 2]);
    granules.iter().for_each(|count| offer.extend_from_slice(&count.to_le_bytes()));
    offer.resize(32, 0);
    offer
}

fn file(bytes: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
    ftruncate(&file, bytes).expect("a size");
    fcntl_add_seals(&file, seals).expect("seals");
    file
}

/// What a client makes of a node that says `bytes`, passes `files`, and then stays there or closes.
fn error_on(bytes: &[u8], files: &[OwnedFd], stays: bool) -> TransportError {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("node.sock");
    let listener = UnixListener::bind(&path).expect("a free path");
    // Simulated time: a wait that nobody ends is over at once.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
        let config = ConnectionConfig::of_client(pool, 1 << 20);
        let endpoint = format!("shm://{}", path.display()).parse().expect("an endpoint");
        let connection = Shm.connect(&endpoint, &config).await.expect("it listens");
        let (socket, _) = listener.accept().expect("a client");
        if !bytes.is_empty() {
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
            let mut rights = SendAncillaryBuffer::new(&mut space);
            assert!(files.is_empty() || rights.push(SendAncillaryMessage::ScmRights(&files)));
            sendmsg(&socket, &[IoSlice::new(bytes)], &mut rights, SendFlags::empty()).expect("the client reads");
        }
        let kept = stays.then_some(socket);
        let (_sender, mut receiver) = connection.split();
        let error = receiver.receive().await.expect_err("no node");
        let again = receiver.receive().await.expect_err("no node");
        assert_eq!(error.to_string(), again.to_string(), "an error stays");
        drop(kept);
        error
    })
}

#[track_caller]
fn assert_shm(error: TransportError, expected: impl Fn(&ShmError) -> bool) {
    let TransportError::Shm(error) = error else { panic!("{error}") };
    assert!(expected(&error), "{error:?}");
}

#[test]
fn a_node_that_says_nothing_is_given_up() {
    assert_shm(error_on(b"", &[], true), |error| matches!(error, ShmError::Stalled { .. }));
}

#[test]
fn a_node_that_hangs_up_is_half_a_handshake() {
    assert_shm(error_on(b"", &[], false), |error| *error == ShmError::HalfHandshake { got: 0, needed: 32 });
    let half = &offer(b"FSHM", 1, [416, 8192])[..20];
    assert_shm(error_on(half, &[], true), |error| *error == ShmError::HalfHandshake { got: 20, needed: 32 });
}

#[test]
fn another_program_or_version_is_named() {
    let other = offer(b"HTTP", 1, [416, 8192]);
    let got = u32::from_le_bytes(*b"HTTP");
    assert_shm(error_on(&other, &[], true), |error| *error == ShmError::NotShm { got });
    let newer = offer(b"FSHM", 2, [416, 8192]);
    assert_shm(error_on(&newer, &[], true), |error| *error == ShmError::Version { got: 2, expected: 1 });
    assert_shm(error_on(&newer[..8], &[], true), |error| *error == ShmError::Version { got: 2, expected: 1 });
}

#[test]
fn an_offer_without_its_memory_is_refused() {
    let fine = offer(b"FSHM", 1, [416, 8192]);
    let one = [file(1 << 30, SEALS)];
    for (files, got) in [(&one[..0], 0), (&one[..], 1)] {
        assert_shm(error_on(&fine, files, true), |error| *error == ShmError::Descriptors { got, needed: 2 });
    }
    for granules in [[0, 8192], [416, 0], [416, u32::MAX]] {
        let files = [file(1 << 30, SEALS), file(1 << 30, SEALS)];
        let error = error_on(&offer(b"FSHM", 1, granules), &files, true);
        assert_shm(error, |error| matches!(error, ShmError::BadOffer { .. }));
    }
}

#[test]
fn memory_that_could_be_cut_off_under_its_client_is_refused() {
    let fine = offer(b"FSHM", 1, [416, 8192]);
    for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::GROW] {
        let error = error_on(&fine, &[file(1 << 30, SEALS), file(1 << 30, seals)], true);
        assert_shm(error, |error| matches!(error, ShmError::Unsealed { .. }));
    }
    let plain = OwnedFd::from(tempfile::tempfile().expect("a file"));
    let error = error_on(&fine, &[plain, file(1 << 30, SEALS)], true);
    assert_shm(error, |error| matches!(error, ShmError::Unsealed { .. }));
    let error = error_on(&fine, &[file(1 << 30, SEALS), file(1 << 20, SEALS)], true);
    assert_shm(error, |error| matches!(error, ShmError::Size { got: 0x10_0000, .. }));
}
