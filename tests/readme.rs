//! What the README says of the library is code that compiles, and what it asks for is what the package needs.
#![forbid(unsafe_code)]

use freight::client::{Client, ClientConfig};
use std::error::Error;

const README: &str = include_str!("../README.md");

/// The README's snippet, word for word: [`the_readme_shows_what_is_compiled_here`].
#[rustfmt::skip]
#[expect(unused_variables, reason = "the README shows where an outcome is at hand")]
async fn snippet(keys: Vec<Vec<u8>>) -> Result<usize, Box<dyn Error>> {
let client = Client::connect(&["tcp://127.0.0.1:7411".parse()?], ClientConfig::default()).await?;
let mut batch = client.batch(10_000);
for key in &keys {
    batch.get(key)?;                                    // copied once, into the frame that is sent
}
let reply = client.execute(batch).await?;
for outcome in reply.outcomes() { /* borrows from the frame that arrived */ }
client.put(b"one", b"at a time").await?;                // tasks' single operations share frames by themselves
Ok(reply.len())
}

#[test]
fn the_readme_shows_what_is_compiled_here() {
    let _compiled = snippet;
    let (_, rest) = README.split_once("```rust\n").expect("the README shows code");
    let (shown, rest) = rest.split_once("```").expect("and ends it");
    assert!(include_str!("readme.rs").contains(shown), "tests/readme.rs has other code than the README:\n{shown}");
    assert!(!rest.contains("```rust"), "all of the README's code is compiled here");
}

#[test]
fn the_readme_asks_for_the_rust_that_the_package_needs() {
    let needed = concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"), " or newer");
    assert!(README.contains(needed), "the README does not ask for {needed:?}");
}
