//! One of several clients that measure together: which one it is, and when they begin.
//!
//! ```text
//!   client 1 of 3   draw | connect | load | "ready"  ......  start read | sleep | warm-up | run
//!   client 2 of 3   draw | connect | "ready" ..............  start read | sleep | warm-up | run
//!                                                            ^ whoever started them tells all the same instant
//! ```
#![forbid(unsafe_code)]

use super::progress::say;
use std::fmt::{self, Display, Formatter};
use std::io::{self, BufRead};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest wait that a start is taken for: what is later is a mistake in the unit.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Client `number` of `of`, counted from 1; by default the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which one.
    pub number: u16,
    /// Of how many.
    pub of: u16,
}

impl Part {
    /// Whether this client puts the records.
    #[must_use]
    pub fn loads(self) -> bool {
        self.number == 1
    }

    /// The lanes of all clients, where each has `lanes`, and the first that is this client's.
    #[must_use]
    pub fn lanes(self, lanes: u32) -> (u32, u32) {
        (u32::from(self.of) * lanes, u32::from(self.number - 1) * lanes)
    }
}

impl Default for Part {
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        let part = numbers.map(|(number, of)| Self { number, of });
        part.filter(|part| (1..=part.of).contains(&part.number))
            .ok_or_else(|| format!("'{text}' is not like 2/4, the second of four"))
    }
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// Why clients could not begin together.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Standard input cannot be read, or has ended.
    #[error("--part waits on standard input for the time to begin: {0}")]
    Input(#[source] io::Error),
    /// What was read is no time within an hour from now.
    #[error("--part reads from standard input the Unix time, in seconds, to begin at; '{line}' is none within an hour")]
    Time {
        /// What was read.
        line: String,
    },
}

/// Says `ready`, and returns at the instant that standard input names; at once where that has passed.
pub(super) async fn together() -> Result<(), StartError> {
    say("ready");
    // On a thread of its own, so that an interrupt is still heard.
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            read => read.map(|_| line),
        }
    });
    let line = line.await.map_err(io::Error::other).flatten().map_err(StartError::Input)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    tokio::time::sleep(wait(line.trim(), now)?).await;
    Ok(())
}

/// How long it is until the time in `line`.
fn wait(line: &str, now: Duration) -> Result<Duration, StartError> {
    let start = line.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let within = start.filter(|start| start.abs_diff(now) <= WAIT_MAX);
    within.map(|start| start.saturating_sub(now)).ok_or_else(|| StartError::Time { line: line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_counted_from_one() {
        let part: Part = "2/4".parse().unwrap();
        assert_eq!((part, part.to_string().as_str(), part.loads()), (Part { number: 2, of: 4 }, "2/4", false));
        assert_eq!((part.lanes(3), Part::default().lanes(3)), ((12, 3), (3, 0)));
        for wrong in ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", ""] {
            assert!(wrong.parse::<Part>().unwrap_err().contains("like 2/4"), "{wrong}");
        }
    }

    #[test]
    fn a_start_is_a_unix_time_within_an_hour() {
        let now = Duration::from_secs(1_000_000);
        assert_eq!(wait("1000001.5", now).unwrap(), Duration::from_millis(1500));
        assert_eq!(wait("999999", now).unwrap(), Duration::ZERO);
        for wrong in ["", "soon", "-1", "NaN", "1000001500000", "900000"] {
            assert!(matches!(wait(wrong, now), Err(StartError::Time { line }) if line == wrong), "{wrong}");
        }
    }
}
