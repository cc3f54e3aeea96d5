//! Golden frames: hex text, eight bytes a row, `#` begins a comment.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// A golden frame by its name.
pub(crate) fn frame(name: &str) -> Vec<u8> {
    parse(&folder().join(format!("{name}.hex")))
}

/// Names of all golden frames, in order.
pub(crate) fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("tests/golden is there");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let hex = paths.filter(|path| path.extension().is_some_and(|extension| extension == "hex"));
    let mut names: Vec<String> = hex.map(|path| path.file_stem().expect("a name").display().to_string()).collect();
    names.sort();
    names
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn parse(path: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let bytes = code.flat_map(str::split_whitespace);
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|_| panic!("{}: {byte}", path.display()))).collect()
}
