//! Man pages and completions, as `man` and a shell take them.
#![forbid(unsafe_code)]

use crate::binary::run;
use std::fs;
use std::process::{Command, Output};

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/verify installs it"))
}

#[test]
fn each_command_has_a_page_that_man_shows_without_a_warning() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let pages = folder.path().join("man1");
    assert_eq!(run(&["manual", pages.to_str().expect("text")]).code, Some(0));
    let mut names: Vec<_> =
        fs::read_dir(&pages).expect("it is made").map(|entry| entry.expect("readable").path()).collect();
    names.sort();
    for page in &names {
        let shown =
            output(Command::new("man").args(["--warnings", "-E", "UTF-8", "-l"]).arg(page).env("MANWIDTH", "100"));
        let (text, complaints) = (String::from_utf8_lossy(&shown.stdout), String::from_utf8_lossy(&shown.stderr));
        assert!(shown.status.success() && complaints.is_empty(), "{}: {complaints}", page.display());
        assert!(["NAME", "SYNOPSIS", "OPTIONS"].iter().all(|section| text.contains(section)), "{text}");
    }
    let names: Vec<_> = names.iter().filter_map(|page| page.file_name()?.to_str()).collect();
    for page in ["freight.1", "freight-serve.1", "freight-bench.1", "freight-bench-sweep.1", "freight-cluster-move.1"] {
        assert!(names.contains(&page), "{page}: {names:?}");
    }
    let serve = fs::read_to_string(pages.join("freight-serve.1")).expect("it is there");
    assert!(serve.contains("check\\-config") && serve.contains("slow\\-batch"), "{serve}");
    run(&["manual", "/dev/null/man1"]).assert_one_line("/dev/null/man1: Not a directory");
}

#[test]
fn bash_completes_commands_and_flags() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("freight.bash");
    fs::write(&path, run(&["completions", "bash"]).stdout).expect("it is ours");
    let bash = |script: &str| output(Command::new("bash").args(["-c", script, "bash"]).arg(&path));
    let read = bash("bash -n \"$1\"");
    assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");
    for (words, at, expected) in [("freight ser", 1, "serve"), ("freight serve --check", 2, "--check-config")] {
        let last = words.rsplit(' ').next().expect("a word");
        let script = format!(
            "source \"$1\"; COMP_WORDS=({words}); COMP_CWORD={at}; _freight freight {last} freight; \
             echo \"${{COMPREPLY[*]}}\""
        );
        let completed = bash(&script);
        assert_eq!(String::from_utf8_lossy(&completed.stdout).trim(), expected, "{words}: {completed:?}");
    }
}

#[test]
fn other_shells_have_completions_and_what_is_none_is_told() {
    for shell in ["zsh", "fish"] {
        let done = run(&["completions", shell]);
        assert!(done.code == Some(0) && String::from_utf8_lossy(&done.stdout).contains("check-config"), "{shell}");
    }
    run(&["completions", "sh"]).assert_one_line("fish");
}
