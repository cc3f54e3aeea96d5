//! The file of users: whoever reads it may guess passwords, so nobody else does.
#![forbid(unsafe_code)]

use super::users::{Users, UsersError};
use crate::files::{self, FileError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest file of users, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file of users cannot be used.
#[derive(Debug, Error)]
pub enum UsersFileError {
    /// It cannot be read or written, or others may read it.
    #[error(transparent)]
    File(#[from] FileError),
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
        let text = String::from_utf8(files::read_secret(path, FILE_BYTES_MAX)?);
        let no_text = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let text = text.map_err(no_text).map_err(FileError::system(path))?;
        Self::parse(&text).map_err(|source| UsersFileError::Content { path: path.to_owned(), source })
    }

    /// Writes a file anew, whole or not at all, for nobody else to read. One that is there keeps its owner and the
    /// right of its group to read it, as far as the system lets it.
    ///
    /// # Errors
    /// Why not; what was there stays.
    pub fn write(&self, path: &Path) -> Result<(), UsersFileError> {
        Ok(self.write_beside(path).map_err(FileError::system(path))?)
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
