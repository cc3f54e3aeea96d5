//! A node's word that a client may not do what it asks.
#![forbid(unsafe_code)]

use super::ClientError;
use super::link::Link;
use super::node::Exchange;
use crate::transport::{Endpoint, Frame};
use crate::wire::{FrameKind, Header, denial_text};
use std::sync::Arc;

/// What came of a frame that was answered: an answer, or that it was denied.
pub(super) fn answered(endpoint: &Endpoint, answer: Frame, link: Arc<Link>, asked: &Frame) -> Exchange {
    let kind_of = |frame: &Frame| Header::split(frame).ok().map(|(header, kind, _)| (kind, header.is_retry()));
    if kind_of(&answer).is_none_or(|(kind, _)| kind != FrameKind::Denial) {
        return Exchange::Answered(answer, link);
    }
    let denied = match denial_text(&answer) {
        Ok(text) => ClientError::Denied { endpoint: endpoint.clone(), text: text.to_owned() },
        Err(source) => return Exchange::Unknown(link.malformed(source)),
    };
    // What was sent before may have been allowed then.
    let is_retry = kind_of(asked).is_some_and(|(_, is_retry)| is_retry);
    if is_retry { Exchange::Unknown(denied) } else { Exchange::Unsent(denied) }
}
