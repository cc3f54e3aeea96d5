//! Valid frames cut at every byte and changed at every byte: an error or a valid view, never a panic.
//!
//! What must hold of any bytes stands in `fuzz/src/bodies.rs`; here the bytes are every neighbour of a golden frame.
#![forbid(unsafe_code)]

#[path = "../fuzz/src/bodies.rs"]
mod bodies;
mod golden;

use freight::wire::WireError;

/// All three bodies; each takes frames of every kind.
fn check(bytes: &[u8]) -> [Result<(), WireError>; 3] {
    [bodies::request(bytes), bodies::reply(bytes), bodies::hello(bytes)]
}

#[test]
fn a_frame_cut_anywhere_is_truncated() {
    for name in golden::names().iter().filter(|name| !name.starts_with("malformed_")) {
        let frame = golden::frame(name);
        for length in 0..frame.len() {
            for result in check(&frame[..length]) {
                assert!(matches!(result, Err(WireError::Truncated { .. })), "{name} cut to {length}: {result:?}");
            }
        }
    }
}

/// Cut behind the header, and the header told about it.
#[test]
fn a_batch_cut_anywhere_with_its_length_mended_is_an_error() {
    for name in golden::names().iter().filter(|name| !name.starts_with("malformed_")) {
        let frame = golden::frame(name);
        for length in 64..frame.len() {
            let mut cut = frame[..length].to_vec();
            cut[8..12].copy_from_slice(&(length as u32).to_le_bytes());
            let [request, reply, _] = check(&cut);
            assert!(request.is_err() && reply.is_err(), "{name} cut to {length}");
        }
    }
}

#[test]
fn a_frame_with_any_byte_changed_to_any_other_never_panics() {
    let (mut errors, mut valid) = (0_u32, 0_u32);
    for name in golden::names() {
        let frame = golden::frame(&name);
        let mut changed = frame.clone();
        for at in 0..frame.len() {
            for byte in 0..=255 {
                changed[at] = byte;
                let results = check(&changed);
                if results.iter().all(Result::is_err) { errors += 1 } else { valid += 1 }
            }
            changed[at] = frame[at];
        }
    }
    println!("{errors} errors, {valid} valid frames");
    assert!(errors > 100_000 && valid > 100_000, "{errors} errors, {valid} valid frames");
}

#[test]
fn a_frame_with_bytes_behind_it_is_refused() {
    for name in golden::names().iter().filter(|name| !name.starts_with("malformed_")) {
        let mut frame = golden::frame(name);
        frame.push(0);
        for result in check(&frame) {
            assert!(matches!(result, Err(WireError::TrailingBytes { .. })), "{name}: {result:?}");
        }
    }
}
