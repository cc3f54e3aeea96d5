//! Files that are read whole: no longer than they may be, and closed to others where they hold secrets.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What others and the group must not be allowed with a secret: others to read it, either to write it.
const TOO_OPEN: u32 = 0o026;

/// Why a file is not read.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system says no.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others may read a secret, or change it.
    #[error("{}: others may read or change it (mode {mode:03o}): `chmod 600` closes it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Too long for what it is.
    #[error("{}: longer than {bytes_max} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// How long it may be.
        bytes_max: u64,
    },
}

impl FileError {
    /// What the system says of a file.
    pub(crate) fn system(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::System { path: path.to_owned(), source }
    }
}

/// Reads a file.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    take(open(path)?, path, bytes_max)
}

/// Reads a file that nobody else can have read.
pub(crate) fn read_secret(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let file = open(path)?;
    // Of the file that is read, whatever its name leads to by now.
    let mode = file.metadata().map_err(FileError::system(path))?.mode() & 0o777;
    if mode & TOO_OPEN != 0 {
        return Err(FileError::TooOpen { path: path.to_owned(), mode });
    }
    take(file, path, bytes_max)
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(FileError::system(path))
}

fn take(file: File, path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(FileError::system(path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(FileError::TooLong { path: path.to_owned(), bytes_max });
    }
    Ok(bytes)
}
