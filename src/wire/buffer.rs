//! The buffer a builder writes into: lent by a transport, or a plain vector.
#![forbid(unsafe_code)]

use std::ops::DerefMut;

/// Bytes to build one frame in. All of them are initialised; a builder overwrites what it needs.
pub trait FrameBuffer: DerefMut<Target = [u8]> {
    /// Grows to at least `bytes` bytes and keeps what was written. False, and nothing changed, where the lender
    /// has no more to lend.
    #[must_use]
    fn grow(&mut self, bytes: usize) -> bool;
}

impl FrameBuffer for Vec<u8> {
    fn grow(&mut self, bytes: usize) -> bool {
        if self.len() < bytes {
            self.resize(bytes, 0);
        }
        true
    }
}
