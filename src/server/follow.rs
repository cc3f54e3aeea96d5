//! A node that follows the keeper of its map: it looks when it is asked to, and again and again while slots move.
//!
//! A mover that gives up, or dies, leaves slots that their old owner gave up and that nobody serves. After
//! `frozen_wait` the old owner puts a map of the same owners in the place of the one that the mover meant to replace:
//! whichever of the two replaces it first decides, and the other one learns it.
#![forbid(unsafe_code)]

use super::node::Shared;
use crate::map::{MapStore, MapStoreError, ShardMap};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, error::Elapsed, sleep, sleep_until, timeout};

/// How often the keeper is asked while slots move.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the keeper may take.
const KEEPER_WAIT: Duration = Duration::from_secs(5);

/// How often it is asked however many peers wish it, and how many looks may be saved up: a move takes a few.
const LOOK_GAP: Duration = Duration::from_millis(50);
const LOOKS_SAVED_MAX: u32 = 20;

/// Wakes who follows the map.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Notify,
    is_asked: AtomicBool,
}

impl Bell {
    /// A move began or ended here.
    pub(super) fn ring(&self) {
        self.rung.notify_one();
    }

    /// There may be a newer map.
    pub(super) fn ask(&self) {
        // Relaxed: whoever is woken has seen it, and one who sees it sooner looks sooner.
        self.is_asked.store(true, Ordering::Relaxed);
        self.ring();
    }
}

/// Bounds how often the keeper is asked: peers need not be friends.
struct Looks {
    /// Each look puts it off by [`LOOK_GAP`].
    spent_until: Instant,
}

impl Looks {
    async fn wait(&mut self) {
        let now = Instant::now();
        self.spent_until = self.spent_until.max(now) + LOOK_GAP;
        sleep((self.spent_until - now).saturating_sub(LOOK_GAP * LOOKS_SAVED_MAX)).await;
    }
}

/// Why a look was in vain.
#[derive(Debug, Error)]
enum Vain {
    #[error(transparent)]
    Store(#[from] MapStoreError),
    #[error(transparent)]
    Map(#[from] crate::map::MapError),
    #[error("no answer from the keeper within {KEEPER_WAIT:?}")]
    Late(#[from] Elapsed),
}

/// Follows the keeper until the node drains.
pub(super) async fn follow(shared: Arc<Shared>, store: Arc<dyn MapStore>) {
    let looking = async {
        let (mut told, mut looks) = (String::new(), Looks { spent_until: Instant::now() });
        let mut next = None;
        loop {
            // However often somebody rings, what is due stays due.
            next = sooner(next, next_look(&shared));
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => pending().await,
                }
            };
            let is_due = tokio::select! {
                biased;
                () = due => true,
                () = shared.bell.rung.notified() => false,
            };
            let store_here = shared.session.store();
            shared.map.when_swept(store_here, |state| state.end_idle(store_here)).await;
            shared.map.when_swept(store_here, |_| ()).await;
            if !is_due && !shared.bell.is_asked.load(Ordering::Relaxed) {
                continue;
            }
            looks.wait().await;
            next = None;
            // Who asks from here on may know of a map that this look misses.
            shared.bell.is_asked.store(false, Ordering::Relaxed);
            // A peer can ask as often as it likes: the same is said once.
            let vain = look(&shared, &*store).await.err().map(|vain| vain.to_string()).unwrap_or_default();
            if !vain.is_empty() && vain != told {
                tracing::error!("the map is not taken, that of epoch {} stays: {vain}", shared.map.lock().epoch());
            }
            told = vain;
        }
    };
    tokio::select! {
        biased;
        () = shared.drain.wait() => {}
        () = looking => {}
    }
}

/// The sooner of two instants, but none where nothing moves any more.
fn sooner(before: Option<Instant>, new: Option<Instant>) -> Option<Instant> {
    new.map(|new| before.map_or(new, |before| before.min(new)))
}

/// When to look next without being asked.
fn next_look(shared: &Shared) -> Option<Instant> {
    let state = shared.map.lock();
    let is_moving = state.outgoing.is_some() || state.incoming.is_some();
    let (soon, now) = (Instant::now() + LOOK_EVERY, Instant::now());
    let fence = state.outgoing.as_ref().and_then(|there| there.frozen()).map(|since| since + shared.config.frozen_wait);
    is_moving.then(|| fence.filter(|fence| *fence > now).map_or(soon, |fence| fence.min(soon)))
}

/// Takes a newer map, if there is one; ends a move that was left alone behind its freeze.
async fn look(shared: &Shared, store: &dyn MapStore) -> Result<(), Vain> {
    let Some(map) = timeout(KEEPER_WAIT, store.load()).await?? else { return Ok(()) };
    let (epoch, frozen) = {
        let state = shared.map.lock();
        (state.epoch(), state.outgoing.as_ref().and_then(|there| there.frozen()))
    };
    if map.epoch() != epoch {
        return take(shared, &map).await;
    }
    if frozen.is_some_and(|since| since.elapsed() >= shared.config.frozen_wait) {
        let fence = map.fenced()?;
        match timeout(KEEPER_WAIT, store.replace(epoch, &fence)).await? {
            Ok(()) => take(shared, &fence).await?,
            // Somebody was faster: the next look tells what it is.
            Err(MapStoreError::Conflict { .. }) => shared.bell.ask(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn take(shared: &Shared, map: &ShardMap) -> Result<(), Vain> {
    Ok(shared.map.take_slowly(map, shared.session.store()).await?)
}
