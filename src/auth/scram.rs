//! Both sides of SCRAM-SHA-256: messages in, messages out.
#![forbid(unsafe_code)]

use super::keys::{self, Digest, Nonce, SALT_BYTES_MAX, SaltedKeys};
use super::message::{self, Attributes};
use super::users::{User, Users};
use super::{ITERATIONS_MAX, ITERATIONS_MIN};
use std::sync::Arc;
use thiserror::Error;

/// Why somebody is not who they say, or does not say it as it is said.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthError {
    /// The proof is wrong, or there is no such user: which of both is not said.
    #[error("wrong user or password")]
    Wrong,
    /// A message that is none.
    #[error("malformed authentication message: unreadable {what}")]
    Malformed {
        /// What of it.
        what: &'static str,
    },
    /// A message that is too long.
    #[error("authentication message of {got} bytes, at most {max} are allowed")]
    TooLong {
        /// Its length.
        got: usize,
        /// The longest.
        max: usize,
    },
    /// The node's nonce is not what the client sent and more, or the client's not what the node sent.
    #[error("the authentication message belongs to another exchange")]
    OtherExchange,
    /// The node asks for a key that would be too quick to guess from, or that takes too long.
    #[error("the node asks for a key of {got} iterations, allowed are {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    Iterations {
        /// What it asks for.
        got: u32,
    },
    /// A proof that is bound to nothing where it has to be bound, or bound to something where there is nothing.
    #[error("over TLS, and only there, a proof is bound to its connection (SCRAM-SHA-256-PLUS, tls-exporter)")]
    Binding,
    /// A proof that is bound to another connection than it came by.
    #[error("the proof is bound to another TLS connection: somebody stands between this client and this node")]
    OtherChannel,
    /// The node could not show that it knows the user.
    #[error("the node could not show that it knows this user: it is another one than it says")]
    NotTheNode,
}

/// How a client says who it is, as a hello has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    None,
    /// SCRAM-SHA-256.
    ScramSha256,
}

impl Method {
    /// The method of a number.
    #[must_use]
    pub fn of(code: u16) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::ScramSha256),
            _ => None,
        }
    }

    /// Its number.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::None => 0,
            Self::ScramSha256 => 1,
        }
    }
}

/// Bytes that both ends of a connection have, and nobody else (RFC 5056, RFC 9266).
pub type ChannelBinding = [u8; 32];

/// What stands before a client's first message where the proof is bound to its connection: SCRAM-SHA-256-PLUS.
const GS2_HEADER_BOUND: &str = "p=tls-exporter,,";

/// The same where there is nothing to bind it to. Nobody speaks for somebody else.
const GS2_HEADER: &str = "n,,";

fn gs2_header(binding: Option<&ChannelBinding>) -> &'static str {
    if binding.is_some() { GS2_HEADER_BOUND } else { GS2_HEADER }
}

/// The header again, as the last message has it, and what the proof is bound to.
fn bound(binding: Option<&ChannelBinding>) -> String {
    let channel = binding.map_or(&[][..], |channel| channel);
    message::encode(&[gs2_header(binding).as_bytes(), channel].concat())
}

/// A client's side, once it has said who it is.
#[derive(Debug)]
pub struct ClientExchange {
    nonce: String,
    first_bare: String,
    binding: Option<ChannelBinding>,
}

/// What a node asks of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    nonce: String,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    message: String,
}

/// What a node must say for its client to believe that it knows the user too.
#[derive(Debug)]
pub struct Expected {
    signature: Digest,
}

impl ClientExchange {
    /// Begins, with the first message. The name is one that [`super::check_name`] takes. The proof is bound to
    /// `binding`, and must be where the connection has one.
    #[must_use]
    pub fn begin(name: &str, nonce: &Nonce, binding: Option<ChannelBinding>) -> (Self, Vec<u8>) {
        Self::begin_with(name, message::encode(nonce), binding)
    }

    fn begin_with(name: &str, nonce: String, binding: Option<ChannelBinding>) -> (Self, Vec<u8>) {
        let first_bare = format!("n={name},r={nonce}");
        let message = format!("{}{first_bare}", gs2_header(binding.as_ref())).into_bytes();
        (Self { nonce, first_bare, binding }, message)
    }

    /// What the node asks.
    pub(super) fn challenge(&self, message: &[u8]) -> Result<Challenge, AuthError> {
        let mut attributes = Attributes::of(message, "")?;
        let nonce = message::nonce(attributes.next('r', "nonce")?)?;
        let salt = message::decode(attributes.next('s', "salt")?, "salt")?;
        let iterations = attributes.next('i', "number of iterations")?;
        attributes.end()?;
        let what = "number of iterations";
        let is_number = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse().ok().filter(|_| is_number).ok_or(AuthError::Malformed { what })?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(AuthError::OtherExchange);
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(AuthError::Iterations { got: iterations });
        }
        if salt.is_empty() || salt.len() > SALT_BYTES_MAX {
            return Err(AuthError::Malformed { what: "salt" });
        }
        let message = String::from_utf8_lossy(message).into_owned();
        Ok(Challenge { nonce: nonce.to_owned(), salt, iterations, message })
    }

    /// The last message, by the keys that the challenge asks for.
    pub(super) fn prove(&self, challenge: &Challenge, keys: &SaltedKeys) -> (Expected, Vec<u8>) {
        let without_proof = format!("c={},r={}", bound(self.binding.as_ref()), challenge.nonce);
        let said = [&self.first_bare, ",", &challenge.message, ",", &without_proof].map(str::as_bytes);
        let stored_key = keys::hash(&keys.client_key);
        let proof = keys::xor(&keys.client_key, &keys::mac(&stored_key, &said));
        let signature = keys::mac(&keys.server_key, &said);
        (Expected { signature }, format!("{without_proof},p={}", message::encode(&proof)).into_bytes())
    }
}

impl Expected {
    /// Checks the node's last message.
    ///
    /// # Errors
    /// The node does not know the user, or says nothing that can be understood.
    pub fn check(&self, message: &[u8]) -> Result<(), AuthError> {
        let mut attributes = Attributes::of(message, "")?;
        let signature = message::decode_array(attributes.next('v', "signature")?, "signature")?;
        attributes.end()?;
        if keys::are_same(&signature, &self.signature) { Ok(()) } else { Err(AuthError::NotTheNode) }
    }
}

/// A node's side, once it has asked for a proof.
#[derive(Debug)]
pub struct NodeExchange {
    /// Who it is, if the proof is right; `None` for nobody, whatever the proof.
    user: Option<Arc<User>>,
    stored_key: Digest,
    server_key: Digest,
    /// The nonces of both sides.
    nonce: String,
    /// The messages so far.
    said: String,
    /// What the client must repeat of the first message's header, and what its proof is bound to.
    bound: String,
}

impl Users {
    /// Answers a client's first message with a challenge. Where its connection has a binding, the proof must be bound
    /// to that, and elsewhere to nothing: nobody is talked down.
    ///
    /// # Errors
    /// It is no first message, or not of that kind. That there is no such user is no error, and nothing says so.
    pub fn challenge(
        &self,
        message: &[u8],
        nonce: &Nonce,
        binding: Option<&ChannelBinding>,
    ) -> Result<(NodeExchange, Vec<u8>), AuthError> {
        self.challenge_with(message, &message::encode(nonce), binding)
    }

    fn challenge_with(
        &self,
        message: &[u8],
        nonce: &str,
        binding: Option<&ChannelBinding>,
    ) -> Result<(NodeExchange, Vec<u8>), AuthError> {
        let header = gs2_header(binding);
        if !message.starts_with(header.as_bytes())
            && [&b"n,"[..], b"y,", b"p="].iter().any(|gs2| message.starts_with(gs2))
        {
            return Err(AuthError::Binding);
        }
        let mut attributes = Attributes::of(message, header)?;
        let name = attributes.next('n', "name")?;
        let client_nonce = message::nonce(attributes.next('r', "nonce")?)?;
        attributes.end()?;
        let (user, verifier) = self.verifier(name.as_bytes());
        let nonce = format!("{client_nonce}{nonce}");
        let first = format!("r={nonce},s={},i={}", message::encode(&verifier.salt), verifier.iterations);
        let said = format!("n={name},r={client_nonce},{first}");
        let (stored_key, server_key) = (verifier.stored_key, verifier.server_key);
        let bound = bound(binding);
        Ok((NodeExchange { user, stored_key, server_key, nonce, said, bound }, first.into_bytes()))
    }
}

impl NodeExchange {
    /// Who it is, by the client's last message, and the answer that shows that this side knows the user.
    ///
    /// # Errors
    /// The proof is wrong, or no last message.
    pub fn prove(self, message: &[u8]) -> Result<(Arc<User>, Vec<u8>), AuthError> {
        let mut attributes = Attributes::of(message, "")?;
        let bound = attributes.next('c', "channel binding")?;
        let nonce = attributes.next('r', "nonce")?;
        let proof = message::decode_array(attributes.next('p', "proof")?, "proof")?;
        attributes.end()?;
        if bound != self.bound {
            let is_bound = message::decode(bound, "channel binding")?.starts_with(GS2_HEADER_BOUND.as_bytes());
            return Err(if is_bound { AuthError::OtherChannel } else { AuthError::Binding });
        }
        if nonce != self.nonce {
            return Err(AuthError::OtherExchange);
        }
        let without_proof = format!("c={bound},r={nonce}");
        let said = [&self.said, ",", &without_proof].map(str::as_bytes);
        let client_key = keys::xor(&proof, &keys::mac(&self.stored_key, &said));
        let is_right = keys::are_same(&keys::hash(&client_key), &self.stored_key);
        let signature = keys::mac(&self.server_key, &said);
        let user = self.user.filter(|_| is_right).ok_or(AuthError::Wrong)?;
        Ok((user, format!("v={}", message::encode(&signature)).into_bytes()))
    }
}

#[cfg(test)]
#[path = "tests/scram.rs"]
mod tests;
