//! The keeper of a connection: opens it over the control connection, then watches that and the device.
//!
//! A queue pair says nothing when an idle peer dies; the control connection does, at once where the peer's system lives
//! and by keep-alive where it is gone too. It carries nothing once the connection is open.
#![forbid(unsafe_code)]

use super::RdmaError;
use super::events::Events;
use super::greeting::{self, GREETING_BYTES, Greeting, READY, REFUSAL_TOTAL_BYTES};
use super::place::Place;
use super::shared::Shared;
use super::verbs::PairPath;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, Read, Write};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long opening may take. Shorter than a node waits for a hello, so that the reason given is the right one.
const OPEN_WAIT: Duration = Duration::from_secs(4);

/// A silent control connection is probed after so long, then each second: a peer whose machine is gone is noticed in
/// about ten seconds, also by who sends nothing.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const PROBES_MAX: u32 = 5;

/// Large memory that no frame used for so long, and at most twice as long, is unpinned.
const IDLE: Duration = Duration::from_secs(5);

/// Retransmission timeout of the queue pair: 4.096 us times 2 to the power of 14 is 67 ms, as in perftest.
const TIMEOUT: u8 = 14;

/// Retransmissions before a peer counts as gone: with [`TIMEOUT`] half a second to four, as devices round. One less
/// than there can be, for Soft-RoCE takes 7 for ever.
const RETRIES: u8 = 6;

/// Retries where no receive was ready. Credits keep it from ever happening; 7 would mean for ever.
const NOT_READY_RETRIES: u8 = 6;

/// Pause between those: the code of 0.64 ms, as in perftest.
const NOT_READY_TIMER: u8 = 12;

/// What a keeper needs.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) stream: TcpStream,
    pub(super) peer: String,
    pub(super) place: Place,
    pub(super) own: Greeting,
    pub(super) reads_max: u8,
    pub(super) tx_depth: u32,
    pub(super) shared: Weak<Shared>,
}

impl Keeper {
    /// Opens the connection and watches it until it ends, on the calling thread's runtime.
    pub(super) fn start(self, shared: &Arc<Shared>) {
        let events = Events::new(&self.place.context, shared);
        shared.set_keeper(tokio::spawn(self.keep(events)).abort_handle());
    }

    async fn keep(mut self, events: Events) {
        let ended = tokio::select! {
            reported = events.watch() => reported.unwrap_or_else(control),
            ended = self.open_and_watch() => ended,
        };
        tracing::debug!(peer = self.peer, "connection ends: {ended}");
        if let Some(shared) = self.shared.upgrade() {
            shared.change(|queue| queue.fail(ended));
        }
    }

    /// Returns why the connection ends.
    async fn open_and_watch(&mut self) -> RdmaError {
        let opened = timeout(OPEN_WAIT, self.open()).await;
        match opened.unwrap_or(Err(RdmaError::Stalled { waited: OPEN_WAIT })) {
            Ok(()) => self.watch().await,
            Err(error) => error,
        }
    }

    async fn open(&mut self) -> Result<(), RdmaError> {
        let probes = TcpKeepalive::new().with_time(SILENCE_MAX).with_interval(Duration::from_secs(1));
        let probed = SockRef::from(&self.stream).set_tcp_keepalive(&probes.with_retries(PROBES_MAX));
        probed.and_then(|()| self.stream.set_nodelay(true)).map_err(control)?;
        // A peer that refused may have closed already: what it said counts for more.
        let written = self.stream.write_all(&self.own.encode()).await;
        let peer = self.take_greeting().await?;
        written.map_err(control)?;
        let path = PairPath {
            port: self.place.port,
            gid_index: self.place.gid_index,
            mtu_bytes: self.own.mtu_bytes.min(peer.mtu_bytes),
            reads: self.reads_max.min(peer.reads_served),
            reads_served: self.own.reads_served,
            timeout: TIMEOUT,
            retries: RETRIES,
            not_ready_retries: NOT_READY_RETRIES,
            not_ready_timer: NOT_READY_TIMER,
        };
        let own = self.own.address;
        self.shared()?.change(|queue| queue.connect(&own, &peer, &path))?;
        self.stream.write_all(&READY).await.map_err(control)?;
        let mut ready = [0; READY.len()];
        self.stream.read_exact(&mut ready).await.map_err(control)?;
        if ready != READY {
            return Err(RdmaError::BadGreeting { what: "it is not ready when it says so" });
        }
        self.shared()?.change(|queue| queue.open(&peer));
        tracing::debug!(
            peer = self.peer,
            "RDMA by {}: packets of {} bytes, {} frames of {} bytes there, {} of {} here, {} SENDs, {} READs at a time",
            self.place,
            path.mtu_bytes,
            peer.credits,
            peer.receive_bytes,
            self.own.credits,
            self.own.receive_bytes,
            self.tx_depth,
            path.reads,
        );
        Ok(())
    }

    /// The connection, where anybody still has it.
    fn shared(&self) -> Result<Arc<Shared>, RdmaError> {
        self.shared.upgrade().ok_or(RdmaError::Gone)
    }

    async fn take_greeting(&mut self) -> Result<Greeting, RdmaError> {
        let mut bytes = [0; GREETING_BYTES];
        let (start, rest) = bytes.split_first_chunk_mut::<8>().expect("greetings are longer");
        self.stream.read_exact(start).await.map_err(control)?;
        if greeting::check_start(start)? {
            let mut text = Vec::new();
            let mut refusal = (&mut self.stream).take(REFUSAL_TOTAL_BYTES as u64 - 8);
            refusal.read_to_end(&mut text).await.map_err(control)?;
            return Err(RdmaError::Refused { text: String::from_utf8_lossy(&text).trim_end().to_owned() });
        }
        self.stream.read_exact(rest).await.map_err(control)?;
        Greeting::decode(&bytes)
    }

    /// Watches the control connection: why it ends.
    async fn watch(&mut self) -> RdmaError {
        let mut byte = [0];
        loop {
            tokio::select! {
                read = self.stream.read(&mut byte) => return match read {
                    Ok(0) => RdmaError::Gone,
                    Ok(_) => RdmaError::Protocol { what: "it talks on the control connection" },
                    Err(error) => control(error),
                },
                () = sleep(IDLE) => if let Some(shared) = self.shared.upgrade() {
                    shared.pool.give_back_unused();
                }
            }
        }
    }
}

fn control(error: io::Error) -> RdmaError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => RdmaError::HalfOpened,
        _ => RdmaError::Control { source: Arc::new(error) },
    }
}

/// Tells a peer that is about to be dropped why, if it takes the bytes at once.
pub(super) fn refuse(stream: &TcpStream, text: &str) {
    let socket = SockRef::from(stream);
    // What is left unread would have the system drop what is written.
    let _nothing = (&*socket).read(&mut [0; GREETING_BYTES]);
    let _untold = (&*socket).write(&greeting::refusal(text));
}
