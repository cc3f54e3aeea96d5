//! Fuzz target: any bytes as what a Redis client sends, by `commands::resp`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../src/commands.rs"]
mod commands;

fuzz_target!(|bytes: &[u8]| {
    let _ = commands::resp(bytes);
});
