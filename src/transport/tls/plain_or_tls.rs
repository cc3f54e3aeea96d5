//! A socket whose bytes are plain or TLS's, for what speaks in the words of Redis.
//!
//! ```text
//!   poll_ready --something is there--> memory is lent --> poll_read
//!   try_write, try_flush --taken in part--> socket().writable() --> again
//! ```
#![forbid(unsafe_code)]

use super::error::told;
use super::stream::{is_end, side};
use super::{Charge, TlsClient, TlsError, TlsNode};
use crate::transport::{ConnectionConfig, TransportError};
use socket2::SockRef;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// A socket, and the session over it where there is one.
#[derive(Debug)]
pub(crate) struct PlainOrTls {
    socket: Shared,
    session: Option<Box<TlsStream<Shared>>>,
    _charge: Option<Arc<Charge>>,
}

impl PlainOrTls {
    /// Bytes as they are.
    pub(crate) fn plain(socket: TcpStream) -> Self {
        Self { socket: Shared(Arc::new(socket)), session: None, _charge: None }
    }

    /// As a node, after the handshake. Dropping the future drops the connection.
    pub(crate) async fn accept(
        socket: TcpStream,
        node: &TlsNode,
        config: &ConnectionConfig,
    ) -> Result<Self, TransportError> {
        let charge = Charge::take(config).map_err(|source| TransportError::Accept { source })?;
        let socket = Shared(Arc::new(socket));
        let session = node.accept_redis(socket.clone()).await?;
        Ok(Self { socket, session: Some(Box::new(session)), _charge: Some(charge) })
    }

    /// As a client, likewise.
    pub(crate) async fn connect(socket: TcpStream, host: &str, client: &TlsClient) -> Result<Self, TlsError> {
        let socket = Shared(Arc::new(socket));
        let session = client.connect_redis(host, socket.clone()).await?;
        Ok(Self { socket, session: Some(Box::new(session)), _charge: None })
    }

    /// What reads, and the socket, to wait for meanwhile.
    pub(crate) fn split(&mut self) -> (Reading<'_>, &TcpStream) {
        let socket = &*self.socket.0;
        (Reading { socket, session: self.session.as_deref_mut() }, socket)
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket.0
    }

    /// Whether there is something that was written and that the socket has not taken.
    pub(crate) fn is_behind(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.get_ref().1.wants_write())
    }

    /// Writes what is taken at once; an error of kind `WouldBlock` where nothing is.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.socket.0.try_write(bytes),
            Some(_) => now(Pin::new(self).poll_write(&mut unheard(), bytes)),
        }
    }

    /// Sends what was written, likewise.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        match &mut self.session {
            None => Ok(()),
            Some(_) => now(Pin::new(self).poll_flush(&mut unheard())),
        }
    }
}

/// Nobody is woken: whoever tries waits for the socket then.
fn unheard() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn now<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(done) => done,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The reading side.
#[derive(Debug)]
pub(crate) struct Reading<'a> {
    socket: &'a TcpStream,
    session: Option<&'a mut TlsStream<Shared>>,
}

impl Reading<'_> {
    /// Waits until there is something to read, or its end, before there is memory for it.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(session) = &mut self.session else { return self.socket.poll_read_ready(context) };
        let side = side(session);
        let filled = ready!(Pin::new(&mut **session).poll_fill_buf(context)).map(drop);
        Poll::Ready(ended(filled, side))
    }

    /// Reads what is there.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(session) = &mut self.session else { return poll_read(self.socket, context, room) };
        let side = side(session);
        Pin::new(&mut **session).poll_read(context, room).map(|read| ended(read, side))
    }
}

/// The end of the socket is an end too.
fn ended(read: io::Result<()>, side: super::error::Side) -> io::Result<()> {
    match read {
        Err(error) if is_end(&error) => Ok(()),
        read => read.map_err(|error| told(error, side)),
    }
}

impl AsyncRead for PlainOrTls {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().split().0.poll_read(context, room)
    }
}

impl AsyncWrite for PlainOrTls {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(session) = &mut self.session else { return Pin::new(&mut self.socket).poll_write(context, bytes) };
        let side = side(session);
        Pin::new(&mut **session).poll_write(context, bytes).map_err(|error| told(error, side))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(session) = &mut self.session else { return Poll::Ready(Ok(())) };
        let side = side(session);
        Pin::new(&mut **session).poll_flush(context).map_err(|error| told(error, side))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.session {
            None => Pin::new(&mut self.socket).poll_shutdown(context),
            Some(session) => Pin::new(&mut **session).poll_shutdown(context),
        }
    }
}

/// A socket that a session reads and writes, while others wait for it.
#[derive(Debug, Clone)]
struct Shared(Arc<TcpStream>);

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        poll_read(&self.0, context, room)
    }
}

fn poll_read(socket: &TcpStream, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_read_ready(context))?;
        match socket.try_read(room.initialize_unfilled()) {
            Ok(bytes) => {
                room.advance(bytes);
                return Poll::Ready(Ok(()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}
