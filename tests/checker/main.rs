//! The checker checked: by hand, against brute force, and on executions with planted bugs.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod facts;
mod recorder;
mod words;
