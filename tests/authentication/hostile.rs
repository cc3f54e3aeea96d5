//! Clients and nodes that mean no good: whatever they say, others notice nothing.
#![forbid(unsafe_code)]

use super::{as_user, node, users};
use crate::support::cluster::Wire;
use crate::support::frames::read_frame;
use freight::auth::{ClientExchange, Credentials, Method};
use freight::client::{Client, ClientError};
use freight::limits::FRAME_BYTES_DEFAULT;
use freight::server::Node;
use freight::transport::Endpoint;
use freight::wire::{
    self, Capabilities, FrameKind, Header, Hello, HelloReply, Refusal, RefusalCode, challenge_message, hello_with,
    proof,
};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

fn connect(endpoints: &[Endpoint]) -> TcpStream {
    TcpStream::connect(endpoints[0].address()).expect("the node listens")
}

/// A hello that says who this is, with a first message.
fn hello_as(message: &[u8]) -> Vec<u8> {
    let mut hello = Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default());
    hello.authentication_method = Method::ScramSha256.code().into();
    hello_with(&hello, message)
}

fn say(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.write_all(bytes).expect("the node reads");
    read_frame(stream).expect("an answer")
}

fn refused(frame: &[u8]) -> (RefusalCode, String) {
    let refusal = Refusal::parse(frame).expect("a refusal");
    (refusal.code, refusal.text.to_owned())
}

/// Says hello as ada: the connection, and the proof that she would give.
fn half_way(endpoints: &[Endpoint]) -> (TcpStream, Vec<u8>) {
    let credentials = Credentials::new("ada", b"ada-word").expect("a name and a password");
    let (exchange, first) = ClientExchange::begin("ada", &[1; 18], None);
    let mut stream = connect(endpoints);
    let asked = say(&mut stream, &hello_as(&first));
    let answer = credentials.answer(exchange, challenge_message(&asked).expect("a challenge"));
    let (_, last) = answer.expect("a challenge").prove();
    (stream, last)
}

fn works(node: &Node) {
    Wire::Tcp.runtime().block_on(async {
        let client = Client::connect(node.endpoints(), as_user("ada")).await.expect("she comes in");
        client.put(b"works", b"v").await.expect("it works");
    });
}

#[test]
fn half_a_handshake_and_silence_ends_when_its_time_is_over() {
    let (node, endpoints) = node(|config| config.hello_wait = Duration::from_secs(1));
    let mut silent: Vec<_> = (0..100).map(|_| half_way(&endpoints).0).collect();
    works(&node);
    for stream in &mut silent {
        let (code, text) = refused(&read_frame(stream).expect("a refusal"));
        assert_eq!((code, text.as_str()), (RefusalCode::Malformed, "no hello within 1s"));
        assert_eq!(read_frame(stream), None);
    }
    works(&node);
}

#[test]
fn a_proof_opens_one_connection_and_no_other() {
    let (node, endpoints) = node(|_| {});
    let (mut stream, right) = half_way(&endpoints);
    assert!(HelloReply::parse(&say(&mut stream, &proof(&right))).is_ok());
    let (mut stream, _) = half_way(&endpoints);
    let (code, text) = refused(&say(&mut stream, &proof(&right)));
    assert_eq!(code, RefusalCode::Unauthorized);
    assert_eq!(text, "the authentication message belongs to another exchange");
    works(&node);
}

#[test]
fn what_is_no_message_is_refused_and_nothing_of_it_is_executed() {
    let (node, endpoints) = node(|_| {});
    let (code, text) = refused(&say(&mut connect(&endpoints), &hello_as(b"n,,n=ada")));
    assert_eq!(code, RefusalCode::Malformed);
    assert_eq!(text, "malformed authentication message: unreadable nonce");
    let (code, text) = refused(&say(&mut connect(&endpoints), &hello_as(&[b'n'; 60_000])));
    assert_eq!(code, RefusalCode::Malformed);
    assert_eq!(text, "authentication message of 60000 bytes, at most 1024 are allowed");
    let (mut stream, _) = half_way(&endpoints);
    let (code, text) = refused(&say(&mut stream, &proof(&[b'c'; 2_000])));
    assert_eq!(code, RefusalCode::Malformed);
    assert_eq!(text, "authentication message of 2000 bytes, at most 1024 are allowed");
    // Before the proof nothing else is answered.
    let (mut stream, _) = half_way(&endpoints);
    let (code, text) = refused(&say(&mut stream, &wire::stats_request(1)));
    assert_eq!(code, RefusalCode::Malformed);
    assert_eq!(text, "malformed frame: frame kind 6 where 13 was expected");
    let mut unknown = Hello::new(FRAME_BYTES_DEFAULT, Capabilities::default());
    unknown.authentication_method = 7.into();
    let (code, text) = refused(&say(&mut connect(&endpoints), &wire::hello(&unknown)));
    assert_eq!(code, RefusalCode::Unauthorized);
    assert_eq!(text, "authentication method 7 is unknown to this node");
    works(&node);
    assert_eq!(node.stats().operations, 1, "the put of the client that works");
}

#[test]
fn a_frame_longer_than_a_hello_is_refused_before_the_proof() {
    let (node, endpoints) = node(|_| {});
    let (mut stream, _) = half_way(&endpoints);
    let mut long = wire::proof(&[0; 70_000]);
    long.truncate(64);
    let (code, text) = refused(&say(&mut stream, &long));
    assert_eq!(
        (code, text.as_str()),
        (RefusalCode::Malformed, "peer does not speak this protocol: frame of 70064 bytes, allowed are 64 to 65536")
    );
    works(&node);
}

#[test]
fn a_flood_of_wrong_proofs_keeps_nobody_out() {
    let (node, endpoints) = node(|_| {});
    let flood: Vec<JoinHandle<()>> = (0..4)
        .map(|_| {
            let endpoints = endpoints.clone();
            spawn(move || {
                for _ in 0..200 {
                    let (mut stream, mut wrong) = half_way(&endpoints);
                    let last = wrong.len() - 2;
                    wrong[last] = if wrong[last] == b'A' { b'Q' } else { b'A' };
                    let (code, text) = refused(&say(&mut stream, &proof(&wrong)));
                    assert_eq!(code, RefusalCode::Unauthorized, "{text}");
                }
            })
        })
        .collect();
    (0..20).for_each(|_| works(&node));
    flood.into_iter().for_each(|client| client.join().expect("each is refused"));
    assert_eq!(node.stats().refusals, 800);
}

/// What a client with credentials makes of a node that answers its frames so.
fn against(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> ClientError {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp://{}", listener.local_addr().expect("an address")).parse().expect("an endpoint");
    let playing = spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        while let Some(frame) = read_frame(&mut stream) {
            stream.write_all(&answer(&frame)).expect("it reads");
        }
    });
    let error = Wire::Tcp
        .runtime()
        .block_on(async { Client::connect(&[endpoint], as_user("ada")).await.expect_err("no node to trust") });
    playing.join().expect("it ends with its client");
    error
}

fn reply() -> HelloReply {
    HelloReply {
        version: 1,
        reserved: 0,
        cpu: 0.into(),
        frame_bytes_max: FRAME_BYTES_DEFAULT.into(),
        capabilities: 0.into(),
        incarnation: [1; 16],
        frames_in_flight_max: 1.into(),
        permissions: 0.into(),
    }
}

pub(crate) fn against_an_impostor() -> ClientError {
    against(|frame| {
        let (_, kind, _) = Header::split(frame).expect("a frame");
        if kind == FrameKind::Hello {
            let (_, asked) =
                users().challenge(wire::hello_message(frame).expect("a hello"), &[2; 18], None).expect("a user");
            return wire::challenge(&asked);
        }
        wire::hello_reply_with(&reply(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    })
}

pub(crate) fn against_a_node_that_asks_for_nothing() -> ClientError {
    against(|_| wire::hello_reply(&reply()))
}
