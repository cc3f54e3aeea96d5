//! A connection's turn: behind so much work the others of its thread have theirs.
//!
//! Over a transport whose next frame is always here, and always sent, nothing waits and lets them in.
#![forbid(unsafe_code)]

use tokio::task::yield_now;

/// Operations behind which a turn ends: few enough that nobody waits for many such frames, and so many that a turn
/// costs nothing beside them.
const OPS_MAX: u32 = 4_096;

/// So many bytes of a frame count as an operation, and so does a frame: a turn is 1 MiB of frames at most, so that the
/// first of several long ones need not wait for the answer to the last.
const OP_BYTES: u32 = 256;

const _: () = assert!(OPS_MAX * OP_BYTES == 1 << 20);

/// What a connection did since the others had their turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    ops: u32,
}

impl Turn {
    /// Counts a frame of any kind.
    pub(super) fn count_frame(&mut self, frame_bytes: u32) {
        self.count_ops(1 + frame_bytes / OP_BYTES);
    }

    /// Counts operations that were executed.
    pub(super) fn count_ops(&mut self, ops: u32) {
        self.ops = self.ops.saturating_add(ops);
    }

    /// Whether it is others' turn.
    pub(super) fn is_over(&self) -> bool {
        self.ops > OPS_MAX
    }

    /// Lets the others have theirs, if it is over.
    pub(super) async fn give(&mut self) {
        if self.is_over() {
            yield_now().await;
            self.ops = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// Frames of so many bytes and operations until the others have their turn; the connection offers it behind each.
    fn frames_a_turn(frame_bytes: u32, ops: u32) -> u32 {
        let mut turn = Turn::default();
        let mut cx = Context::from_waker(Waker::noop());
        for frames in 1..10_000 {
            turn.count_frame(frame_bytes);
            turn.count_ops(ops);
            if pin!(turn.give()).poll(&mut cx).is_pending() {
                return frames;
            }
        }
        panic!("frames of {frame_bytes} bytes keep the thread");
    }

    #[test]
    fn whatever_its_frames_are_a_connection_lets_the_others_in() {
        assert_eq!(frames_a_turn(140_000, 10_000), 1);
        assert_eq!(frames_a_turn(1 << 20, 16), 1);
        assert_eq!(frames_a_turn(64 << 10, 0), 16);
        assert_eq!(frames_a_turn(80, 1), 2_049);
    }

    #[test]
    fn a_turn_that_was_given_begins_anew() {
        let mut turn = Turn::default();
        turn.count_ops(OPS_MAX + 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(turn.give());
        turn.count_ops(OPS_MAX);
        assert!(!turn.is_over());
        turn.count_ops(u32::MAX);
        assert!(turn.is_over(), "a count that is full stays so");
    }
}
