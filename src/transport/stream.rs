//! Frames over a byte stream, for any transport that is one.
//!
//! ```text
//!   stream --read--> staging 16 KiB --small frames, first piece--> buffer --+--> Frame
//!      \------------------read, the rest of a large frame----------> buffer-/
//! ```
//!
//! Small frames share reads; of a large frame all but the first piece is read where it stays, and nothing of the
//! frame behind it.
#![forbid(unsafe_code)]

use super::allowance::Allowance;
use super::pace::Pace;
use super::share::Share;
use super::{Buffer, ConnectionConfig, Frame, FrameReceiver, FrameSender, IDLE_BYTES_MAX, Lender, TransportError};
use crate::wire::{FrameBuffer, HEADER_BYTES, frame_bytes};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at a time while no frame is known: enough for about a hundred frames of one operation.
const STAGING_BYTES: usize = IDLE_BYTES_MAX;

/// Bytes lent at once for a frame of an untrusted peer; more only as they arrive.
const UNTRUSTED_BYTES: usize = 256 << 10;

/// Frames that one write takes, at most.
const WRITTEN_AT_ONCE: usize = 16;

/// Lends a connection its staging buffer.
///
/// # Errors
/// The memory budget has no room for another connection.
pub(super) fn staging(config: &ConnectionConfig) -> io::Result<Buffer> {
    let lent = Arc::clone(&config.pool).lend_for_long(STAGING_BYTES);
    lent.ok_or_else(|| io::Error::new(io::ErrorKind::OutOfMemory, "the memory cap has no room for a connection"))
}

/// Writes frames to a stream.
#[derive(Debug)]
pub struct StreamSender<W> {
    writer: W,
    config: ConnectionConfig,
    pace: Pace,
}

impl<W> StreamSender<W> {
    /// Frames over `writer`.
    pub(super) fn new(writer: W, config: &ConnectionConfig) -> Self {
        Self { writer, config: config.clone(), pace: Pace::new(config.send_wait) }
    }
}

impl<W: AsyncWrite + Unpin> StreamSender<W> {
    /// Writes frames, several small ones at a time.
    async fn write(&mut self, mut frames: &[Frame]) -> Result<(), TransportError> {
        self.pace.begin();
        // Bytes of the first frame that are written.
        let mut taken = 0;
        while let Some(first) = frames.first() {
            let written = async {
                let count = poll_fn(|cx| poll_write_some(&mut self.writer, cx, frames, taken)).await?;
                // What is encrypted may wait in a buffer; a socket has none, and this is nothing.
                self.writer.flush().await?;
                Ok(count)
            };
            match self.pace.step(written).await {
                None => {
                    let (taken, frame_bytes, wait) = (taken as u32, first.frame_bytes(), self.config.send_wait);
                    return Err(TransportError::NotTaken { taken, frame_bytes, wait });
                }
                Some(Err(source)) => return Err(TransportError::Lost { source }),
                Some(Ok(0)) => return Err(TransportError::Lost { source: io::ErrorKind::WriteZero.into() }),
                Some(Ok(count)) => taken += count,
            }
            while let Some(first) = frames.first().filter(|first| taken >= first.len()) {
                taken -= first.len();
                frames = &frames[1..];
                self.pace.begin();
            }
        }
        Ok(())
    }
}

/// Writes of frames, of the first of which so many bytes are `taken`, what the stream takes at once.
fn poll_write_some<W: AsyncWrite + Unpin>(
    writer: &mut W,
    cx: &mut Context<'_>,
    frames: &[Frame],
    taken: usize,
) -> Poll<io::Result<usize>> {
    let writer = Pin::new(writer);
    let [first, behind @ ..] = frames else { return Poll::Ready(Ok(0)) };
    if behind.is_empty() {
        // The kernel is through with it sooner than with a list.
        return writer.poll_write(cx, &first[taken..]);
    }
    let mut slices = [IoSlice::new(&[]); WRITTEN_AT_ONCE];
    let bytes = std::iter::once(&first[taken..]).chain(behind.iter().map(|frame| &frame[..]));
    slices.iter_mut().zip(bytes).for_each(|(slice, bytes)| *slice = IoSlice::new(bytes));
    writer.poll_write_vectored(cx, &slices[..frames.len().min(WRITTEN_AT_ONCE)])
}

impl<W: AsyncWrite + Unpin + Send + 'static> FrameSender for StreamSender<W> {
    fn lender(&self) -> Arc<dyn Lender> {
        Arc::clone(&self.config.pool) as _
    }

    async fn send(&mut self, frame: Frame) -> Result<(), TransportError> {
        self.write(&[frame]).await
    }

    async fn send_all(&mut self, frames: &mut Vec<Frame>) -> Result<(), TransportError> {
        let sent = self.write(frames).await;
        frames.clear();
        sent
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        self.writer.shutdown().await.map_err(|source| TransportError::Lost { source })
    }
}

/// Reads frames from a stream.
#[derive(Debug)]
pub struct StreamReceiver<R> {
    reader: R,
    config: ConnectionConfig,
    staging: Buffer,
    /// What is staged and not yet taken: `staging[begin..end]`.
    begin: usize,
    end: usize,
    partial: Option<Partial>,
    pace: Pace,
    /// Of the last frame too, until the next one is asked for.
    share: Share,
    /// Tells the processor of this machine that the last bytes came from.
    sender_cpu: fn(&R) -> Option<usize>,
}

/// What has become of the frame that comes next.
enum Begun {
    /// It is begun.
    Yes,
    /// Not all of its header is there.
    No,
    /// Too much else is on its way.
    Waits,
}

/// A frame of which not all bytes are there.
#[derive(Debug)]
struct Partial {
    buffer: Buffer,
    filled: usize,
    frame_bytes: u32,
    /// How many of them are kept, from the first on: all, or the header alone where there is no memory for more.
    kept: u32,
}

impl<R> StreamReceiver<R> {
    /// Frames from `reader`, through a staging buffer that [`staging`] lent.
    pub(super) fn new(reader: R, staging: Buffer, config: &ConnectionConfig) -> Self {
        let pace = Pace::new(config.frame_wait);
        let (config, partial) = (config.clone(), None);
        let (share, sender_cpu) = (Share::default(), |_: &R| None);
        Self { reader, config, staging, begin: 0, end: 0, partial, pace, share, sender_cpu }
    }

    /// The same, of a stream that can tell where on this machine its bytes come from.
    pub(super) fn with_sender_cpu(self, sender_cpu: fn(&R) -> Option<usize>) -> Self {
        Self { sender_cpu, ..self }
    }

    /// Begins the next frame from what is staged.
    fn begin_frame(&mut self) -> Result<Begun, TransportError> {
        let staged = &self.staging[self.begin..self.end];
        let Some(frame_bytes) = frame_bytes(staged, self.config.frame_bytes_max)? else { return Ok(Begun::No) };
        if !self.share.begin(frame_bytes) {
            return Ok(Begun::Waits);
        }
        let whole = frame_bytes as usize;
        let lent = if self.config.peer_trusted { whole } else { whole.min(UNTRUSTED_BYTES) };
        let lend = |bytes| Arc::clone(&self.config.pool).lend(bytes);
        let header_alone = || lend(HEADER_BYTES as usize).filter(|_| self.config.peer_trusted);
        let all = lend(lent).map(|buffer| (buffer, frame_bytes));
        let lent = all.or_else(|| Some((header_alone()?, HEADER_BYTES)));
        let (mut buffer, kept) = lent.ok_or(TransportError::OutOfMemory { frame_bytes })?;
        let filled = staged.len().min(whole);
        let copied = filled.min(kept as usize);
        buffer[..copied].copy_from_slice(&staged[..copied]);
        self.begin += filled;
        self.partial = Some(Partial { buffer, filled, frame_bytes, kept });
        Ok(Begun::Yes)
    }

    /// The frame at hand, if all of it is there.
    fn whole(&mut self) -> Option<Frame> {
        let partial = self.partial.take_if(|partial| partial.filled == partial.frame_bytes as usize)?;
        self.pace.begin();
        Some(Frame::new(partial.buffer, partial.kept))
    }

    /// Moves what is staged to the front.
    fn compact(&mut self) {
        self.staging.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
    }
}

impl Partial {
    /// Where to read more of the frame: over other bytes of it, where they are not kept.
    fn room<'a>(&'a mut self, scratch: &'a mut [u8]) -> Result<&'a mut [u8], TransportError> {
        let whole = self.frame_bytes as usize;
        if self.kept < self.frame_bytes {
            let end = scratch.len().min(whole - self.filled);
            return Ok(&mut scratch[..end]);
        }
        if self.filled == self.buffer.len() {
            let bytes = (self.filled * 2).min(whole);
            if !self.buffer.grow(bytes) {
                return Err(TransportError::OutOfMemory { frame_bytes: self.frame_bytes });
            }
        }
        let end = self.buffer.len().min(whole);
        Ok(&mut self.buffer[self.filled..end])
    }
}

impl<R: AsyncRead + Unpin + Send + 'static> FrameReceiver for StreamReceiver<R> {
    async fn receive(&mut self) -> Result<Option<Frame>, TransportError> {
        if self.partial.is_none() {
            self.share.end();
        }
        loop {
            if let Some(frame) = self.whole() {
                return Ok(Some(frame));
            }
            let (got, needed, read) = if let Some(partial) = &mut self.partial {
                let (got, needed) = (partial.filled as u32, partial.frame_bytes);
                (got, needed, self.pace.step(self.reader.read(partial.room(&mut self.staging)?)).await)
            } else {
                match self.begin_frame()? {
                    Begun::Yes => continue,
                    Begun::No => {}
                    Begun::Waits => {
                        self.share.wait().await;
                        // It was not the peer that took the time.
                        self.pace.begin();
                        continue;
                    }
                }
                self.compact();
                let read = self.reader.read(&mut self.staging[self.end..STAGING_BYTES]);
                // Between two frames a peer may be silent for as long as it likes.
                let read = if self.end == 0 { Some(read.await) } else { self.pace.step(read).await };
                (self.end as u32, HEADER_BYTES, read)
            };
            let count = match read {
                None => return Err(TransportError::Stalled { got, needed, wait: self.config.frame_wait }),
                Some(Err(source)) => return Err(TransportError::Lost { source }),
                Some(Ok(0)) if got == 0 => return Ok(None),
                Some(Ok(0)) => return Err(TransportError::CutShort { got, needed }),
                Some(Ok(count)) => count,
            };
            match &mut self.partial {
                Some(partial) => partial.filled += count,
                None => self.end += count,
            }
        }
    }

    fn receive_now(&mut self) -> Result<Option<Frame>, TransportError> {
        if self.partial.is_none() {
            self.share.end();
            if !matches!(self.begin_frame()?, Begun::Yes) {
                self.share.step_back();
                return Ok(None);
            }
        }
        Ok(self.whole())
    }

    fn set_frame_bytes_max(&mut self, frame_bytes_max: u32) {
        self.config.frame_bytes_max = frame_bytes_max;
    }

    fn set_allowance(&mut self, allowance: Arc<Allowance>) {
        self.share.set(allowance);
    }

    fn sender_cpu(&self) -> Option<usize> {
        (self.sender_cpu)(&self.reader)
    }

    fn is_midway(&self) -> bool {
        self.partial.is_some() || self.begin < self.end
    }

    async fn discard(&mut self) {
        self.partial = None;
        self.share.leave();
        while self.reader.read(&mut self.staging).await.is_ok_and(|count| count > 0) {}
    }
}
