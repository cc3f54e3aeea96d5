//! Replays the fuzz corpus as ordinary tests, so that what fuzzing once found stays found.
#![forbid(unsafe_code)]

#[path = "../fuzz/src/authentication.rs"]
mod authentication;
#[path = "../fuzz/src/bodies.rs"]
mod bodies;
#[path = "../fuzz/src/commands.rs"]
mod commands;

use authentication::Taken;
use freight::wire::WireError;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Runs a target's body on each file of its corpus; each kind of frame it is about must be among the valid ones.
fn replay(target: &str, kinds: &[u8], body: fn(&[u8]) -> Result<(), WireError>) {
    let mut valid_kinds = Vec::new();
    let mut malformed = 0;
    for bytes in corpus(target) {
        match body(&bytes) {
            Ok(()) => valid_kinds.push(bytes[5]),
            Err(_) => malformed += 1,
        }
    }
    println!("{target}: {} valid, {malformed} malformed", valid_kinds.len());
    for kind in kinds {
        assert!(valid_kinds.contains(kind), "no valid frame of kind {kind} in fuzz/corpus/{target}");
    }
    assert!(malformed > 0, "no malformed frame in fuzz/corpus/{target}");
}

/// The inputs that a target begins with, each printed before it is used.
fn corpus(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("the corpus is in the repository");
    entries.map(|entry| {
        let path = entry.expect("readable").path();
        println!("{}", path.display());
        fs::read(&path).expect("readable")
    })
}

#[test]
fn the_corpus_of_requests_holds() {
    replay("request", &[3], bodies::request);
}

#[test]
fn the_corpus_of_replies_holds() {
    replay("reply", &[4], bodies::reply);
}

#[test]
fn the_corpus_of_hellos_and_other_service_frames_holds() {
    replay("hello", &[1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14], bodies::hello);
}

#[test]
fn the_corpus_of_authentication_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/authentication");
    let taken: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus is in the repository")
        .map(|entry| {
            let path = entry.expect("readable").path();
            println!("{}", path.display());
            authentication::message(&std::fs::read(&path).expect("readable"))
        })
        .collect();
    for kind in [Taken::First, Taken::Challenge, Taken::Proof, Taken::Signature] {
        assert!(taken.contains(&Ok(kind)), "no message of {kind:?} in {}", folder.display());
    }
    assert!(taken.iter().any(Result::is_err), "no malformed message in {}", folder.display());
}

#[test]
fn the_corpus_of_redis_commands_holds() {
    let (mut ops, mut errors) = (0, BTreeSet::new());
    for bytes in corpus("resp") {
        match commands::resp(&bytes) {
            Ok(executed) => ops += executed,
            Err(error) => _ = errors.insert(error.to_string()),
        }
    }
    assert!(ops > 100 && errors.len() >= 7, "{ops} operations, {errors:#?}");
}

/// Parts of commands in any order, for there is more to find between whole ones.
#[test]
fn redis_commands_of_any_parts_hold() {
    const PARTS: [&[u8]; 40] = [
        b"*1\r\n",
        b"*2\r\n",
        b"*3\r\n",
        b"*5\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*9999999\r\n",
        b"*",
        b"$",
        b"\r\n",
        b"$1\r\na\r\n",
        b"$1\r\nb\r\n",
        b"$3\r\nGET\r\n",
        b"$3\r\nset\r\n",
        b"$4\r\nINCR\r\n",
        b"$4\r\nMGET\r\n",
        b"$6\r\nAPPEND\r\n",
        b"$4\r\nPING\r\n",
        b"$2\r\nPX\r\n",
        b"$3\r\n100\r\n",
        b"$0\r\n\r\n",
        b"$16000\r\n",
        b"$20000\r\n",
        b"$-1\r\n",
        b"$9999999999\r\n",
        b"$4\r\nk\r\nv\r\n",
        b"GET a\r\n",
        b"set a \"b\\x41\"\n",
        b"'",
        b"\"",
        b"\\",
        b"\0",
        b" ",
        b"COMMAND\r\n",
        b"FLUSHALL\r\n",
        b"SCAN 0\r\n",
        b"hello 3\r\n",
        b"QUIT\r\n",
        b"mset a 1 b 2\r\n",
        b"POST\r\n",
    ];
    let mut random = 1_u64;
    for _ in 0..4_000 {
        let mut input = Vec::new();
        for _ in 0..24 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            input.extend_from_slice(PARTS[(random >> 33) as usize % PARTS.len()]);
        }
        println!("{}", input.escape_ascii());
        let _either = commands::resp(&input);
    }
}
