//! Where a map is kept: what every keeper can do.
#![forbid(unsafe_code)]

use super::etcd::{self, MapEtcd};
use super::{MapFile, MapStoreError, ShardMap};
use std::fmt::Debug;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

/// What a keeper is about to answer.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, MapStoreError>> + Send + 'a>>;

/// Keeps the map of one cluster. The data path never waits for it: it is asked where a client meets a node that works
/// with another map, and by whoever changes the map.
///
/// Every future may be dropped; of [`MapStore::replace`] it is then unknown whether it took effect.
pub trait MapStore: Debug + Send + Sync {
    /// The newest map; `None` where there is none yet.
    fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>>;

    /// Waits for a map of a higher epoch than `epoch`, and gives the newest.
    fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>>;

    /// Puts a map in the place of the one of epoch `expected`, 0 for none, if it is that one, in one step: of two that
    /// replace the same map one succeeds. The map must be of the same cluster and a higher epoch.
    fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()>;

    /// Whether nodes take each newer map as it comes. Not from a file: who edits it says when it is done.
    fn is_watched(&self) -> bool {
        true
    }
}

/// The keeper that a place on the command line names: `etcd://host:2379/prefix`, or the path of a file.
///
/// # Errors
/// [`MapStoreError::BadPlace`] for what looks like a URL and names no etcd.
pub fn open(place: &Path) -> Result<Arc<dyn MapStore>, MapStoreError> {
    let text = place.to_string_lossy();
    let Some((scheme, _)) = text.split_once("://") else { return Ok(Arc::new(MapFile::new(place))) };
    if text.starts_with(etcd::SCHEME) {
        return Ok(Arc::new(MapEtcd::new(&text)?));
    }
    let why = match scheme {
        "https" | "etcds" => "TLS to etcd is not built; etcd://host:2379/prefix goes without",
        _ => "a path, or etcd://host:2379/prefix, is needed",
    };
    Err(MapStoreError::BadPlace { got: text.escape_debug().to_string(), why })
}

/// Whether `map` may take the place of what is there.
pub(super) fn check_replaces(
    place: &str,
    there: Option<&ShardMap>,
    expected: u64,
    map: &ShardMap,
) -> Result<(), MapStoreError> {
    let got = there.map_or(0, ShardMap::epoch);
    if got != expected {
        return Err(MapStoreError::Conflict { place: place.to_owned(), got, expected });
    }
    let Some(there) = there else { return Ok(()) };
    let refused = |source| MapStoreError::Map { place: place.to_owned(), source };
    map.check_follows(there).map_err(refused)?;
    if map.epoch() == there.epoch() {
        return Err(refused(super::MapError::SameEpoch { epoch: map.epoch() }));
    }
    Ok(())
}
