//! Profiles of the hot path: pprof samples the process while something is measured.
//!
//! ```text
//!   Profile::start(file) ... the measured phase ... finish() --> file.svg     a flamegraph
//!                                                          --> file.pb.gz  for `go tool pprof` and its kin
//! ```
//!
//! Traps, each met once: pprof's `frame-pointer` feature drops the leaf frame, so the default unwinder is used; that
//! one crashes inside `libgcc` and the vdso, so samples that land there are dropped; the kernel's tick caps the rate
//! at its HZ; time spent waiting is invisible, only CPU time is sampled.
#![forbid(unsafe_code)]

use flate2::Compression;
use flate2::write::GzEncoder;
use pprof::protos::Message;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Samples a second: not a divisor of anything that ticks.
const SAMPLES_PER_SECOND: i32 = 99;

/// A running profile of the whole process. Dropped without [`Profile::finish`], it writes nothing.
pub struct Profile {
    guard: ProfilerGuard<'static>,
    format: Format,
    path: PathBuf,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Flamegraph,
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
    /// The sampler could not start, or what it sampled could not be read.
    #[error("cannot profile: {0}")]
    Sampler(#[from] pprof::Error),
    /// The file could not be written.
    #[error("{}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
        let guard =
            ProfilerGuardBuilder::default().frequency(SAMPLES_PER_SECOND).blocklist(&["libgcc", "vdso"]).build()?;
        Ok(Self { guard, format, path: path.to_owned() })
    }

    /// Stops and writes the file.
    ///
    /// # Errors
    /// Where the samples or the file fail.
    pub fn finish(self) -> Result<(), ProfileError> {
        let report = self.guard.report().build()?;
        let write_error = |source| ProfileError::Write { path: self.path.clone(), source };
        let mut file = File::create(&self.path).map_err(write_error)?;
        match self.format {
            Format::Flamegraph => report.flamegraph(&mut file)?,
            Format::Protobuf => {
                let mut gzip = GzEncoder::new(&mut file, Compression::default());
                gzip.write_all(&report.pprof()?.encode_to_vec()).map_err(write_error)?;
                gzip.finish().map_err(write_error)?;
            }
        }
        file.flush().map_err(write_error)
    }
}

impl Format {
    fn of(path: &Path) -> Result<Self, ProfileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".svg") {
            Ok(Self::Flamegraph)
        } else if name.ends_with(".pb.gz") {
            Ok(Self::Protobuf)
        } else {
            Err(ProfileError::UnknownFormat { path: path.to_owned() })
        }
    }
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
}
