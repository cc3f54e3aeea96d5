//! Lines of the log that somebody else decides how often to write: no more of them than somebody could read.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines a second, at most.
const LINES_MAX: u32 = 10;

/// Lets so many lines a second through, and counts the others.
#[derive(Debug)]
pub(super) struct Seldom(Mutex<Told>);

#[derive(Debug)]
struct Told {
    since: Instant,
    lines: u32,
    untold: u64,
}

/// What follows in a line that is let through: how many were not since the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Others(u64);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, "; {} more were not told", self.0) } else { Ok(()) }
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self(Mutex::new(Told { since: Instant::now(), lines: 0, untold: 0 }))
    }
}

impl Seldom {
    /// Whether a line may be written now.
    pub(super) fn line(&self) -> Option<Others> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).line(Instant::now())
    }
}

impl Told {
    fn line(&mut self, now: Instant) -> Option<Others> {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines == LINES_MAX {
            self.untold += 1;
            return None;
        }
        self.lines += 1;
        Some(Others(std::mem::take(&mut self.untold)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_second_are_told_and_how_many_were_not() {
        let now = Instant::now();
        let mut told = Told { since: now, lines: 0, untold: 0 };
        let lines: Vec<_> = (0..25).map(|_| told.line(now)).collect();
        assert_eq!(lines.into_iter().flatten().collect::<Vec<_>>(), [Others(0); 10]);
        let later = now + Duration::from_secs(1);
        assert_eq!((told.line(later), told.line(later)), (Some(Others(15)), Some(Others(0))));
        assert_eq!((Others(15).to_string(), Others(0).to_string()), ("; 15 more were not told".into(), "".into()));
    }
}
