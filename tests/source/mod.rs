//! The project's own sources as tokens: what the tests of layers and of style read.
//!
//! ```text
//!   src/**/*.rs --read--> text --tokens--> words and marks with their lines,   (no comments, strings, characters)
//!                                  |
//!                                  +--without_tests--> the same less every `#[cfg(test)]` item
//! ```
//!
//! This is no Rust parser: it knows comments, literals and brackets, and that is enough for both tests.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

/// A word, a number or one mark of punctuation (`::` counts as one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// The folder that holds Cargo.toml.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `folder`, sorted, less what is built and what fuzzing found.
pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if ["target", ".git", "artifacts", "corpus", "corpus-new"].iter().any(|skipped| name == *skipped) {
                continue;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// A path as it is written in reports: from the project's root, with forward slashes.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The tokens of Rust source.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = skipped_bytes(rest);
        let taken = if skipped > 0 { skipped } else { token_bytes(rest, first) };
        let text = &rest[..taken];
        if skipped == 0 && !first.is_whitespace() {
            tokens.push(Token { text: text.to_owned(), line });
        }
        line += text.matches('\n').count();
        rest = &rest[taken..];
    }
    tokens
}

/// The tokens of what ships: every item under `#[cfg(test)]` is left out.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_at(tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = end_of_item(tokens, at + 7);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Whether `pattern` stands at `at`.
pub(crate) fn is_at(tokens: &[Token], at: usize, pattern: &[&str]) -> bool {
    tokens.len() >= at + pattern.len() && pattern.iter().zip(&tokens[at..]).all(|(wanted, token)| token.text == *wanted)
}

/// One past the bracket that closes the one at `open`.
pub(crate) fn end_of_brackets(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// One past the item that begins at `at`: its closing `;`, or the `}` of its body.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at + 1,
            "{" => return end_of_brackets(tokens, at),
            "(" | "[" => at = end_of_brackets(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Bytes of the comment, string, character or lifetime at the start of `rest`; 0 where something else stands.
fn skipped_bytes(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment_bytes(rest);
    }
    let prefix = ["br", "cr", "b", "c", "r"].iter().find(|prefix| rest.starts_with(**prefix)).map_or(0, |p| p.len());
    let hashes = rest[prefix..].bytes().take_while(|byte| *byte == b'#').count();
    let body = &rest[prefix + hashes..];
    if body.starts_with('"') {
        let raw = rest[..prefix].ends_with('r');
        return prefix + hashes + string_bytes(body, raw, hashes);
    }
    if hashes == 0 && body.starts_with('\'') && (prefix == 0 || rest.starts_with('b')) {
        return prefix + quote_bytes(body);
    }
    0
}

fn block_comment_bytes(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_bytes(body: &str, raw: bool, hashes: usize) -> usize {
    if raw {
        let end = format!("\"{}", "#".repeat(hashes));
        return body[1..].find(&end).map_or(body.len(), |at| 1 + at + end.len());
    }
    let mut escaped = false;
    for (at, byte) in body.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    body.len()
}

/// A character literal, or the lifetime that begins like one.
fn quote_bytes(body: &str) -> usize {
    let mut inside = body[1..].char_indices();
    match inside.next() {
        Some((_, '\\')) => {
            inside.next();
            inside.find(|(_, c)| *c == '\'').map_or(body.len(), |(at, _)| at + 2)
        }
        Some(_) if inside.next().is_some_and(|(_, c)| c == '\'') => {
            body[1..].find('\'').map_or(body.len(), |at| at + 2)
        }
        _ => 1 + word_bytes(&body[1..]),
    }
}

fn token_bytes(rest: &str, first: char) -> usize {
    if rest.starts_with("::") {
        return 2;
    }
    word_bytes(rest).max(first.len_utf8())
}

fn word_bytes(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
}
