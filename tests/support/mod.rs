//! What test targets share: recorded histories, the checker that judges them, and seeds that replay.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "each test target uses a part")]

pub(crate) mod checker;
pub(crate) mod cluster;
pub(crate) mod frames;
pub(crate) mod history;
pub(crate) mod moves;
pub(crate) mod scripted;

use std::path::Path;

/// Runs a test once a seed, 0 to `count` - 1, or for the one seed in `FREIGHT_SEED`. A seed that fails is printed.
/// `FREIGHT_TEST_SCALE` multiplies the count: scripts/nightly sets it.
pub(crate) fn for_each_seed(count: u64, mut run: impl FnMut(u64)) {
    let seeds = match std::env::var("FREIGHT_SEED") {
        Ok(text) => {
            let seed: u64 = text.parse().expect("FREIGHT_SEED is a decimal number");
            seed..seed + 1
        }
        Err(_) => 0..count * scale(),
    };
    for seed in seeds {
        let _printed = PrintedOnPanic(seed);
        run(seed);
    }
}

fn scale() -> u64 {
    let Ok(text) = std::env::var("FREIGHT_TEST_SCALE") else { return 1 };
    text.parse().expect("FREIGHT_TEST_SCALE is a decimal number")
}

struct PrintedOnPanic(u64);

impl Drop for PrintedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed; {} replays it", self.0, command(self.0));
        }
    }
}

/// What runs the test of this thread again, with a seed.
fn command(seed: u64) -> String {
    let binary = std::env::current_exe().ok();
    let target = binary.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str()?.rsplit_once('-'));
    let target = target.map(|(target, _)| format!(" --test {target}")).unwrap_or_default();
    let thread = std::thread::current();
    // Without threads of their own tests run on the main one.
    let test = thread.name().filter(|name| *name != "main").map(|name| format!(" -- --exact {name}"));
    format!("FREIGHT_SEED={seed} cargo test --all-features{target}{}", test.unwrap_or_default())
}
