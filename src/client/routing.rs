//! Which node gets a key: by a list of servers, or by the newest shard map that the client knows.
//!
//! ```text
//!   key --slot--> Routing (one map, never changed) --> node
//!                    ^ replaced as a whole, when a node answers that it works with another map
//! ```
#![forbid(unsafe_code)]

use super::keeper::Keeper;
use super::node::NodeClient;
use super::session::Session;
use super::{ClientConfig, ClientError};
use crate::hash::{self, Key};
use crate::map::{MapNode, MapStore, MapStoreError, ShardMap, even_owner};
use crate::transport::HeapPool;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The nodes, and which of them owns which slot.
#[derive(Debug)]
pub(super) struct Routing {
    pub(super) nodes: Vec<Arc<NodeClient>>,
    /// Without one slots are dealt evenly, in the order of the nodes.
    map: Option<Arc<ShardMap>>,
    /// Whether one node owns every slot.
    is_single: bool,
}

impl Routing {
    /// By a list of servers.
    pub(super) fn even(nodes: Vec<Arc<NodeClient>>) -> Self {
        let is_single = nodes.len() == 1;
        Self { nodes, map: None, is_single }
    }

    /// By a map. Connections to nodes that `old` has too are kept.
    fn mapped(
        map: Arc<ShardMap>,
        old: Option<&Self>,
        config: &ClientConfig,
        pool: &Arc<HeapPool>,
        session: Option<&Arc<Session>>,
        keeper: &Arc<Keeper>,
    ) -> Self {
        let kept = |named: &MapNode| old?.nodes.iter().find(|node| node.is(named)).cloned();
        let nodes = map.nodes().iter();
        let nodes: Vec<_> = nodes
            .map(|node| kept(node).unwrap_or_else(|| NodeClient::named(node, config, pool, session, Some(keeper))))
            .collect();
        nodes.iter().for_each(|node| node.set_map_epoch(map.epoch()));
        let is_single = nodes.len() == 1 && map.slots_of(0) == crate::slots::SlotSet::ALL;
        Self { nodes, map: Some(map), is_single }
    }

    /// The epoch of its map, 0 for none.
    pub(super) fn epoch(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.epoch())
    }

    pub(super) fn is_single(&self) -> bool {
        self.is_single
    }

    /// Parts that a batch falls into: one a node, and one for what nobody owns.
    pub(super) fn parts(&self) -> usize {
        if self.is_single { 1 } else { self.nodes.len() + usize::from(self.map.is_some()) }
    }

    /// The part of a key: the place of its node, one past the last where nobody owns it.
    #[inline(always)]
    pub(super) fn part_of<'k>(&self, key: impl Into<Key<'k>>) -> usize {
        if self.is_single { 0 } else { self.part_of_slot(hash::slot(key)) }
    }

    /// The node of a key, and the epoch by which it is.
    pub(super) fn owner(&self, key: &[u8]) -> (Option<Arc<NodeClient>>, u64) {
        (self.nodes.get(self.part_of(key)).cloned(), self.epoch())
    }

    #[inline]
    fn part_of_slot(&self, slot: u16) -> usize {
        match &self.map {
            None => even_owner(slot, self.nodes.len()),
            Some(map) => map.owner(slot).unwrap_or(self.nodes.len()),
        }
    }

    /// The error for a key that nobody owns.
    pub(super) fn no_owner(&self) -> ClientError {
        ClientError::NoOwner { epoch: self.epoch() }
    }
}

/// Why an operation was not executed, and may be sent to whom another map names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its node does not own the slot, by the map of this epoch.
    WrongNode { epoch: u64 },
    /// Nobody owns the slot.
    NoOwner,
    /// Its node could not be reached, refused it, or is another incarnation.
    Unsent,
    /// The frame to its node was full.
    FrameFull,
}

impl Cause {
    /// Which of several is to be waited for: the highest.
    pub(super) fn urgency(&self) -> (u8, u64) {
        match self {
            Self::FrameFull => (0, 0),
            Self::Unsent => (1, 0),
            Self::NoOwner => (2, 0),
            Self::WrongNode { epoch } => (3, *epoch),
        }
    }
}

/// The newest map that a client knows, and where newer ones come from.
#[derive(Debug)]
pub(super) struct Router {
    routing: RwLock<Arc<Routing>>,
    /// `None` for a list of servers.
    keeper: Option<Arc<Keeper>>,
    /// Held by whoever waits for a newer map, so that only one does.
    looking: tokio::sync::Mutex<()>,
    config: ClientConfig,
    /// Of the nodes of a map, whichever map it is.
    session: Option<Arc<Session>>,
    pub(super) pool: Arc<HeapPool>,
}

/// The shortest pause before a node that works with an older map than this client is asked again.
const BEHIND_WAIT_MIN: Duration = Duration::from_millis(5);

/// The longest.
const BEHIND_WAIT_MAX: Duration = Duration::from_millis(500);

/// The pause before a map that could not be read is read again.
const UNREADABLE_WAIT: Duration = Duration::from_millis(100);

impl Router {
    pub(super) fn even(nodes: Vec<Arc<NodeClient>>, config: ClientConfig, pool: Arc<HeapPool>) -> Self {
        Self::new(Routing::even(nodes), None, config, pool, None)
    }

    /// Reads the map; connects to nobody yet.
    pub(super) async fn mapped(
        store: Arc<dyn MapStore>,
        config: ClientConfig,
        pool: Arc<HeapPool>,
    ) -> Result<Self, ClientError> {
        let loaded = timeout_at(config.deadline_from_now(), store.load()).await;
        let late = |_| ClientError::MapLate { deadline: config.deadline };
        let map = loaded.map_err(late)?.map_err(ClientError::Map)?.ok_or(ClientError::NoMap)?;
        let session = Session::new(&config);
        let keeper = Keeper::new(store, Arc::clone(&map));
        let routing = Routing::mapped(map, None, &config, &pool, session.as_ref(), &keeper);
        Ok(Self::new(routing, Some(keeper), config, pool, session))
    }

    fn new(
        routing: Routing,
        keeper: Option<Arc<Keeper>>,
        config: ClientConfig,
        pool: Arc<HeapPool>,
        session: Option<Arc<Session>>,
    ) -> Self {
        let looking = tokio::sync::Mutex::default();
        Self { routing: RwLock::new(Arc::new(routing)), keeper, looking, config, session, pool }
    }

    pub(super) fn is_mapped(&self) -> bool {
        self.keeper.is_some()
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(super) fn routing(&self) -> Arc<Routing> {
        Arc::clone(&self.current())
    }

    /// [`Routing::owner`], by the newest map.
    pub(super) fn owner(&self, key: &[u8]) -> (Option<Arc<NodeClient>>, u64) {
        self.current().owner(key)
    }

    fn current(&self) -> RwLockReadGuard<'_, Arc<Routing>> {
        self.routing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How to send again what was sent in vain by the map of epoch `old`, for the `round`th time. Waits, until the
    /// deadline, for a map that may help.
    ///
    /// # Errors
    /// There is none: `None` where the first error says all there is to say.
    pub(super) async fn next(
        &self,
        old: u64,
        cause: Cause,
        round: u32,
        deadline: Instant,
    ) -> Result<Arc<Routing>, Option<ClientError>> {
        let Some(keeper) = &self.keeper else { return Err(None) };
        let current = self.routing();
        if current.epoch() > old {
            return Ok(current);
        }
        let late = || ClientError::NoNewerMap { epoch: old, deadline: self.config.deadline };
        match cause {
            Cause::FrameFull if Instant::now() < deadline => Ok(current),
            Cause::FrameFull => Err(Some(late())),
            Cause::Unsent => match keeper.look(deadline).await {
                map if map.epoch() > old => self.take(map).map_err(Some),
                // What kept it from being sent is the better error.
                _ => Err(None),
            },
            // The node has not heard of our map yet, or is just hearing of it.
            Cause::WrongNode { epoch } if epoch <= old => {
                let pause = BEHIND_WAIT_MIN.saturating_mul(1 << round.min(16)).min(BEHIND_WAIT_MAX);
                let until = (Instant::now() + pause).min(deadline);
                match timeout_at(until, self.newer_than(keeper, old, &mut None)).await {
                    Ok(newer) => newer.map_err(Some),
                    Err(_) if Instant::now() < deadline => Ok(current),
                    Err(_) => Err(Some(late())),
                }
            }
            Cause::WrongNode { .. } | Cause::NoOwner => {
                let mut unreadable = None;
                let newer = timeout_at(deadline, self.newer_than(keeper, old, &mut unreadable)).await;
                newer.unwrap_or_else(|_| Err(unreadable.unwrap_or_else(late))).map_err(Some)
            }
        }
    }

    /// Waits for a newer map and takes it. A map that cannot be read may be one that is being edited: it is read again,
    /// and why it could not be read is left in `unreadable`.
    async fn newer_than(
        &self,
        keeper: &Keeper,
        epoch: u64,
        unreadable: &mut Option<ClientError>,
    ) -> Result<Arc<Routing>, ClientError> {
        let _only_one = self.looking.lock().await;
        loop {
            let current = self.routing();
            if current.epoch() > epoch {
                return Ok(current);
            }
            match keeper.store.newer_than(epoch).await {
                Ok(map) => return self.take(map),
                Err(error) => *unreadable = Some(ClientError::Map(error)),
            }
            sleep(UNREADABLE_WAIT).await;
        }
    }

    /// Takes a map, if it is newer than the one before.
    fn take(&self, map: Arc<ShardMap>) -> Result<Arc<Routing>, ClientError> {
        let mut routing = self.routing.write().unwrap_or_else(PoisonError::into_inner);
        let (Some(old), Some(keeper)) = (&routing.map, &self.keeper) else {
            unreachable!("who has a keeper began with a map")
        };
        if map.epoch() > old.epoch() {
            let refused = |source| ClientError::Map(MapStoreError::Map { place: "newer map".to_owned(), source });
            map.check_follows(old).map_err(refused)?;
            tracing::debug!("map of epoch {} taken after {}", map.epoch(), old.epoch());
            keeper.saw(Arc::clone(&map));
            let session = self.session.as_ref();
            *routing = Arc::new(Routing::mapped(map, Some(&routing), &self.config, &self.pool, session, keeper));
        }
        Ok(Arc::clone(&routing))
    }
}
