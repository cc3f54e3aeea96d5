//! The file of users: whoever reads it may guess passwords, so nobody else does.
#![forbid(unsafe_code)]

use super::users::{Users, UsersError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest file of users, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What others and the group must not be allowed: to read, or to write.
const TOO_OPEN: u32 = 0o026;

/// Why a file of users cannot be used.
#[derive(Debug, Error)]
pub enum UsersFileError {
    /// The system says no.
    #[error("{}: {source}", path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others may read or change it.
    #[error("{}: others may read or change it (mode {mode:03o}): `chmod 600` closes it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Too long for a list of users.
    #[error("{}: longer than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It holds something else.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: UsersError,
    },
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// Why it cannot be used: others may read it, for one.
    pub fn read(path: &Path) -> Result<Self, UsersFileError> {
        let system = |source| UsersFileError::System { path: path.to_owned(), source };
        let file = File::open(path).map_err(system)?;
        // Of the file that is read, whatever its name leads to by now.
        let mode = file.metadata().map_err(system)?.mode() & 0o777;
        if mode & TOO_OPEN != 0 {
            return Err(UsersFileError::TooOpen { path: path.to_owned(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(system)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(UsersFileError::TooLong { path: path.to_owned() });
        }
        Self::parse(&text).map_err(|source| UsersFileError::Content { path: path.to_owned(), source })
    }

    /// Writes a file anew, whole or not at all, for nobody else to read. One that is there keeps its owner and the
    /// right of its group to read it, as far as the system lets it.
    ///
    /// # Errors
    /// Why not; what was there stays.
    pub fn write(&self, path: &Path) -> Result<(), UsersFileError> {
        let written = self.write_beside(path);
        written.map_err(|source| UsersFileError::System { path: path.to_owned(), source })
    }

    fn write_beside(&self, path: &Path) -> io::Result<()> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let beside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            if let Ok(before) = fs::metadata(&path) {
                let (owner, group) = (Some(before.uid()), Some(before.gid()));
                // A node that runs as somebody else goes on reading it.
                if std::os::unix::fs::fchown(&file, owner, group).is_ok() && before.mode() & 0o040 != 0 {
                    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
                }
            }
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        })();
        if written.is_err() {
            // Whatever it holds, nobody wants it.
            let _ = fs::remove_file(&beside);
        }
        written
    }
}
