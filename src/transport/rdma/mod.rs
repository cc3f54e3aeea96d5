//! RDMA: InfiniBand and RoCE.

mod options;
mod place;
mod verbs;

pub use options::{PollMode, RdmaOptions};
pub use place::{describe, local_address};
pub use verbs::{Failure, VerbsError};
