//! What a connection has cost so far, in requests, doorbells and events.
#![forbid(unsafe_code)]

/// What was posted and what it cost, since the connection was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// SENDs posted.
    pub sends: u64,
    /// Doorbells rung for SENDs and READs.
    pub send_posts: u64,
    /// SENDs and READs that were posted signalled.
    pub signalled: u64,
    /// Receives posted.
    pub receives: u64,
    /// Doorbells rung for receives.
    pub receive_posts: u64,
    /// READs posted.
    pub reads: u64,
    /// Messages that carry nothing but counts.
    pub updates: u64,
    /// Events taken from the completion channel.
    pub events: u64,
}
