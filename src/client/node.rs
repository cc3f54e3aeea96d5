//! One node as its client sees it: the link of the moment, and the incarnation it trusts.
#![forbid(unsafe_code)]

use super::answers::Awaited;
use super::backoff::Backoff;
use super::coalescer::Coalescer;
use super::denial;
use super::keeper::Keeper;
use super::link::{self, Link};
use super::session::{Sequence, Session};
use super::{ClientConfig, ClientError, Loss, NoHello, Unsent};
use crate::limits::FRAME_BYTES_MIN;
use crate::map::{Id, MapNode, ShardMap};
use crate::metrics::NodeStats;
use crate::polling::look_for;
use crate::transport::{Buffer, ConnectionConfig, Endpoint, Frame, HeapPool, Lender};
use crate::wire::{
    BuildError, FrameKind, HEADER_BYTES, Header, Origin, RequestBuilder, WIRE_LIMIT_BYTES_MIN, WireError,
    stats_request, stats_text,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long a frame waits for its answer before a newer map is looked for: no longer, and an eighth of its deadline.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One node.
#[derive(Debug)]
pub(super) struct NodeClient {
    /// Where it is reached, in the order in which they are tried; at least one.
    addresses: Vec<Endpoint>,
    /// The incarnation that a map names; without a map the one that was met first is trusted.
    named: Option<[u8; 16]>,
    /// The epoch of the map that names it, for its frames.
    map_epoch: AtomicU64,
    config: ClientConfig,
    pool: Arc<HeapPool>,
    session: Option<Arc<Session>>,
    /// Where newer maps than the one that names it come from.
    keeper: Option<Arc<Keeper>>,
    state: Mutex<State>,
    /// Held by whoever connects anew, so that only one does.
    connecting: tokio::sync::Mutex<()>,
    coalescer: Coalescer,
}

#[derive(Debug)]
struct State {
    /// The last one, alive or not; `None` before the first.
    link: Option<Arc<Link>>,
    /// The incarnation that holds our records; `None` before it was met.
    incarnation: Option<[u8; 16]>,
    memory_lost: bool,
    backoff: Backoff,
    /// How often connecting has failed, and why the last time.
    failures: u64,
    failure: Option<ClientError>,
}

impl State {
    fn failed(&mut self, error: ClientError) -> ClientError {
        // Whether another incarnation is there is known for the last try alone.
        self.memory_lost = matches!(error, ClientError::MemoryLost { .. });
        self.backoff.failed();
        self.failures += 1;
        self.failure = Some(error.clone());
        error
    }
}

/// A place in the window of a live link, where nothing has been sent yet.
pub(super) struct Ready {
    link: Arc<Link>,
    request: u64,
    answer: Awaited,
}

impl Ready {
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// The number that the request must carry.
    pub(super) fn request(&self) -> u64 {
        self.request
    }

    /// Gives the place back, with nothing sent.
    pub(super) fn cancel(self) {
        self.answer.cancel();
    }
}

/// How sending a frame and waiting for its answer ended.
pub(super) enum Exchange {
    /// An answer, and the link that brought it.
    Answered(Frame, Arc<Link>),
    /// Nothing was sent, or it was refused: no effect.
    Unsent(ClientError),
    /// It was sent, and what became of it is unknown.
    Unknown(ClientError),
}

impl Exchange {
    pub(super) fn into_result(self) -> Result<(Frame, Arc<Link>), ClientError> {
        match self {
            Self::Answered(frame, link) => Ok((frame, link)),
            Self::Unsent(error) | Self::Unknown(error) => Err(error),
        }
    }
}

impl NodeClient {
    pub(super) async fn connect(
        endpoint: Endpoint,
        config: &ClientConfig,
        pool: &Arc<HeapPool>,
        session: Option<&Arc<Session>>,
    ) -> Result<Arc<Self>, ClientError> {
        let node = Self::new(vec![endpoint], None, config, pool, session, None);
        node.live_link().await?;
        Ok(node)
    }

    /// A node of a map. It is connected to when it is first needed.
    pub(super) fn named(
        node: &MapNode,
        config: &ClientConfig,
        pool: &Arc<HeapPool>,
        session: Option<&Arc<Session>>,
        keeper: Option<&Arc<Keeper>>,
    ) -> Arc<Self> {
        Self::new(node.addresses.clone(), Some(node.incarnation.0), config, pool, session, keeper)
    }

    fn new(
        addresses: Vec<Endpoint>,
        named: Option<[u8; 16]>,
        config: &ClientConfig,
        pool: &Arc<HeapPool>,
        session: Option<&Arc<Session>>,
        keeper: Option<&Arc<Keeper>>,
    ) -> Arc<Self> {
        let backoff = Backoff::new(config);
        let state = State { link: None, incarnation: named, memory_lost: false, backoff, failures: 0, failure: None };
        Arc::new(Self {
            addresses,
            named,
            map_epoch: AtomicU64::new(0),
            config: config.clone(),
            pool: Arc::clone(pool),
            session: session.cloned(),
            keeper: keeper.cloned(),
            state: Mutex::new(state),
            connecting: tokio::sync::Mutex::new(()),
            coalescer: Coalescer::default(),
        })
    }

    /// Whether it is the node that a map names, at the same addresses.
    pub(super) fn is(&self, node: &MapNode) -> bool {
        self.named == Some(node.incarnation.0) && self.addresses == node.addresses
    }

    /// Whether a map names it.
    pub(super) fn is_named(&self) -> bool {
        self.named.is_some()
    }

    pub(super) fn keeper(&self) -> Option<&Arc<Keeper>> {
        self.keeper.as_ref()
    }

    /// The place of this life of it in a map.
    pub(super) fn place_in(&self, map: &ShardMap) -> Option<usize> {
        map.place_of(Id(self.named?))
    }

    pub(super) fn set_map_epoch(&self, epoch: u64) {
        self.map_epoch.store(epoch, Ordering::Relaxed);
    }

    /// What the header of a request says.
    pub(super) fn origin(&self, request: u64) -> Origin {
        // A fact about the sender, by which nothing is ordered.
        Origin { request, map_epoch: self.map_epoch.load(Ordering::Relaxed), ..Origin::default() }
    }

    /// A number for the next frame, where the client has a session.
    pub(super) fn sequence(&self) -> Option<Sequence> {
        self.session.as_ref().map(Session::next)
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.addresses[0]
    }

    pub(super) fn coalescer(&self) -> &Coalescer {
        &self.coalescer
    }

    pub(super) fn cpu(&self) -> Option<u16> {
        self.link()?.node().cpu
    }

    /// As many as it lets be in flight on its connection; `None` while there never was one.
    pub(super) fn frames_in_flight_max(&self) -> Option<u32> {
        Some(self.link()?.node().frames_in_flight_max)
    }

    pub(super) fn answers_wire_limit(&self) -> bool {
        // One that was not asked forbids nothing.
        self.link().is_none_or(|link| link.node().wire_limit)
    }

    pub(super) fn acknowledge_memory_loss(&self) {
        // Whose records are whose is for the map to say.
        if self.named.is_none() {
            let mut state = self.state();
            state.memory_lost = false;
            state.incarnation = state.link.as_ref().map(|link| link.node().incarnation);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link as it is, alive or not: for lending buffers.
    fn link(&self) -> Option<Arc<Link>> {
        self.state().link.clone()
    }

    /// The longest frame it takes, as far as is known.
    pub(super) fn frame_bytes_max(&self) -> u32 {
        // Every node takes so many.
        self.link().map_or(FRAME_BYTES_MIN, |link| link.node().frame_bytes_max)
    }

    /// A link that is alive, connecting anew where the last one is not. Whoever waits for another's try to connect
    /// shares its failure.
    async fn live_link(&self) -> Result<Arc<Link>, ClientError> {
        if let Some(link) = self.live()? {
            return Ok(link);
        }
        let failures = self.state().failures;
        let _only_one = self.connecting.lock().await;
        if let Some(link) = self.live()? {
            return Ok(link);
        }
        let not_before = {
            let state = self.state();
            if let Some(failure) = state.failure.as_ref().filter(|_| state.failures > failures) {
                return Err(failure.clone());
            }
            state.backoff.not_before()
        };
        if let Some(at) = not_before {
            sleep_until(at).await;
        }
        let opened = self.open().await;
        let mut state = self.state();
        let link = match opened {
            Ok(link) => Arc::new(link),
            Err(error) => return Err(state.failed(error)),
        };
        let incarnation = link.node().incarnation;
        state.memory_lost = *state.incarnation.get_or_insert(incarnation) != incarnation;
        if state.memory_lost && self.is_named() {
            return Err(state.failed(self.memory_lost()));
        }
        state.backoff.succeeded();
        state.link = Some(Arc::clone(&link));
        drop(state);
        self.live().map(|live| live.unwrap_or(link))
    }

    /// Connects to the first address that answers, of a node that a map names: as the incarnation that it names. Where
    /// every address answers as others, the node is not there any more.
    async fn open(&self) -> Result<Link, ClientError> {
        let (mut other, mut failed) = (None, Vec::new());
        // Of what a node says nothing to, half the deadline is left to whom a newer map names.
        let tries = self.addresses.len() as u32 * if self.is_named() { 2 } else { 1 };
        let patience = self.config.deadline / tries;
        for address in &self.addresses {
            match open(address, &self.config, patience, &self.pool).await {
                Ok(link) if self.named.is_none_or(|named| named == link.node().incarnation) => return Ok(link),
                Ok(link) => other = Some(link),
                Err(error) => failed.push(error),
            }
        }
        match failed.len() {
            0 => Ok(other.expect("there is an address")),
            1 => Err(failed.remove(0)),
            _ => Err(ClientError::Unreachable(failed.into())),
        }
    }

    fn live(&self) -> Result<Option<Arc<Link>>, ClientError> {
        let state = self.state();
        // The node that a map names may come back: then its records are there.
        let is_asked_again = || self.is_named() && state.backoff.not_before().is_none_or(|at| at <= Instant::now());
        if state.memory_lost && !is_asked_again() {
            return Err(self.memory_lost());
        }
        let link = state.link.clone();
        drop(state);
        Ok(link.filter(|link| link.dead().is_none()))
    }

    fn memory_lost(&self) -> ClientError {
        ClientError::MemoryLost { endpoint: self.endpoint().clone() }
    }

    /// Sends the frame that `finish` makes for a request number and waits for its answer.
    pub(super) async fn exchange(&self, deadline: Instant, finish: impl FnOnce(u64) -> Frame) -> Exchange {
        match self.ready(deadline).await {
            Ok(ready) => {
                let frame = finish(ready.request);
                self.exchange_on(ready, deadline, &frame).await
            }
            Err(error) => Exchange::Unsent(error),
        }
    }

    /// Waits for a place in a live link's window, connecting anew where there is none.
    ///
    /// # Errors
    /// What kept it: [`Unsent::Late`] where the deadline did.
    pub(super) async fn ready(&self, deadline: Instant) -> Result<Ready, ClientError> {
        // A timeout looks at the clock last: with room in the window it would send what nobody waits for.
        if Instant::now() >= deadline {
            return Err(self.not_sent_in_time());
        }
        let mut waited_for = None;
        let ready = timeout_at(deadline, async {
            loop {
                let link = self.live_link().await?;
                let received = link.received();
                let (link, _) = waited_for.insert((link, received));
                let permit = link.permit().await;
                let request = link.next_request();
                // The link may have died meanwhile: nothing was sent, so the next one will do.
                if let Some(answer) = link.reserve(request, permit) {
                    return Ok(Ready { link: Arc::clone(link), request, answer });
                }
            }
        });
        ready.await.unwrap_or_else(|_| {
            if let Some((link, received)) = waited_for {
                link.fail_if_silent(received, self.config.deadline);
            }
            Err(self.not_sent_in_time())
        })
    }

    /// Sends a frame that carries the number of `ready`, and waits for its answer: no longer than it takes a newer map
    /// to give some of it to others.
    pub(super) async fn exchange_on(&self, ready: Ready, deadline: Instant, frame: &Frame) -> Exchange {
        let Ready { link, mut answer, .. } = ready;
        let (needed, max) = (frame.frame_bytes().into(), link.node().frame_bytes_max);
        if needed > u64::from(max) {
            // It was built for a life of the node that took longer frames.
            answer.cancel();
            return Exchange::Unsent(BuildError::FrameFull { needed, max }.into());
        }
        let received = link.received();
        link.send(frame.clone());
        let look_every = LOOK_EVERY.min(self.config.deadline / 8);
        let first_look = if self.keeper.is_some() { deadline.min(Instant::now() + look_every) } else { deadline };
        let is_worth_a_look = self.config.busy_polling && link.is_worth_a_look();
        let mut answered = timeout_at(first_look, look_for(is_worth_a_look, &mut answer)).await;
        if answered.is_err() && first_look < deadline {
            let moved = self.moved(frame, look_every);
            answered = tokio::select! {
                biased;
                answered = timeout_at(deadline, answer) => answered,
                () = moved => return Exchange::Unknown(self.lost(Loss::Moved)),
            };
        }
        match answered {
            Ok(Ok(answer)) => denial::answered(self.endpoint(), answer, link, frame),
            // A node answers all that it executed before it refuses to go on.
            Ok(Err(error @ ClientError::Refused { .. })) => Exchange::Unsent(error),
            Ok(Err(error)) => Exchange::Unknown(error),
            Err(_) => {
                link.fail_if_silent(received, self.config.deadline);
                Exchange::Unknown(self.late())
            }
        }
    }

    pub(super) fn lost(&self, source: Loss) -> ClientError {
        ClientError::Lost { endpoint: self.endpoint().clone(), source }
    }

    pub(super) fn not_sent(&self, source: Unsent) -> ClientError {
        ClientError::NotSent { endpoint: self.endpoint().clone(), source }
    }

    pub(super) fn not_sent_in_time(&self) -> ClientError {
        self.not_sent(Unsent::Late(self.config.deadline))
    }

    pub(super) fn late(&self) -> ClientError {
        ClientError::Deadline { endpoint: self.endpoint().clone(), deadline: self.config.deadline }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.config.deadline_from_now()
    }

    pub(super) fn lend(&self, bytes: usize) -> Result<Buffer, ClientError> {
        self.lend_any(bytes).ok_or(ClientError::Build(BuildError::OutOfMemory { needed: bytes as u64 }))
    }

    /// A buffer of its transport, of the heap where it was never connected to.
    pub(super) fn lend_any(&self, bytes: usize) -> Option<Buffer> {
        match self.link() {
            Some(link) => link.lend(bytes),
            None => Arc::clone(&self.pool).lend(bytes),
        }
    }

    pub(super) async fn stats(&self) -> Result<NodeStats, ClientError> {
        let mut buffer = self.lend(stats_request(0).len())?;
        let finish = |request| {
            let bytes = stats_request(request);
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Frame::new(buffer, bytes.len() as u32)
        };
        let (frame, link) = self.exchange(self.deadline(), finish).await.into_result()?;
        let text = stats_text(&frame).map_err(|source| link.malformed(source))?;
        serde_json::from_str(text).map_err(|_| link.malformed(WireError::BadBody { what: "statistics" }))
    }

    pub(super) async fn ping(&self) -> Result<(), ClientError> {
        let buffer = self.lend(0)?;
        let builder = RequestBuilder::new(buffer, 1, self.frame_bytes_max())?;
        let finish = |request| {
            let (buffer, frame_bytes) = builder.finish(self.origin(request));
            Frame::new(buffer, frame_bytes)
        };
        let (frame, link) = self.exchange(self.deadline(), finish).await.into_result()?;
        expect_kind(&link, &frame, FrameKind::Reply)
    }

    pub(super) async fn wire_limit(&self, request_bytes: u32, reply_bytes: u32) -> Result<Frame, ClientError> {
        let max = self.frame_bytes_max().min(self.config.frame_bytes_max);
        let (request_bytes, reply_bytes) = (request_bytes.max(WIRE_LIMIT_BYTES_MIN), reply_bytes.max(HEADER_BYTES));
        let longer = request_bytes.max(reply_bytes);
        if longer > max {
            return Err(BuildError::FrameFull { needed: longer.into(), max }.into());
        }
        let mut buffer = self.lend(request_bytes as usize)?;
        let mut sent = None;
        let finish = |request| {
            crate::wire::wire_limit_request(&mut buffer, request, request_bytes, reply_bytes);
            sent.insert(Frame::new(buffer, request_bytes)).clone()
        };
        let (frame, link) = self.exchange(self.deadline(), finish).await.into_result()?;
        expect_kind(&link, &frame, FrameKind::WireLimitReply)?;
        Ok(sent.expect("an answered request was sent"))
    }
}

fn expect_kind(link: &Link, frame: &Frame, expected: FrameKind) -> Result<(), ClientError> {
    match Header::split(frame) {
        Ok((_, kind, _)) if kind == expected => Ok(()),
        Ok((_, kind, _)) => {
            Err(link.malformed(WireError::UnexpectedKind { got: kind.code(), expected: expected.code() }))
        }
        Err(source) => Err(link.malformed(source)),
    }
}

/// Connects and says hello, with so much patience.
async fn open(
    endpoint: &Endpoint,
    config: &ClientConfig,
    patience: Duration,
    pool: &Arc<HeapPool>,
) -> Result<Link, ClientError> {
    let connection = ConnectionConfig::of_client(Arc::clone(pool), config.frame_bytes_max);
    let connecting = link::connect(endpoint, config, connection);
    let late = |_| ClientError::Hello { endpoint: endpoint.clone(), source: NoHello::Late(patience) };
    tokio::time::timeout(patience, connecting).await.map_err(late)?
}
