//! Serving one Redis client: its commands as they come, until one side ends it.
//!
//! ```text
//!   read what is there --> serve it --> write the replies, as far as they are taken --> wait for either side
//! ```
//!
//! A client that sends and does not read is served until `NodeConfig::frame_bytes_max` bytes of replies wait for
//! it, and is then not read: so a long pipeline is answered however its client goes about it, within a bound.
#![forbid(unsafe_code)]

mod ended;
mod pacing;

use super::accounts::Member;
use super::idle::Idle;
use super::nearness::Nearness;
use super::node::Shared;
use super::redis_clients::Listed;
use super::redis_forward::Forwarded;
use super::redis_host::{Lent, NodeHost};
use super::redis_input::Input;
use super::redis_listener::RedisConnection;
use super::users::{KnownUsers, Pass};
use super::worker::Worker;
use crate::auth::Rights;
use crate::metrics::Counters;
use crate::polling::look_for;
use crate::resp::{Denied, Desk, Output, Session, SessionLimits, Until};
use crate::transport::allowance::OnTheWay;
use crate::transport::tcp;
use crate::transport::tls::{PlainOrTls, Reading};
use crate::transport::{ConnectionConfig, Pace};
use ended::Ended;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// How long a draining node waits for commands that may be on their way.
const LAST_COMMANDS_WAIT: Duration = Duration::from_millis(20);

/// How long a client may take to close its side before the connection closes over it.
const CLOSED_WAIT: Duration = Duration::from_secs(1);

/// Serves a client until it is gone.
pub(super) async fn serve(connection: RedisConnection, shared: &Shared, worker: &Worker, client: &Member<'_>) {
    let (peer, local, config) = (connection.peer.clone(), connection.local.clone(), connection.config.clone());
    let hello_wait = shared.limits().hello_wait;
    let hello_until = Instant::now() + hello_wait;
    let mut drain = shared.drain.wait();
    let established = tokio::select! {
        biased;
        established = timeout_at(hello_until, connection.establish()) => established,
        () = &mut drain => return,
    };
    let stream = match established.map_err(|_| Ended::NoHandshake(hello_wait)) {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return end(&Ended::NoTls(error), &peer, shared, worker),
        Err(ended) => return end(&ended, &peer, shared, worker),
    };
    let (facts, _listed): (_, Listed<'_>) = shared.redis_clients.add(&peer, &local);
    let bytes_max = shared.config.frame_bytes_max as usize;
    let limits = SessionLimits { command_bytes_max: bytes_max, output_bytes_max: bytes_max };
    let hello_wait = shared.limits().hello_wait;
    let mut serving = Serving {
        peer: &peer,
        stream,
        input: Input::new(&worker.pool),
        output: Output::new(Lent::by(&worker.pool)),
        session: Session::new(facts, limits),
        pass: None,
        client,
        user: None,
        idle: Idle::new(shared),
        hello_wait,
        stranger_until: shared.users.as_ref().map(|_| hello_until),
        drain_until: None,
        desk: None,
        forwarded: Forwarded::default(),
        needed: 1,
        on_the_way: None,
        replies: None,
        receiving: Pace::new(config.frame_wait),
        nearness: Nearness::new(shared.config.busy_polling),
        sending: Pace::new(config.send_wait),
        config,
        shared,
        worker,
    };
    tracing::debug!(%peer, "a Redis client connected");
    let mut ended = serving.run(pin!(drain)).await;
    if let Err(ended @ (Ended::NoCommandMemory | Ended::Stalled(_) | Ended::Stranger(_) | Ended::NoTurn(_))) = &ended {
        serving.output.error(&format!("ERR {ended}"));
    }
    if !matches!(ended, Err(Ended::Lost(_) | Ended::NotTaken { .. } | Ended::NoReplyMemory)) {
        ended = ended.and(serving.last_words().await);
    }
    match ended {
        Ok(()) => tracing::debug!(%peer, "closed"),
        Err(ended @ Ended::Idle(_)) => {
            shared.endings.count(ended.reason());
            tracing::debug!(%peer, "closing: {ended}");
        }
        Err(ended) => end(&ended, &peer, shared, worker),
    }
}

/// Counts and tells why a connection ends.
fn end(ended: &Ended, peer: &str, shared: &Shared, worker: &Worker) {
    Counters::add(&worker.counters.refusals, 1);
    shared.endings.count(ended.reason());
    if let Some(others) = shared.peer_log.line() {
        tracing::info!(%peer, "closing: {ended}{others}");
    }
}

/// Tells a client that it is one too many, of all or of those that follow.
pub(super) async fn refuse(connection: RedisConnection, of: &str) {
    let told = async {
        let Ok(mut stream) = connection.establish().await else { return Ok(()) };
        stream.write_all(format!("-ERR max number of clients reached{of}\r\n").as_bytes()).await?;
        stream.shutdown().await
    };
    // Whether it reads that or not, the connection ends here.
    let _read = timeout(CLOSED_WAIT, told).await;
}

struct Serving<'a> {
    peer: &'a str,
    stream: PlainOrTls,
    input: Input,
    output: Output<Lent>,
    session: Session,
    /// Who the client is, once it has said so to a node that has users.
    pass: Option<Pass>,
    /// What the client shares with others of it, and the user with others of the same.
    client: &'a Member<'a>,
    user: Option<Member<'a>>,
    idle: Idle<'a>,
    hello_wait: Duration,
    /// By when it has to have said so.
    stranger_until: Option<Instant>,
    /// By when the replies to what has arrived have to be made, once the node drains.
    drain_until: Option<Instant>,
    /// The desk with a batch that is unfinished.
    desk: Option<Desk<Lent>>,
    /// What other nodes answered to that batch.
    forwarded: Forwarded,
    /// Bytes that the command at the front of the input takes, at least.
    needed: usize,
    /// What counts among what its client has in flight: a long command, and replies that wait.
    on_the_way: Option<OnTheWay>,
    replies: Option<OnTheWay>,
    receiving: Pace,
    nearness: Nearness,
    sending: Pace,
    config: ConnectionConfig,
    shared: &'a Shared,
    worker: &'a Worker,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// More of its commands; replies may wait to be written meanwhile.
    Commands,
    /// That replies are taken, before more can be made.
    Room,
    /// Nothing: its client has said goodbye.
    Nothing,
}

/// What it waited for has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// Bytes have arrived, or, where there are none, none will any more.
    Arrived { bytes: usize },
    /// Replies can be written.
    Writable,
    /// The node drains.
    Draining,
}

impl<'a> Serving<'a> {
    /// Serves until the client is gone or has said goodbye, or the node drains.
    async fn run(&mut self, mut drain: Pin<&mut impl Future<Output = ()>>) -> Result<(), Ended> {
        let mut wanted = Wanted::Commands;
        while wanted != Wanted::Nothing {
            match self.wait(wanted, drain.as_mut()).await? {
                Event::Arrived { bytes: 0 } => return Ok(()),
                Event::Arrived { .. } | Event::Writable => {
                    self.idle.stir();
                    wanted = self.progress().await?;
                }
                Event::Draining => return self.drain(wanted).await,
            }
        }
        Ok(())
    }

    /// Answers what has arrived, and what is on its way, for a bounded time.
    async fn drain(&mut self, mut wanted: Wanted) -> Result<(), Ended> {
        while !self.is_over()? && wanted != Wanted::Nothing {
            let never = pin!(pending());
            match timeout(LAST_COMMANDS_WAIT, self.wait(wanted, never)).await {
                Ok(Ok(Event::Arrived { bytes: 0 })) | Err(_) => break,
                Ok(event) => event?,
            };
            wanted = self.progress().await?;
        }
        Ok(())
    }

    /// Whether the node drains and has done so for long enough; a stranger has its time, too.
    fn is_over(&mut self) -> Result<bool, Ended> {
        let now = Instant::now();
        if self.stranger_until.is_some_and(|until| until <= now) {
            return Err(Ended::Stranger(self.hello_wait));
        }
        if self.drain_until.is_none() && self.shared.drain.has_begun() {
            self.drain_until = Some(now + self.shared.config.drain_wait);
        }
        Ok(self.drain_until.is_some_and(|until| until <= now))
    }

    /// Waits until there is something to do.
    async fn wait(&mut self, wanted: Wanted, drain: Pin<&mut impl Future<Output = ()>>) -> Result<Event, Ended> {
        let Self { stream, input, output, needed, receiving, sending, nearness, config, idle, .. } = self;
        let (stranger_until, hello_wait) = (self.stranger_until, self.hello_wait);
        let (is_partial, waiting, is_behind) = (!input.is_empty(), output.waiting_bytes(), stream.is_behind());
        // Half a command, and replies that are not taken, have times of their own.
        let is_between_commands = !is_partial && waiting == 0 && !is_behind;
        // No thread stays awake for bytes that come one by one, or for a stranger.
        let is_worth_a_look = is_between_commands && stranger_until.is_none() && nearness.is_worth_a_look();
        let (mut reader, socket) = stream.split();
        let arrived = async {
            let fill = poll_fn(|context| fill(&mut reader, input, *needed, context));
            if !is_partial {
                return fill.await;
            }
            let filled = receiving.in_time(fill).await;
            filled.unwrap_or(Err(Ended::Stalled(config.frame_wait))).inspect(|bytes| receiving.moved(*bytes))
        };
        tokio::select! {
            // What ends a connection comes first: a client that always has something to say is not heard for ever.
            biased;
            () = time_is_over(stranger_until) => Err(Ended::Stranger(hello_wait)),
            () = drain => Ok(Event::Draining),
            writable = sending.in_time(socket.writable()), if waiting > 0 || is_behind => match writable {
                Some(writable) => Ok(writable.map(|()| Event::Writable)?),
                None => Err(Ended::NotTaken { waiting, wait: config.send_wait }),
            },
            arrived = look_for(is_worth_a_look, arrived), if wanted == Wanted::Commands => {
                nearness.arrived(|| tcp::sender_cpu(socket));
                Ok(Event::Arrived { bytes: arrived? })
            }
            wait = idle.too_long(), if is_between_commands => Err(Ended::Idle(wait)),
        }
    }

    /// Serves what is here and writes the replies, as far as they are taken now.
    async fn progress(&mut self) -> Result<Wanted, Ended> {
        loop {
            self.write_now()?;
            // A stranger executes nothing, and what others of its address owe is not asked of it: it may be a user.
            if self.stranger_until.is_none() {
                self.pay().await?;
            }
            let until = self.serve()?;
            self.write_now()?;
            self.count_replies();
            match until {
                _ if self.output.is_lost() => return Err(Ended::NoReplyMemory),
                Until::MoreInput { needed } => {
                    self.needed = needed;
                    self.input.settle();
                    self.admit().await?;
                    return Ok(Wanted::Commands);
                }
                Until::OutputWritten if self.output.waiting_bytes() > 0 => return Ok(Wanted::Room),
                Until::OutputWritten => {}
                Until::Turn => tokio::task::yield_now().await,
                Until::Foreign => self.ask_others().await,
                Until::Verify if !self.verify().await? => return Ok(Wanted::Nothing),
                Until::Verify => {}
                Until::Ended(None) => return Ok(Wanted::Nothing),
                Until::Ended(Some(error)) => return Err(Ended::Protocol(error)),
            }
            if self.is_over()? {
                return Ok(Wanted::Nothing);
            }
        }
    }

    /// Asks other nodes about what is theirs in the batch that is unfinished.
    async fn ask_others(&mut self) {
        let Self { desk, forwarded, input, shared, worker, .. } = self;
        if let Some(desk) = desk {
            forwarded.ask(shared, worker, desk, input.bytes()).await;
        }
    }

    /// Checks the password that the client gave; false where the client or the node is gone before.
    async fn verify(&mut self) -> Result<bool, Ended> {
        let shared = self.shared;
        let checking = async {
            match (&shared.users, &shared.passwords, self.session.asked()) {
                (Some(known), Some(passwords), Some(asked)) => {
                    passwords.check(known, asked.name.as_deref(), &asked.password).await
                }
                _ => Err(Denied::WrongPassword),
            }
        };
        let checked = tokio::select! {
            biased;
            checked = checking => checked,
            () = time_is_over(self.stranger_until) => return Err(Ended::Stranger(self.hello_wait)),
            // A password that nobody waits for is not checked.
            () = closed(self.stream.socket()) => return Ok(false),
            () = drained_for_long(shared) => return Ok(false),
        };
        let checked = checked.and_then(|(user, generation)| {
            if self.user.as_ref().is_none_or(|member| !member.is_of(&user)) {
                self.user = Some(shared.enter_as(&user).map_err(|too_many| {
                    shared.endings.count(too_many.reason());
                    Denied::TooManyConnections
                })?);
            }
            self.session.set_rights(Some(user.rights));
            self.pass = Some(Pass::of(user, generation));
            self.stranger_until = None;
            Ok(())
        });
        let mut host = NodeHost::new(self.shared, self.worker, self.peer, &self.forwarded);
        self.session.verified(checked, &mut host, &mut self.output);
        Ok(true)
    }

    /// Goes by the users of the moment: one that is gone has to authenticate again. What was planned by rights that are
    /// no more is not executed.
    fn renew(&mut self, known: &KnownUsers) -> Result<(), Ended> {
        let before = self.pass.as_ref().map_or(Rights::NONE, Pass::rights);
        let is_same = self.pass.as_mut().is_some_and(|pass| pass.renew(known).is_ok());
        if self.pass.take_if(|_| !is_same).is_some() {
            self.user = None;
            self.stranger_until = Some(Instant::now() + self.hello_wait);
            self.session.revoke(&mut NodeHost::new(self.shared, self.worker, self.peer, &self.forwarded));
        }
        let rights = self.pass.as_ref().map(Pass::rights);
        self.session.set_rights(rights);
        let is_midway = self.desk.is_some() || self.session.is_midway();
        if is_midway && !rights.unwrap_or(Rights::NONE).include(before) {
            return Err(Ended::Revoked);
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<Until, Ended> {
        if let Some(known) = &self.shared.users {
            self.renew(known)?;
        }
        self.session.set_pace(self.member().ops_per_second());
        let mut desk = self.desk.take().unwrap_or_else(|| self.worker.take_desk());
        let mut host = NodeHost::new(self.shared, self.worker, self.peer, &self.forwarded);
        let served = self.session.serve(self.input.bytes(), &mut desk, &mut host, &mut self.output);
        drop(host);
        if desk.is_unfinished() {
            self.desk = Some(desk);
        } else {
            self.worker.give_desk_back(desk);
            self.forwarded.clear();
        }
        if served.consumed > 0 {
            self.input.consume(served.consumed);
            // What is left is another command, which has its own time.
            self.receiving.begin();
        }
        let counters = &self.worker.counters;
        if served.consumed > 0 {
            self.on_the_way = None;
            // Its commands that are no operations are work too.
            self.member().charge((served.ops + served.others) as u32);
        }
        Counters::add(&counters.operations, served.ops as u64);
        Counters::add(&counters.frames, u64::from(served.ops > 0));
        Counters::add(&counters.bytes_received, served.consumed as u64);
        Ok(served.until)
    }

    /// Writes what is taken at once.
    fn write_now(&mut self) -> Result<(), Ended> {
        while self.output.waiting_bytes() > 0 && !self.output.is_lost() {
            match self.stream.try_write(self.output.waiting()) {
                Ok(bytes) => {
                    Counters::add(&self.worker.counters.bytes_sent, bytes as u64);
                    self.sending.moved(bytes);
                    self.output.written(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        match self.stream.try_flush() {
            Ok(()) => self.sending.begin(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Writes what is left, as long as the client takes it, and lets it read that before the connection closes.
    async fn last_words(&mut self) -> Result<(), Ended> {
        let (shared, drain_wait) = (self.shared, self.shared.config.drain_wait);
        // Whoever was a stranger to the end is not waited for either.
        let is_stranger = self.stranger_until.take().is_some();
        let hurry = async {
            if is_stranger {
                sleep(drain_wait).await;
            } else {
                drained_for_long(shared).await;
            }
        };
        tokio::select! {
            biased;
            written = self.write_all() => written?,
            () = hurry => return Err(Ended::NotTaken { waiting: self.output.waiting_bytes(), wait: drain_wait }),
        }
        let discard = async {
            self.stream.shutdown().await?;
            let mut discarded = [0; 4096];
            while self.stream.read(&mut discarded).await? > 0 {}
            io::Result::Ok(())
        };
        // What it still sends is not read by anybody; closed over it, its system might throw away our last words.
        let _closed = timeout(CLOSED_WAIT, discard).await;
        Ok(())
    }

    async fn write_all(&mut self) -> Result<(), Ended> {
        self.write_now()?;
        while self.output.waiting_bytes() > 0 || self.stream.is_behind() {
            self.wait(Wanted::Room, pin!(pending())).await?;
            self.write_now()?;
        }
        Ok(())
    }
}

/// Ends at an instant; never, where there is none.
async fn time_is_over(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Ends when the node has drained for as long as it waits.
async fn drained_for_long(shared: &Shared) {
    shared.drain.wait().lasts(shared.config.drain_wait).await;
}

/// Ends when the other side has closed the connection, or its half of it; what it sent is left where it is.
async fn closed(stream: &TcpStream) {
    // Nothing urgent is ever reported, for nobody registers for it: what is left is the end.
    let _closed_or_broken = stream.ready(Interest::PRIORITY | Interest::ERROR).await;
}

/// Reads what is there.
fn fill(
    reader: &mut Reading<'_>,
    input: &mut Input,
    needed: usize,
    context: &mut Context<'_>,
) -> Poll<Result<usize, Ended>> {
    // Memory is lent when there is something to read, and not before.
    ready!(reader.poll_ready(context))?;
    let room = input.room(needed).ok_or(Ended::NoCommandMemory)?;
    let mut room = ReadBuf::new(room);
    let polled = reader.poll_read(context, &mut room);
    let bytes = room.filled().len();
    input.arrived(bytes);
    polled.map(|read| Ok(read.map(|()| bytes)?))
}
