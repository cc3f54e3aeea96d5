//! Fuzz target: any bytes as a message of SCRAM-SHA-256, by `authentication::message`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/authentication.rs"]
mod authentication;

fuzz_target!(|bytes: &[u8]| {
    let _ = authentication::message(bytes);
});
