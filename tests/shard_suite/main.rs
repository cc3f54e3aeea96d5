//! The store through its public face: batches in, outcomes out, on each index.
#![forbid(unsafe_code)]

mod eviction;
mod expiry;
mod memory;
mod model;
mod moving;
mod ownership;
mod repeats;
mod support;
mod threads;
