//! A map in a file: TOML that a person may read and edit, replaced as a whole.
#![forbid(unsafe_code)]

use super::store::{Pending, check_replaces};
use super::{MapError, MapStore, MapStoreError, ShardMap, TEXT_BYTES_MAX, text};
use rustix::fs::{FlockOperation, flock};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the file is read while somebody waits for a newer map.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Keeps a map in a file. Whoever reads it sees a whole map, the old or the new: it is written beside and renamed.
/// Writers exclude each other by a lock on a file beside it, `FILE.lock`, which stays.
#[derive(Debug, Clone)]
pub struct MapFile {
    path: PathBuf,
}

impl MapFile {
    /// A map at a path, there or not.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the map; `None` where there is no such file. Blocks.
    ///
    /// # Errors
    /// The file cannot be read, or is no map.
    pub fn read(&self) -> Result<Option<ShardMap>, MapStoreError> {
        let read = match read_bounded(&self.path) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        };
        Ok(Some(text::parse(&read).map_err(|source| self.no_map(source))?))
    }

    /// As [`MapStore::replace`]. Blocks, while another writer is at it too.
    fn write(&self, expected: u64, map: &ShardMap) -> Result<(), MapStoreError> {
        let failed = |error| self.failed(error);
        let lock = File::options().create(true).append(true).open(self.beside(".lock")).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| self.failed(error.into()))?;
        check_replaces(&self.place(), self.read()?.as_ref(), expected, map)?;
        let text = text::to_keep(map).map_err(|source| self.no_map(source))?;
        let beside = self.beside(".new");
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| fs::rename(&beside, &self.path)).map_err(failed)?;
        // The rename itself, so that a machine that stops right after still has the new map.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(ending);
        PathBuf::from(name)
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn no_map(&self, source: MapError) -> MapStoreError {
        MapStoreError::Map { place: self.place(), source }
    }

    fn failed(&self, error: io::Error) -> MapStoreError {
        MapStoreError::File { path: self.path.clone(), source: Arc::new(error) }
    }
}

/// What a file holds, a byte more than a map may at most.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    File::open(path)?.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(&mut read)?;
    Ok(read)
}

impl MapFile {
    /// Runs what blocks where it holds up nobody else.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Self) -> Result<T, MapStoreError> + Send + 'static,
    ) -> Result<T, MapStoreError> {
        let file = self.clone();
        let done = tokio::task::spawn_blocking(move || run(&file)).await;
        // A runtime that ends takes with it what has not begun.
        done.unwrap_or_else(|ended| Err(self.failed(io::Error::other(ended))))
    }
}

impl MapStore for MapFile {
    fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>> {
        Box::pin(async { Ok(self.blocking(Self::read).await?.map(Arc::new)) })
    }

    fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>> {
        Box::pin(async move {
            loop {
                match self.load().await? {
                    Some(map) if map.epoch() > epoch => return Ok(map),
                    _ => tokio::time::sleep(LOOK_EVERY).await,
                }
            }
        })
    }

    fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()> {
        let map = map.clone();
        Box::pin(self.blocking(move |file| file.write(expected, &map)))
    }

    fn is_watched(&self) -> bool {
        false
    }
}
