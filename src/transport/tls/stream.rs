//! The bytes of an open session: two halves that know what ended it.
#![forbid(unsafe_code)]

use super::Charge;
use super::error::{Side, told};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{self as tokio_io, AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Bytes that both ends of this session have, and nobody else: `tls-exporter` (RFC 9266).
pub(super) fn binding_of<IO>(stream: &TlsStream<IO>) -> Option<[u8; 32]> {
    const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
    let exported = match stream {
        TlsStream::Client(stream) => stream.get_ref().1.export_keying_material([0; 32], LABEL, Some(b"")),
        TlsStream::Server(stream) => stream.get_ref().1.export_keying_material([0; 32], LABEL, Some(b"")),
    };
    exported.ok()
}

pub(super) fn side<IO>(stream: &TlsStream<IO>) -> Side {
    match stream {
        TlsStream::Client(_) => Side::Client,
        TlsStream::Server(_) => Side::Node,
    }
}

/// Both halves of a session.
pub(super) fn split(stream: TlsStream<TcpStream>, charge: &Arc<Charge>) -> (Reader, Writer) {
    let side = side(&stream);
    let (reader, writer) = tokio_io::split(stream);
    let reader = Reader { half: reader, side, _charge: Arc::clone(charge) };
    (reader, Writer { half: writer, side, _charge: Arc::clone(charge) })
}

/// What arrives.
#[derive(Debug)]
pub struct Reader {
    half: ReadHalf<TlsStream<TcpStream>>,
    side: Side,
    _charge: Arc<Charge>,
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { half, side, .. } = self.get_mut();
        Poll::Ready(match ready!(Pin::new(half).poll_read(context, room)) {
            Err(error) if is_end(&error) => Ok(()),
            read => read.map_err(|error| told(error, *side)),
        })
    }
}

/// Whether the TCP connection ended, without TLS's own end.
pub(super) fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// What is sent.
#[derive(Debug)]
pub struct Writer {
    half: WriteHalf<TlsStream<TcpStream>>,
    side: Side,
    _charge: Arc<Charge>,
}

impl Writer {
    fn told<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        polled.map_err(|error| told(error, self.side))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.half).poll_write(context, bytes);
        self.told(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.half).poll_write_vectored(context, slices);
        self.told(polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.half).poll_flush(context);
        self.told(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.half).poll_shutdown(context);
        self.told(polled)
    }
}
