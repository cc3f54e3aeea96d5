//! The layers of docs/ARCHITECTURE.md: each module uses only those under it, and the pure ones know no world.
//!
//! ```text
//!   limits, budget, hash, op  <  wire  <  transport  <  client  <  bench  <  cli  <  main
//!                        \         \          \
//!                         \         \          +------+
//!                          +--  shard  <  session  <  server (it uses a client too)
//! ```
//!
//! [`LAYERS`] is the picture in full. A module that is missing there is an offence too: a new one is placed
//! before it lands. `use` trees and paths inside code are both read; what stands under `#[cfg(test)]` is free.
#![forbid(unsafe_code)]

mod source;

use source::{Token, files_under, is_at, root, shown, tokens, without_tests};
use std::fmt::Write as _;
use std::fs;

/// Each module and what it stands on; it may use those, and all that they stand on. `lib` and `main` see all.
const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("budget", &["limits"]),
    ("hash", &["limits", "short"]),
    ("short", &[]),
    ("decimal", &["limits"]),
    ("slots", &["limits"]),
    ("pages", &[]),
    ("files", &[]),
    ("process", &[]),
    ("op", &["budget", "decimal", "hash", "pages"]),
    ("op_list", &["op"]),
    ("wire", &["op"]),
    ("metrics", &["op"]),
    ("hot_keys", &["op"]),
    ("shard", &["op", "metrics", "hot_keys", "slots"]),
    ("transport", &["wire", "files"]),
    ("map", &["slots", "transport"]),
    ("completions", &["shard"]),
    ("auth", &["limits", "files"]),
    ("session", &["wire", "completions", "auth"]),
    ("resp", &["wire", "metrics", "auth"]),
    ("cores", &["op"]),
    ("polling", &[]),
    ("profile", &["op"]),
    ("server", &["session", "resp", "client", "process"]),
    ("client", &["auth", "transport", "map", "cores", "polling", "metrics", "hot_keys", "profile"]),
    ("bench", &["client", "process"]),
    ("mover", &["client"]),
    ("plot", &[]),
    ("cli", &["bench", "mover", "server", "plot"]),
];

/// Modules that replay from a seed: no runtime, socket, clock or randomness of their own.
const PURE: &[&str] = &[
    "limits",
    "budget",
    "hash",
    "short",
    "decimal",
    "slots",
    "pages",
    "op",
    "op_list",
    "metrics",
    "hot_keys",
    "wire",
    "shard",
    "completions",
    "auth",
    "session",
    "resp",
];

/// What a pure module may not name: a crate, or a path.
const WORLD: &[&str] = &[
    "tokio",
    "socket2",
    "rand",
    "rand_chacha",
    "getrandom",
    "std::net",
    "std::time::Instant",
    "std::time::SystemTime",
    "rustix::net",
    "rustix::time",
    "rustix::rand",
];

/// A source file as the checker sees it.
struct Source<'a> {
    /// Path from `src/`, like `wire/header.rs`.
    path: &'a str,
    text: &'a str,
}

#[test]
fn every_module_uses_only_the_layers_under_it() {
    let folder = root().join("src");
    let files = files_under(&folder);
    assert!(!files.is_empty(), "no sources under {}", shown(&folder));
    let mut report = String::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let text = fs::read_to_string(file).expect("sources are readable text");
        let path = file.strip_prefix(&folder).expect("it was found there").display().to_string();
        if is_test_file(&path) {
            continue;
        }
        for offence in offences(&Source { path: &path, text: &text }) {
            writeln!(report, "src/{path}:{offence}").expect("strings take any text");
        }
    }
    assert!(report.is_empty(), "layers are crossed:\n{report}");
}

/// Files that only `#[cfg(test)] mod tests;` brings in.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// What a file does against the layers, each as `line: message`.
fn offences(source: &Source<'_>) -> Vec<String> {
    let module = module_path(source.path);
    let Some(layer) = module.first().copied() else { return Vec::new() };
    if stands_on(layer).is_none() {
        return vec![format!("1: `{layer}` has no place in the layers: give it one in tests/layers.rs")];
    }
    let mut offences = Vec::new();
    for path in paths(&without_tests(&tokens(source.text))) {
        if let Some(used) = module_used(&module, &path.words)
            && stands_on(used).is_some()
            && !may_use(layer, used)
        {
            offences.push(format!("{}: `{layer}` may not use `{used}`", path.line));
        }
        let whole = path.words.join("::");
        if PURE.contains(&layer)
            && let Some(named) = WORLD.iter().find(|named| whole == **named || whole.starts_with(&format!("{named}::")))
        {
            offences.push(format!("{}: `{layer}` is pure and may not name `{named}`", path.line));
        }
    }
    offences
}

/// What a module stands on; `None` for what is no module of this crate.
fn stands_on(module: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, below)| *below)
}

/// Whether `used` is `layer` itself or stands anywhere under it. There are no rings in [`LAYERS`].
fn may_use(layer: &str, used: &str) -> bool {
    layer == used || stands_on(layer).unwrap_or_default().iter().any(|below| may_use(below, used))
}

/// `wire/header.rs` is `[wire, header]`; `lib.rs` and `main.rs` are the root, which is above all layers.
fn module_path(path: &str) -> Vec<&str> {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if matches!(stem, "lib" | "main") || stem.starts_with("bin/") {
        return Vec::new();
    }
    stem.split('/').collect()
}

/// The top module that a path leads to, where it leads into this crate.
fn module_used<'a>(module: &[&str], words: &'a [String]) -> Option<&'a str> {
    let supers = words.iter().take_while(|word| *word == "super").count();
    let next = match words.first()?.as_str() {
        "crate" | "freight" => 1,
        // Only as many `super` as lead to the root: fewer stay inside the layer.
        "super" if supers >= module.len() => supers,
        _ => return None,
    };
    words.get(next).map(String::as_str)
}

/// One path of the source, `use` trees taken apart.
struct PathUsed {
    words: Vec<String>,
    line: usize,
}

/// Every path in code and in `use` trees: `a::{b, c::d}` gives `a::b` and `a::c::d`.
fn paths(tokens: &[Token]) -> Vec<PathUsed> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_word(&tokens[at]) {
            at = path_at(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Takes the path at `at`, after `prefix`; the index one past it.
fn path_at(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<PathUsed>) -> usize {
    let line = tokens[at].line;
    let mut words = prefix.to_vec();
    loop {
        words.push(tokens[at].text.clone());
        at += 1;
        if !is_at(tokens, at, &["::"]) {
            break;
        }
        at += 1;
        if is_at(tokens, at, &["{"]) {
            return group_at(tokens, at + 1, &words, found);
        }
        if !tokens.get(at).is_some_and(is_word) {
            break;
        }
    }
    found.push(PathUsed { words, line });
    at
}

/// Takes the members of a `use` group, up to its `}`; the index one past it.
fn group_at(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<PathUsed>) -> usize {
    while at < tokens.len() && tokens[at].text != "}" {
        if is_word(&tokens[at]) {
            at = path_at(tokens, at, prefix, found);
        } else {
            at += 1;
        }
    }
    at + 1
}

fn is_word(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[test]
fn a_crossed_layer_is_reported_with_its_line() {
    let text = "//! Doc.\nuse crate::limits::SLOTS;\nuse crate::{hash, transport::{Frame}};\n";
    assert_eq!(offences(&Source { path: "shard/mod.rs", text }), ["3: `shard` may not use `transport`"]);
}

#[test]
fn paths_inside_code_count_as_uses() {
    let text = "fn f() {\n    freight::server::run();\n    super::super::client::go();\n}\n";
    let expected = ["2: `wire` may not use `server`", "3: `wire` may not use `client`"];
    assert_eq!(offences(&Source { path: "wire/header.rs", text }), expected);
}

#[test]
fn a_pure_module_may_not_name_the_world() {
    let text = "use std::{time::{Duration, Instant}, sync::Arc};\nfn f() { tokio::spawn(g()); rand::rng(); }\n";
    let expected = [
        "1: `session` is pure and may not name `std::time::Instant`",
        "2: `session` is pure and may not name `tokio`",
        "2: `session` is pure and may not name `rand`",
    ];
    assert_eq!(offences(&Source { path: "session.rs", text }), expected);
}

#[test]
fn tests_comments_and_strings_are_free() {
    let text = "//! See [`crate::server`].\n// crate::server\n\
                const A: &str = \"crate::server\\\" \";\nconst B: char = '\"';\n\
                #[cfg(test)]\nmod tests {\n    use crate::server;\n    use tokio::time;\n}\nfn f<'a>(a: &'a str) {}\n";
    assert!(offences(&Source { path: "op.rs", text }).is_empty());
    let text = text.replace("fn f", "use crate::server; fn f");
    assert_eq!(offences(&Source { path: "op.rs", text: &text }), ["10: `op` may not use `server`"]);
}

#[test]
fn a_module_without_a_place_is_reported() {
    let found = offences(&Source { path: "gossip.rs", text: "" });
    assert_eq!(found, ["1: `gossip` has no place in the layers: give it one in tests/layers.rs"]);
}

#[test]
fn shard_and_transport_never_see_each_other() {
    for (path, text) in [("shard/slab.rs", "use crate::transport::X;"), ("transport/tcp.rs", "use crate::shard::X;")] {
        assert_eq!(offences(&Source { path, text }).len(), 1, "{path}");
    }
}
