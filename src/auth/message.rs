//! The messages of SCRAM, taken apart: attributes of one letter, parted by commas.
#![forbid(unsafe_code)]

use super::scram::AuthError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Longest message, in bytes: names, nonces and salts are short.
pub(super) const MESSAGE_BYTES_MAX: usize = 1_024;

/// Attributes one after the other, each with the letter that is expected there.
#[derive(Debug)]
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// A message behind a prefix.
    pub(super) fn of(message: &'a [u8], prefix: &str) -> Result<Self, AuthError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(AuthError::TooLong { got: message.len(), max: MESSAGE_BYTES_MAX });
        }
        let text = std::str::from_utf8(message).map_err(|_| AuthError::Malformed { what: "text" })?;
        let rest = text.strip_prefix(prefix).ok_or(AuthError::Malformed { what: "beginning" })?;
        Ok(Self { rest: Some(rest) })
    }

    /// The value of the next attribute.
    pub(super) fn next(&mut self, letter: char, what: &'static str) -> Result<&'a str, AuthError> {
        let rest = self.rest.ok_or(AuthError::Malformed { what })?;
        let (attribute, behind) = rest.split_once(',').map_or((rest, None), |(this, behind)| (this, Some(behind)));
        self.rest = behind;
        let value = attribute.strip_prefix(letter).and_then(|value| value.strip_prefix('='));
        value.filter(|value| !value.is_empty()).ok_or(AuthError::Malformed { what })
    }

    /// Nothing follows: no extension is known here, and a mandatory one must not be passed over.
    pub(super) fn end(self) -> Result<(), AuthError> {
        if self.rest.is_none() { Ok(()) } else { Err(AuthError::Malformed { what: "end" }) }
    }
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str, what: &'static str) -> Result<Vec<u8>, AuthError> {
    STANDARD.decode(text).map_err(|_| AuthError::Malformed { what })
}

/// Exactly so many bytes.
pub(super) fn decode_array<const BYTES: usize>(text: &str, what: &'static str) -> Result<[u8; BYTES], AuthError> {
    decode(text, what)?.try_into().map_err(|_| AuthError::Malformed { what })
}

/// A nonce, or two: characters that can be seen.
pub(super) fn nonce(text: &str) -> Result<&str, AuthError> {
    let is_nonce = text.len() <= NONCE_CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_nonce { Ok(text) } else { Err(AuthError::Malformed { what: "nonce" }) }
}

/// Longest nonce of a client and of both sides, in characters.
const NONCE_CHARS_MAX: usize = 256;
