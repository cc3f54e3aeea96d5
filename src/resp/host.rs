//! What a session asks of the node around it.
#![forbid(unsafe_code)]

use super::local::Greeting;
use crate::metrics::NodeStats;
use crate::op::{Batch, Outcome, Outcomes, Time};

/// A node, as its Redis clients see it.
pub trait Host {
    /// Executes a batch whose time is `now`, as a store does: what is another node's is not executed.
    fn execute(&mut self, batch: &impl Commands, now: Time, outcomes: &mut impl Takes);

    /// What another node answered to an operation of the batch that [`super::Until::Foreign`] has left unfinished, by
    /// its place in it; `None` where it was not asked, or left the answer out.
    fn forwarded(&self, index: u32) -> Option<Outcome<'_>>;

    /// The time.
    fn now(&self) -> Time;

    /// Number of records.
    fn records(&self) -> u64;

    /// Shows the keys of a bounded part of the store, and gives the cursor of the next part, 0 behind the last. A key
    /// that is there from the call with cursor 0 until one gives 0 is shown at least once.
    fn scan(&mut self, cursor: u64, visit: &mut dyn FnMut(&[u8])) -> u64;

    /// Removes the records of a bounded part of the store, likewise.
    fn flush(&mut self, cursor: u64) -> u64;

    /// What the node says of itself.
    fn facts(&self) -> NodeFacts;

    /// Everybody who is connected.
    fn clients(&self) -> Vec<ClientLine>;

    /// What is known of this client has changed.
    fn client_changed(&mut self, client: &ClientFacts);

    /// Whether somebody of this name, who knows this word, may use the node; `None` for a name that was not told.
    fn authenticate(&mut self, name: Option<&[u8]>, password: &[u8]) -> Admission;
}

/// A batch of operations that commands are.
pub trait Commands: Batch {
    /// The name of each operation's command.
    fn names(&self) -> impl Iterator<Item = &'static str>;
}

/// Outcomes some of which are left: those come again, when there is room for their replies.
pub trait Takes: Outcomes {
    /// Whether the outcome that was set last was taken.
    fn has_taken(&self) -> bool;
}

/// A password that a client gave, and for whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Asked {
    /// The name, where one was told.
    pub name: Option<Vec<u8>>,
    /// The password.
    pub password: Vec<u8>,
    /// What HELLO asked for besides.
    pub(super) greeting: Option<Greeting>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

/// What a node says to a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Come in.
    Granted,
    /// No.
    Denied(Denied),
    /// It takes a while: the session is told with `Session::verified`.
    Later,
}

/// Why somebody may not use a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Nobody has to say a password, so that whoever says one is mistaken.
    NoPasswordNeeded,
    /// Name or password are wrong.
    WrongPassword,
    /// Too many passwords wait to be checked.
    Busy,
    /// The user is connected as often as it may be.
    TooManyConnections,
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Its statistics.
    pub stats: NodeStats,
    /// Its process.
    pub process: u32,
    /// The port that Redis clients connect to, 0 where there is none.
    pub port: u16,
    /// Connections served at a time.
    pub connections_max: usize,
    /// Whether it works with a map of slots.
    pub is_mapped: bool,
}

/// A client, as others see it.
#[derive(Debug, Clone)]
pub struct ClientFacts {
    /// Its number, never used again.
    pub id: u64,
    /// Where it is.
    pub address: String,
    /// Where it connected to.
    pub local_address: String,
    /// Who it is to the node.
    pub user: String,
    /// The name that it gave itself.
    pub name: String,
    /// The library that it uses, and its version, as far as it said so.
    pub library: (String, String),
    /// The version of the protocol that it speaks.
    pub protocol: super::Protocol,
}

impl ClientFacts {
    /// Who somebody is that did not say so, as in Redis.
    pub(super) const STRANGER: &str = "default";
}

impl Default for ClientFacts {
    fn default() -> Self {
        Self {
            id: 0,
            address: String::new(),
            local_address: String::new(),
            user: Self::STRANGER.to_owned(),
            name: String::new(),
            library: Default::default(),
            protocol: super::Protocol::default(),
        }
    }
}

/// A client that is connected.
#[derive(Debug, Clone)]
pub struct ClientLine {
    /// What is known of it.
    pub facts: ClientFacts,
    /// For how long, in seconds.
    pub age_seconds: u64,
}
