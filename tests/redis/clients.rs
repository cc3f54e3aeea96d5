//! Clients that people use: redis-py, and the crate `redis`.
#![forbid(unsafe_code)]

use crate::{Served, node};
use redis::{Commands, ErrorKind, ExistenceCheck, SetExpiry, SetOptions, pipe};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;

#[test]
fn the_python_client_does_real_work() {
    let node = node(|config| config.threads = 2);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/redis/clients.py");
    // Debian's, for which scripts/verify installs the module; another one may come first in the path.
    let mut command = Command::new("/usr/bin/python3");
    let output = command.arg(script).arg(node.port()).output().expect("python3 is installed: scripts/verify does so");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn connect(node: &Served, protocol: &str) -> redis::Connection {
    let client = redis::Client::open(format!("redis://{}/0?protocol={protocol}", node.address)).expect("an address");
    client.get_connection().expect("the node listens")
}

#[test]
fn the_rust_client_does_real_work_in_both_versions_of_the_protocol() {
    for protocol in ["resp2", "resp3"] {
        let node = node(|_| {});
        let mut client = connect(&node, protocol);
        strings(&mut client);
        deadlines(&mut client);
        pipelines(&mut client);
        keys(&mut client);
        let name: Option<String> = redis::cmd("CLIENT").arg("GETNAME").query(&mut client).expect("an answer");
        assert_eq!(name, None);
        let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut client).expect("an answer");
        assert!(list.contains("lib-name=redis-rs"), "{list}");
        let settings: HashMap<String, String> =
            redis::cmd("CONFIG").arg("GET").arg("max*").query(&mut client).expect("an answer");
        assert_eq!(settings.get("maxmemory").map(String::as_str), Some("0"));
    }
}

fn strings(client: &mut redis::Connection) {
    client.set::<_, _, ()>("name", "freight").expect("written");
    assert_eq!(client.get::<_, String>("name").expect("read"), "freight");
    assert_eq!(client.get::<_, Option<String>>("nobody").expect("read"), None);
    client.mset::<_, _, ()>(&[("a", 1), ("b", 2)]).expect("written");
    let read: Vec<Option<i32>> = client.mget(&["a", "b", "c"]).expect("read");
    assert_eq!(read, [Some(1), Some(2), None]);
    assert_eq!(client.incr::<_, _, i64>("a", 41).expect("a number"), 42);
    assert_eq!(client.decr::<_, _, i64>("a", 2).expect("a number"), 40);
    let error = client.incr::<_, _, i64>("name", 1).expect_err("text is no number");
    assert_eq!(error.kind(), ErrorKind::Server(redis::ServerErrorKind::ResponseError), "{error}");
    assert_eq!(client.strlen::<_, usize>("name").expect("a length"), 7);
    let binary: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    client.set::<_, _, ()>(&binary[..500], &binary).expect("written");
    assert_eq!(client.get::<_, Vec<u8>>(&binary[..500]).expect("read"), binary);
}

fn deadlines(client: &mut redis::Connection) {
    let options = SetOptions::default().with_expiration(SetExpiry::EX(1_000)).conditional_set(ExistenceCheck::NX);
    assert_eq!(
        client.set_options::<_, _, Option<String>>("soon", "v", options.clone()).expect("set").as_deref(),
        Some("OK")
    );
    assert_eq!(client.set_options::<_, _, Option<String>>("soon", "v", options).expect("not set"), None);
    assert!((1..=1_000).contains(&client.ttl::<_, i64>("soon").expect("a time")));
    assert!(client.persist::<_, bool>("soon").expect("done"));
    assert!(client.pexpire_at::<_, bool>("soon", 4_102_444_800_001).expect("done"));
    assert_eq!(client.pexpire_time::<_, i64>("soon").expect("an instant"), 4_102_444_800_001);
    assert_eq!(client.append::<_, _, usize>("soon", "w").expect("a length"), 2);
    assert_eq!(client.get_del::<_, Option<String>>("soon").expect("read").as_deref(), Some("vw"));
    client.pset_ex::<_, _, ()>("soon", "x", 1).expect("written");
    while client.exists::<_, bool>("soon").expect("an answer") {}
}

fn pipelines(client: &mut redis::Connection) {
    let mut pipeline = pipe();
    for i in 0..5_000 {
        pipeline.set(format!("p:{i}"), i).ignore();
    }
    for i in 0..5_000 {
        pipeline.get(format!("p:{i}"));
    }
    let read: Vec<i32> = pipeline.query(client).expect("answers");
    assert_eq!(read, (0..5_000).collect::<Vec<_>>());
}

fn keys(client: &mut redis::Connection) {
    assert_eq!(client.exists::<_, usize>(&["p:1", "p:2", "nobody"]).expect("a number"), 2);
    let found: BTreeSet<String> = client.scan_match("p:49*").expect("keys").map(|key| key.expect("a key")).collect();
    assert_eq!(found.len(), 111);
    assert_eq!(client.del::<_, usize>(&["p:1", "p:2", "nobody"]).expect("a number"), 2);
    assert_eq!(client.unlink::<_, usize>("p:3").expect("a number"), 1);
    redis::cmd("FLUSHALL").query::<()>(client).expect("done");
    assert_eq!(redis::cmd("DBSIZE").query::<usize>(client).expect("a number"), 0);
}
