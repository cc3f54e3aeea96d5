//! The keeper of the map, as all nodes of a client ask it: who looks at the same time shares a look, and what anybody
//! saw all know.
#![forbid(unsafe_code)]

use crate::map::{MapStore, ShardMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::{Instant, timeout_at};

/// Where newer maps come from.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) store: Arc<dyn MapStore>,
    /// The newest map that anybody saw.
    newest: Mutex<Arc<ShardMap>>,
    /// Looks that have begun.
    begun: AtomicU64,
    /// The latest that ended, held by whoever looks.
    ended: tokio::sync::Mutex<u64>,
}

impl Keeper {
    pub(super) fn new(store: Arc<dyn MapStore>, first: Arc<ShardMap>) -> Arc<Self> {
        let ended = tokio::sync::Mutex::new(0);
        Arc::new(Self { store, newest: Mutex::new(first), begun: AtomicU64::new(0), ended })
    }

    /// The newest map that anybody saw.
    pub(super) fn newest(&self) -> Arc<ShardMap> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Somebody saw a map.
    pub(super) fn saw(&self, map: Arc<ShardMap>) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        // Another cluster's map is nobody's.
        if map.check_follows(&newest).is_ok() {
            *newest = map;
        }
    }

    /// The newest map, after a look that began no earlier than this. Where the keeper does not answer by the deadline,
    /// that of before: the look goes on, as a keeper of several members asks one after the other.
    pub(super) async fn look(self: &Arc<Self>, deadline: Instant) -> Arc<ShardMap> {
        // Numbers under the lock, but for this one: a look that begins behind it has a higher one.
        let begun = self.begun.load(Ordering::Relaxed);
        let keeper = Arc::clone(self);
        let looking = tokio::spawn(async move {
            let mut ended = keeper.ended.lock().await;
            if *ended <= begun {
                let number = keeper.begun.fetch_add(1, Ordering::Relaxed) + 1;
                if let Ok(Some(map)) = keeper.store.load().await {
                    keeper.saw(map);
                }
                *ended = number;
            }
        });
        let _late = timeout_at(deadline, looking).await;
        self.newest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::{Id, MapMemory, Pending};
    use std::time::Duration;
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    /// A keeper that takes its time, and counts.
    #[derive(Debug, Default)]
    struct Slow {
        map: MapMemory,
        loads: AtomicU64,
    }

    impl MapStore for Slow {
        fn load(&self) -> Pending<'_, Option<Arc<ShardMap>>> {
            Box::pin(async {
                self.loads.fetch_add(1, Ordering::Relaxed);
                let there = self.map.load().await;
                sleep(Duration::from_secs(1)).await;
                there
            })
        }

        fn newer_than(&self, epoch: u64) -> Pending<'_, Arc<ShardMap>> {
            self.map.newer_than(epoch)
        }

        fn replace<'a>(&'a self, expected: u64, map: &'a ShardMap) -> Pending<'a, ()> {
            self.map.replace(expected, map)
        }
    }

    fn map(epoch: u64) -> ShardMap {
        ShardMap::new(Id([7; 16]), epoch, vec![]).expect("a map")
    }

    async fn slow() -> (Arc<Slow>, Arc<Keeper>) {
        let store = Arc::new(Slow::default());
        store.replace(0, &map(1)).await.expect("nothing was there");
        let keeper = Keeper::new(Arc::<Slow>::clone(&store), Arc::new(map(1)));
        (store, keeper)
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_at_the_same_time_shares_a_look_that_began_no_earlier() {
        let (store, keeper) = slow().await;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut looks = JoinSet::new();
        let look = |keeper: &Arc<Keeper>| {
            let keeper = Arc::clone(keeper);
            async move { keeper.look(deadline).await.epoch() }
        };
        looks.spawn(look(&keeper));
        sleep(Duration::from_millis(500)).await;
        // The look under way may have missed it.
        store.replace(1, &map(2)).await.expect("the epoch is right");
        (0..50).for_each(|_| _ = looks.spawn(look(&keeper)));
        let mut epochs = looks.join_all().await;
        epochs.sort_unstable();
        assert_eq!((epochs[0], epochs[1]), (1, 2));
        assert_eq!(store.loads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_takes_longer_than_anybody_waits_is_still_seen() {
        let (store, keeper) = slow().await;
        store.replace(1, &map(2)).await.expect("the epoch is right");
        let soon = || Instant::now() + Duration::from_millis(300);
        let mut epochs = Vec::new();
        for _ in 0..5 {
            epochs.push(keeper.look(soon()).await.epoch());
        }
        assert_eq!((epochs[0], epochs[4]), (1, 2), "{epochs:?}");
        assert_eq!(store.loads.load(Ordering::Relaxed), 2);
    }
}
