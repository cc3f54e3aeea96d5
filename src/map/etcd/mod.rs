//! A map in etcd: one key whose value is the map's text, read, compared and watched by etcd's JSON gateway.
//!
//! ```text
//!   load         range ------------------------> value and its revision
//!   replace      range, check, txn: if the key's revision is still that one, put
//!   newer_than   range at revision R, no newer map -> watch from R + 1 -> any change, or 5 s -> range again
//! ```
//!
//! What a watch brings is a nudge, never a map: maps come of reads alone, which a majority of members agrees to. So
//! nothing is missed that happens between a read and its watch, and a watch that says nothing costs 5 s at most.
//!
//! Every question has a connection of its own and a bound on time and size; no task is left behind.
#![forbid(unsafe_code)]

mod error;
mod http;
mod message;
mod place;

pub use error::{EtcdError, Tried};

pub(super) use error::told;
pub(super) use place::SCHEME;

use super::store::{Pending, check_replaces};
use super::{MapStore, MapStoreError, ShardMap, text};
use crate::transport::Endpoint;
use message::{RANGE_PATH, RangeAnswer, ReplaceAnswer, TXN_PATH, WATCH_PATH, WatchLine};
use place::Place;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};

/// How long a member may take for a read, or to begin a watch; then the next is asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long it may take to replace the map, once it was asked to.
const REPLACE_WITHIN: Duration = Duration::from_secs(5);

/// How long a watch may say nothing before the map is read.
const WATCH_AT_MOST: Duration = Duration::from_secs(5);

/// A round of waiting begins no sooner after the one before: whatever a peer says, nobody spins.
const ROUND_MIN: Duration = Duration::from_millis(50);

/// The same after many watches that failed.
const ROUND_MAX: Duration = Duration::from_secs(1);

/// How often a replacement is tried while others rewrite the same epoch.
const REPLACE_ROUNDS: u32 = 8;

/// Keeps a map in etcd 3.4 or later, at the key `PREFIX/map`. There is no TLS and no password: etcd must be reachable
/// by those alone who may change the cluster.
///
/// A read of the map ends within 2 s a member. [`MapStore::newer_than`] ends with an error where no member can be read,
/// after as long; ask again. [`MapStore::replace`] ends with [`MapStoreError::Unknown`] where it was sent and not
/// answered. The futures run on a tokio runtime with sockets and timers.
#[derive(Debug)]
pub struct MapEtcd {
    place: Place,
    /// The member that answered last, which is asked first. Any will do: it guards nothing.
    preferred: AtomicUsize,
}

/// The map as it was read.
struct Read {
    /// Of all of etcd: what changes later has a higher one.
    revision: u64,
    /// What wrote the key, 0 for none.
    mod_revision: u64,
    map: Option<ShardMap>,
}

impl MapEtcd {
    /// The map at `etcd://host:2379/prefix`, there or not; of several members `etcd://a:2379,b:2379/prefix`. Connects
    /// to nobody yet.
    ///
    /// # Errors
    /// [`MapStoreError::BadPlace`] where it is no such place.
    pub fn new(place: &str) -> Result<Self, MapStoreError> {
        Ok(Self { place: Place::parse(place)?, preferred: AtomicUsize::new(0) })
    }

    /// Its members, the one that answered last first, each with its number.
    fn members(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let (endpoints, first) = (&self.place.endpoints, self.preferred.load(Ordering::Relaxed));
        (0..endpoints.len()).map(move |step| {
            let member = (first + step) % endpoints.len();
            (member, &endpoints[member])
        })
    }

    fn prefer(&self, member: usize) {
        self.preferred.store(member, Ordering::Relaxed);
    }

    fn no_answer(&self, tried: Vec<Tried>) -> MapStoreError {
        MapStoreError::NoAnswer { place: self.place.text.clone(), tried: tried.into() }
    }

    async fn read(&self) -> Result<Read, MapStoreError> {
        let mut tried = Vec::new();
        for (member, endpoint) in self.members() {
            let asked = async {
                let answer: RangeAnswer = ask(endpoint, RANGE_PATH, message::range(&self.place.key)).await?;
                Ok((answer.header.revision, answer.value()?))
            };
            match within(ANSWER_WITHIN, asked).await {
                Ok((revision, value)) => {
                    self.prefer(member);
                    return self.parsed(endpoint, revision, value).await;
                }
                Err(error) => tried.push(failed(endpoint, error)),
            }
        }
        Err(self.no_answer(tried))
    }

    async fn parsed(
        &self,
        endpoint: &Endpoint,
        revision: u64,
        value: Option<(u64, Vec<u8>)>,
    ) -> Result<Read, MapStoreError> {
        let Some((mod_revision, value)) = value else { return Ok(Read { revision, mod_revision: 0, map: None }) };
        // Megabytes take longer than a client's other calls should wait.
        let parsed = spawn_blocking(move || text::parse(&value)).await;
        // A runtime that ends takes with it what has not begun.
        let ended = |error: JoinError| self.no_answer(vec![failed(endpoint, EtcdError::Broken(error.to_string()))]);
        let map = parsed.map_err(ended)?;
        let map = map.map_err(|source| MapStoreError::Map { place: self.place.text.clone(), source })?;
        Ok(Read { revision, mod_revision, map: Some(map) })
    }

    /// Puts a text in the place of what `mod_revision` wrote; false where it is no longer that.
    async fn put_over(&self, mod_revision: u64, text: &str) -> Result<bool, MapStoreError> {
        let mut tried = Vec::new();
        for (_, endpoint) in self.members() {
            // Only what was not sent may be sent to another: the same change twice would lose against itself.
            let socket = match within(ANSWER_WITHIN, http::connect(endpoint)).await {
                Ok(socket) => socket,
                Err(error) => {
                    tried.push(failed(endpoint, error));
                    continue;
                }
            };
            let json = message::replace(&self.place.key, mod_revision, text);
            let asked = async {
                let answer = http::post(socket, endpoint, TXN_PATH, json).await?;
                message::parse(&answer.whole(http::ANSWER_BYTES_MAX).await?)
            };
            return match within(REPLACE_WITHIN, asked).await {
                Ok(ReplaceAnswer { succeeded, .. }) => Ok(succeeded),
                // A member that waited in vain for the request may have had it (408).
                Err(error @ EtcdError::Status { status: 400..=407 | 409..=499, .. }) => {
                    tried.push(failed(endpoint, error));
                    Err(self.no_answer(tried))
                }
                Err(error) => {
                    let (place, tried) = (self.place.text.clone(), failed(endpoint, error));
                    Err(MapStoreError::Unknown { place, tried })
                }
            };
        }
        Err(self.no_answer(tried))
    }

    /// Waits until the key changes, from a revision on.
    async fn watch(&self, from: u64) -> Result<(), EtcdError> {
        let Some((_, endpoint)) = self.members().next() else { unreachable!("a place has a member") };
        let began = async {
            let socket = http::connect(endpoint).await?;
            http::post(socket, endpoint, WATCH_PATH, message::watch(&self.place.key, from)).await
        };
        let answer = within(ANSWER_WITHIN, began).await?;
        answer.line(|line| message::parse::<WatchLine>(line)?.changed()).await
    }
}

/// Asks one member, and reads the answer as a whole.
async fn ask<A: DeserializeOwned>(endpoint: &Endpoint, path: &str, json: String) -> Result<A, EtcdError> {
    let socket = http::connect(endpoint).await?;
    let answer = http::post(socket, endpoint, path, json).await?;
    message::parse(&answer.whole(http::ANSWER_BYTES_MAX).await?)
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, EtcdError>>) -> Result<T, EtcdError> {
    timeout(limit, work).await.unwrap_or(Err(EtcdError::Late(limit)))
}

fn failed(endpoint: &Endpoint, error: EtcdError) -> Tried {
    Tried { endpoint: endpoint.address().to_owned(), error }
}

/// A part of a pause, from its half on, so that nodes that lost etcd together do not come back together.
fn jittered(pause: Duration) -> Duration {
    // Without randomness they merely do.
    let drawn = getrandom::u32().unwrap_or(u32::MAX);
    pause / 2 + pause.mul_f64(f64::from(drawn) / f64::from(u32::MAX)) / 2
}

impl MapStore for MapEtcd {
    fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>> {
        Box::pin(async { Ok(self.read().await?.map.map(Arc::new)) })
    }

    fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>> {
        Box::pin(async move {
            let mut pause = ROUND_MIN;
            loop {
                let round = Instant::now();
                let read = self.read().await?;
                if let Some(map) = read.map.filter(|map| map.epoch() > epoch) {
                    return Ok(Arc::new(map));
                }
                match timeout(WATCH_AT_MOST, self.watch(read.revision.saturating_add(1))).await {
                    Ok(Err(error)) => {
                        tracing::debug!("{}: the map is read, not watched: {error}", self.place.text);
                        pause = (pause * 2).min(ROUND_MAX);
                    }
                    // Changed, or quiet.
                    Ok(Ok(())) | Err(_) => pause = ROUND_MIN,
                }
                sleep_until(round + jittered(pause)).await;
            }
        })
    }

    fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()> {
        Box::pin(async move {
            for _ in 0..REPLACE_ROUNDS {
                let there = self.read().await?;
                check_replaces(&self.place.text, there.map.as_ref(), expected, map)?;
                let text = text::to_keep(map);
                let text = text.map_err(|source| MapStoreError::Map { place: self.place.text.clone(), source })?;
                if self.put_over(there.mod_revision, &text).await? {
                    return Ok(());
                }
                // Somebody was first: of which epoch, the next read says.
            }
            Err(MapStoreError::Conflict { place: self.place.text.clone(), got: expected, expected })
        })
    }
}
