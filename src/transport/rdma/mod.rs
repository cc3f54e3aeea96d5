//! RDMA: frames by the network card, on InfiniBand and RoCE.
//!
//! ```text
//!   control connection (TCP, same host and port): greetings both ways, then silent until a peer goes
//!
//!   frame <= 8 KiB    built in registered memory --SEND--> a posted receive, read in place
//!   larger            built in registered memory, announced by SEND; the receiver READs it into memory of its own
//!                     and says so with its next message
//! ```
//!
//! Two-sided: a peer can't touch a receive once its completion is taken, so what was validated stays as it was.
//! Architecture invariant: nobody ever gets to write into our memory; what the peer may read is its own connection's.
//! `docs/RDMA.md` has the argument, the costs, and how to try it.

mod connection;
mod counts;
mod error;
mod events;
mod greeting;
mod inbound;
mod keeper;
mod lenders;
mod listener;
mod message;
mod options;
mod outbound;
mod place;
mod pool;
mod queue;
mod reads;
mod receiver;
mod sender;
mod shared;
mod slab;
mod spin;
#[cfg(test)]
mod tests;
mod verbs;
mod waiter;
mod work;

pub use connection::RdmaConnection;
pub use counts::Counts;
pub use error::RdmaError;
pub use listener::{Rdma, RdmaIncoming, RdmaListener};
pub use options::{PollMode, RdmaOptions};
pub use place::{describe, local_address};
pub use receiver::RdmaReceiver;
pub use sender::RdmaSender;
pub use slab::Span;
pub use verbs::{Failure, VerbsError};
