//! The checker checked: by hand, against brute force, and on executions with planted bugs.
#![forbid(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod execution;
mod facts;
mod mutation;
mod oracle;
mod random;
mod recorder;
mod scale;
mod second_opinion;
mod store;
mod words;
