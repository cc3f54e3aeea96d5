//! The house style, as far as a program can see it: docs/STYLE.md says why.
//!
//! Each check takes text and gives back its offences, so that each is shown to fail on a planted one. The walk
//! over the project gathers all of them and reports them at once, as `file:line: what`.
#![forbid(unsafe_code)]

mod source;

use source::{Token, end_of_brackets, files_under, is_at, root, shown, tokens, without_tests};
use std::fs;
use std::path::Path;

/// The only files with `unsafe` in them. Every other one forbids it.
const UNSAFE_FILES: &[&str] = &[
    "scripts/sanitizer/planted.rs",
    "src/pages.rs",
    "src/shard/memory.rs",
    "src/shard/prefetch.rs",
    "src/shard/tags.rs",
    "src/transport/rdma/slab.rs",
    "src/transport/rdma/verbs/completion_channel.rs",
    "src/transport/rdma/verbs/completion_queue.rs",
    "src/transport/rdma/verbs/context.rs",
    "src/transport/rdma/verbs/device.rs",
    "src/transport/rdma/verbs/library.rs",
    "src/transport/rdma/verbs/memory_region.rs",
    "src/transport/rdma/verbs/protection_domain.rs",
    "src/transport/rdma/verbs/queue_pair.rs",
    "src/transport/rdma/work.rs",
    "src/transport/shm/segment.rs",
    "src/transport/shm/watch.rs",
    "tests/allocations/over_wire/counting.rs",
];

/// Folders whose files are named in prose by their path.
const FOLDERS: &[&str] = &["docs", "scripts", "src", "tests", "benches", "examples", "fuzz", "profiles"];

/// What programs make in them and git ignores.
const NOT_KEPT: &[&str] = &["fuzz/target", "fuzz/artifacts", "fuzz/corpus-new"];

const FILE_LINES_MAX: usize = 500;
const LINE_COLUMNS_MAX: usize = 120;

/// One thing that is not as it should be.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    line: usize,
    message: String,
}

fn offence(line: usize, message: impl Into<String>) -> Offence {
    Offence { line, message: message.into() }
}

#[test]
fn the_project_keeps_its_style() {
    let mut report = Vec::new();
    for file in files_under(root()) {
        let path = shown(&file);
        // What is not text (a picture, a fuzz input) has no style.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for offence in offences(&path, &text) {
            report.push(format!("{path}:{}: {}", offence.line, offence.message));
        }
    }
    assert!(report.is_empty(), "{} offences against docs/STYLE.md:\n{}", report.len(), report.join("\n"));
}

#[test]
fn the_list_of_unsafe_files_is_true() {
    for path in UNSAFE_FILES {
        assert!(root().join(path).is_file(), "{path} is listed in tests/style.rs and does not exist");
    }
}

#[test]
fn every_dependency_is_explained() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the project has a manifest");
    let document = fs::read_to_string(root().join("docs/DEPENDENCIES.md")).expect("the project explains itself");
    let missing: Vec<_> =
        dependencies(&manifest).filter(|name| !document.contains(&format!("\n| {name} | "))).collect();
    assert!(missing.is_empty(), "docs/DEPENDENCIES.md has no row for {missing:?}");
}

/// All checks that concern the file at `path`.
fn offences(path: &str, text: &str) -> Vec<Offence> {
    let mut found = words_of_the_workplace(text);
    found.extend(unfinished_work(path, text));
    found.extend(paths_to_nowhere(path, text));
    if path.ends_with(".rs") {
        found.extend(size(text));
        found.extend(module_doc(text));
        found.extend(bare_allows(&tokens(text)));
        if path.starts_with("src/") {
            found.extend(unwraps(path, &tokens(text)));
        }
        if !path.starts_with("fuzz/") {
            found.extend(unsafe_ledger(path, text));
        }
    }
    if path.ends_with("Cargo.toml") {
        found.extend(dependencies_without_a_reason(text));
    }
    if path.starts_with("scripts/") || path == ".ci/run" {
        found.extend(script_head(path, text));
        found.extend(size(text));
    }
    found
}

/// Files and lines stay short.
fn size(text: &str) -> Vec<Offence> {
    let mut found = Vec::new();
    for (line, columns) in (1..).zip(text.lines().map(|line| line.chars().count())) {
        if columns > LINE_COLUMNS_MAX {
            found.push(offence(line, format!("{columns} columns, at most {LINE_COLUMNS_MAX}")));
        }
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(offence(lines, format!("{lines} lines, at most {FILE_LINES_MAX}")));
    }
    found
}

/// A module opens with its mental model.
fn module_doc(text: &str) -> Option<Offence> {
    (!text.starts_with("//! ")).then(|| offence(1, "a module begins with its `//!` doc"))
}

/// No `#[allow]` without a reason.
fn bare_allows(tokens: &[Token]) -> Vec<Offence> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let inner = is_at(tokens, at, &["#", "!", "["]);
        if inner || is_at(tokens, at, &["#", "["]) {
            let open = at + 1 + usize::from(inner);
            let attribute = &tokens[open..end_of_brackets(tokens, open)];
            let names = |word: &str| attribute.iter().any(|token| token.text == word);
            if names("allow") && !names("reason") {
                found.push(offence(tokens[at].line, "`allow` without a reason: say `expect` and why"));
            }
        }
    }
    found
}

/// No `unwrap()` outside tests.
fn unwraps(path: &str, tokens: &[Token]) -> Vec<Offence> {
    if path.ends_with("/tests.rs") || path.contains("/tests/") {
        return Vec::new();
    }
    let shipped = without_tests(tokens);
    let calls = (0..shipped.len()).filter(|at| is_at(&shipped, *at, &[".", "unwrap", "(", ")"]));
    calls.map(|at| offence(shipped[at].line, "`unwrap()` outside tests: return an error or say why it holds")).collect()
}

/// Unsafe code only in the named files, with a proof for each block.
fn unsafe_ledger(path: &str, text: &str) -> Vec<Offence> {
    let code = tokens(text);
    let has = |level: &str| (0..code.len()).any(|at| is_at(&code, at, &["#", "!", "[", level, "(", "unsafe_code"]));
    let opens = |at: &usize| is_at(&code, *at, &["unsafe", "{"]) || is_at(&code, *at, &["unsafe", "impl"]);
    let blocks = (0..code.len()).filter(opens).count();
    if !UNSAFE_FILES.contains(&path) {
        let free = is_above_unsafe_files(path) && blocks == 0;
        return if free || has("forbid") { vec![] } else { vec![offence(1, "no `#![forbid(unsafe_code)]`")] };
    }
    let mut found = Vec::new();
    if !has("expect") {
        found.push(offence(1, "an unsafe file says `#![expect(unsafe_code, reason = ..)]`"));
    }
    let proofs = text.lines().filter(|line| line.trim_start().starts_with("// SAFETY:")).count();
    if proofs != blocks {
        found.push(offence(1, format!("{blocks} unsafe blocks and {proofs} proofs")));
    }
    found
}

/// `forbid` in a module reaches its children: the root and the parents of unsafe files say nothing, and have none.
fn is_above_unsafe_files(path: &str) -> bool {
    let folder = path.strip_suffix("mod.rs").or(path.strip_suffix("main.rs"));
    path == "src/lib.rs" || folder.is_some_and(|folder| UNSAFE_FILES.iter().any(|file| file.starts_with(folder)))
}

/// Each dependency has a comment over it that says what for.
fn dependencies_without_a_reason(text: &str) -> Vec<Offence> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut reasoned = false;
    for (line, content) in (1..).zip(text.lines()) {
        if content.starts_with('[') {
            inside = content.ends_with("dependencies]");
        } else if inside && !content.is_empty() && !content.starts_with('#') && !reasoned {
            found.push(offence(line, "a dependency without a comment that says what for"));
        }
        // A comment speaks for the lines right under it, up to an empty one.
        reasoned = content.starts_with('#') || (reasoned && !content.is_empty());
    }
    found
}

/// The names of all dependencies, development ones included.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let sections = manifest
        .split("\n[")
        .filter(|section| section.lines().next().is_some_and(|head| head.ends_with("dependencies]")));
    sections
        .flat_map(|section| {
            section.lines().skip(1).filter(|line| !line.starts_with('#')).filter_map(|line| line.split(" = ").next())
        })
        .filter(|name| !name.is_empty())
}

/// A script says which program runs it and how it is used; a shell script stops at its first error.
fn script_head(path: &str, text: &str) -> Vec<Offence> {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let mut found = Vec::new();
    if !first.starts_with("#!") {
        // A file that another script reads: it needs no head.
        return found;
    }
    let second = lines.next().unwrap_or_default();
    if !(second.starts_with("# ") || second.starts_with("\"\"\"")) {
        found.push(offence(2, format!("{path} does not say what it is for")));
    }
    if first.contains("sh") && !text.lines().any(|line| line == "set -euo pipefail") {
        found.push(offence(1, "a shell script says `set -euo pipefail`"));
    }
    found
}

/// Nothing is left for later in a place where nobody looks.
fn unfinished_work(path: &str, text: &str) -> Vec<Offence> {
    // Spelt apart, so that this file may be read too.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    // A flamegraph brings the script of whoever drew it.
    if path.ends_with(".lock") || path.ends_with(".svg") {
        return Vec::new();
    }
    lines_with(text, &marks, |mark| format!("`{mark}`: do it, or file it"))
}

/// What prose and comments name in the project's folders is there.
fn paths_to_nowhere(path: &str, text: &str) -> Vec<Offence> {
    // This file plants names of files that are not there; a lock file names packages.
    if path == "tests/style.rs" || path.ends_with(".lock") {
        return Vec::new();
    }
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let own_folder = root().join(path).parent().map(Path::to_path_buf).unwrap_or_default();
    let mut found = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        for word in content.split(|c| !is_of_path(c)) {
            let named = word.trim_end_matches(['.', '/']);
            let folder = named.split('/').next().unwrap_or_default();
            let is_ours = named.len() > folder.len() && FOLDERS.contains(&folder);
            let is_made = NOT_KEPT.iter().any(|made| named.starts_with(made));
            // `fuzz/corpus/TARGET`: a word in capitals stands for names.
            let is_pattern = named.split('/').any(|part| part.chars().all(|c| c.is_ascii_uppercase()));
            if is_ours && !is_made && !is_pattern && !root().join(named).exists() && !own_folder.join(named).exists() {
                found.push(offence(line, format!("names `{named}`, which is not there")));
            }
        }
    }
    found
}

/// The project speaks of itself alone: not of the machines or programs it was written with.
fn words_of_the_workplace(text: &str) -> Vec<Offence> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/tmp", "/wt"),
        concat!("/ro", "ot/"),
        concat!("Cla", "ude"),
        concat!("Anth", "ropic"),
        concat!("Chat", "GPT"),
        concat!("Co", "pilot"),
        concat!("AI assis", "tant"),
        concat!("language mo", "del"),
        concat!("work", "tree"),
    ];
    lines_with(text, &words, |word| format!("`{word}` is no word of this project"))
}

/// The lines that hold one of `words`, each as a word of its own.
fn lines_with(text: &str, words: &[&str], message: impl Fn(&str) -> String) -> Vec<Offence> {
    let mut found = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        for word in words {
            let whole = |at: usize| {
                let before = content[..at].chars().next_back();
                let after = content[at + word.len()..].chars().next();
                let glued = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                !(glued(before) || glued(after) && word.ends_with(char::is_alphanumeric))
            };
            if content.match_indices(word).any(|(at, _)| whole(at)) {
                found.push(offence(line, message(word)));
            }
        }
    }
    found
}

/// The lines of the offences in a planted file.
#[track_caller]
fn assert_offends_at(path: &str, text: &str, lines: &[usize]) {
    let found = offences(path, text);
    assert_eq!(found.iter().map(|offence| offence.line).collect::<Vec<_>>(), lines, "{path}: {found:?}");
}

const GOOD: &str = "//! Doc.\n#![forbid(unsafe_code)]\n";

#[test]
fn a_module_without_doc_or_forbid_is_reported() {
    assert_offends_at("src/a.rs", GOOD, &[]);
    assert_offends_at("src/a.rs", "#![forbid(unsafe_code)]\n", &[1]);
    assert_offends_at("src/a.rs", "//! Doc.\n", &[1]);
    assert_offends_at("src/a.rs", "//! Doc.\n// #![forbid(unsafe_code)]\n", &[1]);
}

#[test]
fn long_lines_and_long_files_are_reported() {
    assert_offends_at("src/a.rs", &format!("{GOOD}// {}\n", "x".repeat(117)), &[]);
    assert_offends_at("src/a.rs", &format!("{GOOD}// {}\n", "x".repeat(118)), &[3]);
    assert_offends_at("tests/a.rs", &format!("{GOOD}{}", "\n".repeat(499)), &[501]);
}

#[test]
fn an_allow_needs_a_reason() {
    assert_offends_at("src/a.rs", &format!("{GOOD}#[allow(dead_code)]\nfn f() {{}}\n"), &[3]);
    assert_offends_at("src/a.rs", &format!("{GOOD}#[allow(dead_code, reason = \"why\")]\nfn f() {{}}\n"), &[]);
}

#[test]
fn unwrap_is_for_tests() {
    let call = "fn f() { g().unwrap(); }";
    assert_offends_at("src/a.rs", &format!("{GOOD}{call}\n"), &[3]);
    assert_offends_at("src/a.rs", &format!("{GOOD}#[cfg(test)]\nmod tests {{\n{call}\n}}\n"), &[]);
    assert_offends_at("src/a.rs", &format!("{GOOD}/// `g().unwrap()`\nfn f() {{ g().unwrap_or(1); }}\n"), &[]);
    assert_offends_at("tests/a.rs", &format!("{GOOD}{call}\n"), &[]);
}

#[test]
fn unfinished_work_and_foreign_words_are_reported() {
    assert_offends_at("docs/a.md", concat!("fine\n", "TO", "DO: later\n", "/wo", "rk/shared\n"), &[3, 2]);
    assert_offends_at("docs/a.md", concat!("mast", "TO", "DOn, frame", "work/a\n"), &[]);
}

#[test]
fn a_path_to_nowhere_is_reported() {
    assert_offends_at("docs/a.md", "see `docs/STYLE.md` and src/lib.rs.\nand docs/NOTHING.md, a/docs/b\n", &[2]);
}

#[test]
fn a_dependency_needs_a_reason() {
    let good = "[package]\nname = \"a\"\n\n[dependencies]\n# Why.\na = \"1\"\n\n[lints.rust]\nb = \"warn\"\n";
    assert_offends_at("Cargo.toml", good, &[]);
    assert_offends_at("Cargo.toml", &good.replace("# Why.\n", ""), &[5]);
    assert_offends_at("Cargo.toml", &good.replace("[lints", "[dev-dependencies]\nc = \"2\"\n[lints"), &[9]);
}

#[test]
fn a_script_says_what_it_is_for_and_stops_at_errors() {
    let good = "#!/usr/bin/env bash\n# Use: scripts/verify\nset -euo pipefail\n";
    assert_offends_at("scripts/verify", good, &[]);
    assert_offends_at("scripts/verify", &good.replace("# Use: scripts/verify\n", ""), &[2]);
    assert_offends_at("scripts/verify", &good.replace("set -euo pipefail", "set -e"), &[1]);
    assert_offends_at("scripts/verify", "#!/usr/bin/env python3\n\"\"\"Use: scripts/verify\"\"\"\n", &[]);
}

#[test]
fn every_source_is_under_some_check() {
    assert!(files_under(&root().join("src")).iter().any(|file| file.ends_with(Path::new("src/lib.rs"))));
}
