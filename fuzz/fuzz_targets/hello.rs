//! Fuzz target: any bytes as a frame, by `bodies::hello`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/bodies.rs"]
mod bodies;

fuzz_target!(|bytes: &[u8]| {
    let _ = bodies::hello(bytes);
});
