//! At most once: what became of each change of a session, so that one that is asked again is not executed again.
//! After RIFL (Lee et al., SOSP '15): its client identifiers are sessions here, its completion records lie beside the
//! shards instead of in a log, and an operation is known by (session, sequence, first index in its frame).
//!
//! ```text
//!   frame with changes --> session, locked:  sequence below its floor  --> Unknown, not executed
//!                                            outcomes recorded         --> those again, the rest executed
//!                                            neither                   --> executed, and recorded under the same lock
//!   "acknowledged up to" in a frame, memory that runs out: records go, the floor rises
//! ```
//!
//! Recorded is the outcome of each change, and what a get saw before it, that would see what comes behind it now
//! (`replay.rs`). A session's frames with changes are executed one after the other, so that a duplicate that
//! comes meanwhile waits, and who has locked each session once after slots were taken from the store has seen all that
//! was ever recorded of them.
//!
//! Sessions that no connection used last make room for others, the one that has been idle longest first, and leave
//! their floor behind as a *mark*. Where marks were lost too, a session that nobody knows may have been known: a frame
//! of it is not executed that says it was sent before, or that may be on its way since before the session was left.
//!
//! Architecture invariant: nothing here knows a socket, a clock or randomness.
#![forbid(unsafe_code)]

mod account;
mod carrier;
mod record;
mod records;
mod replay;
mod rest;
mod session;
mod table;
mod transfer;

pub use carrier::{Carrier, Identity, NoMemory};
pub use table::{Completions, CompletionsConfig};
pub use transfer::{Export, ImportError};
