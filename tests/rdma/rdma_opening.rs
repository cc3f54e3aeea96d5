//! Opening a connection, and how it can go wrong: one clear error each, bounded in time.
#![forbid(unsafe_code)]

use crate::support::{End, address, config, endpoint, rdma, run};
use freight::transport::rdma::{Rdma, RdmaConnection, RdmaError, RdmaOptions, VerbsError};
use freight::transport::{FrameReceiver, Incoming, Listener, Transport, TransportError};
use std::error::Error;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a listening RDMA end says of a peer that sends these bytes, and then closes or stays.
async fn said_of(bytes: &[u8], close: bool) -> RdmaError {
    let mut listener = rdma().listen(&endpoint()).await.expect("the endpoint is free");
    let (host, port) = listener.endpoint().host_port().expect("host and port");
    let mut peer = TcpStream::connect((host, port)).await.expect("somebody listens");
    peer.write_all(bytes).await.expect("somebody reads");
    let config = config();
    let connection = listener.accept().await.expect("a connection").attach(&config).expect("room");
    let _open = (!close).then_some(peer);
    ended(connection, &config).await
}

async fn ended(connection: RdmaConnection, config: &freight::transport::ConnectionConfig) -> RdmaError {
    let mut end = End::new(connection, config);
    let error = end.receiver.receive().await.expect_err("nobody sends a frame");
    let TransportError::Lost { source } = &error else { panic!("{error}") };
    source.get_ref().and_then(|inner| inner.downcast_ref::<RdmaError>()).expect("RDMA says why").clone()
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn other_protocols_and_versions_are_told_apart() {
    run(async || {
        assert!(matches!(said_of(b"GET / HTTP/1.1\r\n\r\n", false).await, RdmaError::NotRdma));
        assert!(matches!(said_of(b"FRDM\x07\0\0\0", false).await, RdmaError::Version { got: 7 }));
        assert!(matches!(said_of(b"FRDM\x01\0\0\0rest", true).await, RdmaError::HalfOpened));
        assert!(matches!(said_of(b"", true).await, RdmaError::HalfOpened));
        let zeroes = [b"FRDM\x01\0\0\0".as_slice(), &[0; 40]].concat();
        assert!(matches!(said_of(&zeroes, false).await, RdmaError::BadGreeting { .. }));
        let refusal = [b"FRDM\x01\0\x01\0full".as_slice(), &[b' '; 236]].concat();
        assert!(matches!(said_of(&refusal, false).await, RdmaError::Refused { text } if text == "full"));
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_peer_that_stalls_is_given_up() {
    run(async || {
        let stalled = said_of(b"FRDM\x01", false).await;
        assert!(matches!(stalled, RdmaError::Stalled { waited } if waited < Duration::from_secs(10)), "{stalled}");
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn who_cannot_attach_says_why() {
    run(async || {
        let mut listener = rdma().listen(&endpoint()).await.expect("the endpoint is free");
        let (near, poor) = (config(), config());
        assert!(poor.pool.budget().charge(u64::MAX - 1));
        let connected = rdma().connect(&listener.endpoint().clone(), &near).await.expect("a listener");
        let incoming = listener.accept().await.expect("a connection");
        assert!(matches!(incoming.attach(&poor), Err(TransportError::Accept { .. })));
        let told = ended(connected, &near).await;
        assert!(matches!(&told, RdmaError::Refused { text } if text.contains("memory cap")), "{told}");
        poor.pool.budget().credit(u64::MAX - 1);
    });
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn what_is_not_there_is_named() {
    run(async || {
        let options = RdmaOptions { rdma_device: Some("mlx5_99".to_owned()), ..RdmaOptions::default() };
        assert!(matches!(refused(options).await, VerbsError::UnknownDevice { name, .. } if name == "mlx5_99"));
        let options = RdmaOptions { rdma_gid: Some(200), ..RdmaOptions::default() };
        assert!(matches!(refused(options).await, VerbsError::UnknownGid { index: 200, .. }));
        let options = RdmaOptions { rdma_port: Some(9), ..RdmaOptions::default() };
        assert!(matches!(refused(options).await, VerbsError::UnknownPort { port: 9, .. }));
    });
}

async fn refused(options: RdmaOptions) -> VerbsError {
    let refused = Rdma::new(options).listen(&endpoint()).await.expect_err("it is not there");
    let TransportError::Listen { source, .. } = &refused else { panic!("{refused}") };
    source.get_ref().and_then(|inner| inner.downcast_ref::<VerbsError>()).expect("verbs say why").clone()
}

#[test]
#[ignore = "needs an RDMA device: scripts/rdma-lab makes one"]
fn a_node_that_is_none_is_told_from_one() {
    run(async || {
        // Answers as a tcp:// node does.
        let other = TcpListener::bind((address(), 0)).await.expect("a free port");
        let local = other.local_addr().expect("bound");
        let config = config();
        let connection = rdma().connect(&format!("rdma://{local}").parse().expect("an endpoint"), &config).await;
        let (mut stream, _) = other.accept().await.expect("a connection");
        let mut greeting = [0; 48];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        stream.write_all(b"FRGT\x01\0\0\0").await.expect("a reader");
        let told = ended(connection.expect("a listener"), &config).await;
        assert!(matches!(told, RdmaError::NotRdma), "{told}");
        assert!(told.source().is_none());
    });
}
