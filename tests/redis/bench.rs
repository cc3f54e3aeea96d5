//! The benchmark over RESP: against a real redis-server and against our own door, every byte checked.
#![forbid(unsafe_code)]

use crate::authentication::{guarded, redis_server};
use crate::node;
use crate::server::RedisServer;
use clap::Parser;
use freight::auth::Credentials;
use freight::bench::config::BenchConfig;
use freight::bench::report::Report;
use freight::bench::{BenchError, Target, run};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

#[derive(Debug, Parser)]
struct Command {
    #[command(flatten)]
    bench: BenchConfig,
}

fn measured(flags: &[&str], servers: &[String]) -> Result<Report, BenchError> {
    measured_as(None, flags, servers)
}

/// As a user with a password.
fn measured_as(who: Option<(&str, &str)>, flags: &[&str], servers: &[String]) -> Result<Report, BenchError> {
    let servers = servers.join(",");
    let short = ["bench", "--servers", &servers, "--records", "3000", "--threads", "1", "--placement", "free"];
    let lengths = ["--duration", "500ms", "--warmup", "100ms", "--verify"];
    let mut config = Command::parse_from(short.iter().chain(&lengths).chain(flags)).bench.resolved();
    config.credentials =
        who.map(|(name, password)| Credentials::new(name, password.as_bytes()).expect("a name and a password"));
    let target = Target { endpoints: config.servers.clone(), node_cores: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(config, target))
}

/// Both kinds of server, by the same words.
fn each_server(check: impl Fn(&str, &str)) {
    let (theirs, ours) = (RedisServer::start(), node(|_| ()));
    for (name, endpoint) in [("redis", theirs.endpoint()), ("freight", format!("resp://{}", ours.address))] {
        check(name, &endpoint);
    }
}

#[test]
fn a_run_over_resp_reads_back_what_it_wrote() {
    for flags in [
        &["--batch", "100", "--depth", "3", "--workers", "2"][..],
        &["--batch", "1", "--workload", "ycsb-a", "--value-size", "5"],
        &["--batch", "500", "--workload", "ycsb-f", "--value-size", "1000"],
        &["--batch", "50", "--workload", "ycsb-d", "--rate", "20000"],
    ] {
        each_server(|name, endpoint| {
            let report = measured(flags, &[endpoint.to_owned()]).expect("a report");
            println!("{name}, {flags:?}\n{report}");
            assert_eq!((report.transport.as_str(), report.errors.total, report.reads.misses), ("resp", 0, 0), "{name}");
            assert!(report.reads.hits > 0 && report.throughput.ops_per_second > 0.0 && report.reads.verified);
            assert!(report.wire_limit.is_none(), "there are no frames");
            assert!(report.memory.nodes[0].records >= 3000, "{:?}", report.memory);
            assert!(report.memory.nodes[0].used_bytes > 0 && report.nodes[0].operations >= report.reads.hits);
            assert!(report.cpu_ns_per_op.server > Some(0.0), "{name} tells its time");
            assert!(report.wire.bytes_per_op_received > 0.0 && report.wire.bytes_per_op_sent > 0.0);
        });
    }
}

#[test]
fn a_run_says_who_it_is_where_servers_ask_for_it() {
    let (theirs, ours) = (redis_server(), guarded());
    for endpoint in [theirs.endpoint(), format!("resp://{}", ours.address)] {
        let endpoint = [endpoint];
        for who in [("rw", "rw-word"), ("default", "default-word")] {
            let report = measured_as(Some(who), &["--batch", "100"], &endpoint).expect("a report");
            assert_eq!((report.errors.total, report.reads.misses), (0, 0), "{who:?}");
            assert!(report.reads.hits > 0 && report.memory.nodes[0].records >= 3000, "{:?}", report.memory);
        }
        let wrong = measured_as(Some(("rw", "wrong")), &[], &endpoint).expect_err("no report").to_string();
        assert!(wrong.contains("does not let the benchmark in: WRONGPASS"), "{wrong}");
        let nobody = measured(&[], &endpoint).expect_err("no report").to_string();
        assert!(nobody.contains("NoAuth"), "{nobody}");
    }
    // A server that asks for no password is not the one that it is for.
    let (theirs, ours) = (RedisServer::start(), node(|_| ()));
    for endpoint in [theirs.endpoint(), format!("resp://{}", ours.address)] {
        let open = measured_as(Some(("rw", "rw-word")), &[], &[endpoint]).expect_err("no report").to_string();
        assert!(open.contains("does not let the benchmark in: WRONGPASS"), "{open}");
    }
}

#[test]
fn keys_are_dealt_to_several_servers_by_their_slots() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let endpoints = servers.each_ref().map(RedisServer::endpoint);
    let report = measured(&["--batch", "100"], &endpoints).expect("a report");
    assert_eq!((report.errors.total, report.reads.misses), (0, 0));
    assert!(report.memory.nodes.iter().all(|node| node.records > 1000), "{:?}", report.memory);
    assert_eq!(report.memory.nodes.iter().map(|node| node.records).sum::<u64>(), 3000);
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("resp://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || listener.incoming().flatten().for_each(|peer| drop(std::thread::spawn(|| lie(peer)))));
    let report = measured(&["--batch", "10", "--value-size", "20"], &[endpoint]).expect("a report");
    assert_eq!(report.errors.total, report.reads.hits, "{:?}", report.errors);
    assert!(report.errors.total > 0 && report.errors.by_kind.contains_key("WrongValue"), "{:?}", report.errors);
}

/// Takes every SET, and has the same value for every GET.
fn lie(peer: TcpStream) {
    let (mut replies, mut lines) = (peer.try_clone().expect("a handle"), BufReader::new(peer));
    loop {
        let Some(count) = number(&mut lines) else { return };
        let words: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let mut word = vec![0; number(&mut lines).expect("a length") + 2];
                lines.read_exact(&mut word).expect("a word");
                word
            })
            .collect();
        let reply: &[u8] = match &words[0][..3] {
            b"SET" => b"+OK\r\n",
            b"GET" => b"$20\r\n01234567890123456789\r\n",
            _ => b"$9\r\n# Nothing\r\n",
        };
        if replies.write_all(reply).is_err() {
            return;
        }
    }
}

/// The number of a line, behind its sigil; `None` at the end.
fn number(lines: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    lines.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    line[1..].trim_end().parse().ok()
}

#[test]
fn a_server_that_answers_something_else_is_told_of() {
    for (answer, kind) in [(&b"*1\r\n"[..], "Malformed"), (b"+OK\r\n+OK\r\n:1\r\n", "Malformed"), (b"", "Lost")] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("resp://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for mut peer in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    // Whatever is asked.
                    peer.read_exact(&mut [0; 10]).ok()?;
                    peer.write_all(answer).ok()?;
                    if answer.is_empty() { None } else { peer.read_to_end(&mut Vec::new()).ok() }
                });
            }
        });
        let error = measured(&[], &[endpoint]).expect_err("no report").to_string();
        assert!(error.ends_with(kind), "{error}");
    }
}

#[test]
fn what_resp_cannot_do_is_refused_in_words() {
    let server = ["resp://127.0.0.1:1".to_owned()];
    for (flags, words) in [
        (&["--wire-limit"][..], "there are none over resp"),
        (&["--connections", "shared"], "nothing merges"),
        (&["--at-most-once"], "sent again"),
    ] {
        let refused = measured(flags, &server).expect_err("no report").to_string();
        assert!(refused.contains(words), "{refused}");
    }
    let both = ["resp://127.0.0.1:1".to_owned(), "tcp://127.0.0.1:1".to_owned()];
    assert!(measured(&[], &both).expect_err("no report").to_string().contains("servers of one kind"));
}
