//! Profiles of the hot path: pprof samples the process while something is measured.
//!
//! ```text
//!   Profile::start(file) ... the measured phase ... finish() --> file.svg     a flamegraph
//!                                                          --> file.pb.gz  for `go tool pprof` and its kin
//!   Recording::start() ... samples() --> the bytes of a .pb.gz --draw--> those of an .svg, on another machine perhaps
//! ```
//!
//! Traps, each met once: pprof's `frame-pointer` feature drops the leaf frame, so the default unwinder is used; that
//! one crashes inside `libgcc` and the vdso, so samples that land there are dropped; the kernel's tick caps the rate
//! at its HZ; time spent waiting is invisible, only CPU time is sampled. The signal that samples restarts what it
//! interrupts (SA_RESTART), but for waits that never are, as tokio's, which go on by themselves.
#![forbid(unsafe_code)]

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use pprof::protos::{self, Message};
use pprof::{ProfilerGuard, ProfilerGuardBuilder, flamegraph};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Samples a second: not a divisor of anything that ticks.
const SAMPLES_PER_SECOND: i32 = 99;

/// Bytes of a profile out of its gzip, at most: what another machine sends may be anything.
const PROFILE_BYTES_MAX: u64 = 256 << 20;

/// A sampler that runs. One at a time in a process. Dropped, it stops.
pub struct Recording {
    guard: ProfilerGuard<'static>,
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").finish_non_exhaustive()
    }
}

/// A running profile of the whole process. Dropped without [`Profile::finish`], it writes nothing.
#[derive(Debug)]
pub struct Profile {
    recording: Recording,
    format: Format,
    path: PathBuf,
}

/// What a profile's file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A picture, `.svg`.
    Flamegraph,
    /// The samples, `.pb.gz`.
    Protobuf,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The name says no format.
    #[error("{}: a profile is a flamegraph (.svg) or for pprof (.pb.gz)", .path.display())]
    UnknownFormat {
        /// The file asked for.
        path: PathBuf,
    },
    /// Another profile of this process runs.
    #[error("another profile of this process is under way")]
    Running,
    /// The sampler could not start, or what it sampled could not be read.
    #[error("cannot profile: {0}")]
    Sampler(pprof::Error),
    /// Nothing ran while it was sampled.
    #[error("no samples: nothing ran meanwhile")]
    Empty,
    /// What should be a profile is none.
    #[error("this is no profile: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// The file could not be written.
    #[error("{}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl From<pprof::Error> for ProfileError {
    fn from(error: pprof::Error) -> Self {
        if matches!(error, pprof::Error::Running) { Self::Running } else { Self::Sampler(error) }
    }
}

impl Recording {
    /// Begins to sample the process.
    ///
    /// # Errors
    /// [`ProfileError::Running`] where another one samples it; where the sampler cannot start.
    pub fn start() -> Result<Self, ProfileError> {
        let builder = ProfilerGuardBuilder::default().frequency(SAMPLES_PER_SECOND);
        Ok(Self { guard: builder.blocklist(&["libgcc", "vdso"]).build()? })
    }

    /// Stops, and gives the samples as the bytes of a `.pb.gz`. Takes a while: every function is looked up.
    ///
    /// # Errors
    /// Where the samples cannot be read.
    ///
    /// # Panics
    /// Never: vectors take any bytes.
    pub fn samples(self) -> Result<Vec<u8>, ProfileError> {
        let profile = self.guard.report().build()?.pprof()?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let written = gzip.write_all(&profile.encode_to_vec()).and_then(|()| gzip.finish());
        Ok(written.expect("vectors take any bytes"))
    }
}

impl Profile {
    /// Says whether `path` names a format that can be written, before anything runs.
    ///
    /// # Errors
    /// [`ProfileError::UnknownFormat`].
    pub fn check(path: &Path) -> Result<(), ProfileError> {
        Format::of(path).map(|_| ())
    }

    /// Begins to sample the process. One profile at a time.
    ///
    /// # Errors
    /// Where the name says no format, or another profile runs.
    pub fn start(path: &Path) -> Result<Self, ProfileError> {
        let format = Format::of(path)?;
        Ok(Self { recording: Recording::start()?, format, path: path.to_owned() })
    }

    /// Stops and writes the file; where the process was idle there is nothing to draw, and that is said instead.
    ///
    /// # Errors
    /// Where the samples or the file fail.
    pub fn finish(self) -> Result<(), ProfileError> {
        let samples = self.recording.samples()?;
        let bytes = match self.format {
            Format::Flamegraph => match draw(&samples, "Flame Graph") {
                Err(error @ ProfileError::Empty) => {
                    tracing::warn!("{} is not written: {error}", self.path.display());
                    return Ok(());
                }
                drawn => drawn?,
            },
            Format::Protobuf => samples,
        };
        std::fs::write(&self.path, bytes).map_err(|source| ProfileError::Write { path: self.path, source })
    }
}

impl Format {
    /// The format that a file's name says.
    ///
    /// # Errors
    /// [`ProfileError::UnknownFormat`].
    pub fn of(path: &Path) -> Result<Self, ProfileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".svg") {
            Ok(Self::Flamegraph)
        } else if name.ends_with(".pb.gz") {
            Ok(Self::Protobuf)
        } else {
            Err(ProfileError::UnknownFormat { path: path.to_owned() })
        }
    }

    /// What its files' names end with.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Flamegraph => ".svg",
            Self::Protobuf => ".pb.gz",
        }
    }
}

/// The flamegraph of a `.pb.gz`, as the text of an `.svg`.
///
/// # Errors
/// Where the bytes are none, or hold no samples.
pub fn draw(samples: &[u8], title: &str) -> Result<Vec<u8>, ProfileError> {
    let malformed = |what: String| ProfileError::Malformed { what };
    let mut bytes = Vec::new();
    let read = GzDecoder::new(samples).take(PROFILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| malformed(error.to_string()))?;
    if bytes.len() as u64 > PROFILE_BYTES_MAX {
        return Err(malformed(format!("more than {PROFILE_BYTES_MAX} bytes")));
    }
    let profile = protos::Profile::decode(&bytes[..]).map_err(|error| malformed(error.to_string()))?;
    let lines = folded(&profile).ok_or_else(|| malformed(format!("stacks of more than {FOLDED_BYTES_MAX} bytes")))?;
    if lines.is_empty() {
        return Err(ProfileError::Empty);
    }
    let mut options = flamegraph::Options::default();
    options.title = title.to_owned();
    let mut drawn = Vec::new();
    let done = flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut drawn);
    done.map_err(|error| malformed(error.to_string()))?;
    Ok(drawn)
}

/// Most bytes of all stacks as lines: a profile names its functions once, and can name them in stacks without number.
const FOLDED_BYTES_MAX: usize = 256 << 20;

/// A line for each stack: `thread;outermost;...;innermost count`. `None` where they have more bytes than anybody draws.
fn folded(profile: &protos::Profile) -> Option<Vec<String>> {
    // A function's name stands in its stack's line as one word between semicolons.
    let text = |index: i64| {
        let text = usize::try_from(index).ok().and_then(|index| profile.string_table.get(index));
        text.map_or("?", String::as_str).replace([';', '\n'], ":")
    };
    let functions: HashMap<_, _> = profile.function.iter().map(|function| (function.id, function.name)).collect();
    let locations: HashMap<_, _> = profile.location.iter().map(|location| (location.id, &location.line)).collect();
    let (mut folded, mut room) = (Vec::new(), FOLDED_BYTES_MAX);
    for sample in &profile.sample {
        let Some(count) = sample.value.first().copied().filter(|count| *count > 0) else { continue };
        let mut line = sample.label.first().map_or_else(|| "?".to_owned(), |label| text(label.str));
        // Innermost first, as the samples themselves.
        let lines = sample.location_id.iter().rev().filter_map(|location| locations.get(location));
        for place in lines.flat_map(|lines| lines.iter().rev()) {
            line.push(';');
            line += &functions.get(&place.function_id).map_or_else(|| "?".to_owned(), |name| text(*name));
            if line.len() > room {
                return None;
            }
        }
        room = room.checked_sub(line.len())?;
        folded.push(format!("{line} {count}"));
    }
    Some(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burns CPU under a name of its own until the sampler must have seen it.
    #[inline(never)]
    fn a_function_to_find(rounds: u64) -> u64 {
        (0..rounds).fold(1, |hash: u64, i| std::hint::black_box(hash.wrapping_mul(i | 1).rotate_left(7)))
    }

    #[test]
    fn a_profile_of_stacks_without_end_is_not_drawn() {
        let line = || protos::Line { function_id: 1, ..Default::default() };
        let profile = protos::Profile {
            string_table: vec![String::new(), "f".repeat(1 << 20)],
            function: vec![protos::Function { id: 1, name: 1, ..Default::default() }],
            location: vec![protos::Location { id: 1, line: (0..1024).map(|_| line()).collect(), ..Default::default() }],
            sample: vec![protos::Sample { location_id: vec![1], value: vec![1], ..Default::default() }],
            ..Default::default()
        };
        assert_eq!(folded(&profile), None);
    }

    #[test]
    fn profiles_name_our_functions_and_other_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Profile::start(&folder.path().join("profile.txt")).unwrap_err();
        assert!(error.to_string().contains(".svg"), "{error}");
        assert!(Profile::check(Path::new("a.pb.gz")).is_ok());

        // One after the other: the process has one sampler.
        for name in ["profile.svg", "profile.pb.gz"] {
            let path = folder.path().join(name);
            let profile = Profile::start(&path).unwrap();
            std::hint::black_box(a_function_to_find(600_000_000));
            profile.finish().unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            if name.ends_with(".gz") {
                let mut plain = Vec::new();
                io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut plain).unwrap();
                bytes = plain;
            }
            assert!(bytes.windows(18).any(|window| window == b"a_function_to_find"), "{name} doesn't name it");
        }
    }

    #[test]
    fn what_is_no_profile_is_said_and_draws_nothing() {
        let gzip = |bytes: &[u8]| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(bytes).and_then(|()| gzip.finish()).unwrap()
        };
        for bytes in [b"none".to_vec(), gzip(b"none"), gzip(&vec![0xff; 100_000])] {
            assert!(matches!(draw(&bytes, "t"), Err(ProfileError::Malformed { .. })));
        }
        assert!(matches!(draw(&gzip(b""), "t"), Err(ProfileError::Empty)));
        // Samples that refer to what is not there are drawn as far as they go.
        let sample = protos::Sample { location_id: vec![7], value: vec![3, 3], ..Default::default() };
        let dangling = protos::Profile { sample: vec![sample], ..Default::default() };
        assert!(draw(&gzip(&dangling.encode_to_vec()), "t").is_ok());
    }
}
