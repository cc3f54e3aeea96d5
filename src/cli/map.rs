//! Where the command line finds a shard map.
#![forbid(unsafe_code)]

use crate::map::{MapFile, MapStore};
use std::path::Path;
use std::sync::Arc;

/// The map that `--map` names.
pub(super) fn open(path: &Path) -> Arc<dyn MapStore> {
    Arc::new(MapFile::new(path))
}
