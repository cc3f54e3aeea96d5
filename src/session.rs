//! What a node says to one connection: bytes in, bytes out.
//!
//! Architecture invariant: no socket, runtime, clock or randomness in here. Whoever drives a session owns those,
//! so that a seed replays a whole cluster.
#![forbid(unsafe_code)]

use crate::auth::{AuthError, Method, Rights};
use crate::completions::{Carrier, Completions, Identity, NoMemory};
use crate::op::{Action, Batch, Op, Time};
use crate::shard::{Scratch, Store};
use crate::wire::{
    Capabilities, FrameBuffer, Hello, HelloReply, Origin, PROTOCOL_VERSION, RefusalCode, ReplyBuilder, RequestView,
    WireError, hello_reply_with,
};
use std::sync::Arc;
use thiserror::Error;

/// What a node announces to every connection.
#[derive(Debug, Clone, Copy)]
pub struct NodeFacts {
    /// 128 bits drawn at start: this node's life, and its memory.
    pub incarnation: [u8; 16],
    /// The longest frame it takes and sends, in bytes.
    pub frame_bytes_max: u32,
    /// Requests a client may have in flight on one connection.
    pub frames_in_flight_max: u32,
}

/// Why a session ends. Each is answered by a refusal and a closed connection.
#[derive(Debug, Error)]
pub enum SessionError {
    /// A frame that is not what it should be.
    #[error("malformed frame: {0}")]
    Malformed(#[from] WireError),
    /// No common protocol version.
    #[error("the client speaks protocol versions {min} to {max}, this node speaks {PROTOCOL_VERSION}")]
    Version {
        /// The oldest the client speaks.
        min: u8,
        /// The newest.
        max: u8,
    },
    /// An authentication method this node does not know.
    #[error("authentication method {method} is unknown to this node")]
    Authentication {
        /// The method.
        method: u16,
    },
    /// A client that does not say who it is, where everybody has to.
    #[error("this node requires authentication: give a user and a password (--user, --password-file)")]
    AuthenticationRequired,
    /// A client that says who it is, where nobody can: it must not believe that it was let in by its password.
    #[error("this node has no users and authenticates nobody: connect without credentials, or give it users")]
    NoUsers,
    /// A client that is not who it says.
    #[error(transparent)]
    Unauthorized(#[from] AuthError),
    /// A user that has been removed, or whose password was changed.
    #[error("user '{name}' was removed, or has another password now")]
    Revoked {
        /// Its name.
        name: String,
    },
    /// A frame that its user may not send. The connection goes on.
    #[error("not allowed: it takes the right to {needed}, and user '{name}' has {}", or_none(*.has))]
    NotAllowed {
        /// What it takes.
        needed: Rights,
        /// The user's rights.
        has: Rights,
        /// Its name.
        name: String,
    },
    /// No memory for a reply, not even without values.
    #[error("no memory for a reply to {ops} operations")]
    OutOfMemory {
        /// Operations in the request.
        ops: u32,
    },
}

impl SessionError {
    /// The code a refusal carries.
    #[must_use]
    pub fn refusal_code(&self) -> RefusalCode {
        match self {
            Self::Malformed(WireError::BadVersion { .. }) | Self::Version { .. } => RefusalCode::Version,
            Self::Malformed(_) => RefusalCode::Malformed,
            Self::Unauthorized(AuthError::Malformed { .. } | AuthError::TooLong { .. }) => RefusalCode::Malformed,
            Self::NotAllowed { .. } => RefusalCode::Forbidden,
            Self::Authentication { .. }
            | Self::AuthenticationRequired
            | Self::NoUsers
            | Self::Unauthorized(_)
            | Self::Revoked { .. } => RefusalCode::Unauthorized,
            Self::OutOfMemory { .. } => RefusalCode::Memory,
        }
    }
}

fn or_none(rights: Rights) -> String {
    if rights == Rights::NONE { "no right".to_owned() } else { format!("only {rights}") }
}

/// An accepted hello.
#[derive(Debug)]
pub struct Accepted {
    /// The frame to answer with.
    pub reply: Vec<u8>,
    /// The longest reply this client takes, in bytes.
    pub reply_bytes_max: u32,
}

/// One node's side of every connection: share it in an `Arc`, from any thread.
#[derive(Debug)]
pub struct Session {
    store: Arc<Store>,
    completions: Arc<Completions>,
    facts: NodeFacts,
}

impl Session {
    /// Sessions on a store, and what is known of what they executed.
    #[must_use]
    pub fn new(store: Arc<Store>, completions: Arc<Completions>, facts: NodeFacts) -> Self {
        Self { store, completions, facts }
    }

    /// What a connection needs beside it to have its frames executed once.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        Carrier::new(&self.completions)
    }

    /// What is known of what was executed.
    #[must_use]
    pub fn completions(&self) -> &Completions {
        &self.completions
    }

    /// What the node announces.
    #[must_use]
    pub fn facts(&self) -> &NodeFacts {
        &self.facts
    }

    /// The store behind it.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What a client's first frame says, and how it will say who it is.
    ///
    /// # Errors
    /// Why the client is refused.
    pub fn hello(&self, frame: &[u8]) -> Result<(Hello, Method), SessionError> {
        let hello = Hello::parse(frame)?;
        let (min, max) = (hello.version_min, hello.version_max);
        if !(min..=max).contains(&PROTOCOL_VERSION) {
            return Err(SessionError::Version { min, max });
        }
        let method = hello.authentication_method.get();
        let method = Method::of(method).ok_or(SessionError::Authentication { method })?;
        Ok((*hello, method))
    }

    /// Answers a hello whose client may come in. `cpu` is the processor that serves the connection, `wire_limit`
    /// whether wire-limit frames are answered on it, `last` what the authentication ends with.
    #[must_use]
    pub fn welcome(&self, hello: &Hello, cpu: Option<usize>, wire_limit: bool, last: &[u8]) -> Accepted {
        let reply = HelloReply {
            version: PROTOCOL_VERSION,
            reserved: 0,
            cpu: cpu.and_then(|cpu| u16::try_from(cpu).ok()).unwrap_or(HelloReply::CPU_NONE).into(),
            frame_bytes_max: self.facts.frame_bytes_max.into(),
            capabilities: Capabilities::default().0.into(),
            incarnation: self.facts.incarnation,
            frames_in_flight_max: self.facts.frames_in_flight_max.into(),
            permissions: if wire_limit { HelloReply::WIRE_LIMIT } else { 0 }.into(),
        };
        let reply_bytes_max = hello.frame_bytes_max.get().min(self.facts.frame_bytes_max);
        Accepted { reply: hello_reply_with(&reply, last), reply_bytes_max }
    }

    /// Executes a request, whose time is `now`, once if it is of a client's session, and builds its reply in a buffer
    /// that `lend` gives for at least that many bytes.
    ///
    /// # Errors
    /// [`SessionError::Malformed`], and nothing was executed; [`SessionError::OutOfMemory`] likewise.
    pub fn execute<B: FrameBuffer>(
        &self,
        frame: &[u8],
        now: Time,
        reply_bytes_max: u32,
        lend: impl FnOnce(usize) -> Option<B>,
        carrier: &mut Carrier,
        scratch: &mut Scratch,
    ) -> Result<(B, u32), SessionError> {
        self.execute_request(&RequestView::parse(frame)?, now, reply_bytes_max, lend, carrier, scratch)
    }

    /// As [`Session::execute`], of a request that is valid.
    ///
    /// # Errors
    /// [`SessionError::OutOfMemory`], and nothing was executed.
    #[inline]
    pub fn execute_request<B: FrameBuffer>(
        &self,
        request: &RequestView<'_>,
        now: Time,
        reply_bytes_max: u32,
        lend: impl FnOnce(usize) -> Option<B>,
        carrier: &mut Carrier,
        scratch: &mut Scratch,
    ) -> Result<(B, u32), SessionError> {
        let ops = request.op_count();
        let out_of_memory = || SessionError::OutOfMemory { ops };
        let buffer = lend(REPLY_BYTES_FIRST).ok_or_else(out_of_memory)?;
        let mut reply = ReplyBuilder::new(buffer, ops, reply_bytes_max).ok_or_else(out_of_memory)?.at(now);
        let Origin { session, sequence, acknowledged_up_to, .. } = request.header().origin();
        let map_epoch = if session == 0 || !request.has_changes() {
            self.store.execute(request, now, &mut reply, scratch)
        } else {
            let is_retry = request.header().is_retry();
            let identity = Identity { session, sequence, acknowledged_up_to, is_retry };
            let executed = carrier.execute(&self.store, request, now, identity, &mut reply, scratch);
            executed.map_err(|NoMemory| out_of_memory())?
        };
        Ok(reply.finish(Origin { map_epoch, ..request.header().origin() }))
    }
}

/// The rights that a request takes beyond those that are there: to write where anything in it may change something, to
/// read where anything in it tells what a record holds.
#[must_use]
pub fn rights_missing(request: &RequestView<'_>, has: Rights) -> Rights {
    let tells = |op: Op<'_>| op.action.wants_value() || matches!(op.action, Action::Add { .. });
    let mut missing = Rights::NONE;
    if !has.include(Rights::WRITE) && request.has_changes() {
        missing = missing.and(Rights::WRITE);
    }
    if !has.include(Rights::READ) && request.ops().any(tells) {
        missing = missing.and(Rights::READ);
    }
    missing
}

/// Bytes of the buffer a reply begins with; it grows as values need it.
const REPLY_BYTES_FIRST: usize = 4096;
