//! The transport boundary: whole frames in buffers that the transport lends.
//!
//! ```text
//!             lend            build             send                    receive
//!   Lender ---------> Buffer -------> Frame -----------> (wire) -------------------> Frame (dropped: lent again)
//! ```
//!
//! A transport carries frames between two ends and says when the other end is gone; it knows nothing of what is
//! in them but the header that gives their length. Memory belongs to the transport (a heap pool for byte
//! streams, registered memory or a ring elsewhere), so a frame is built where it is sent from and read where it
//! arrived. There is no readiness to poll: a sender waits until it can take a frame.
//!
//! To add a transport: one file or folder here that implements [`Transport`]; its name in [`Scheme`], one arm each in
//! `Endpoint::new` and [`dispatch`], and one in [`Memory`] if its memory is of its own; one line in the conformance
//! suite.
//!
//! Architecture invariant: no word of TCP or RDMA in these traits, and nothing of shards.

pub(crate) mod allowance;
mod buffer;
mod door;
mod endpoint;
mod error;
mod pace;
mod pool;
pub mod rdma;
mod share;
mod shell;
pub mod shm;
pub mod sim;
mod source;
mod stream;
pub mod tcp;
pub mod tls;

pub use allowance::Allowance;
pub use buffer::{Buffer, Frame, Lender, Memory};
pub use door::{Door, RedisEndpoint};
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use error::TransportError;
pub(crate) use pace::Pace;
pub use pool::HeapPool;
pub use source::Source;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes that an idle connection over a byte stream keeps of its pool's account: a node under a memory cap takes
/// so many connections that all of them may be idle. Over shared memory an idle connection keeps half a MiB and what
/// its replies have touched, up to 8 MiB more: there the account itself refuses the next one, when it is attached.
pub const IDLE_BYTES_MAX: usize = 16 << 10;

/// What both ends of a connection give their transport.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Heap buffers, for transports that need no memory of their own; its budget counts for all.
    pub pool: Arc<HeapPool>,
    /// The longest frame taken from the peer, in bytes, until [`FrameReceiver::set_frame_bytes_max`] says otherwise.
    pub frame_bytes_max: u32,
    /// Whether memory is lent for a whole frame when only its header has arrived. A client trusts its node; a
    /// node lends as bytes arrive.
    pub peer_trusted: bool,
    /// How long the peer may take over a frame that it has begun to send: over each part of it, of some hundred
    /// KiB, where it is longer. `Duration::MAX` for as long as it likes.
    pub frame_wait: Duration,
    /// How long the peer may take to take a frame, part by part likewise.
    pub send_wait: Duration,
}

impl ConnectionConfig {
    /// What a client gives: it trusts its node, and its calls have deadlines of their own.
    #[must_use]
    pub fn of_client(pool: Arc<HeapPool>, frame_bytes_max: u32) -> Self {
        let (frame_wait, send_wait) = (Duration::MAX, Duration::MAX);
        Self { pool, frame_bytes_max, peer_trusted: true, frame_wait, send_wait }
    }
}

/// A way to carry frames.
pub trait Transport: Send + Sync + 'static {
    /// Takes connections.
    type Listener: Listener<Incoming = Self::Incoming>;
    /// A connection that no runtime owns yet.
    type Incoming: Incoming<Connection = Self::Connection>;
    /// An open connection.
    type Connection: Connection;

    /// Listens at an endpoint; where it is a name of several addresses, at the first.
    ///
    /// # Errors
    /// Why that is not possible.
    fn listen(&self, endpoint: &Endpoint) -> impl Future<Output = Result<Self::Listener, TransportError>> + Send;

    /// Connects to an endpoint. Dropping the future abandons the attempt.
    ///
    /// # Errors
    /// Why that is not possible.
    fn connect(
        &self,
        endpoint: &Endpoint,
        config: &ConnectionConfig,
    ) -> impl Future<Output = Result<Self::Connection, TransportError>> + Send;
}

/// Takes connections at one endpoint.
pub trait Listener: Send + 'static {
    /// What it takes.
    type Incoming;

    /// The endpoint it listens at, with the port it really has.
    fn endpoint(&self) -> &Endpoint;

    /// Whether only processes of this machine can connect.
    fn local_only(&self) -> bool;

    /// The next connection. Dropping the future loses none.
    ///
    /// # Errors
    /// Why none can be taken now; later calls may succeed.
    fn accept(&mut self) -> impl Future<Output = Result<Self::Incoming, TransportError>> + Send;
}

/// A connection on its way to the runtime that will serve it.
pub trait Incoming: Send + 'static {
    /// The open connection.
    type Connection;

    /// The processor on which the connection's data arrives, once that is known; `None` where it never is.
    fn cpu(&self) -> impl Future<Output = Option<usize>> + Send;

    /// Whom it comes from.
    fn source(&self) -> Source;

    /// Whether telling it anything takes a handshake first, and so the work of one.
    fn takes_handshake(&self) -> bool {
        false
    }

    /// Binds the connection to the runtime of the calling thread.
    ///
    /// # Errors
    /// Why the connection cannot be served.
    fn attach(self, config: &ConnectionConfig) -> Result<Self::Connection, TransportError>;
}

/// An open connection: a sending and a receiving half that work independently.
pub trait Connection: Send + 'static {
    /// Its sending half.
    type Sender: FrameSender;
    /// Its receiving half.
    type Receiver: FrameReceiver;

    /// The other end, for people.
    fn peer(&self) -> &str;

    /// What both ends have to say before frames, such as a handshake: once, before a connection is split. It takes as
    /// long as the peer likes, so it is for the caller to bound; where it fails or is dropped, the connection is of no
    /// more use.
    ///
    /// # Errors
    /// Why the connection does not come to be.
    fn establish(&mut self) -> impl Future<Output = Result<(), TransportError>> + Send {
        std::future::ready(Ok(()))
    }

    /// Bytes that the two ends of an established connection have, and nobody else: what a proof of who is there is
    /// bound to (RFC 5056). `None` where the transport has none.
    fn channel_binding(&self) -> Option<[u8; 32]> {
        None
    }

    /// Both halves. The connection closes when both are dropped.
    fn split(self) -> (Self::Sender, Self::Receiver);
}

/// Sends frames in order.
pub trait FrameSender: Send + 'static {
    /// Lends the buffers that this half sends best; it takes others too.
    fn lender(&self) -> Arc<dyn Lender>;

    /// Sends one frame; returns when the transport has taken it. A frame whose future was dropped may have been
    /// sent in part: the connection must then be dropped too.
    ///
    /// # Errors
    /// The connection is lost.
    fn send(&mut self, frame: Frame) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Sends frames in order, as if one by one, and leaves none; a transport may hand over several at once.
    ///
    /// # Errors
    /// The connection is lost.
    fn send_all(&mut self, frames: &mut Vec<Frame>) -> impl Future<Output = Result<(), TransportError>> + Send {
        async {
            for frame in frames.drain(..) {
                self.send(frame).await?;
            }
            Ok(())
        }
    }

    /// Says that no more frames follow; what was sent still arrives.
    ///
    /// # Errors
    /// The connection is lost.
    fn close(&mut self) -> impl Future<Output = Result<(), TransportError>> + Send;
}

/// Receives frames in order.
pub trait FrameReceiver: Send + 'static {
    /// The next frame; `None` where the peer closed the connection between two frames. Dropping the future
    /// loses nothing: the next call goes on where it stopped. Of a trusted peer's frame for which there is no memory a
    /// byte stream gives the header alone, which says how long it was: what is behind it is not lost for that.
    ///
    /// # Errors
    /// The connection is lost, or what arrives is no frame.
    fn receive(&mut self) -> impl Future<Output = Result<Option<Frame>, TransportError>> + Send;

    /// The next frame where all of it is here already, without a word to the system; `None` where that is not known.
    ///
    /// # Errors
    /// As [`FrameReceiver::receive`]: the connection is lost.
    fn receive_now(&mut self) -> Result<Option<Frame>, TransportError> {
        Ok(None)
    }

    /// Takes frames of up to so many bytes from the next one on.
    fn set_frame_bytes_max(&mut self, frame_bytes_max: u32);

    /// Counts long frames among what others have on their way too, from the next one on: where there is no room for one
    /// its sender waits. A transport whose memory is all there beforehand may leave it at that.
    fn set_allowance(&mut self, _allowance: Arc<Allowance>) {}

    /// Whether a part of a frame has arrived, and not all of it, as far as the transport can tell.
    fn is_midway(&self) -> bool {
        false
    }

    /// The processor of this machine that the last bytes came from; `None` where it is not known, where the peer is
    /// elsewhere, and of a transport whose receiver looks for frames by itself. To be asked right behind a frame: an
    /// answer may bring the peer's acknowledgement, which is handled here.
    fn sender_cpu(&self) -> Option<usize> {
        None
    }

    /// Throws away what the peer still sends, frames or not, until it closes the connection; no frame can be received
    /// any more. So that a last frame is not lost because the peer was still sending.
    fn discard(&mut self) -> impl Future<Output = ()> + Send;
}

/// What to do with a transport once its type is known: dispatch happens here, once a connection.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<T: Transport>(self, transport: T) -> Self::Output;
}

/// What transports can be told, each its own.
#[derive(Debug, Clone, Default)]
pub struct TransportOptions {
    /// For `rdma://` endpoints.
    pub rdma: rdma::RdmaOptions,
    /// For `tls://` endpoints.
    pub tls: tls::TlsOptions,
}

/// Calls the visitor with the transport of a scheme.
pub fn dispatch<V: Visitor>(scheme: Scheme, options: &TransportOptions, visitor: V) -> V::Output {
    match scheme {
        Scheme::Tcp => visitor.visit(tcp::Tcp),
        Scheme::Tls => visitor.visit(tls::Tls::new(options.tls.clone())),
        Scheme::Rdma => visitor.visit(rdma::Rdma::new(options.rdma.clone())),
        Scheme::Shm => visitor.visit(shm::Shm),
        Scheme::Sim => visitor.visit(sim::Sim),
    }
}
