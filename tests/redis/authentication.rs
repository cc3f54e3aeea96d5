//! Users behind the door for Redis clients: the words of a real redis-server, and real clients.
#![forbid(unsafe_code)]

use crate::hostile::{FLOOD, flood};
use crate::raw::{Raw, command};
use crate::server::RedisServer;
use crate::{Served, node};
use freight::auth::{ITERATIONS_MAX, ITERATIONS_MIN, Rights, User, Users, Verifier};
use redis::Commands;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

pub(crate) fn user(name: &str, rights: Rights, iterations: u32) -> User {
    let verifier = Verifier::new(format!("{name}-word").as_bytes(), [5; 16], iterations);
    User { name: name.to_owned(), rights, verifier, ops_per_second: None }
}

pub(crate) fn users() -> Users {
    let mut users = Users::new([9; 32]);
    let both = Rights::READ.and(Rights::WRITE);
    for (name, rights) in [("default", Rights::ALL), ("ro", Rights::READ), ("wo", Rights::WRITE), ("rw", both)] {
        users.set(user(name, rights, ITERATIONS_MIN)).expect("a user");
    }
    users
}

pub(crate) fn guarded() -> Served {
    node(|config| config.users = Some(users()))
}

/// The same users at a real redis-server.
pub(crate) fn redis_server() -> RedisServer {
    let server = RedisServer::start();
    let mut client = server.client();
    for line in [
        "ACL SETUSER ro on >ro-word ~* +@read +@connection",
        "ACL SETUSER wo on >wo-word ~* +@write +@connection -flushall",
        "ACL SETUSER rw on >rw-word ~* +@all",
        "CONFIG SET requirepass default-word",
    ] {
        assert_eq!(client.says(line), "+OK\r\n", "{line}");
    }
    server
}

#[test]
fn a_real_redis_server_says_the_same() {
    let (server, node) = (redis_server(), guarded());
    let (mut theirs, mut ours) = (server.client(), node.client());
    for line in [
        "GET k",
        "PING",
        "SELECT 0",
        "COMMAND COUNT",
        "GET",
        "NONSENSE",
        "HELLO",
        "HELLO 3",
        "HELLO 4",
        "HELLO 3 NONSENSE",
        "HELLO 3 AUTH default wrong",
        "AUTH wrong",
        "AUTH default wrong",
        "AUTH nobody default-word",
        "AUTH a b c",
        "GET k",
        "AUTH default-word",
        "SET k v",
        "AUTH ro wrong",
        "GET k",
        "AUTH ro ro-word",
        "GET k",
        "SET k v",
        "DEL k",
        "FLUSHALL",
        "PING",
        "AUTH wo wo-word",
        "SET k w",
        "GET k",
        "MGET k k",
        "FLUSHALL",
        "AUTH default default-word",
        "GET k",
    ] {
        assert_eq!(ours.says(line), theirs.says(line), "{line}");
    }
}

#[test]
fn commands_behind_a_password_wait_for_it() {
    let node = guarded();
    let mut client = node.client();
    let words: [&[&str]; 4] = [&["GET", "k"], &["AUTH", "rw", "rw-word"], &["SET", "k", "v"], &["GET", "k"]];
    let pipeline: Vec<u8> = words.iter().flat_map(|words| command(words)).collect();
    client.send(&pipeline);
    let replies: Vec<_> = (0..4).map(|_| String::from_utf8(client.reply()).expect("text")).collect();
    assert_eq!(replies, ["-NOAUTH Authentication required.\r\n", "+OK\r\n", "+OK\r\n", "$1\r\nv\r\n"]);
    // As a line, which is taken apart in its place.
    let mut client = node.client();
    client.send(b"AUTH rw rw-word\r\nGET k\r\n");
    assert_eq!((client.reply(), client.reply()), (b"+OK\r\n".to_vec(), b"$1\r\nv\r\n".to_vec()));
}

#[test]
fn what_tells_a_value_takes_the_right_to_read() {
    let node = guarded();
    let mut client = node.client();
    assert_eq!(client.says("AUTH wo wo-word"), "+OK\r\n");
    for line in ["SET k 1", "DEL k", "MSET a 1 b 2", "EXPIRE a 100"] {
        assert!(!client.says(line).starts_with('-'), "{line}");
    }
    for (line, name) in [("SET k 1 GET", "set"), ("GETDEL k", "getdel"), ("INCR a", "incr"), ("GETSET a 2", "getset")] {
        let denied = format!("-NOPERM this user has no permissions to run the '{name}' command\r\n");
        assert_eq!(client.says(line), denied, "{line}");
    }
    assert_eq!(client.says("AUTH rw rw-word"), "+OK\r\n");
    assert_eq!(client.says("INCR a"), ":2\r\n");
    let denied = "-NOPERM this user has no permissions to run the 'flushall' command\r\n";
    assert_eq!(client.says("FLUSHALL"), denied, "it takes the right to admin");
}

#[test]
fn whoever_has_not_authenticated_sends_nothing_long() {
    let node = guarded();
    let mut client = node.client();
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n");
    assert_eq!(client.reply(), b"-ERR Protocol error: a command of more than 20480 bytes\r\n");
    assert_eq!(client.rest(), b"");
}

#[test]
fn whoever_does_not_authenticate_has_no_place_for_long() {
    let wait = Duration::from_secs(1);
    let node = node(|config| (config.users, config.hello_wait) = (Some(users()), wait));
    let (mut known, mut stranger) = (node.client(), node.client());
    assert_eq!(known.says("AUTH rw rw-word"), "+OK\r\n");
    assert_eq!(stranger.reply(), b"-ERR no authentication within 1s\r\n");
    assert_eq!(stranger.rest(), b"");
    assert_eq!(known.says("SET k v"), "+OK\r\n", "who is in stays");
}

#[test]
fn a_stranger_that_always_has_something_to_say_has_no_place_for_long_either() {
    let node = node(|config| (config.users, config.hello_wait) = (Some(users()), Duration::from_millis(50)));
    let replies = flood(&node.address, || {});
    assert!(replies.starts_with(b"-NOAUTH Authentication required.\r\n"));
    assert!(replies.len() < FLOOD * 7, "it was heard on and on");
}

#[test]
fn rights_that_are_taken_away_end_what_is_half_done() {
    let node = guarded();
    let mut client = node.client();
    assert_eq!(client.says("AUTH rw rw-word"), "+OK\r\n");
    let value = vec![b'v'; 60_000];
    assert_eq!(client.ask(&[&b"SET"[..], b"large", &value]), b"+OK\r\n");
    let mget = [&["MGET"][..], &["large"; 2_000]].concat();
    client.send(&[command(&mget), command(&["QUIT"])].concat());
    // The rest is more than waits anywhere.
    client.more_until(1 << 20);
    let mut fewer = users();
    fewer.set(user("rw", Rights::WRITE, ITERATIONS_MIN)).expect("a user");
    node.node.set_users(fewer);
    let told = client.rest();
    let element = [b"$60000\r\n", &value[..], b"\r\n"].concat();
    let whole = [&b"*2000\r\n"[..], &element.repeat(2_000)].concat();
    assert!(told.len() < whole.len() && whole.starts_with(&told), "{} bytes of {}", told.len(), whole.len());
}

#[test]
fn a_guess_that_nobody_waits_for_holds_no_connection() {
    let mut costly = users();
    costly.set(user("slow", Rights::READ, ITERATIONS_MAX)).expect("a user");
    let node = node(|config| (config.users, config.hello_wait) = (Some(costly), Duration::from_secs(100)));
    let guess = || {
        let mut stream = TcpStream::connect(&node.address).expect("it listens");
        stream.write_all(&command(&["AUTH", "slow", "wrong"])).expect("it reads");
        stream
    };
    let mut known = node.client();
    assert_eq!(known.says("AUTH rw rw-word"), "+OK\r\n");
    let mut patient = guess();
    (0..20).for_each(|_| drop(guess()));
    // Whoever comes later is answered when they have come.
    let mut later = node.client();
    assert_eq!(later.says("PING"), "-NOAUTH Authentication required.\r\n");
    while node.node.stats().connections != 3 {
        assert_eq!(known.says("SET k v"), "+OK\r\n");
    }
    // They have ended while the first is being checked, and cost nothing.
    patient.set_nonblocking(true).expect("an option");
    let answer = patient.read(&mut [0; 100]).map_err(|error| error.kind());
    assert_eq!(answer, Err(ErrorKind::WouldBlock));
}

#[test]
fn users_that_change_are_gone_by_with_the_next_command() {
    let node = guarded();
    let (mut reader, mut writer) = (node.client(), node.client());
    assert_eq!(reader.says("AUTH ro ro-word"), "+OK\r\n");
    assert_eq!(writer.says("AUTH wo wo-word"), "+OK\r\n");
    let mut changed = users();
    changed.remove("wo");
    changed.set(user("ro", Rights::ALL, ITERATIONS_MIN)).expect("a user");
    node.node.set_users(changed);
    assert_eq!(reader.says("SET k v"), "+OK\r\n");
    assert_eq!(writer.says("SET k v"), "-NOAUTH Authentication required.\r\n");
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    assert_eq!(writer.says("AUTH wo wo-word"), wrong);
}

#[test]
fn the_list_of_clients_tells_who_they_are() {
    let (server, node) = (redis_server(), guarded());
    for address in [None, Some(&node.address)] {
        let connect = || address.map_or_else(|| server.client(), |address| Raw::tcp(address));
        let (mut reader, mut writer, mut stranger) = (connect(), connect(), connect());
        assert_eq!(reader.says("AUTH rw rw-word"), "+OK\r\n");
        writer.says("HELLO 3 AUTH wo wo-word");
        stranger.says("AUTH wo wrong");
        let mut users_of = |clients: usize| {
            let list = reader.says("CLIENT LIST");
            let user = |line: &str| Some(line.split_once(" user=")?.1.split_once(' ')?.0.to_owned());
            let users: Vec<_> = list.lines().filter_map(user).collect();
            assert_eq!(users.len(), clients, "{list}");
            users
        };
        // Of the real one the helper that made its users is gone.
        assert_eq!(users_of(3), ["rw", "wo", "default"]);
        if address.is_some() {
            let mut changed = users();
            changed.remove("wo");
            node.node.set_users(changed);
            assert_eq!(writer.says("PING"), "-NOAUTH Authentication required.\r\n");
            assert_eq!(users_of(3), ["rw", "default", "default"]);
        }
    }
}

#[test]
fn a_flood_of_passwords_is_bounded_and_stalls_nobody_else() {
    let mut costly = users();
    costly.set(user("slow", Rights::READ, 2_000_000)).expect("a user");
    let node = node(|config| config.users = Some(costly));
    let mut known = node.client();
    assert_eq!(known.says("AUTH rw rw-word"), "+OK\r\n");
    let (told, replies) = channel();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(&node.address).expect("it listens");
        stream.write_all(&command(&["AUTH", "slow", "wrong"])).expect("it reads");
        let told = told.clone();
        spawn(move || {
            let mut reply = [0; 100];
            let bytes = stream.read(&mut reply).unwrap_or(0);
            // Nobody listens any more when the test is over.
            let _ = told.send(reply[..bytes].to_vec());
        });
    }
    // Who is in goes on, and who was in before comes in again, whatever waits.
    for _ in 0..100 {
        assert_eq!(known.says("SET k v"), "+OK\r\n");
    }
    assert_eq!(node.client().says("AUTH rw rw-word"), "+OK\r\n");
    // One is being checked and 64 wait, at most: the others are told so at once.
    let busy = b"-ERR too many passwords wait to be checked, try again\r\n";
    assert!(replies.iter().take(30).any(|reply| reply == busy));
}

#[test]
fn redis_cli_the_python_client_and_the_rust_client_authenticate() {
    let node = guarded();
    let cli = |words: &[&str]| {
        let mut command = Command::new("redis-cli");
        let (host, port) = node.address.split_once(':').expect("an address");
        command.args(["-h", host, "-p", port, "--no-auth-warning"]).args(words).env_remove("REDISCLI_AUTH");
        let output = command.output().expect("redis-cli is installed: scripts/verify does so");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(cli(&["-a", "default-word", "set", "k", "v"]), "OK\n");
    assert_eq!(cli(&["--user", "ro", "-a", "ro-word", "get", "k"]), "v\n");
    let denied = "NOPERM this user has no permissions to run the 'set' command\n\n";
    assert_eq!(cli(&["--user", "ro", "-a", "ro-word", "set", "k", "w"]), denied);
    assert_eq!(cli(&["get", "k"]), "NOAUTH Authentication required.\n\n");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redis/authentication.py");
    let output = Command::new("/usr/bin/python3").arg(script).arg(node.port()).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for protocol in ["resp2", "resp3"] {
        let address = format!("redis://rw:rw-word@{}/0?protocol={protocol}", node.address);
        let client = redis::Client::open(address).expect("an address");
        let mut connection = client.get_connection().expect("the right password");
        assert_eq!(connection.get::<_, String>("k").expect("read"), "v");
    }
}
