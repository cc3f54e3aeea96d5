//! Steps of moves, asked of one node: for whoever moves slots.
#![forbid(unsafe_code)]

use super::node::NodeClient;
use super::{ClientConfig, ClientError};
use crate::budget::Budget;
use crate::map::MapNode;
use crate::transport::{Endpoint, Frame, HeapPool};
use crate::wire::{MoveBody, MoveReplyView, move_request};
use std::sync::Arc;

/// A node of a map, asked for steps of moves. It connects when it is first asked, and anew where a connection was lost.
#[derive(Debug)]
pub struct Control {
    node: Arc<NodeClient>,
}

/// What came of a step, valid.
#[derive(Debug)]
pub struct MoveReply {
    frame: Frame,
}

impl MoveReply {
    /// What it says.
    ///
    /// # Panics
    /// Never: it was parsed when it came.
    #[must_use]
    pub fn view(&self) -> MoveReplyView<'_> {
        MoveReplyView::parse(&self.frame).expect("it was parsed when it came")
    }
}

impl Control {
    /// Asks the incarnation that a map names.
    #[must_use]
    pub fn new(node: &MapNode, config: &ClientConfig) -> Self {
        let pool = HeapPool::new(Arc::new(Budget::new(u64::MAX)));
        Self { node: NodeClient::named(node, config, &pool, None, None) }
    }

    /// Where it is reached: the first of its addresses.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.node.endpoint()
    }

    /// Asks for a step. Dropping the future leaves it unknown whether the node took it, as some errors do.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, body: &MoveBody, payload: &[u8]) -> Result<MoveReply, ClientError> {
        let mut buffer = self.node.lend(move_request(0, body, payload).len())?;
        let finish = |request| {
            let bytes = move_request(request, body, payload);
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Frame::new(buffer, bytes.len() as u32)
        };
        let (frame, link) = self.node.exchange(self.node.deadline(), finish).await.into_result()?;
        MoveReplyView::parse(&frame).map_err(|source| link.malformed(source))?;
        Ok(MoveReply { frame })
    }
}
