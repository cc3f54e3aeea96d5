//! Answers to whoever looks inside the node.
#![forbid(unsafe_code)]

use super::node::Shared;
use super::profiler::Begun;
use crate::hot_keys::{HotKeys, HotKeysTold};
use crate::session::SessionError;
use crate::wire::{Header, Inspect, Inspected};
use std::time::Duration;

/// Answers a question; `begun` is the profile of the connection that asks.
pub(super) fn answer<'a>(
    frame: &[u8],
    shared: &'a Shared,
    begun: &mut Option<Begun<'a>>,
) -> Result<Vec<u8>, SessionError> {
    let request = Header::split(frame)?.0.request.get();
    Ok(match Inspect::parse(frame)? {
        Inspect::HotKeys => {
            let told = shared.hot_keys.as_deref().map_or(HotKeysTold::NONE, HotKeys::told);
            let json = serde_json::to_vec(&told).expect("it has nothing that JSON has not");
            Inspected::Here { bytes_total: json.len() as u64, bytes: &json }.frame(request)
        }
        Inspect::ProfileBegin { seconds } => {
            // What it had is given up first: it may be what is in the way.
            *begun = None;
            match shared.profiler.begin(Duration::from_secs(seconds.into())) {
                Ok(profile) => {
                    *begun = Some(profile);
                    Inspected::NotYet.frame(request)
                }
                Err(why) => why.show(|inspected| inspected.frame(request)),
            }
        }
        Inspect::ProfileTake { offset } => match begun {
            Some(profile) => profile.take(offset, |inspected| inspected.frame(request)),
            None => Inspected::Nothing("this connection began no profile").frame(request),
        },
    })
}
