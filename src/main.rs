//! The `freight` binary.

fn main() {}
