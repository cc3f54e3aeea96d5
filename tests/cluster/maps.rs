//! Where the maps of a run are kept: a file for the nodes, and for each client host a copy that may be older.
//!
//! Another keeper is another type in this one's place: what `--map` of a node and of a client says, how the next map is
//! put there, and whether nodes must be told.
#![forbid(unsafe_code)]

use freight::map::ShardMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Files.
pub(crate) struct Maps {
    folder: TempDir,
}

impl Maps {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a scratch folder") }
    }

    /// What nodes go by: read at start, and at SIGHUP.
    pub(crate) fn of_nodes(&self) -> PathBuf {
        self.folder.path().join("nodes.toml")
    }

    /// What the clients at a host go by.
    pub(crate) fn of_clients(&self, host: usize) -> PathBuf {
        self.folder.path().join(format!("client{host}.toml"))
    }
}

/// Puts a map in a file that others may read meanwhile.
pub(crate) fn write(path: &Path, map: &ShardMap) {
    let beside = path.with_extension("new");
    fs::write(&beside, map.to_string()).and_then(|()| fs::rename(&beside, path)).expect("writable");
}
