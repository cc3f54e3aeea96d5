//! Replays the fuzz corpus as ordinary tests, so that what fuzzing once found stays found.
#![forbid(unsafe_code)]

#[path = "../fuzz/src/bodies.rs"]
mod bodies;

use freight::wire::WireError;
use std::path::Path;

/// Runs a target's body on each file of its corpus; each kind of frame it is about must be among the valid ones.
fn replay(target: &str, kinds: &[u8], body: fn(&[u8]) -> Result<(), WireError>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut valid_kinds = Vec::new();
    let mut malformed = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is in the repository") {
        let path = entry.expect("readable").path();
        println!("{}", path.display());
        let bytes = std::fs::read(&path).expect("readable");
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
    replay("hello", &[1, 2, 5, 6, 7, 8, 9, 10, 11], bodies::hello);
}
