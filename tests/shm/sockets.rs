//! The socket in the file system: its mode, what stood there before, what stays behind.
#![forbid(unsafe_code)]

use freight::budget::Budget;
use freight::transport::shm::{Shm, ShmListener};
use freight::transport::{ConnectionConfig, Endpoint, HeapPool, Transport, TransportError};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

fn run(test: impl AsyncFnOnce(&Path, &Endpoint)) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("node.sock");
    let endpoint = format!("shm://{}", path.display()).parse().expect("an endpoint");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(test(&path, &endpoint));
}

async fn listen(endpoint: &Endpoint) -> ShmListener {
    Shm.listen(endpoint).await.expect("the path is free")
}

async fn listen_error(endpoint: &Endpoint) -> ErrorKind {
    match Shm.listen(endpoint).await {
        Err(TransportError::Listen { source, .. }) => source.kind(),
        other => panic!("{other:?}"),
    }
}

async fn connect_error(endpoint: &Endpoint) -> ErrorKind {
    let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
    let config = ConnectionConfig::of_client(pool, 1 << 20);
    match Shm.connect(endpoint, &config).await {
        Err(TransportError::Connect { source, .. }) => source.kind(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_its_listener() {
    run(async |path, endpoint| {
        let listener = listen(endpoint).await;
        assert_eq!(fs::metadata(path).expect("a socket").permissions().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
        assert_eq!(connect_error(endpoint).await, ErrorKind::NotFound);
    });
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
    run(async |path, endpoint| {
        drop(UnixListener::bind(path).expect("a free path"));
        assert_eq!(connect_error(endpoint).await, ErrorKind::ConnectionRefused);
        let listener = listen(endpoint).await;
        assert_eq!(listen_error(endpoint).await, ErrorKind::AddrInUse);
        drop(listener);
        let other_program = UnixListener::bind(path).expect("a free path");
        assert_eq!(listen_error(endpoint).await, ErrorKind::AddrInUse);
        drop(other_program);
    });
}

#[test]
fn a_file_of_another_kind_is_left_alone() {
    run(async |path, endpoint| {
        fs::write(path, "precious").expect("a file");
        assert_eq!(listen_error(endpoint).await, ErrorKind::AlreadyExists);
        assert_eq!(connect_error(endpoint).await, ErrorKind::InvalidInput);
        assert_eq!(fs::read(path).expect("still there"), b"precious");
    });
}

#[test]
fn a_socket_that_somebody_else_put_in_its_place_is_not_removed() {
    run(async |path, endpoint| {
        let listener = listen(endpoint).await;
        fs::remove_file(path).expect("a socket");
        let other = UnixListener::bind(path).expect("a free path");
        drop(listener);
        assert!(path.exists());
        drop(other);
    });
}

#[test]
fn a_folder_in_which_another_node_starts_is_waited_for_and_given_up() {
    run(async |path, endpoint| {
        let folder = fs::File::open(path.parent().expect("a folder")).expect("a folder");
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).expect("a lock");
        assert_eq!(listen_error(endpoint).await, ErrorKind::AddrInUse);
        drop(folder);
        drop(listen(endpoint).await);
    });
}
