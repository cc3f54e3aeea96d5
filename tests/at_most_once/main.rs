//! At most once: what is sent again is executed once, whichever connection or node it comes back on.
#![forbid(unsafe_code)]

mod bounds;
mod doubt;
mod evicting;
mod frames;
mod model;
mod moves;
mod replay;
#[path = "../support/mod.rs"]
mod support;
mod table;
