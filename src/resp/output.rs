//! Replies that wait to be written, in a buffer that is lent while there are any.
//!
//! ```text
//!   buffer   | written | replies that wait          | room |
//!            0         begin                        end
//! ```
//!
//! Both protocols: what RESP3 has a type of its own for is told in RESP2 as clients of it expect.
#![forbid(unsafe_code)]

use crate::decimal::DecimalText;
use crate::wire::FrameBuffer;

/// Lends the memory that replies are built in.
pub trait Lend: std::fmt::Debug {
    /// Lent memory; it goes back when it is dropped.
    type Buffer: FrameBuffer + std::fmt::Debug;

    /// A buffer of at least `bytes` bytes; `None` where there is no memory for it.
    fn lend(&self, bytes: usize) -> Option<Self::Buffer>;
}

/// The version of the protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// RESP2.
    #[default]
    Two,
    /// RESP3, after `HELLO 3`.
    Three,
}

/// Bytes lent at least: most replies of a batch fit.
const BUFFER_BYTES_MIN: usize = 16 << 10;

/// Replies of one connection.
#[derive(Debug)]
pub struct Output<L: Lend> {
    lender: L,
    buffer: Option<L::Buffer>,
    begin: usize,
    end: usize,
    /// Whether a reply was lost for want of memory: nothing may be written any more.
    is_lost: bool,
}

impl<L: Lend> Output<L> {
    /// None yet.
    #[must_use]
    pub fn new(lender: L) -> Self {
        Self { lender, buffer: None, begin: 0, end: 0, is_lost: false }
    }

    /// The replies that wait.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.begin..self.end])
    }

    /// Bytes of them.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.end - self.begin
    }

    /// So many bytes of them are written.
    ///
    /// # Panics
    /// On more than there are.
    pub fn written(&mut self, bytes: usize) {
        assert!(bytes <= self.waiting_bytes(), "{bytes} bytes of {}", self.waiting_bytes());
        self.begin += bytes;
        if self.begin == self.end {
            self.clear();
        }
    }

    /// Whether there was no memory for a reply: what was asked for may have been done, and the client is not to be told
    /// anything behind it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Gives its memory back, and what is in it up.
    pub(super) fn clear(&mut self) {
        (self.buffer, self.begin, self.end) = (None, 0, 0);
    }

    /// Makes room for so many bytes; false where there is no memory for them.
    #[inline]
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        let room = self.buffer.as_ref().map_or(0, |buffer| buffer.len());
        self.end + bytes <= room || self.grow(bytes)
    }

    #[cold]
    fn grow(&mut self, bytes: usize) -> bool {
        let Some(buffer) = &mut self.buffer else {
            let lend = |bytes| self.lender.lend(bytes);
            self.buffer = lend(bytes.max(BUFFER_BYTES_MIN)).or_else(|| lend(bytes));
            return self.buffer.is_some();
        };
        if self.begin > 0 {
            buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let needed = self.end + bytes;
        needed <= buffer.len() || buffer.grow(needed.max(2 * buffer.len())) || buffer.grow(needed)
    }

    /// Appends bytes.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if !self.reserve(bytes.len()) {
            self.is_lost = true;
            return;
        }
        // Without one there is nothing to append.
        let Some(buffer) = &mut self.buffer else { return };
        buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Appends bytes and gives the index of the first, to be found by [`Output::since`].
    #[inline]
    pub(super) fn keep(&mut self, bytes: &[u8]) -> usize {
        let at = self.end - self.begin;
        self.put(bytes);
        at
    }

    /// What was kept at an index and after it.
    #[inline]
    pub(super) fn since(&self, at: usize) -> &[u8] {
        &self.waiting()[at..]
    }

    /// `+text`
    #[inline]
    pub(super) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// Appends an error, `-text`: its characters as bytes, for words of a client are Latin-1 to us.
    pub fn error(&mut self, text: &str) {
        let bytes: Vec<u8> = text.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect();
        self.line(b'-', &bytes);
    }

    /// `:number`
    #[inline]
    pub(super) fn integer(&mut self, number: i64) {
        self.line(b':', DecimalText::new(number).as_bytes());
    }

    /// `$length`, then the bytes.
    #[inline]
    pub(super) fn bulk(&mut self, bytes: &[u8]) {
        self.count(b'$', bytes.len());
        self.put(bytes);
        self.put(b"\r\n");
    }

    /// That there is nothing.
    #[inline]
    pub(super) fn null(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::Two => self.put(b"$-1\r\n"),
            Protocol::Three => self.put(b"_\r\n"),
        }
    }

    /// So many elements follow.
    pub(super) fn array(&mut self, elements: usize) {
        self.count(b'*', elements);
    }

    /// So many different elements follow.
    pub(super) fn set(&mut self, protocol: Protocol, elements: usize) {
        self.count(if protocol == Protocol::Three { b'~' } else { b'*' }, elements);
    }

    /// So many pairs follow.
    pub(super) fn map(&mut self, protocol: Protocol, pairs: usize) {
        match protocol {
            Protocol::Two => self.count(b'*', 2 * pairs),
            Protocol::Three => self.count(b'%', pairs),
        }
    }

    /// Text for people.
    pub(super) fn text(&mut self, protocol: Protocol, text: &str) {
        match protocol {
            Protocol::Two => self.bulk(text.as_bytes()),
            Protocol::Three => {
                self.count(b'=', text.len() + 4);
                self.put(b"txt:");
                self.put(text.as_bytes());
                self.put(b"\r\n");
            }
        }
    }

    #[inline]
    fn count(&mut self, sigil: u8, count: usize) {
        self.line(sigil, DecimalText::new(count as i64).as_bytes());
    }

    #[inline]
    fn line(&mut self, sigil: u8, text: &[u8]) {
        self.put(&[sigil]);
        self.put(text);
        self.put(b"\r\n");
    }
}
