//! The stages of scripts/verify and scripts/nightly: what was asked for and did not run has not passed.
#![forbid(unsafe_code)]

use std::process::{Command, Output};

/// A script with the stages `good` and `bad`, asked for `wanted`.
fn asked_for(wanted: &[&str]) -> Output {
    let script = "set -euo pipefail; source scripts/stages.sh; stage good true; stage bad false; closing_report";
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "script"]).args(wanted).current_dir(env!("CARGO_MANIFEST_DIR"));
    bash.output().expect("bash is there")
}

#[test]
fn a_run_passes_where_each_stage_that_was_asked_for_did() {
    for (wanted, is_good, closing) in
        [(&["good"][..], true, "0 passed, 0 failed\n"), (&["good", "bad"], false, "0 passed, 1 failed\n")]
    {
        let done = asked_for(wanted);
        assert_eq!(done.status.success(), is_good, "{done:?}");
        assert!(String::from_utf8_lossy(&done.stdout).ends_with(closing), "{done:?}");
    }
}

#[test]
fn a_stage_that_is_none_fails_and_is_named() {
    let done = asked_for(&["good", "god"]);
    assert!(!done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8_lossy(&done.stderr), "there is no stage 'god', but: good bad\n");
}
