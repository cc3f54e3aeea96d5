//! A move of slots, step by step.
#![forbid(unsafe_code)]

use freight::mover::{MoveError, Moving};

/// Takes one step of a move, the sixth and last of which may be taken again.
pub(crate) async fn take_step(moving: &mut Moving, step: usize) -> Result<(), MoveError> {
    match step {
        0 => moving.begin().await,
        1 => moving.copy().await,
        2 => moving.freeze().await,
        3 => moving.hand_over().await,
        4 => moving.finish().await,
        _ => moving.settle().await,
    }
}
