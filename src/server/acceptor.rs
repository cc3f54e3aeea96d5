//! Taking connections and dealing them to threads.
#![forbid(unsafe_code)]

use super::accounts::{Member, TooMany};
use super::connection;
use super::error::ServerError;
use super::node::Shared;
use super::redis;
use super::redis_listener::{self, RedisConnection};
use super::worker::Worker;
use crate::cores::Placement;
use crate::limits::HELLO_BYTES_MAX;
use crate::metrics::Counters;
use crate::transport::{
    self, Connection, ConnectionConfig, Endpoint, Incoming, Listener, RedisEndpoint, Source, Transport, TransportError,
    Visitor,
};
use crate::wire::{RefusalCode, refusal};
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long accepting pauses when the system refuses, for example without a free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait for their thread at a time; more stay with the system until there is a place.
const DEALT_MAX: usize = 1_024;

/// Connections at a time that are told that they are too many; more are closed without a word.
const REFUSED_MAX: usize = 64;

type Listening = Pin<Box<dyn Future<Output = Result<Endpoint, ServerError>> + Send>>;

/// Where a node listens.
#[derive(Debug, Default)]
pub(super) struct Doors {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) redis_endpoints: Vec<RedisEndpoint>,
}

/// Listens at every endpoint of the node and accepts on the first worker's runtime, which must be the caller's.
pub(super) async fn listen(shared: Arc<Shared>) -> Result<Doors, ServerError> {
    let mut doors = Doors::default();
    for endpoint in &shared.config.listen {
        let visitor = Listen { shared: Arc::clone(&shared), endpoint: endpoint.clone() };
        doors.endpoints.push(transport::dispatch(endpoint.scheme(), &shared.config.transport, visitor).await?);
    }
    for endpoint in &shared.config.redis {
        let listener = redis_listener::listen(endpoint, shared.config.transport.tls.node.as_ref()).await?;
        let endpoint = listener.redis_endpoint().clone();
        accept_at(&shared, listener, &endpoint)?;
        doors.redis_endpoints.push(endpoint);
    }
    Ok(doors)
}

struct Listen {
    shared: Arc<Shared>,
    endpoint: Endpoint,
}

impl Visitor for Listen {
    type Output = Listening;

    fn visit<T: Transport>(self, transport: T) -> Listening {
        Box::pin(async move {
            let Self { shared, endpoint } = self;
            let listener = transport.listen(&endpoint).await?;
            let endpoint = listener.endpoint().clone();
            accept_at(&shared, listener, &endpoint)?;
            Ok(endpoint)
        })
    }
}

/// Accepts what comes to a listener, at an endpoint that is called so.
fn accept_at<L>(shared: &Arc<Shared>, listener: L, endpoint: &impl Display) -> Result<(), ServerError>
where
    L: Listener<Incoming: Incoming<Connection: Attended>>,
{
    let local_only = listener.local_only();
    if !local_only && shared.users.is_none() && !shared.config.insecure {
        return Err(ServerError::Insecure { endpoint: endpoint.to_string() });
    }
    if !local_only && shared.users.is_none() {
        tracing::warn!(
            "--insecure: whoever reaches {endpoint} may read, change and remove every record, and move slots away"
        );
    }
    tracing::debug!("listening at {endpoint}");
    let accepting = Accepting {
        shared: Arc::clone(shared),
        local_only,
        turn: AtomicUsize::new(0),
        dealt: Arc::new(Semaphore::new(DEALT_MAX)),
        refused: Semaphore::new(REFUSED_MAX),
    };
    shared.workers[0].spawn(Arc::new(accepting).run(listener));
    Ok(())
}

/// A connection of any kind, as far as accepting it goes.
pub(super) trait Attended: Send + 'static {
    /// Serves it until it ends; `local_only` where only clients of this machine reach its endpoint.
    fn serve(
        self,
        shared: &Shared,
        worker: &Worker,
        client: &Member<'_>,
        local_only: bool,
    ) -> impl Future<Output = ()> + Send;

    /// Tells its client that it is one too many, and ends it.
    fn refuse(self, refused: &Refused) -> impl Future<Output = ()> + Send;
}

/// A connection that is one too many.
#[derive(Debug, Error)]
pub(super) enum Refused {
    #[error("this node serves {0} connections and no more")]
    All(usize),
    #[error(transparent)]
    OfClient(#[from] TooMany),
}

impl Refused {
    /// As metrics have it.
    fn reason(&self) -> &'static str {
        match self {
            Self::All(_) => "connections",
            Self::OfClient(too_many) => too_many.reason(),
        }
    }
}

impl<C: Connection> Attended for C {
    async fn serve(self, shared: &Shared, worker: &Worker, client: &Member<'_>, local_only: bool) {
        connection::serve(self, shared, worker, client, local_only).await;
    }

    async fn refuse(self, refused: &Refused) {
        connection::refuse(self, refusal(RefusalCode::Connections, &refused.to_string())).await;
    }
}

impl Attended for RedisConnection {
    async fn serve(self, shared: &Shared, worker: &Worker, client: &Member<'_>, _: bool) {
        redis::serve(self, shared, worker, client).await;
    }

    async fn refuse(self, refused: &Refused) {
        match refused {
            Refused::All(_) => redis::refuse(self, "").await,
            Refused::OfClient(too_many) => redis::refuse(self, &format!(" for {}", too_many.owner)).await,
        }
    }
}

struct Accepting {
    shared: Arc<Shared>,
    local_only: bool,
    turn: AtomicUsize,
    /// A permit for each connection that waits for its thread.
    dealt: Arc<Semaphore>,
    /// A permit for each connection that is being refused.
    refused: Semaphore,
}

impl Accepting {
    /// Accepts until the node drains.
    async fn run<L>(self: Arc<Self>, mut listener: L)
    where
        L: Listener<Incoming: Incoming<Connection: Attended>>,
    {
        let mut drain = self.shared.drain.wait();
        loop {
            let next = async {
                let place = Arc::clone(&self.dealt).acquire_owned().await.expect("it is never closed");
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                biased;
                () = &mut drain => return,
                next = next => next,
            };
            match accepted {
                Ok(incoming) => {
                    let dealing = Arc::clone(&self).deal(incoming, place);
                    self.shared.workers[0].spawn(dealing);
                }
                Err(error) => {
                    self.warn(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Hands a connection to the thread that shall serve it.
    async fn deal<I>(self: Arc<Self>, incoming: I, place: OwnedSemaphorePermit)
    where
        I: Incoming<Connection: Attended>,
    {
        let cpu = match self.shared.config.placement {
            Placement::Free => None,
            Placement::Paired | Placement::Split if self.shared.workers.len() == 1 => None,
            Placement::Paired | Placement::Split => incoming.cpu().await,
        };
        let worker = Arc::clone(&self.shared.workers[self.worker_for(cpu)]);
        worker.clone().spawn(async move {
            drop(place);
            self.attend(incoming, &worker).await;
        });
    }

    /// Serves or refuses a connection, on its thread.
    async fn attend(&self, incoming: impl Incoming<Connection: Attended>, worker: &Worker) {
        let shared = &*self.shared;
        let config = ConnectionConfig {
            pool: Arc::clone(&worker.pool),
            frame_bytes_max: HELLO_BYTES_MAX,
            peer_trusted: false,
            frame_wait: shared.config.frame_wait,
            send_wait: shared.config.send_wait,
        };
        Counters::add(&worker.counters.accepted, 1);
        let refused = match self.enter(incoming.source()) {
            Ok((_open, client)) => {
                match incoming.attach(&config) {
                    Ok(connection) => connection.serve(shared, worker, &client, self.local_only).await,
                    Err(error) => self.warn(&error),
                }
                return;
            }
            Err(refused) => refused,
        };
        Counters::add(&worker.counters.refusals, 1);
        shared.endings.count(refused.reason());
        let line = shared.peer_log.line();
        if let Some(others) = line {
            tracing::info!("refusing a connection: {refused}{others}");
        } else if incoming.takes_handshake() {
            // It would cost what a client costs: no more of these are told than are logged.
            return;
        }
        let Ok(_told) = self.refused.try_acquire() else { return };
        if let Ok(connection) = incoming.attach(&config) {
            connection.refuse(&refused).await;
        }
    }

    /// A place for a connection from there. One that is refused has none: it must not keep others out while it is told.
    fn enter(&self, source: Source) -> Result<(Open<'_>, Member<'_>), Refused> {
        let open = Open::new(&self.shared);
        let most = self.shared.limits().connections_max;
        if open.count > most {
            return Err(Refused::All(most));
        }
        let client = self.shared.enter(source)?;
        Ok((open, client))
    }

    fn warn(&self, error: &TransportError) {
        if let Some(others) = self.shared.peer_log.line() {
            tracing::warn!("{error}{others}");
        }
    }

    fn worker_for(&self, cpu: Option<usize>) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let cores: Vec<_> = self.shared.workers.iter().map(|worker| worker.core).collect();
        thread_for(self.shared.config.placement, cpu, turn, &cores)
    }
}

/// The thread for a connection: `cpu` is where its bytes arrive, `turn` counts connections, `cores` are the threads'.
fn thread_for(placement: Placement, cpu: Option<usize>, turn: usize, cores: &[Option<usize>]) -> usize {
    let in_turn = turn % cores.len();
    let Some(same) = cpu.and_then(|cpu| cores.iter().position(|core| *core == Some(cpu))) else { return in_turn };
    match placement {
        Placement::Paired => same,
        Placement::Split => (same + 1) % cores.len(),
        Placement::Free => in_turn,
    }
}

/// Counts an open connection as long as it exists.
struct Open<'a> {
    shared: &'a Shared,
    count: usize,
}

impl<'a> Open<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, count: shared.connections.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: [Option<usize>; 3] = [Some(4), Some(5), Some(7)];

    #[test]
    fn paired_is_the_core_where_the_bytes_arrive() {
        for (thread, core) in CORES.into_iter().enumerate() {
            assert_eq!(thread_for(Placement::Paired, core, 9, &CORES), thread);
        }
    }

    #[test]
    fn split_is_another_core_where_there_is_one() {
        for (thread, core) in CORES.into_iter().enumerate() {
            assert_eq!(thread_for(Placement::Split, core, 9, &CORES), (thread + 1) % 3);
        }
        assert_eq!(thread_for(Placement::Split, Some(4), 9, &CORES[..1]), 0);
    }

    #[test]
    fn whoever_is_not_placed_takes_turns() {
        for placement in [Placement::Paired, Placement::Split, Placement::Free] {
            for (cpu, cores) in [(None, CORES), (Some(6), CORES), (Some(4), [None; 3])] {
                let threads: Vec<_> = (0..4).map(|turn| thread_for(placement, cpu, turn, &cores)).collect();
                assert_eq!(threads, [0, 1, 2, 0], "{placement} {cpu:?}");
            }
        }
        assert_eq!(thread_for(Placement::Free, Some(4), 2, &CORES), 2, "free has no core of its own");
    }
}
