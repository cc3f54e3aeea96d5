//! Looking inside nodes: hot keys, and profiles.
#![forbid(unsafe_code)]

use super::link::Link;
use super::node::NodeClient;
use super::{Client, ClientError};
use crate::hot_keys::HotKeysTold;
use crate::limits::PROFILE_BYTES_MAX;
use crate::transport::{Endpoint, Frame};
use crate::wire::{Inspect, Inspected, WireError};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How often a node is asked whether its profile is over, behind the seconds that it was to last.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How long it may take to look functions up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a node does not tell what was asked.
#[derive(Debug, Clone, Error)]
pub enum InspectError {
    /// The node does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It was started without leave for it.
    #[error("{endpoint}: {text}")]
    Forbidden {
        /// The node.
        endpoint: Endpoint,
        /// Which flag gives leave, for people.
        text: String,
    },
    /// Another profile of it is under way.
    #[error("{endpoint}: {text}")]
    Busy {
        /// The node.
        endpoint: Endpoint,
        /// The same, for people.
        text: String,
    },
    /// The profile was given up: the connection that began it was lost.
    #[error("{endpoint}: {text}")]
    GivenUp {
        /// The node.
        endpoint: Endpoint,
        /// The same, for people.
        text: String,
    },
    /// It could not do it.
    #[error("{endpoint}: {text}")]
    Failed {
        /// The node.
        endpoint: Endpoint,
        /// Why, for people.
        text: String,
    },
}

impl Client {
    /// The hot keys of every node, in their order; it takes the right to admin, for keys are data.
    pub async fn hot_keys(&self) -> Vec<Result<HotKeysTold, InspectError>> {
        let mut told = Vec::new();
        for node in self.nodes() {
            told.push(node.hot_keys().await);
        }
        told
    }

    /// A profile of every node's process, of so many seconds, all at the same time: the bytes of a `.pb.gz`, which
    /// [`crate::profile::draw`] makes a flamegraph of. It takes the right to admin, and nodes that were started with
    /// leave for it. In their order, each with the first of its addresses.
    ///
    /// Dropping the future leaves the profiles to go on until their end, or that of the client's connections.
    pub async fn profiles(&self, seconds: u32) -> Vec<(Endpoint, Result<Vec<u8>, InspectError>)> {
        let nodes = self.nodes();
        let mut asking = JoinSet::new();
        for (place, node) in nodes.iter().cloned().enumerate() {
            asking.spawn(async move { (place, node.profile(seconds).await) });
        }
        let mut profiles = asking.join_all().await;
        profiles.sort_unstable_by_key(|(place, _)| *place);
        let with_endpoint = |(place, profile): (usize, _)| (nodes[place].endpoint().clone(), profile);
        profiles.into_iter().map(with_endpoint).collect()
    }
}

impl NodeClient {
    async fn hot_keys(&self) -> Result<HotKeysTold, InspectError> {
        let (frame, link) = self.inspect(Inspect::HotKeys).await?;
        let (_, bytes) = self.here(&frame, &link)?.ok_or_else(|| malformed(&link, "answer about hot keys"))?;
        serde_json::from_slice(bytes).map_err(|_| malformed(&link, "hot keys"))
    }

    async fn profile(&self, seconds: u32) -> Result<Vec<u8>, InspectError> {
        let (frame, link) = self.inspect(Inspect::ProfileBegin { seconds }).await?;
        if self.here(&frame, &link)?.is_some() {
            return Err(malformed(&link, "beginning of a profile"));
        }
        let mut profile = Vec::new();
        // Asked for all the while, so that a node does not take the connection for an idle one.
        let until = Instant::now() + Duration::from_secs(seconds.into()) + PATIENCE;
        loop {
            let (frame, link) = self.inspect(Inspect::ProfileTake { offset: profile.len() as u64 }).await?;
            let Some((bytes_total, bytes)) = self.here(&frame, &link)? else {
                if Instant::now() >= until {
                    let text = format!("no profile came within {PATIENCE:?} of its end");
                    return Err(InspectError::Failed { endpoint: self.endpoint().clone(), text });
                }
                sleep(ASK_EVERY).await;
                continue;
            };
            profile.extend_from_slice(bytes);
            debug_assert!(bytes_total <= PROFILE_BYTES_MAX, "the view checks it");
            match bytes_total.checked_sub(profile.len() as u64) {
                Some(0) => return Ok(profile),
                Some(_) if !bytes.is_empty() => {}
                _ => return Err(malformed(&link, "part of a profile")),
            }
        }
    }

    async fn inspect(&self, asked: Inspect) -> Result<(Frame, Arc<Link>), ClientError> {
        let mut buffer = self.lend(asked.frame(0).len())?;
        let finish = |request| {
            let bytes = asked.frame(request);
            buffer[..bytes.len()].copy_from_slice(&bytes);
            Frame::new(buffer, bytes.len() as u32)
        };
        self.exchange(self.deadline(), finish).await.into_result()
    }

    /// All bytes and these of them; `None` where there are none yet.
    fn here<'a>(&self, frame: &'a Frame, link: &Link) -> Result<Option<(u64, &'a [u8])>, InspectError> {
        let (endpoint, text) = (self.endpoint().clone(), str::to_owned);
        Err(match Inspected::parse(frame).map_err(|source| link.malformed(source))? {
            Inspected::Here { bytes_total, bytes } => return Ok(Some((bytes_total, bytes))),
            Inspected::NotYet => return Ok(None),
            Inspected::Forbidden(line) => InspectError::Forbidden { endpoint, text: text(line) },
            Inspected::Busy(line) => InspectError::Busy { endpoint, text: text(line) },
            Inspected::Nothing(line) => InspectError::GivenUp { endpoint, text: text(line) },
            Inspected::Failed(line) => InspectError::Failed { endpoint, text: text(line) },
        })
    }
}

fn malformed(link: &Link, what: &'static str) -> InspectError {
    link.malformed(WireError::BadBody { what }).into()
}
