//! The `freight` binary.
#![forbid(unsafe_code)]

fn main() {}
