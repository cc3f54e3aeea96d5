//! What clones of a frame share, kept for the next frame.
//!
//! ```text
//!   Frame::new  <--- a spare shell of this thread's, or one from the allocator
//!   last clone dropped: buffer ---> its lender, shell ---> spares of the thread that dropped it
//! ```
//!
//! So a thread that receives and answers frames, or builds and reads them, asks the allocator for nothing once as many
//! are in its hands as ever are. A thread that only drops what others made keeps a few, and frees the rest.
#![forbid(unsafe_code)]

use super::buffer::Buffer;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

/// Spares a thread keeps, at most: as many as a connection may have in flight. 104 bytes each, in no account.
const SPARES_MAX: usize = 64;

thread_local! {
    static SPARES: RefCell<Vec<Arc<Option<Buffer>>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer that clones of one frame share. The last one dropped gives it back.
#[derive(Clone)]
pub(super) struct Shell(Arc<Option<Buffer>>);

impl Shell {
    pub(super) fn new(buffer: Buffer) -> Self {
        // A thread that is ending has none.
        let spare = SPARES.try_with(|spares| spares.borrow_mut().pop()).ok().flatten();
        let Some(mut shell) = spare else { return Self(Arc::new(Some(buffer))) };
        *Arc::get_mut(&mut shell).expect("a spare has one owner") = Some(buffer);
        Self(shell)
    }
}

impl Deref for Shell {
    type Target = Buffer;

    #[inline]
    fn deref(&self) -> &Buffer {
        self.0.as_ref().as_ref().expect("a shell holds its buffer until it is dropped")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Two that are dropped on two threads at once may both find the other still there: then the allocator gets it.
        let Some(buffer) = Arc::get_mut(&mut self.0) else { return };
        // Its lender may drop frames of its own, so no spares are borrowed yet.
        drop(buffer.take());
        let _ending = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARES_MAX {
                spares.push(Arc::clone(&self.0));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Lender, Memory};
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts what it takes back.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Lender for Counting {
        fn take_back(&self, memory: Memory) {
            self.0.fetch_add(memory.len(), Ordering::Relaxed);
        }
    }

    fn shell(lender: &Arc<Counting>, bytes: usize) -> Shell {
        Shell::new(Buffer::new(Memory::Heap(vec![0; bytes].into()), Arc::clone(lender) as _))
    }

    fn spares() -> usize {
        SPARES.with(|spares| spares.borrow().len())
    }

    #[test]
    fn the_last_clone_gives_the_buffer_back_and_its_shell_serves_the_next() {
        let lender = Arc::new(Counting::default());
        let (first, second) = (shell(&lender, 3), shell(&lender, 4));
        let clone = first.clone();
        drop(first);
        assert_eq!((lender.0.load(Ordering::Relaxed), spares()), (0, 0));
        assert_eq!(clone.len(), 3);
        drop(clone);
        drop(second);
        assert_eq!((lender.0.load(Ordering::Relaxed), spares()), (7, 2));
        let again = shell(&lender, 5);
        assert_eq!((again.len(), spares()), (5, 1));
        drop(again);
        // A spare refers to no lender: a connection that is gone is gone.
        assert_eq!(Arc::strong_count(&lender), 1);
    }

    #[test]
    fn a_thread_keeps_no_more_spares_than_it_may() {
        let lender = Arc::new(Counting::default());
        let all: Vec<Shell> = (0..SPARES_MAX + 10).map(|_| shell(&lender, 1)).collect();
        drop(all);
        assert_eq!((lender.0.load(Ordering::Relaxed), spares()), (SPARES_MAX + 10, SPARES_MAX));
    }

    #[test]
    fn clones_dropped_on_other_threads_give_the_buffer_back_once() {
        let lender = Arc::new(Counting::default());
        for _ in 0..200 {
            let shell = shell(&lender, 1);
            let clone = shell.clone();
            std::thread::scope(|scope| {
                scope.spawn(move || drop(clone));
                drop(shell);
            });
        }
        assert_eq!(lender.0.load(Ordering::Relaxed), 200);
    }
}
