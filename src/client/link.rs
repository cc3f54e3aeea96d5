//! One connection to one node: a writer and a reader task, replies matched to requests by number.
//!
//! ```text
//!   exchange --reserves an answer, frame in queue--> writer --> node --> reader --answers--> exchange
//! ```
//!
//! A link dies as a whole: when its reader ends, for whatever reason, it marks the link dead, fails every pending
//! exchange, and ends the writer. Dropping the future of an exchange leaves its slot and its place in the window
//! behind; the reply then finds nobody and is dropped.
#![forbid(unsafe_code)]

use super::answers::{Answers, Awaited};
use super::{ClientConfig, ClientError, Loss, NoHello};
use crate::auth::{ChannelBinding, ClientExchange, Credentials, Method, Nonce};
use crate::cores;
use crate::transport::{
    self, Buffer, Connection, ConnectionConfig, Endpoint, Frame, FrameReceiver, FrameSender, Lender, Scheme, Transport,
    TransportError, Visitor,
};
use crate::wire::{
    Capabilities, FrameKind, Header, Hello, HelloReply, Refusal, WireError, challenge_message, hello,
    hello_reply_message, hello_with, proof,
};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

/// Frames that are handed to the transport together, at most: with a network card they share a doorbell.
const SENT_AT_ONCE: usize = 8;

/// What the node said of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeHello {
    pub(super) incarnation: [u8; 16],
    pub(super) frame_bytes_max: u32,
    pub(super) cpu: Option<u16>,
    /// Whether its address is one of this machine to itself.
    pub(super) is_loopback: bool,
    /// Whether it answers wire-limit frames on this connection.
    pub(super) wire_limit: bool,
    pub(super) frames_in_flight_max: u32,
}

/// An open connection.
pub(super) struct Link {
    endpoint: Endpoint,
    lender: Arc<dyn Lender>,
    node: NodeHello,
    queue: mpsc::UnboundedSender<Frame>,
    pending: Arc<Answers>,
    /// One permit a frame in flight, kept in its slot until it is answered: what bounds queue and pending.
    window: Arc<Semaphore>,
    next_request: AtomicU64,
    /// Ends both tasks when the link is given up or dropped.
    alive: watch::Sender<()>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("endpoint", &self.endpoint).field("node", &self.node).finish_non_exhaustive()
    }
}

/// Fails what is pending when the reader is dropped unfinished, with the runtime it ran on.
struct Unfinished<'a> {
    pending: &'a Answers,
    endpoint: &'a Endpoint,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.pending.fail(&ClientError::Lost { endpoint: self.endpoint.clone(), source: Loss::RuntimeEnded });
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Link, ClientError>> + Send>>;

/// Connects to a node and says hello.
pub(super) fn connect(endpoint: &Endpoint, client: &ClientConfig, config: ConnectionConfig) -> Connecting {
    let (credentials, frames_in_flight_max) = (client.credentials.clone(), client.frames_in_flight_max);
    let connect = Connect { endpoint: endpoint.clone(), config, credentials, frames_in_flight_max };
    transport::dispatch(endpoint.scheme(), &client.transport, connect)
}

struct Connect {
    endpoint: Endpoint,
    config: ConnectionConfig,
    credentials: Option<Credentials>,
    frames_in_flight_max: u32,
}

impl Visitor for Connect {
    type Output = Connecting;

    fn visit<T: Transport>(self, transport: T) -> Connecting {
        Box::pin(async move {
            let failed = |error| ClientError::Connect(Arc::new(error));
            let mut connection = transport.connect(&self.endpoint, &self.config).await.map_err(failed)?;
            connection.establish().await.map_err(failed)?;
            let channel_binding = connection.channel_binding();
            let (mut sender, mut receiver) = connection.split();
            let node = self.greet(&mut sender, &mut receiver, channel_binding).await?;
            Ok(self.open(sender, receiver, node))
        })
    }
}

impl Connect {
    async fn greet<S: FrameSender, R: FrameReceiver>(
        &self,
        sender: &mut S,
        receiver: &mut R,
        channel_binding: Option<ChannelBinding>,
    ) -> Result<NodeHello, ClientError> {
        let failed = |source| ClientError::Hello { endpoint: self.endpoint.clone(), source };
        let mut greeting = Hello::new(self.config.frame_bytes_max, Capabilities::default());
        let frame = match &self.credentials {
            None => self.ask(sender, receiver, &hello(&greeting)).await?,
            Some(credentials) => {
                let mut nonce = Nonce::default();
                getrandom::fill(&mut nonce).map_err(|error| failed(NoHello::NoRandomness(error.to_string())))?;
                let (exchange, first) = ClientExchange::begin(credentials.name(), &nonce, channel_binding);
                greeting.authentication_method = Method::ScramSha256.code().into();
                let asked = self.ask(sender, receiver, &hello_with(&greeting, &first)).await?;
                // Whoever lets in without a proof does not know the user either.
                let message = challenge_message(&asked).map_err(|error| match HelloReply::parse(&asked) {
                    Ok(_) => failed(NoHello::NotAuthenticating),
                    Err(_) => failed(error.into()),
                })?;
                let answer = credentials.answer(exchange, message).map_err(|error| failed(error.into()))?;
                let (expected, last) = match answer.is_work() {
                    // Keys take a processor's while, which is nobody's but a thread's that waits for nothing else.
                    true => spawn_blocking(|| answer.prove()).await.expect("it does not panic, nor is it cancelled"),
                    false => answer.prove(),
                };
                let frame = self.ask(sender, receiver, &proof(&last)).await?;
                let message = hello_reply_message(&frame).map_err(|error| failed(error.into()))?;
                expected.check(message).map_err(|error| failed(error.into()))?;
                frame
            }
        };
        let reply = HelloReply::parse(&frame).map_err(|error| failed(error.into()))?;
        Ok(NodeHello {
            incarnation: reply.incarnation,
            frame_bytes_max: reply.frame_bytes_max.get(),
            frames_in_flight_max: reply.frames_in_flight_max.get(),
            wire_limit: reply.permissions.get() & HelloReply::WIRE_LIMIT != 0,
            cpu: Some(reply.cpu.get()).filter(|cpu| *cpu != HelloReply::CPU_NONE),
            is_loopback: self.endpoint.is_loopback(),
        })
    }

    /// Sends a frame and takes the next one.
    async fn ask<S: FrameSender, R: FrameReceiver>(
        &self,
        sender: &mut S,
        receiver: &mut R,
        bytes: &[u8],
    ) -> Result<Frame, ClientError> {
        let failed = |source| ClientError::Hello { endpoint: self.endpoint.clone(), source };
        let lost = |error| failed(NoHello::Transport(Arc::new(error)));
        let mut buffer = sender.lender().lend(bytes.len()).ok_or_else(|| failed(NoHello::OutOfMemory))?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        let sent = sender.send(Frame::new(buffer, bytes.len() as u32)).await;
        // A node that refused at once may have closed already: what it said counts for more.
        let frame = match receiver.receive().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(sent.err().map_or_else(|| failed(NoHello::Closed), lost)),
            Err(error) => return Err(lost(error)),
        };
        match refused(&self.endpoint, &frame) {
            Some(refused) => Err(refused),
            None => Ok(frame),
        }
    }

    fn open<S: FrameSender, R: FrameReceiver>(self, sender: S, receiver: R, node: NodeHello) -> Link {
        let lender = sender.lender();
        let pending = Arc::new(Answers::default());
        let (queue, queued) = mpsc::unbounded_channel();
        let (alive, dropped) = watch::channel(());
        let (reading, read_ended) = oneshot::channel();
        let window = node.frames_in_flight_max.clamp(1, self.frames_in_flight_max.max(1)) as usize;
        tokio::spawn(write(sender, queued, read_ended, self.endpoint.clone()));
        tokio::spawn(read(receiver, dropped, Arc::clone(&pending), self.endpoint.clone(), reading));
        Link {
            endpoint: self.endpoint,
            lender,
            node,
            queue,
            pending,
            window: Arc::new(Semaphore::new(window)),
            next_request: AtomicU64::new(1),
            alive,
        }
    }
}

/// The error in a refusal frame.
fn refused(endpoint: &Endpoint, frame: &Frame) -> Option<ClientError> {
    let refusal = Refusal::parse(frame).ok()?;
    Some(ClientError::Refused { endpoint: endpoint.clone(), code: refusal.code, text: refusal.text.to_owned() })
}

/// Sends what is queued until the link is dropped or the reader ends.
async fn write<S: FrameSender>(
    mut sender: S,
    mut queued: mpsc::UnboundedReceiver<Frame>,
    read_ended: oneshot::Receiver<Infallible>,
    endpoint: Endpoint,
) {
    let sending = async {
        let mut frames = Vec::new();
        while queued.recv_many(&mut frames, SENT_AT_ONCE).await > 0 {
            if let Err(error) = sender.send_all(&mut frames).await {
                // The reader ends the link: it may still find a refusal that says why.
                tracing::debug!(%endpoint, "sending failed: {error}");
                return;
            }
        }
        let _closed = sender.close().await;
    };
    tokio::select! {
        biased;
        () = sending => {}
        _ = read_ended => {}
    }
}

/// Takes replies until the link is dropped or the connection lost.
async fn read<R: FrameReceiver>(
    mut receiver: R,
    mut dropped: watch::Receiver<()>,
    pending: Arc<Answers>,
    endpoint: Endpoint,
    _reading: oneshot::Sender<Infallible>,
) {
    let _unfinished = Unfinished { pending: &pending, endpoint: &endpoint };
    let lost = |source| ClientError::Lost { endpoint: endpoint.clone(), source };
    let mut dropped = pin!(dropped.changed());
    let error = loop {
        let received = tokio::select! {
            biased;
            received = receiver.receive() => received,
            _ = &mut dropped => break lost(Loss::Dropped),
        };
        match received {
            Ok(Some(frame)) => {
                pending.count_received();
                if let Err(error) = hand_over(frame, &pending, &endpoint) {
                    break error;
                }
            }
            Ok(None) => break lost(Loss::Closed),
            Err(TransportError::Framing(source)) => {
                break ClientError::Malformed { endpoint: endpoint.clone(), source };
            }
            Err(error) => break lost(Loss::Transport(Arc::new(error))),
        }
    };
    tracing::debug!("{error}");
    pending.fail(&error);
}

/// Gives a frame to the request it answers, or that there was no memory for it.
fn hand_over(frame: Frame, pending: &Answers, endpoint: &Endpoint) -> Result<(), ClientError> {
    let malformed = |source| ClientError::Malformed { endpoint: endpoint.clone(), source };
    let (header, kind, _) = Header::at_front(&frame).map_err(malformed)?;
    let (request, frame_bytes) = (header.request.get(), header.frame_bytes.get());
    if frame.frame_bytes() < frame_bytes {
        let unread = ClientError::NoReplyMemory { endpoint: endpoint.clone(), frame_bytes };
        let is_awaited = pending.answer(request, Err(unread));
        return if is_awaited { Ok(()) } else { Err(malformed(WireError::UnknownRequest { got: request })) };
    }
    if kind == FrameKind::Refusal {
        return Err(refused(endpoint, &frame).unwrap_or_else(|| malformed(WireError::BadBody { what: "refusal" })));
    }
    if !pending.answer(request, Ok(frame)) {
        return Err(malformed(WireError::UnknownRequest { got: request }));
    }
    Ok(())
}

impl Link {
    pub(super) fn node(&self) -> &NodeHello {
        &self.node
    }

    /// Whether to look for an answer before the thread sleeps may pay.
    pub(super) fn is_worth_a_look(&self) -> bool {
        is_worth_a_look(self.endpoint.scheme(), &self.node, cores::current())
    }

    /// Why the link is dead, if it is.
    pub(super) fn dead(&self) -> Option<ClientError> {
        self.pending.dead()
    }

    /// Frames received so far.
    pub(super) fn received(&self) -> u64 {
        self.pending.received()
    }

    /// Gives the link up where nothing came since it had received so many frames, for a whole deadline: behind a
    /// node that is gone without a word, abandoned exchanges would keep every place in the window.
    pub(super) fn fail_if_silent(&self, received: u64, deadline: Duration) {
        if self.received() == received {
            self.give_up(&ClientError::Lost { endpoint: self.endpoint.clone(), source: Loss::Silent(deadline) });
        }
    }

    /// A number for the next request.
    pub(super) fn next_request(&self) -> u64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for a place in the window: at most as many exchanges are in flight as there are permits.
    pub(super) async fn permit(&self) -> OwnedSemaphorePermit {
        let permit = Arc::clone(&self.window).acquire_owned().await;
        permit.expect("the window is never closed")
    }

    /// Makes ready to take the answer to `request`; `None` where the link is dead, and nothing may be sent.
    pub(super) fn reserve(&self, request: u64, permit: OwnedSemaphorePermit) -> Option<Awaited> {
        self.pending.reserve(request, permit)
    }

    /// Sends a frame whose header carries a reserved number.
    pub(super) fn send(&self, frame: Frame) {
        if self.queue.send(frame).is_err() {
            // The writer ended; the reader will fail the slot with the reason.
            tracing::debug!(endpoint = %self.endpoint, "queued on a link that is going down");
        }
    }

    /// Fails what is in flight and closes the connection, whether or not anybody calls again.
    fn give_up(&self, error: &ClientError) {
        self.pending.fail(error);
        self.alive.send_replace(());
    }

    /// The error for a reply that is none. A node that sent one is not believed further on this link.
    pub(super) fn malformed(&self, source: WireError) -> ClientError {
        let error = ClientError::Malformed { endpoint: self.endpoint.clone(), source };
        self.give_up(&error);
        error
    }

    /// A buffer of at least `bytes` bytes.
    pub(super) fn lend(&self, bytes: usize) -> Option<Buffer> {
        Arc::clone(&self.lender).lend(bytes)
    }
}

/// Whether a byte stream brings answers from another processor of this machine. On one that both share a look would
/// keep the node from its work, across a network a wake-up is the least, and shared memory and RDMA look by themselves.
fn is_worth_a_look(scheme: Scheme, node: &NodeHello, own_cpu: usize) -> bool {
    matches!(scheme, Scheme::Tcp | Scheme::Tls)
        && node.is_loopback
        && node.cpu.is_some_and(|cpu| usize::from(cpu) != own_cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_processor_of_this_machine_is_worth_a_look_over_a_stream() {
        let node = NodeHello {
            incarnation: [0; 16],
            frame_bytes_max: 0,
            cpu: Some(1),
            is_loopback: true,
            wire_limit: false,
            frames_in_flight_max: 1,
        };
        assert!(is_worth_a_look(Scheme::Tcp, &node, 0) && is_worth_a_look(Scheme::Tls, &node, 0));
        for scheme in [Scheme::Shm, Scheme::Rdma, Scheme::Sim] {
            assert!(!is_worth_a_look(scheme, &node, 0), "{scheme}");
        }
        assert!(!is_worth_a_look(Scheme::Tcp, &node, 1), "the node's own");
        assert!(!is_worth_a_look(Scheme::Tcp, &NodeHello { cpu: None, ..node }, 0), "who knows where");
        assert!(!is_worth_a_look(Scheme::Tcp, &NodeHello { is_loopback: false, ..node }, 0), "behind a network");
    }
}
