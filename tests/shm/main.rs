//! What shared memory adds to the facts of every transport: peers that share it and lie.
#![forbid(unsafe_code)]

mod dishonest_node;
mod hostile;
mod peer;
mod sockets;
