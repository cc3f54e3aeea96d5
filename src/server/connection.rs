//! Serving one connection: hello, then frame by frame until one side ends it.
#![forbid(unsafe_code)]

mod greeting;
mod pacing;
mod turn;

use self::turn::Turn;
use super::accounts::{Member, TooMany};
use super::drain::DrainWait;
use super::ended::Endings;
use super::idle::Idle;
use super::inspect;
use super::moves;
use super::nearness::Nearness;
use super::node::Shared;
use super::profiler::Begun;
use super::users::Pass;
use super::worker::Worker;
use crate::auth::Rights;
use crate::completions::Carrier;
use crate::limits::MOVE_CHUNK_BYTES;
use crate::metrics::Counters;
use crate::polling::look_for;
use crate::session::{SessionError, rights_missing};
use crate::transport::{Connection, Frame, FrameReceiver, FrameSender, Lender, TransportError};
use crate::wire::{
    FrameKind, Header, RefusalCode, RequestView, WireError, WireLimitView, count_outcomes, denial, refusal,
    stats_reply, wire_limit_reply,
};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a peer may take to read its refusal before the connection closes over it.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);

/// How long a draining node waits for a frame that may be on its way.
const LAST_FRAME_WAIT: Duration = Duration::from_millis(20);

/// Replies that are held back to be sent together, at most, and their bytes, but for the last one's: what a connection
/// may hold is one long reply, not several.
const HELD_MAX: usize = 16;
const HELD_BYTES_MAX: usize = 128 << 10;

/// Why a connection ends, other than by its client closing it.
#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("no hello within {0:?}")]
    NoHello(Duration),
    #[error("nothing came within {0:?}")]
    Idle(Duration),
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("no nonce to authenticate with: {0}")]
    NoRandomness(String),
    #[error("this node is shutting down")]
    Draining,
    #[error("this node is shutting down, and its last reply was not taken within {0:?}")]
    DrainingStalled(Duration),
    #[error("this node answers wire-limit frames from its own machine only: --allow-wire-limit allows others")]
    WireLimitForbidden,
}

impl Ended {
    /// The refusal to send, where the peer can still read one.
    fn refusal(&self) -> Option<Vec<u8>> {
        let code = match self {
            Self::Session(error) => error.refusal_code(),
            Self::Transport(TransportError::Framing(WireError::BadVersion { .. })) => RefusalCode::Version,
            Self::Transport(TransportError::Framing(_) | TransportError::Stalled { .. }) => RefusalCode::Malformed,
            Self::Transport(TransportError::OutOfMemory { .. }) => RefusalCode::Memory,
            Self::Draining => RefusalCode::Draining,
            Self::WireLimitForbidden => RefusalCode::Forbidden,
            Self::NoHello(_) => RefusalCode::Malformed,
            Self::NoRandomness(_) => RefusalCode::Unauthorized,
            Self::TooMany(_) => RefusalCode::Connections,
            // Where it is idle it is closed between two frames: its client connects anew when it has something to say.
            Self::Transport(_) | Self::DrainingStalled(_) | Self::Idle(_) => return None,
        };
        Some(refusal(code, &self.to_string()))
    }

    fn count(&self, endings: &Endings) {
        match self {
            Self::Transport(error) => endings.count_transport(error),
            Self::Session(SessionError::Malformed(WireError::BadVersion { .. }) | SessionError::Version { .. }) => {
                endings.count("version");
            }
            Self::Session(SessionError::Malformed(_)) => endings.count("malformed"),
            Self::Session(SessionError::OutOfMemory { .. }) => endings.count("memory"),
            Self::Session(_) | Self::NoRandomness(_) => endings.count("unauthorized"),
            Self::NoHello(_) => endings.count("no_hello"),
            Self::Idle(_) => endings.count("idle"),
            Self::TooMany(too_many) => endings.count(too_many.reason()),
            Self::DrainingStalled(_) => endings.count("not_taken"),
            Self::WireLimitForbidden => endings.count("forbidden"),
            Self::Draining => {}
        }
    }
}

/// Serves a connection until it ends.
pub(super) async fn serve<C: Connection>(
    mut connection: C,
    shared: &Shared,
    worker: &Worker,
    client: &Member<'_>,
    local_only: bool,
) {
    let peer = connection.peer().to_owned();
    let mut drain = shared.drain.wait();
    // A client has one time for all that it says before its first request.
    let hello_wait = shared.limits().hello_wait;
    let greet_until = Instant::now() + hello_wait;
    if let Err(ended) = establish(&mut connection, hello_wait, &mut drain, greet_until).await {
        return end(&ended, &peer, shared, worker);
    }
    let channel_binding = connection.channel_binding();
    let (sender, receiver) = connection.split();
    let lender = sender.lender();
    let mut serving = Serving {
        peer: &peer,
        sender,
        receiver,
        lender,
        carrier: shared.session.carrier(),
        shared,
        drain,
        worker,
        local_only,
        hello_wait,
        greet_until,
        channel_binding,
        pass: Pass::open(),
        client,
        user: None,
        idle: Idle::new(shared),
        profile: None,
        reply_bytes_max: 0,
        reply_bytes_last: 0,
        held: Vec::new(),
        held_bytes: 0,
        turn: Turn::default(),
    };
    tracing::debug!(%peer, "connected");
    match serving.run().await {
        Ok(()) => tracing::debug!(%peer, "closed"),
        Err(ended @ Ended::Idle(_)) => {
            ended.count(&shared.endings);
            tracing::debug!(%peer, "closing: {ended}");
        }
        Err(ended) => {
            end(&ended, &peer, shared, worker);
            if let Some(refusal) = ended.refusal() {
                send_last(&mut serving.sender, &mut serving.receiver, refusal).await;
            }
        }
    }
}

/// Ends what a transport has to say before frames.
async fn establish<C: Connection>(
    connection: &mut C,
    wait: Duration,
    drain: &mut DrainWait<'_>,
    until: Instant,
) -> Result<(), Ended> {
    let established = tokio::select! {
        // Where there is nothing to say, a node that drains still says why it does not go on.
        biased;
        established = timeout_at(until, connection.establish()) => established,
        () = drain => return Err(Ended::Draining),
    };
    Ok(established.map_err(|_| Ended::NoHello(wait))??)
}

/// Counts and tells why a connection ends.
fn end(ended: &Ended, peer: &str, shared: &Shared, worker: &Worker) {
    if !matches!(ended, Ended::Draining) {
        Counters::add(&worker.counters.refusals, 1);
        ended.count(&shared.endings);
        if let Some(others) = shared.peer_log.line() {
            tracing::info!(%peer, "closing: {ended}{others}");
        }
    }
}

/// Refuses a connection that was never served.
pub(super) async fn refuse<C: Connection>(mut connection: C, refusal: Vec<u8>) {
    let Ok(Ok(())) = timeout(REFUSAL_WAIT, connection.establish()).await else { return };
    let (mut sender, mut receiver) = connection.split();
    send_last(&mut sender, &mut receiver, refusal).await;
}

/// Sends a last frame and waits for the peer to close, so that the frame is not lost to a reset.
async fn send_last(sender: &mut impl FrameSender, receiver: &mut impl FrameReceiver, bytes: Vec<u8>) {
    let closing = async {
        let frame = Frame::unaccounted(bytes);
        let sent = async { sender.send(frame).await.and(sender.close().await) };
        tokio::join!(sent, receiver.discard())
    };
    // Whether the peer read it or not, the connection ends here.
    let _read = timeout(REFUSAL_WAIT, closing).await;
}

struct Serving<'a, S, R> {
    peer: &'a str,
    sender: S,
    receiver: R,
    lender: Arc<dyn Lender>,
    carrier: Carrier,
    shared: &'a Shared,
    drain: DrainWait<'a>,
    worker: &'a Worker,
    /// Whether only clients of this machine reach the endpoint.
    local_only: bool,
    /// How long, and until when, the client may take to say who it is.
    hello_wait: Duration,
    greet_until: Instant,
    /// What its proof has to be bound to.
    channel_binding: Option<[u8; 32]>,
    /// Who the client is.
    pass: Pass,
    /// What the client shares with others of it, and the user with others of the same.
    client: &'a Member<'a>,
    user: Option<Member<'a>>,
    idle: Idle<'a>,
    /// The profile that it began, which ends with it.
    profile: Option<Begun<'a>>,
    reply_bytes_max: u32,
    /// The last reply's length: the next is probably as long, and a buffer that holds it need not grow.
    reply_bytes_last: u32,
    /// Answers to frames behind which others were here already, and their bytes.
    held: Vec<Frame>,
    held_bytes: usize,
    turn: Turn,
}

impl<'a, S: FrameSender, R: FrameReceiver> Serving<'a, S, R> {
    /// Answers frames until the client closes.
    async fn run(&mut self) -> Result<(), Ended> {
        let Some(accepted) = self.greet().await? else { return Ok(()) };
        self.reply_bytes_max = accepted.reply_bytes_max;
        // First what long frames count for, then that they may come.
        self.receiver.set_allowance(Arc::clone(&self.member().account().allowance));
        self.receiver.set_frame_bytes_max(self.shared.config.frame_bytes_max);
        self.hold(Frame::unaccounted(accepted.reply));
        self.send_held().await?;
        let mut nearness = Nearness::new(self.shared.config.busy_polling);
        loop {
            let received = tokio::select! {
                biased;
                () = &mut self.drain => return self.drain().await,
                received = look_for(nearness.is_worth_a_look(), self.receiver.receive()) => received,
                // Half a frame has a time of its own.
                wait = self.idle.too_long() => match self.receiver.is_midway() {
                    true => {
                        self.idle.stir();
                        continue;
                    }
                    false => return Err(Ended::Idle(wait)),
                },
            };
            self.idle.stir();
            let Some(frame) = received? else { return Ok(()) };
            nearness.arrived(|| self.receiver.sender_cpu());
            self.answer_all(frame).await?;
        }
    }

    /// By whose account it goes.
    fn member(&self) -> &Member<'a> {
        self.user.as_ref().unwrap_or(self.client)
    }

    /// Answers what has arrived, and frames that are on their way, for a bounded time.
    async fn drain(&mut self) -> Result<(), Ended> {
        let began = Instant::now();
        while began.elapsed() < self.shared.config.drain_wait {
            let Ok(received) = timeout(LAST_FRAME_WAIT, self.receiver.receive()).await else { break };
            let Some(frame) = received? else { return Ok(()) };
            self.answer_all(frame).await?;
        }
        Err(Ended::Draining)
    }

    /// Answers a frame and those that are here behind it, and sends the answers together.
    async fn answer_all(&mut self, frame: Frame) -> Result<(), Ended> {
        let mut next: Result<_, TransportError> = Ok(Some(frame));
        let ended = loop {
            match next {
                Ok(Some(frame)) => {
                    self.turn.count_frame(frame.frame_bytes());
                    if let Err(ended) = self.answer(frame).await {
                        break Err(ended);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
            let is_full = self.held.len() >= HELD_MAX || self.held_bytes >= HELD_BYTES_MAX;
            if is_full || self.turn.is_over() {
                break Ok(());
            }
            next = self.receiver.receive_now();
        };
        // What was executed is answered, whatever came behind it.
        self.send_held().await?;
        ended?;
        self.turn.give().await;
        Ok(())
    }

    /// Goes by the users of the moment.
    fn renew(&mut self) -> Result<(), Ended> {
        if let Some(known) = &self.shared.users {
            self.pass.renew(known)?;
        }
        Ok(())
    }

    async fn answer(&mut self, frame: Frame) -> Result<(), Ended> {
        let (header, kind, _) = Header::split(&frame).map_err(SessionError::from)?;
        let (request, ops) = (header.request.get(), header.op_count.get());
        self.renew()?;
        if let Some(ops_per_second) = self.member().ops_per_second() {
            let ops = if kind == FrameKind::Request { ops } else { 1 };
            if let Some(denied) = self.pace(ops, ops_per_second).await? {
                let denied = self.copied(&denial(request, &denied))?;
                self.hold(denied);
                return Ok(());
            }
            // It may have waited, and be somebody else's by now.
            self.renew()?;
        }
        Counters::add(&self.worker.counters.frames, 1);
        Counters::add(&self.worker.counters.bytes_received, u64::from(frame.frame_bytes()));
        let answer = match kind {
            FrameKind::Request => match self.execute(&frame, ops) {
                Ok(reply) => {
                    Counters::add(&self.worker.counters.operations, u64::from(ops));
                    self.turn.count_ops(ops);
                    reply
                }
                Err(denied @ SessionError::NotAllowed { .. }) => self.copied(&denial(request, &denied.to_string()))?,
                Err(error) => return Err(error.into()),
            },
            FrameKind::Stats => {
                let json = serde_json::to_string(&self.shared.stats_told()).unwrap_or_default();
                self.copied(&stats_reply(request, &json))?
            }
            FrameKind::Move | FrameKind::Inspect if let Err(denied) = self.pass.check(Rights::ADMIN) => {
                self.copied(&denial(request, &denied.to_string()))?
            }
            FrameKind::Inspect => {
                let told = inspect::answer(&frame, self.shared, &mut self.profile)?;
                self.copied(&told)?
            }
            FrameKind::Move => {
                let buffer = self.lend(MOVE_CHUNK_BYTES as usize)?;
                let (buffer, frame_bytes) = moves::answer(self.shared, &frame, buffer).await?;
                Frame::new(buffer, frame_bytes)
            }
            FrameKind::WireLimit if !self.wire_limit() => return Err(Ended::WireLimitForbidden),
            FrameKind::WireLimit => {
                let reply_bytes = WireLimitView::parse(&frame).map_err(SessionError::from)?.reply_bytes;
                let reply_bytes = reply_bytes.min(self.reply_bytes_max);
                let mut buffer = self.lend(reply_bytes as usize)?;
                if self.shared.config.scrub_wire_limit {
                    // What lent memory was last used for is nobody's business.
                    buffer[..reply_bytes as usize].fill(0);
                }
                wire_limit_reply(&mut buffer, request, reply_bytes);
                Frame::new(buffer, reply_bytes)
            }
            _ => return Err(SessionError::Malformed(unexpected(kind)).into()),
        };
        self.hold(answer);
        Ok(())
    }

    /// Whether wire-limit frames are answered here.
    fn wire_limit(&self) -> bool {
        self.local_only || self.shared.config.allow_wire_limit
    }

    fn execute(&mut self, frame: &Frame, ops: u32) -> Result<Frame, SessionError> {
        let lend = |bytes: usize| {
            let lend = |bytes| Arc::clone(&self.lender).lend(bytes);
            lend(bytes.max(self.reply_bytes_last as usize)).or_else(|| lend(bytes))
        };
        let mut scratch = self.worker.scratch();
        let (session, now) = (&self.shared.session, self.shared.config.clock.now());
        // The clock of the machine, for a length of time: the node's may be a test's.
        let began = std::time::Instant::now();
        let (request, rights) = (RequestView::parse(frame)?, self.pass.rights());
        if !rights.include(Rights::READ.and(Rights::WRITE)) {
            self.pass.check(rights_missing(&request, rights))?;
        }
        let (buffer, frame_bytes) =
            session.execute_request(&request, now, self.reply_bytes_max, lend, &mut self.carrier, &mut scratch)?;
        let time = began.elapsed();
        self.reply_bytes_last = frame_bytes;
        let Counters { outcomes, batch_times, .. } = &self.worker.counters;
        batch_times.add(time);
        count_outcomes(frame, &buffer[..frame_bytes as usize], |kind, result, ops| outcomes.add(kind, result, ops));
        self.shared.slow.note(time, || {
            let (request_bytes, peer) = (frame.frame_bytes(), self.peer);
            format!("{ops} operations, {request_bytes} bytes in, {frame_bytes} out, from {peer}")
        });
        Ok(Frame::new(buffer, frame_bytes))
    }

    /// A frame of the rare kinds, in lent memory.
    fn copied(&self, bytes: &[u8]) -> Result<Frame, Ended> {
        let mut buffer = self.lend(bytes.len())?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(Frame::new(buffer, bytes.len() as u32))
    }

    fn lend(&self, bytes: usize) -> Result<crate::transport::Buffer, Ended> {
        let lent = Arc::clone(&self.lender).lend(bytes);
        lent.ok_or_else(|| TransportError::OutOfMemory { frame_bytes: bytes as u32 }.into())
    }

    fn hold(&mut self, answer: Frame) {
        self.held_bytes += answer.frame_bytes() as usize;
        self.held.push(answer);
    }

    async fn send_held(&mut self) -> Result<(), Ended> {
        Counters::add(&self.worker.counters.bytes_sent, self.held_bytes as u64);
        let _counted = self.count_held();
        self.held_bytes = 0;
        let drain_wait = self.shared.config.drain_wait;
        let mut sending = pin!(self.sender.send_all(&mut self.held));
        let mut drained_for_long = pin!(self.drain.lasts(drain_wait));
        // A reply that was begun and not taken ends the connection: nothing may be sent behind it, nor a refusal.
        tokio::select! {
            biased;
            sent = &mut sending => Ok(sent?),
            () = &mut drained_for_long => Err(Ended::DrainingStalled(drain_wait)),
        }
    }
}

fn unexpected(kind: FrameKind) -> WireError {
    WireError::UnexpectedKind { got: kind.code(), expected: FrameKind::Request.code() }
}

#[cfg(test)]
mod tests {
    use crate::budget::Budget;
    use crate::server::{Identity, LocalNode, NodeConfig};
    use crate::transport::sim::{Network, NetworkConfig, Sim};
    use crate::transport::{
        Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, HeapPool, Transport,
    };
    use crate::wire::{Capabilities, Hello, Refusal, RefusalCode, hello};
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn a_node_without_any_memory_still_says_so() {
        let _network = Network::create("without-memory", NetworkConfig::calm(1));
        let endpoint: Endpoint = "sim://without-memory/a".parse().expect("an endpoint");
        let identity = Identity { incarnation: [1; 16], hash_secret: [2; 32] };
        let mut config = NodeConfig::new(vec![endpoint.clone()], identity);
        config.memory_bytes_max = Some(64 << 20);
        let node = LocalNode::start(config).await.expect("a node");
        let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
        let config = ConnectionConfig::of_client(pool, 1 << 30);
        let connected = Sim.connect(&endpoint, &config).await.expect("the node listens");
        let (mut sender, mut receiver) = connected.split();
        while node.stats().connections == 0 {
            tokio::task::yield_now().await;
        }
        node.exhaust_memory();
        let greeting = hello(&Hello::new(10 << 20, Capabilities::default()));
        sender.send(Frame::unaccounted(greeting)).await.expect("the node is there");
        let answer = receiver.receive().await.expect("no fault").expect("a refusal");
        assert_eq!(Refusal::parse(&answer).expect("a refusal").code, RefusalCode::Memory);
    }
}
