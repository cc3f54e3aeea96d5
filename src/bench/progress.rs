//! What a waiting person sees: on standard error, and a moving bar only where that is a terminal.
#![forbid(unsafe_code)]

use super::text::{grouped, rate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often the bar moves.
pub(super) const BAR_PERIOD: Duration = Duration::from_millis(50);

/// Says what begins.
pub(super) fn say(what: &str) {
    eprintln!("{what}");
}

/// The load phase's bar; a line of text where nobody watches.
#[derive(Debug)]
pub(super) struct LoadBar {
    bar: ProgressBar,
    records: u64,
    started: Instant,
}

impl LoadBar {
    /// A bar of `records`.
    #[must_use]
    pub(super) fn start(records: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            say(&format!("loading {} records", grouped(records)));
        }
        // A bar on something that is no terminal draws nothing.
        let bar = ProgressBar::with_draw_target(Some(records), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("loading {wide_bar} {human_pos} of {human_len} records, {eta}");
        bar.set_style(style.expect("the template is a valid constant"));
        Self { bar, records, started: Instant::now() }
    }

    /// Moves to `done` records.
    pub(super) fn moved(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Takes the bar away and says how long it took.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f64();
        say(&format!("loaded {} records in {seconds:.1} s", grouped(self.records)));
    }
}

/// A line a second while the run is measured.
#[derive(Debug)]
pub(super) struct LiveLine {
    seconds: u64,
    operations: u64,
    at: Instant,
}

impl LiveLine {
    /// Counts from `operations` on.
    #[must_use]
    pub(super) fn start(operations: u64) -> Self {
        Self { seconds: 0, operations, at: Instant::now() }
    }

    /// Prints the rate since the last line.
    pub(super) fn print(&mut self, operations: u64) {
        let now = Instant::now();
        let seconds = (now - self.at).as_secs_f64();
        let since = operations - self.operations;
        self.seconds += 1;
        say(&format!("{:>5} s  {:>14}", self.seconds, rate(since as f64 / seconds)));
        (self.operations, self.at) = (operations, now);
    }
}
