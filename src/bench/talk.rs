//! A connection to each of several servers that speak the protocol of Redis: a pipeline there, its replies back.
//!
//! ```text
//!   lane --get, put--> requests of each server --written--> server
//!        <--outcomes-- spans of what arrived  <---read-----    both at once: neither end waits for the other's buffer
//! ```
//!
//! Keys are dealt to servers as a client deals them by a list: 16,384 slots, evenly, in the order of the list. A
//! connection that was lost is made again by the next pipeline.
#![forbid(unsafe_code)]

use super::commands::{self, Malformed, Reply};
use crate::auth::Credentials;
use crate::client::ClientConfig;
use crate::hash;
use crate::map::even_owner;
use crate::op::Outcome;
use crate::transport::RedisEndpoint;
use crate::transport::tls::{PlainOrTls, TlsClient, TlsError};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout_at};

/// Bytes read at once, where there is room for so many.
const READ_BYTES: usize = 64 << 10;

/// Why a pipeline has no replies.
#[derive(Debug, Error)]
pub enum TalkError {
    /// A server cannot be reached.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// The server.
        endpoint: RedisEndpoint,
        /// The system's reason.
        source: io::Error,
    },
    /// The connection to a server was lost.
    #[error("connection to {endpoint} lost: {source}")]
    Lost {
        /// The server.
        endpoint: RedisEndpoint,
        /// The system's reason.
        source: io::Error,
    },
    /// A server has not answered in time.
    #[error("no answer in time")]
    Deadline,
    /// A server does not let this user in.
    #[error("{endpoint} does not let the benchmark in: {text}")]
    Denied {
        /// The server.
        endpoint: RedisEndpoint,
        /// What it says.
        text: String,
    },
    /// A server answered with what is no reply to what it was asked.
    #[error("{endpoint} sent what is no reply to a GET, a SET, an INFO or an AUTH")]
    Malformed {
        /// The server.
        endpoint: RedisEndpoint,
    },
}

impl TalkError {
    /// The report's name of it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "Connect",
            Self::Lost { .. } => "Lost",
            Self::Deadline => "Deadline",
            Self::Denied { .. } => "Denied",
            Self::Malformed { .. } => "Malformed",
        }
    }
}

/// Whoever talks to the same servers over the same connections, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Talker(Arc<Mutex<Talk>>);

impl Talker {
    /// Connects to every server, as somebody where there are credentials.
    pub(super) async fn connect(
        endpoints: impl Iterator<Item = RedisEndpoint>,
        tls: Option<&TlsClient>,
        credentials: Option<Credentials>,
    ) -> Result<Self, TalkError> {
        let speakers = endpoints.map(|endpoint| Speaker::new(endpoint, tls.cloned())).collect();
        let mut talk = Talk { speakers, dealt: Vec::new(), credentials };
        timeout_at(deadline(), talk.reconnect()).await.unwrap_or(Err(TalkError::Deadline))?;
        Ok(Self(Arc::new(Mutex::new(talk))))
    }

    /// Has the connections for itself.
    pub(super) async fn talk(&self) -> MutexGuard<'_, Talk> {
        self.0.lock().await
    }
}

/// One pipeline at a time to each server.
#[derive(Debug)]
pub(super) struct Talk {
    speakers: Vec<Speaker>,
    /// Whom each operation was dealt to.
    dealt: Vec<u16>,
    credentials: Option<Credentials>,
}

/// When what begins now has to be over.
fn deadline() -> Instant {
    Instant::now() + ClientConfig::default().deadline
}

impl Talk {
    /// Begins a pipeline.
    pub(super) fn begin(&mut self) {
        self.dealt.clear();
        self.speakers.iter_mut().for_each(Speaker::begin);
    }

    /// Appends a get.
    #[inline]
    pub(super) fn get(&mut self, key: hash::Key<'_>) {
        let commands = self.deal(key);
        commands::get(key.as_bytes(), commands);
    }

    /// Appends a put.
    #[inline]
    pub(super) fn put(&mut self, key: hash::Key<'_>, value: &[u8]) {
        let commands = self.deal(key);
        commands::put(key.as_bytes(), value, commands);
    }

    #[inline]
    fn deal(&mut self, key: hash::Key<'_>) -> &mut Vec<u8> {
        let servers = self.speakers.len();
        let server = if servers == 1 { 0 } else { even_owner(hash::slot(key), servers) };
        self.dealt.push(server as u16);
        let speaker = &mut self.speakers[server];
        speaker.wanted += 1;
        &mut speaker.requests
    }

    /// Sends the pipeline and takes every reply to it.
    pub(super) async fn exchange(&mut self) -> Result<(), TalkError> {
        let exchanged = timeout_at(deadline(), async {
            self.reconnect().await?;
            poll_fn(|context| self.poll_exchange(context)).await
        });
        let exchanged = exchanged.await.unwrap_or(Err(TalkError::Deadline));
        if exchanged.is_err() {
            // Replies that are still to come are nobody's.
            self.speakers.iter_mut().for_each(|speaker| speaker.stream = None);
        }
        exchanged
    }

    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TalkError>> {
        let mut polled = Poll::Ready(Ok(()));
        for speaker in &mut self.speakers {
            match speaker.poll_exchange(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => polled = Poll::Pending,
            }
        }
        polled
    }

    async fn reconnect(&mut self) -> Result<(), TalkError> {
        for speaker in &mut self.speakers {
            if speaker.stream.is_none() {
                speaker.connect(self.credentials.as_ref()).await?;
            }
        }
        Ok(())
    }

    /// What became of each operation, in their order; or the report's name of its failure.
    #[inline]
    pub(super) fn outcomes(&self) -> impl Iterator<Item = Result<Outcome<'_>, &'static str>> {
        let mut next = vec![0; self.speakers.len()];
        self.dealt.iter().map(move |server| {
            let (speaker, next) = (&self.speakers[usize::from(*server)], &mut next[usize::from(*server)]);
            *next += 1;
            speaker.replies[*next - 1].outcome(&speaker.received)
        })
    }

    /// Operations of the pipeline.
    pub(super) fn ops(&self) -> u64 {
        self.dealt.len() as u64
    }

    /// Servers that had a part of the pipeline, bytes sent to them and received.
    pub(super) fn carried(&self) -> (u64, u64, u64) {
        let parts = self.speakers.iter().filter(|speaker| speaker.wanted > 0);
        parts.fold((0, 0, 0), |(servers, sent, received), speaker| {
            (servers + 1, sent + speaker.requests.len() as u64, received + speaker.filled as u64)
        })
    }

    /// What each server tells of itself.
    pub(super) async fn infos(&mut self) -> Result<Vec<String>, TalkError> {
        self.begin();
        for speaker in &mut self.speakers {
            commands::info(&mut speaker.requests);
            speaker.wanted = 1;
        }
        self.exchange().await?;
        let told = |speaker: &Speaker| String::from_utf8_lossy(speaker.replies[0].of(&speaker.received)).into_owned();
        Ok(self.speakers.iter().map(told).collect())
    }
}

/// A connection to one server.
#[derive(Debug)]
struct Speaker {
    endpoint: RedisEndpoint,
    stream: Option<PlainOrTls>,
    tls: Option<TlsClient>,
    requests: Vec<u8>,
    sent: usize,
    /// As large as it ever had to be.
    received: Vec<u8>,
    /// Bytes of it that have arrived.
    filled: usize,
    parsed: usize,
    replies: Vec<Reply>,
    wanted: usize,
}

impl Speaker {
    fn new(endpoint: RedisEndpoint, tls: Option<TlsClient>) -> Self {
        let (stream, requests, received, replies) = (None, Vec::new(), Vec::new(), Vec::new());
        Self { endpoint, stream, tls, requests, sent: 0, received, filled: 0, parsed: 0, replies, wanted: 0 }
    }

    async fn connect(&mut self, credentials: Option<&Credentials>) -> Result<(), TalkError> {
        let address = self.endpoint.host_port().expect("an endpoint of TCP has both");
        let connecting = async {
            let socket = TcpStream::connect(address).await?;
            socket.set_nodelay(true)?;
            if !self.endpoint.is_tls() {
                return Ok(PlainOrTls::plain(socket));
            }
            let client = self.tls.as_ref().ok_or(TlsError::NoCa).map_err(io::Error::other)?;
            PlainOrTls::connect(socket, address.0, client).await.map_err(io::Error::other)
        };
        let failed = |source| TalkError::Connect { endpoint: self.endpoint.clone(), source };
        let mut stream = connecting.await.map_err(failed)?;
        if let Some(credentials) = credentials {
            self.authenticate(&mut stream, credentials).await?;
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Says who this is, before anything else is asked.
    async fn authenticate(&self, stream: &mut PlainOrTls, credentials: &Credentials) -> Result<(), TalkError> {
        let lost = |source| TalkError::Lost { endpoint: self.endpoint.clone(), source };
        let malformed = || TalkError::Malformed { endpoint: self.endpoint.clone() };
        let (mut request, mut received) = (Vec::new(), Vec::new());
        credentials.with_password(|password| commands::auth(credentials.name(), password, &mut request));
        stream.write_all(&request).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let (reply, end) = loop {
            if stream.read_buf(&mut received).await.map_err(lost)? == 0 {
                return Err(lost(io::ErrorKind::UnexpectedEof.into()));
            }
            if received.len() > READ_BYTES {
                return Err(malformed());
            }
            if let Some(found) = commands::reply(&received, 0).map_err(|Malformed| malformed())? {
                break found;
            }
        };
        let text = || String::from_utf8_lossy(reply.of(&received)).into_owned();
        match reply.outcome(&received) {
            _ if end != received.len() => Err(malformed()),
            Ok(Outcome::Done { .. }) => Ok(()),
            Ok(_) => Err(malformed()),
            Err(_) => Err(TalkError::Denied { endpoint: self.endpoint.clone(), text: text() }),
        }
    }

    fn begin(&mut self) {
        self.requests.clear();
        self.replies.clear();
        (self.sent, self.filled, self.parsed, self.wanted) = (0, 0, 0, 0);
    }

    fn poll_exchange(&mut self, context: &mut Context<'_>) -> Poll<Result<(), TalkError>> {
        let polled = self.poll_bytes(context);
        let lost = |source| TalkError::Lost { endpoint: self.endpoint.clone(), source };
        match ready!(polled) {
            Ok(Ok(())) => Poll::Ready(Ok(())),
            Ok(Err(Malformed)) => Poll::Ready(Err(TalkError::Malformed { endpoint: self.endpoint.clone() })),
            Err(source) => Poll::Ready(Err(lost(source))),
        }
    }

    /// Writes what is taken and reads what is there, until every reply is.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Result<(), Malformed>>> {
        let stream = self.stream.as_mut().expect("it is connected before");
        while self.sent < self.requests.len() {
            match Pin::new(&mut *stream).poll_write(context, &self.requests[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(bytes) => self.sent += bytes,
                Poll::Pending => break,
            }
        }
        // What is encrypted may not all have been taken; the replies to it are waited for in any case.
        let _behind = Pin::new(&mut *stream).poll_flush(context)?;
        while self.replies.len() < self.wanted {
            if self.filled == self.received.len() {
                self.received.resize((2 * self.filled).max(READ_BYTES), 0);
            }
            let mut room = ReadBuf::new(&mut self.received[self.filled..]);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut room))?;
            match room.filled().len() {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                bytes => self.filled += bytes,
            }
            while let Some((reply, end)) = match commands::reply(&self.received[..self.filled], self.parsed) {
                Ok(found) => found,
                Err(malformed) => return Poll::Ready(Ok(Err(malformed))),
            } {
                self.replies.push(reply);
                self.parsed = end;
            }
        }
        // Nobody answers more than is asked, nor before.
        let is_right = self.replies.len() == self.wanted && self.parsed == self.filled;
        let is_sent = self.sent == self.requests.len();
        Poll::Ready(Ok(if is_right && is_sent { Ok(()) } else { Err(Malformed) }))
    }
}
