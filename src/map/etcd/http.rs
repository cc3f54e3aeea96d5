//! One question of HTTP/1.1 over a connection of its own, and the answer piece by piece.
//!
//! No task drives the connection: it is polled beside whatever waits for it, so that who drops an answer closes it.
#![forbid(unsafe_code)]

use super::error::{EtcdError, shortened};
use crate::transport::Endpoint;
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use tokio::net::TcpStream;

/// The longest answer that is read, in bytes: the longest map as base64, and room around it.
pub(super) const ANSWER_BYTES_MAX: usize = crate::map::TEXT_BYTES_MAX / 3 * 4 + (64 << 10);

/// What is read of the answer's head, and at a time of its body, at most.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What a refusal says, at most.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

type Socket = TokioIo<TcpStream>;

/// A connection, with one question on it.
struct Exchange {
    /// `None` once it has ended.
    connection: Option<http1::Connection<Socket, String>>,
    /// A connection without one ends early.
    _sender: http1::SendRequest<String>,
}

impl Exchange {
    /// Waits for something that the connection brings.
    async fn drive<T>(connection: &mut Option<http1::Connection<Socket, String>>, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Some(running) = connection
                && Pin::new(running).poll(context).is_ready()
            {
                // Why it ended, whoever waits for it is told.
                *connection = None;
            }
            work.as_mut().poll(context)
        })
        .await
    }
}

/// An answer with status 200 whose body is yet to come.
pub(super) struct Answer {
    exchange: Exchange,
    body: Incoming,
}

/// Reaches an endpoint.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<TcpStream, EtcdError> {
    let failed = |error| EtcdError::Connect(Arc::new(error));
    let Some(address) = endpoint.host_port() else { unreachable!("a TCP endpoint has host and port") };
    TcpStream::connect(address).await.map_err(failed)
}

/// Sends JSON to a path, and waits for the head of the answer.
pub(super) async fn post(
    socket: TcpStream,
    endpoint: &Endpoint,
    path: &str,
    json: String,
) -> Result<Answer, EtcdError> {
    let broken = |error: hyper::Error| EtcdError::broken(&error);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(broken)?;
    let mut connection = Some(connection);
    let request = Request::post(path).header(HOST, endpoint.address());
    let request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json").body(json);
    let request = request.map_err(|error| EtcdError::Broken(error.to_string()))?;
    let answer = Exchange::drive(&mut connection, sender.send_request(request)).await.map_err(broken)?;
    let (head, body) = answer.into_parts();
    let answer = Answer { exchange: Exchange { connection, _sender: sender }, body };
    if head.status == StatusCode::OK {
        return Ok(answer);
    }
    let said = answer.whole(REFUSAL_BYTES_MAX).await.unwrap_or_default();
    Err(EtcdError::Status { status: head.status.as_u16(), said: refusal(&said) })
}

/// What etcd says of why it refuses; of anybody else the text as it is.
fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let etcd = serde_json::from_slice(body).map(|Refusal { message }| message);
    shortened(&etcd.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned()))
}

impl Answer {
    /// The next piece of the body; `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, EtcdError> {
        loop {
            let body = &mut self.body;
            let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
            match Exchange::drive(&mut self.exchange.connection, frame).await {
                None => return Ok(None),
                Some(Err(error)) => return Err(EtcdError::broken(&error)),
                // Trailers say nothing.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, of at most `max` bytes.
    pub(super) async fn whole(mut self, max: usize) -> Result<Vec<u8>, EtcdError> {
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            take_piece(&mut whole, &piece, max)?;
        }
        Ok(whole)
    }

    /// Waits until `wanted` is true of a line, of at most [`ANSWER_BYTES_MAX`] bytes.
    pub(super) async fn line(mut self, wanted: impl Fn(&[u8]) -> Result<bool, EtcdError>) -> Result<(), EtcdError> {
        let mut read = Vec::new();
        while let Some(piece) = self.next().await? {
            let before = read.len();
            take_piece(&mut read, &piece, ANSWER_BYTES_MAX)?;
            let Some(end) = piece.iter().rposition(|byte| *byte == b'\n') else { continue };
            let lines = before + end;
            for line in read[..lines].split(|byte| *byte == b'\n') {
                if wanted(line)? {
                    return Ok(());
                }
            }
            read.drain(..=lines);
        }
        Err(EtcdError::Broken("the stream ended".to_owned()))
    }
}

fn take_piece(read: &mut Vec<u8>, piece: &[u8], max: usize) -> Result<(), EtcdError> {
    if piece.len() > max - read.len() {
        return Err(EtcdError::TooLong { max });
    }
    read.extend_from_slice(piece);
    Ok(())
}
