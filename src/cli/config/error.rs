//! What can be wrong with settings, each said with its place.
#![forbid(unsafe_code)]

use super::Place;
use clap::error::{ContextKind, ContextValue};
use std::error::Error;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why settings cannot be made.
#[derive(Debug, Error)]
pub(in crate::cli) enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// It is no TOML.
    #[error("{}: {message}", Place(path, *line))]
    Syntax { path: PathBuf, line: usize, message: String },
    /// A key that is no flag.
    #[error("{}: unknown key '{key}'; the nearest known one is '{nearest}'", Place(path, *line))]
    UnknownKey { path: PathBuf, line: usize, key: String, nearest: String },
    /// A value of another type.
    #[error("{}: {key} is {got}, expected {expected}", Place(path, *line))]
    Type { path: PathBuf, line: usize, key: String, got: String, expected: &'static str },
    /// A value that the flag does not take.
    #[error("{}: {key} is {got}: {why}", Place(path, *line))]
    Value { path: PathBuf, line: usize, key: String, got: String, why: String },
    /// A variable that the flag does not take.
    #[error("{name} is '{got}': {why}")]
    Variable { name: String, got: String, why: String },
    /// Each value alone is good, or they are on the command line.
    #[error("{}", first_line(.0))]
    Line(clap::Error),
}

/// What a flag's parser says of a value, without the flag and the value.
pub(super) fn why(error: &clap::Error) -> String {
    if let Some(source) = error.source() {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) => format!("expected one of {}", valid.join(", ")),
        _ => first_line(error),
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
