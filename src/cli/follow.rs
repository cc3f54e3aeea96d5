//! How a served node follows the shard map: at SIGHUP, and from a keeper that is watched each newer map as it comes.
#![forbid(unsafe_code)]

use super::hangup::Hangups;
use crate::map::{self, MapStore, MapStoreError, ShardMap};
use crate::server::Node;
use std::convert::Infallible;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause before a keeper that could not be watched is watched again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A watch that held for so long before it failed is told of anew, though the words be the same.
const HELD_AFTER: Duration = Duration::from_secs(30);

/// Where the map comes from, and what says that there may be another.
#[derive(Debug)]
pub(super) struct Follower {
    store: Arc<dyn MapStore>,
    hangups: Hangups,
    /// Why the last map that came was not taken, or none came: said once.
    said: Option<String>,
}

/// What makes a node look at the map.
enum Cause {
    Hangup,
    Newer(Result<Arc<ShardMap>, MapStoreError>),
}

impl Follower {
    /// From now on no SIGHUP finds the default action.
    pub(super) fn new(place: &Path) -> Result<Self, Box<dyn Error>> {
        Ok(Self { store: map::open(place)?, hangups: Hangups::new()?, said: None })
    }

    /// Where the map comes from.
    pub(super) fn store(&self) -> Arc<dyn MapStore> {
        Arc::clone(&self.store)
    }

    /// The map to begin with. A file that cannot be read is an error; a keeper that is watched is waited for later.
    pub(super) async fn first(&self) -> Result<Option<Arc<ShardMap>>, MapStoreError> {
        match self.store.load().await {
            Err(error) if self.store.is_watched() => {
                tracing::error!("{error}");
                Ok(None)
            }
            read => read,
        }
    }

    /// What ends a wait for the first map.
    pub(super) fn until(&self) -> &'static str {
        if self.store.is_watched() { "a map names it" } else { "SIGHUP" }
    }

    /// Takes the map anew whenever there may be another, for ever.
    pub(super) async fn run(mut self, node: &Node) -> Infallible {
        let mut pause = Duration::ZERO;
        loop {
            let (epoch, began) = (node.stats().map_epoch, Instant::now());
            let cause = tokio::select! {
                () = self.hangups.next() => Cause::Hangup,
                newer = newer(&*self.store, epoch, pause), if self.store.is_watched() => Cause::Newer(newer),
            };
            let refused = match cause {
                Cause::Hangup => take(node, self.store.load().await).err().map(|why| format!("SIGHUP: {why}")),
                Cause::Newer(newer) => {
                    if began.elapsed() > HELD_AFTER {
                        self.said = None;
                    }
                    let refused = take(node, newer.map(Some)).err();
                    pause = if refused.is_some() { RETRY_AFTER } else { Duration::ZERO };
                    let told = std::mem::replace(&mut self.said, refused.clone());
                    refused.filter(|why| told.as_ref() != Some(why))
                }
            };
            if let Some(why) = refused {
                tracing::error!("{why}");
            }
        }
    }
}

async fn newer(store: &dyn MapStore, epoch: u64, pause: Duration) -> Result<Arc<ShardMap>, MapStoreError> {
    sleep(pause).await;
    store.newer_than(epoch).await
}

/// Gives a map to the node; else why not, as a line.
fn take(node: &Node, read: Result<Option<Arc<ShardMap>>, MapStoreError>) -> Result<(), String> {
    let why = match read {
        Ok(Some(map)) => match node.take_map(&map) {
            Ok(()) => return Ok(()),
            Err(error) => error.to_string(),
        },
        Ok(None) => "there is none".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("the map is not taken, that of epoch {} stays: {why}", node.stats().map_epoch))
}
