//! Peers that mean no good, before the handshake and after it: others are served meanwhile.
#![forbid(unsafe_code)]

use crate::binding::{client_config, connection_config, started};
use crate::certificates::Authority;
use crate::{address, at, node};
use freight::client::Client;
use freight::transport::tls::Tls;
use freight::transport::{
    Connection, Frame, FrameReceiver, FrameSender, Incoming, Listener, Transport, TransportError,
};
use freight::wire::stats_request;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tokio::runtime::Builder;

/// The first bytes of a ClientHello of 512 bytes, whose rest never comes.
const HALF_A_HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3];

/// What a peer is told that says `bytes` and no more, until the node closes the connection.
fn told(endpoint: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address(endpoint)).expect("it listens");
    stream.write_all(bytes).expect("it listens");
    let mut told = Vec::new();
    // A reset ends it as well as a close.
    let _ = stream.read_to_end(&mut told);
    told
}

#[test]
fn garbage_is_no_client_hello_and_gets_an_alert() {
    let authority = Authority::with_node();
    let mut node = node(&authority, &["tls", "resps"], &[]);
    for endpoint in &node.endpoints {
        for garbage in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], b"*1\r\n$4\r\nPING\r\n", &[0xFF; 5_000], &[0x16, 3, 1, 0xFF, 0xFF]]
        {
            let alert = told(endpoint, garbage);
            assert_eq!(alert.first(), Some(&0x15), "{garbage:?}: {alert:?}");
            node.process.wait_for("the other end does not speak TLS");
        }
    }
    assert_eq!(at(&authority, node.endpoint(), &["put", "k", "v"]).code, Some(0));
}

#[test]
fn a_handshake_that_stalls_ends_with_the_time_for_the_greeting_and_keeps_nobody() {
    let authority = Authority::with_node();
    let node = started(authority.options(), |config| {
        config.hello_wait = Duration::from_millis(300);
        config.redis = vec!["resps://127.0.0.1:0".parse().expect("an endpoint")];
    });
    let frames = node.endpoints()[0].clone();
    let stalled = || [frames.to_string(), node.redis_endpoints()[0].to_string()];
    let mut open: Vec<_> = stalled().iter().map(|at| TcpStream::connect(address(at)).expect("it listens")).collect();
    for stream in &mut open {
        stream.write_all(HALF_A_HELLO).expect("it listens");
    }
    // And one that says nothing at all.
    open.push(TcpStream::connect(address(&frames.to_string())).expect("it listens"));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(&[frames], client_config(authority.options(), None)).await.expect("served");
        client.put(b"k", b"v").await.expect("served");
    });
    for mut stream in open {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{rest:?}");
    }
    // Each is counted when it is closed, or just after.
    while node.stats().refusals < 3 {
        std::thread::yield_now();
    }
    node.drain();
}

#[test]
fn what_is_cut_off_inside_a_frame_is_an_error_and_between_two_an_end() {
    let authority = Authority::with_node();
    let (tls, config) = (Tls::new(authority.options()), connection_config());
    let whole = stats_request(1);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    for cut in [0, 5, 63] {
        let last = runtime.block_on(async {
            let any = "tls://127.0.0.1:0".parse().expect("an endpoint");
            let mut listener = tls.listen(&any).await.expect("a free port");
            let endpoint = listener.endpoint().clone();
            let (near, far) = tokio::join!(tls.connect(&endpoint, &config), listener.accept());
            let mut near = near.expect("it listens");
            let mut far = far.expect("a client").attach(&config).expect("no cap");
            let established = tokio::join!(near.establish(), far.establish());
            established.0.and(established.1).expect("both are honest");
            let ((mut sender, receiver), (_answering, mut arriving)) = (near.split(), far.split());
            for bytes in [&whole[..], &whole[..cut]].into_iter().filter(|bytes| !bytes.is_empty()) {
                sender.send(Frame::unaccounted(bytes.to_vec())).await.expect("it is taken");
            }
            // Dropped, both halves say nothing more: the socket is closed, and TLS is not.
            drop((sender, receiver));
            assert!(matches!(arriving.receive().await, Ok(Some(frame)) if *frame == *whole));
            arriving.receive().await
        });
        match last {
            Ok(None) => assert_eq!(cut, 0, "half a frame is lost"),
            Err(TransportError::CutShort { got, needed: 64 }) => assert_eq!(got as usize, cut),
            other => panic!("{cut}: {other:?}"),
        }
    }
}
