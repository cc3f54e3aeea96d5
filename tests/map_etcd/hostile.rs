//! A listener that is no etcd, or a bad one: each lie becomes a typed error of one line, in bounded time and memory.
#![forbid(unsafe_code)]

use super::{at, map, run, run_frozen};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freight::map::{EtcdError, MapStore, MapStoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, advance, timeout};

/// What follows an answer's first bytes.
#[derive(Debug, Clone, Copy)]
enum Then {
    Close,
    Silence,
    /// For ever.
    Repeat(&'static [u8]),
}

type Answer = (Vec<u8>, Then);

/// Listens until the runtime ends, and answers a path, its `n`th time from 0 on, and the whole question.
async fn listen(answer: impl Fn(&str, u32, &str) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let place = format!("etcd://{}/freight", listener.local_addr().expect("it is bound"));
    let (answer, asked) = (Arc::new(answer), Arc::new([const { AtomicU32::new(0) }; 3]));
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
            connections.spawn(async move {
                // A client that has heard enough hangs up.
                let _ = serve(socket, &*answer, &asked).await;
            });
        }
    });
    place
}

const PATHS: [&str; 3] = ["/v3/kv/range", "/v3/kv/txn", "/v3/watch"];

async fn serve(
    mut socket: TcpStream,
    answer: &(dyn Fn(&str, u32, &str) -> Answer + Send + Sync),
    asked: &[AtomicU32; 3],
) -> std::io::Result<()> {
    let mut read = Vec::new();
    // The body is JSON, and ends in what its head does not: a brace.
    while !(read.ends_with(b"}") && read.windows(4).any(|bytes| bytes == b"\r\n\r\n")) {
        if socket.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    let question = String::from_utf8(read).expect("text");
    let path = PATHS.iter().position(|path| question.starts_with(&format!("POST {path} HTTP/1.1\r\n")));
    let path = path.unwrap_or_else(|| panic!("an unknown question: {question}"));
    let (bytes, then) = answer(PATHS[path], asked[path].fetch_add(1, Ordering::Relaxed), &question);
    socket.write_all(&bytes).await?;
    match then {
        Then::Close => Ok(()),
        Then::Silence => std::future::pending().await,
        Then::Repeat(bytes) => loop {
            socket.write_all(bytes).await?;
        },
    }
}

/// A whole answer of JSON.
fn json(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A range that finds a text.
fn found(text: &str) -> Vec<u8> {
    let value = STANDARD.encode(text);
    json(&format!(r#"{{"header":{{"revision":"7"}},"kvs":[{{"mod_revision":"7","value":"{value}"}}]}}"#))
}

/// The head of a stream, and one line of it.
fn streamed(line: &str) -> Vec<u8> {
    let length = line.len() + 1;
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{line}\n\r\n").into_bytes()
}

/// Why the one member gave no map.
fn reason(error: &MapStoreError) -> EtcdError {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
    let MapStoreError::NoAnswer { tried, .. } = error else { panic!("{error}") };
    tried[0].error.clone()
}

async fn refused(answer: Vec<u8>, then: Then) -> EtcdError {
    let place = listen(move |_, _, _| (answer.clone(), then)).await;
    let error = at(&place).load().await.expect_err("that is no answer");
    println!("{error}");
    reason(&error)
}

#[test]
fn what_is_no_http_breaks_off() {
    run(async {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let headers = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(1000));
        for (answer, then) in [
            (String::new(), Then::Close),
            ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), Then::Silence),
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}".to_owned(), Then::Close),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}".to_owned(), Then::Close),
            (format!("{chunked}zz\r\n"), Then::Silence),
            (format!("{chunked}ffffffffffffffffff\r\n"), Then::Silence),
            (format!("{chunked}2\r\n{{}}{{}}"), Then::Silence),
            (format!("{chunked}2\r\n{{}}\r\n"), Then::Close),
            (headers, Then::Silence),
            ("HTTP/1.1 200 OK\r\nX: ".to_owned(), Then::Repeat(&[b'y'; 4096])),
        ] {
            let error = refused(answer.clone().into_bytes(), then).await;
            assert!(matches!(error, EtcdError::Broken(_)), "{answer:?}: {error}");
        }
    });
}

#[test]
fn an_answer_without_an_end_is_not_waited_for_and_not_kept() {
    run(async {
        let endless = b"HTTP/1.1 200 OK\r\n\r\n{\"header\":".to_vec();
        let error = refused(endless, Then::Repeat(&[b' '; 65_536])).await;
        assert!(matches!(error, EtcdError::TooLong { .. }), "{error}");
        for silent in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"] {
            let error = refused(silent.to_vec(), Then::Silence).await;
            assert!(matches!(error, EtcdError::Late(_)), "{error}");
        }
    });
}

#[test]
fn what_is_no_answer_of_etcd_is_named() {
    run(async {
        let of_value = |value: &str| format!(r#"{{"header":{{"revision":"7"}},"kvs":[{value}]}}"#);
        for body in [
            String::new(),
            "null".to_owned(),
            "{}".to_owned(),
            "<html>\n<body>It works!</body>\n</html>".to_owned(),
            r#"{"header":{"revision":"-1"}}"#.to_owned(),
            r#"{"header":{"revision":"99999999999999999999"}}"#.to_owned(),
            r#"{"header":{"revision":"\u001b[2J\n"}}"#.to_owned(),
            of_value("{}"),
            of_value(r#"{"mod_revision":"7","value":"%%%"}"#),
            of_value(r#"{"mod_revision":"7"},{"mod_revision":"7"}"#),
            "[".repeat(1 << 20),
        ] {
            let error = refused(json(&body), Then::Close).await;
            assert!(matches!(error, EtcdError::NotEtcd(_)), "{error}");
        }
    });
}

#[test]
fn another_status_is_told_with_its_reason() {
    run(async {
        for (head, body, status, words) in [
            ("503 Busy", r#"{"error":"e","code":14,"message":"etcdserver: no leader"}"#, 503, "etcdserver: no leader"),
            ("404 Not Found", "404 page not found\n", 404, "404 page not found"),
            ("500 Oops", "\u{1b}[2J\nline\n", 500, "\\u{1b}[2J\\nline"),
            ("302 Found", "", 302, ""),
        ] {
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let error = refused(answer.into_bytes(), Then::Close).await;
            let EtcdError::Status { status: got, said } = error else { panic!("{error}") };
            assert_eq!((got, &said[..]), (status, words));
        }
    });
}

#[test]
fn a_replacement_that_was_sent_and_not_answered_is_unknown_and_not_sent_again() {
    run(async {
        let none = || json(r#"{"header":{"revision":"7"}}"#);
        for (answer, then) in [
            (Vec::new(), Then::Close),
            (b"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n".to_vec(), Then::Close),
            (b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n".to_vec(), Then::Close),
            (json("{}"), Then::Close),
        ] {
            let sent = Arc::new(AtomicU32::new(0));
            let (counter, answer) = (Arc::clone(&sent), answer.clone());
            let place = listen(move |path, _, _| match path {
                "/v3/kv/txn" => {
                    counter.fetch_add(1, Ordering::Relaxed);
                    (answer.clone(), then)
                }
                _ => (none(), Then::Close),
            })
            .await;
            let twice = place.replace("/freight", &format!(",{}/freight", &place["etcd://".len()..place.len() - 8]));
            let error = at(&twice).replace(0, &map(1)).await.expect_err("who knows?");
            assert!(matches!(error, MapStoreError::Unknown { .. }), "{error}");
            assert_eq!((error.to_string().lines().count(), sent.load(Ordering::Relaxed)), (1, 1), "{error}");
        }
    });
}

#[test]
fn a_replacement_that_always_loses_ends_as_a_conflict() {
    run(async {
        let place = listen(|path, _, _| match path {
            "/v3/kv/txn" => (json(r#"{"header":{"revision":"8"}}"#), Then::Close),
            _ => (found(&map(1).to_string()), Then::Close),
        })
        .await;
        let error = at(&place).replace(1, &map(2)).await.expect_err("it never succeeds");
        assert!(matches!(error, MapStoreError::Conflict { got: 1, expected: 1, .. }), "{error}");
    });
}

#[test]
fn whatever_a_watch_brings_nobody_spins() {
    run(async {
        let event = r#"{"result":{"events":[{}]}}"#;
        for (answer, then) in [
            (streamed(event), Then::Close),
            (streamed(r#"{"result":{"canceled":true,"cancel_reason":"no\nmore"}}"#), Then::Close),
            (streamed(r#"{"error":{"message":"no"}}"#), Then::Close),
            (streamed("{}"), Then::Close),
            (streamed("no JSON"), Then::Close),
            (b"HTTP/1.1 404 No\r\n\r\n".to_vec(), Then::Close),
            (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Then::Repeat(&[b' '; 65_536])),
            (b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), Then::Repeat(b"{\"result\":{\"created\":true}}\n")),
            (Vec::new(), Then::Close),
        ] {
            let reads = Arc::new(AtomicU32::new(0));
            let counter = Arc::clone(&reads);
            let place = listen(move |path, _, _| match path {
                "/v3/watch" => (answer.clone(), then),
                _ => {
                    counter.fetch_add(1, Ordering::Relaxed);
                    (found(&map(1).to_string()), Then::Close)
                }
            })
            .await;
            let began = Instant::now();
            let waited = timeout(Duration::from_secs(1), async { at(&place).newer_than(1).await }).await;
            assert!(waited.is_err(), "there is nothing newer: {waited:?}");
            // A round takes half of 50 ms at least.
            let most = began.elapsed().as_millis() / 25 + 1;
            let reads = u128::from(reads.load(Ordering::Relaxed));
            assert!((1..=most).contains(&reads), "{reads} reads, {most} at most");
        }
    });
}

#[test]
fn a_newer_map_is_found_though_the_watch_is_silent_or_none() {
    run(async {
        for (answer, then) in [
            (streamed(r#"{"result":{"created":true}}"#), Then::Silence),
            (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_vec(), Then::Close),
        ] {
            let place = listen(move |path, asked, _| match path {
                "/v3/watch" => (answer.clone(), then),
                _ => (found(&map(if asked == 0 { 1 } else { 2 }).to_string()), Then::Close),
            })
            .await;
            assert_eq!(*at(&place).newer_than(1).await.expect("a map"), map(2));
        }
    });
}

#[test]
fn what_changes_between_a_read_and_its_watch_is_not_missed() {
    run_frozen(async {
        let (watched, is_watched) = mpsc::unbounded_channel();
        let place = listen(move |path, asked, question| match path {
            // The reads tell of revision 7.
            "/v3/watch" if question.contains(r#""start_revision":"8""#) => {
                let _ = watched.send(());
                (streamed(r#"{"result":{"events":[{}]}}"#), Then::Silence)
            }
            "/v3/watch" => (streamed(r#"{"result":{"created":true}}"#), Then::Silence),
            _ => (found(&map(if asked == 0 { 1 } else { 2 }).to_string()), Then::Close),
        })
        .await;
        let (keeper, mut is_watched) = (at(&place), is_watched);
        let changed = async {
            is_watched.recv().await.expect("it watches");
            // A round's pause, and far less than a read waits for a watch.
            advance(Duration::from_millis(100)).await;
        };
        let (newer, ()) = tokio::join!(keeper.newer_than(1), changed);
        assert_eq!(*newer.expect("a map"), map(2));
    });
}
