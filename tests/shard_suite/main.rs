//! The store through its public face: batches in, outcomes out, on each index.

mod model;
mod support;
