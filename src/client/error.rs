//! What can go wrong for a caller.
#![forbid(unsafe_code)]

use crate::auth::AuthError;
use crate::map::MapStoreError;
use crate::transport::{Endpoint, TransportError};
use crate::wire::{BuildError, RefusalCode, WireError};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why a call failed. Cheap to clone: one lost connection fails many calls.
#[derive(Debug, Clone, Error)]
pub enum ClientError {
    /// No node, or more nodes than slots.
    #[error("a client needs 1 to {max} nodes, not {got}")]
    BadNodeCount {
        /// Nodes given.
        got: usize,
        /// The most there can be.
        max: u32,
    },
    /// The node cannot be reached; nothing was sent.
    #[error(transparent)]
    Connect(Arc<TransportError>),
    /// None of the node's addresses can be reached; nothing was sent. What is wrong with each, in their order.
    #[error("{}", joined(.0))]
    Unreachable(Arc<[Self]>),
    /// The node did not answer the hello; nothing was sent.
    #[error("{endpoint} does not answer: {source}")]
    Hello {
        /// The node.
        endpoint: Endpoint,
        /// What happened instead.
        source: NoHello,
    },
    /// The node refuses to go on.
    #[error("{endpoint} refuses: {text}")]
    Refused {
        /// The node.
        endpoint: Endpoint,
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: String,
    },
    /// The user has no right to this; nothing was executed, or nothing more where it was sent again.
    #[error("{endpoint}: {text}")]
    Denied {
        /// The node.
        endpoint: Endpoint,
        /// Which right it takes, for people.
        text: String,
    },
    /// The node was restarted: what it held is gone. Without a map every call fails until
    /// [`acknowledge_memory_loss`](super::Client::acknowledge_memory_loss); with one, every operation of that node
    /// until a newer map gives its slots to somebody else, or the incarnation that the map names is back.
    #[error("{endpoint} was restarted and lost its memory: its records are gone")]
    MemoryLost {
        /// The node.
        endpoint: Endpoint,
    },
    /// The connection was lost with the call in flight: a change may or may not have taken effect.
    #[error("connection to {endpoint} lost, the outcome is unknown: {source}")]
    Lost {
        /// The node.
        endpoint: Endpoint,
        /// What happened.
        source: Loss,
    },
    /// No answer in time: a change may or may not have taken effect.
    #[error("no answer from {endpoint} within {deadline:?}, the outcome is unknown")]
    Deadline {
        /// The node.
        endpoint: Endpoint,
        /// The deadline.
        deadline: Duration,
    },
    /// The call was sent again over another connection, and the node no longer knows what became of it: a change may or
    /// may not have taken effect.
    #[error("{endpoint} no longer knows what became of a call that was sent again: the outcome is unknown")]
    Forgotten {
        /// The node.
        endpoint: Endpoint,
    },
    /// An answer came, and there was no memory to read it: a change may or may not have taken effect.
    #[error("no memory for an answer of {frame_bytes} bytes from {endpoint}, the outcome is unknown")]
    NoReplyMemory {
        /// The node.
        endpoint: Endpoint,
        /// Length of its frame.
        frame_bytes: u32,
    },
    /// The call was not sent, and had no effect.
    #[error("not sent to {endpoint}: {source}")]
    NotSent {
        /// The node.
        endpoint: Endpoint,
        /// What kept it.
        source: Unsent,
    },
    /// The node does not own the key's slot; nothing was executed.
    #[error("{}", not_owned(endpoint, *epoch))]
    WrongNode {
        /// The node.
        endpoint: Endpoint,
        /// The epoch of the map it works with.
        epoch: u64,
    },
    /// The nodes do not own what the client's map gives them, and no newer map came in time; nothing was executed.
    #[error("the nodes work with another map than the one of epoch {epoch}, and no newer one came within {deadline:?}")]
    NoNewerMap {
        /// The epoch of the client's map.
        epoch: u64,
        /// The deadline.
        deadline: Duration,
    },
    /// Nobody owns the key's slot, and no newer map came in time; nothing was sent.
    #[error("nobody owns the key's slot by the map of epoch {epoch}")]
    NoOwner {
        /// The epoch of the client's map.
        epoch: u64,
    },
    /// The map cannot be read.
    #[error(transparent)]
    Map(MapStoreError),
    /// The first map was not read in time.
    #[error("the shard map was not read within {deadline:?}")]
    MapLate {
        /// The deadline.
        deadline: Duration,
    },
    /// Nobody has made a map yet.
    #[error("there is no shard map yet: `freight cluster create` makes one")]
    NoMap,
    /// What came back is no reply to what was sent.
    #[error("{endpoint} sent a malformed reply: {source}")]
    Malformed {
        /// The node.
        endpoint: Endpoint,
        /// What is wrong with it.
        source: WireError,
    },
    /// What came back does not answer the operation.
    #[error("{endpoint} answered with an outcome the operation cannot have: {outcome}")]
    WrongOutcome {
        /// The node.
        endpoint: Endpoint,
        /// The outcome.
        outcome: String,
    },
    /// A key or value that no frame can hold.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A node's memory cap is reached; nothing was changed.
    #[error("the node's memory cap is reached, nothing was changed")]
    OutOfMemory,
    /// The values of a batch take more bytes than the client may bring back; the gets that were left out stay
    /// `ReplyFull`.
    #[error("{got} bytes of a batch's replies came, no more than {max} may: the rest was not asked for")]
    ReplyTooLarge {
        /// Bytes that came.
        got: u64,
        /// `reply_bytes_max`.
        max: u64,
    },
    /// An edit wants the value that was there, and the batch's reply had no room for it: it was not executed.
    #[error("the reply has no room for the value that an edit wants, which was not executed")]
    ReplyFull,
    /// An append would make the value too long; nothing was changed.
    #[error("the value would be longer than {} bytes, nothing was changed", crate::limits::VALUE_BYTES_MAX)]
    ValueTooLong,
    /// An add found a value that is no decimal 64-bit integer; nothing was changed.
    #[error("the value is no decimal 64-bit integer, nothing was changed")]
    NotANumber,
    /// An add would overflow 64 bits; nothing was changed.
    #[error("the counter would overflow 64 bits, nothing was changed")]
    CounterOverflow,
}

/// Why a node's hello never came.
#[derive(Debug, Clone, Error)]
pub enum NoHello {
    /// The deadline passed.
    #[error("nothing within {0:?}")]
    Late(Duration),
    /// The node closed the connection.
    #[error("it closed")]
    Closed,
    /// There is no memory to say hello with.
    #[error("no memory for a hello")]
    OutOfMemory,
    /// The connection was lost.
    #[error(transparent)]
    Transport(Arc<TransportError>),
    /// What came is no hello.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// It asks for a proof in a way that this side does not answer, or is not who it should be.
    #[error(transparent)]
    Authentication(#[from] AuthError),
    /// It lets everybody in, and credentials were given: it is not the node that they are for.
    #[error("it asks for no proof of who this is, though there are credentials: it authenticates nobody")]
    NotAuthenticating,
    /// The system has no randomness for a nonce.
    #[error("no nonce to authenticate with: {0}")]
    NoRandomness(String),
}

/// Why a connection was lost.
#[derive(Debug, Clone, Error)]
pub enum Loss {
    /// The node closed it.
    #[error("the node closed it")]
    Closed,
    /// The last handle of the client was dropped.
    #[error("the client was dropped")]
    Dropped,
    /// The runtime that drove it ended, or that on which a single operation was issued.
    #[error("the runtime of its tasks ended")]
    RuntimeEnded,
    /// A deadline passed, and nothing at all came from the node meanwhile.
    #[error("the node said nothing for {0:?}")]
    Silent(Duration),
    /// A newer map gives what was asked for to another node before this one answered.
    #[error("given up, as a newer map gives the slots to another node")]
    Moved,
    /// The transport failed.
    #[error(transparent)]
    Transport(Arc<TransportError>),
}

/// What kept a call from being sent.
#[derive(Debug, Clone, Error)]
pub enum Unsent {
    /// The deadline passed.
    #[error("{0:?} passed with too much in flight, or while connecting")]
    Late(Duration),
    /// The runtime that would have sent it ended, or that on which it was issued.
    #[error("the runtime of its tasks ended")]
    RuntimeEnded,
}

impl ClientError {
    /// Whether the node does not let this client do it, and no other one would.
    pub(super) fn is_denied(&self) -> bool {
        let is_unauthorized = |code: &RefusalCode| *code == RefusalCode::Unauthorized;
        matches!(self, Self::Denied { .. } | Self::Hello { source: NoHello::Authentication(_), .. })
            || matches!(self, Self::Refused { code, .. } if is_unauthorized(code))
    }

    /// Whether its node was not reached, did not take the operation, or is no longer there.
    pub(super) fn is_unsent(&self) -> bool {
        !self.is_denied()
            && matches!(
                self,
                Self::Connect(_)
                    | Self::Unreachable(_)
                    | Self::Hello { .. }
                    | Self::Refused { .. }
                    | Self::MemoryLost { .. }
                    | Self::NotSent { source: Unsent::Late(_), .. }
            )
    }

    /// Whether the operation may have taken effect all the same.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        matches!(
            self,
            Self::Lost { .. }
                | Self::Deadline { .. }
                | Self::Forgotten { .. }
                | Self::NoReplyMemory { .. }
                | Self::Malformed { .. }
                | Self::WrongOutcome { .. }
        )
    }
}

/// What a node says of a key that is not its own; epoch 0 is no map.
fn not_owned(endpoint: &Endpoint, epoch: u64) -> String {
    match epoch {
        0 => format!("{endpoint} waits for its first shard map, and owns no key until then: `freight cluster create`"),
        epoch => format!(
            "{endpoint} does not own the key's slot by its map of epoch {epoch}: use the map, not a list of servers"
        ),
    }
}

fn joined(errors: &[ClientError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
