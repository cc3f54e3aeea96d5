//! What a node says to one Redis client: bytes in, bytes out.
//!
//! ```text
//!   input --words--> operations --+  as many as are there, up to [`BATCH_OPS_MAX`]
//!                                 |  one batch of the store
//!   output <---------replies------+
//!     ^------- a command that is none on keys: answered by itself, when all before it are
//! ```
//!
//! Operations of a batch that are another node's are left to whoever serves the session, who asks that node; the batch
//! is unfinished meanwhile, so that commands on one key keep their order wherever it is.
#![forbid(unsafe_code)]

use super::collect::{Collect, Told};
use super::data::{self, Midway, Plan, Words};
use super::host::{Asked, ClientFacts, Denied, Host};
use super::local;
use super::names::Name;
use super::ops::{Planned, PlannedOp};
use super::output::{Lend, Output};
use super::parse::{self, Parsed, Parser, Span};
use super::portions::{BATCH_OPS_MAX, LINE_OPS_MAX, Portions};
use super::problem::{Problem, ProtocolError, unknown_command};
use super::render::Tally;
use crate::auth::Rights;
use crate::op::{Op, Outcomes as _};
use std::cell::Cell;
use std::ops::Range;

/// What a thread needs to serve its clients, one at a time: made once, reused for each. One whose batch is unfinished
/// belongs to its session until it is finished.
#[derive(Debug)]
pub struct Desk<L: Lend> {
    words: Vec<Span>,
    ops: Vec<PlannedOp>,
    told: Vec<Told>,
    /// The operation whose reply is next.
    next: usize,
    /// Where the commands of the batch end, or what is planned of the last.
    end: usize,
    /// Whether other nodes have a part in the batch.
    is_forwarded: bool,
    staging: Output<L>,
}

impl<L: Lend> Desk<L> {
    /// A desk whose memory is lent.
    pub fn new(lender: L) -> Self {
        let staging = Output::new(lender);
        Self { words: Vec::new(), ops: Vec::new(), told: Vec::new(), next: 0, end: 0, is_forwarded: false, staging }
    }

    /// Whether replies of a batch are left, and with it its part of the input.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        !self.ops.is_empty()
    }

    /// The operations of the batch that other nodes are to be asked about, by their place in it, in order. The input
    /// begins with what was not consumed.
    pub fn foreign<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = (u32, Op<'a>)> {
        let left = (self.next as u32..).zip(self.ops[self.next..].iter().zip(&self.told[self.next..]));
        left.filter(|(_, (_, told))| matches!(told, Told::Foreign)).map(|(index, (op, _))| (index, op.of(input)))
    }

    fn finish(&mut self) {
        self.ops.clear();
        self.is_forwarded = false;
        self.told.clear();
        self.staging.clear();
        self.next = 0;
        // One command may have had a million words.
        self.words.shrink_to(BATCH_OPS_MAX);
    }
}

/// How far a client was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Operations executed.
    pub ops: usize,
    /// Commands answered that are none.
    pub others: usize,
    /// Why it was served no further.
    pub until: Until,
}

/// Why a client was served no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The rest of the input is no whole command: it takes at least so many bytes.
    MoreInput {
        /// Bytes, from the first that is not consumed.
        needed: usize,
    },
    /// Replies wait to be written.
    OutputWritten,
    /// Others have their turn.
    Turn,
    /// Other nodes are to be asked about operations of the batch: see [`Desk::foreign`], and [`Host::forwarded`] for
    /// their answers.
    Foreign,
    /// The client gave a password: [`Session::asked`] has it, and [`Session::verified`] comes before the next call.
    Verify,
    /// The client said goodbye, or nothing that can be understood: the connection ends when its replies are written.
    Ended(Option<ProtocolError>),
}

/// What a session may take.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// The longest command, in bytes.
    pub command_bytes_max: usize,
    /// Bytes of replies that may wait, but for one value.
    pub output_bytes_max: usize,
}

/// One client.
#[derive(Debug)]
pub struct Session {
    /// What it may do; `None` until it has authenticated.
    rights: Option<Rights>,
    /// A password that is being checked.
    pub(super) asked: Option<Asked>,
    pub(super) client: ClientFacts,
    pub(super) tally: Tally,
    limits: SessionLimits,
    portions: Portions,
    parser: Parser,
    /// The command that the input is in the midst of: one with more keys than a batch has room for.
    midway: Option<Midway>,
    /// Where a flush of the store goes on.
    pub(super) flushing: Option<u64>,
}

/// What stands at the front of the input, once what was before it is answered.
enum Front {
    /// Operations are planned.
    Batch,
    /// A command of another kind.
    Command { name: Name, end: usize },
    /// A command that is refused.
    Refused { problem: Problem, end: usize },
    /// Nothing to do, up to here.
    Nothing { end: usize },
    /// Nothing whole.
    Partial { needed: usize },
    /// Nothing to be served: the connection ends.
    Closing { end: usize },
}

impl Session {
    /// A client that has just connected.
    #[must_use]
    pub fn new(client: ClientFacts, limits: SessionLimits) -> Self {
        let (rights, asked) = (Some(Rights::ALL), None);
        let (tally, parser) = (Tally::default(), Parser::default());
        let (portions, midway, flushing) = (Portions::at(None), None, None);
        Self { rights, asked, client, tally, limits, portions, parser, midway, flushing }
    }

    /// Whoever may have so many operations a second has no more of them in a turn.
    pub fn set_pace(&mut self, ops_per_second: Option<u32>) {
        self.portions = Portions::at(ops_per_second);
    }

    /// From here on it may do so much; `None` for nothing before it has authenticated.
    pub fn set_rights(&mut self, rights: Option<Rights>) {
        self.rights = rights;
    }

    /// Its user is gone: it has to authenticate again.
    pub fn revoke<H: Host>(&mut self, host: &mut H) {
        self.rights = None;
        self.set_user(ClientFacts::STRANGER, host);
    }

    fn set_user<H: Host>(&mut self, name: &str, host: &mut H) {
        name.clone_into(&mut self.client.user);
        host.client_changed(&self.client);
    }

    /// Whether it is in the midst of a command, beyond the batch that a desk has.
    #[must_use]
    pub fn is_midway(&self) -> bool {
        self.midway.is_some() || self.flushing.is_some()
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.rights.is_some()
    }

    /// The password that is to be checked.
    #[must_use]
    pub fn asked(&self) -> Option<&Asked> {
        self.asked.as_ref()
    }

    /// Answers the command whose password was checked; who was let in got its rights before.
    pub fn verified<L: Lend, H: Host>(&mut self, checked: Result<(), Denied>, host: &mut H, output: &mut Output<L>) {
        let Some(asked) = self.asked.take() else { return };
        if checked.is_ok() {
            let name = asked.name.as_deref().map(String::from_utf8_lossy);
            self.set_user(&name.unwrap_or(ClientFacts::STRANGER.into()), host);
        }
        match (checked, asked.greeting) {
            (Err(denied), _) => output.error(&Problem::of(denied).to_string()),
            (Ok(()), None) => output.simple("OK"),
            (Ok(()), Some(greeting)) => greeting.answer(self, host, output),
        }
    }

    /// Executes the commands that the input begins with, and appends their replies.
    ///
    /// The desk is the same as before where it was left unfinished, and the input begins with what was not consumed.
    pub fn serve<L: Lend, H: Host>(
        &mut self,
        input: &mut [u8],
        desk: &mut Desk<L>,
        host: &mut H,
        output: &mut Output<L>,
    ) -> Served {
        let (mut consumed, mut ops, mut others) = (0, 0, 0);
        self.tally.now = host.now();
        let until = loop {
            if desk.is_unfinished() {
                match self.execute(&input[consumed..], desk, host, output) {
                    Executed::Whole => {}
                    Executed::Full => break Until::OutputWritten,
                    Executed::Foreign => {
                        desk.is_forwarded = true;
                        break Until::Foreign;
                    }
                }
                ops += desk.ops.len();
                consumed += desk.end;
                let was_forwarded = desk.is_forwarded;
                desk.finish();
                if was_forwarded {
                    // Answers of other nodes are those of one batch.
                    break Until::Turn;
                }
            }
            if output.waiting_bytes() > self.limits.output_bytes_max || output.is_lost() {
                break Until::OutputWritten;
            }
            if ops + others > self.portions.turn {
                break Until::Turn;
            }
            if let Some(cursor) = self.flushing.take() {
                let next = host.flush(cursor);
                if next != 0 {
                    self.flushing = Some(next);
                    break Until::Turn;
                }
                output.simple("OK");
            }
            match self.front(&mut input[consumed..], desk) {
                Ok(Front::Batch) => {}
                Ok(Front::Nothing { end }) => consumed += end,
                Ok(Front::Partial { needed }) => break Until::MoreInput { needed },
                Ok(Front::Closing { end }) => {
                    consumed += end;
                    break Until::Ended(None);
                }
                Ok(Front::Refused { problem, end }) => {
                    output.error(&problem.to_string());
                    consumed += end;
                    others += 1;
                }
                Ok(Front::Command { name, end }) => {
                    others += 1;
                    let words = Words { input: &input[consumed..], spans: &desk.words };
                    if let Err(problem) = local::answer(self, name, words, host, output) {
                        output.error(&problem.to_string());
                    }
                    consumed += end;
                    if name == Name::Quit {
                        break Until::Ended(None);
                    }
                    if self.asked.is_some() {
                        break Until::Verify;
                    }
                }
                Err(error) => {
                    output.error(&format!("ERR Protocol error: {error}"));
                    break Until::Ended(Some(error));
                }
            }
        };
        Served { consumed, ops, others, until }
    }

    /// Plans a batch of what the input begins with, or says what else it begins with.
    #[inline]
    fn front<L: Lend>(&mut self, input: &mut [u8], desk: &mut Desk<L>) -> Result<Front, ProtocolError> {
        desk.end = 0;
        if let Some(midway) = self.midway.take() {
            if self.check(midway.name, Words { input, spans: &[] }).is_err() {
                // Half of its reply is told: no error can be.
                return Ok(Front::Closing { end: 0 });
            }
            desk.end = parse::words(input, midway.words(self.portions.batch), &mut desk.words)?;
            self.midway = midway.plan(&desk.words, self.portions.batch, &mut desk.ops);
            if self.midway.is_some() {
                return Ok(Front::Batch);
            }
        }
        let front = loop {
            // A line is taken apart in its place, and cannot be asked for again: it begins a batch, and is all in it.
            let is_line = input.get(desk.end).is_some_and(|byte| *byte != b'*');
            let room = if is_line { LINE_OPS_MAX } else { self.portions.batch.saturating_sub(desk.ops.len()) };
            if room == 0 || is_line && desk.is_unfinished() {
                return Ok(Front::Batch);
            }
            let bytes_max = match self.rights {
                Some(_) => self.limits.command_bytes_max,
                None => self.limits.command_bytes_max.min(UNKNOWN_BYTES_MAX),
            };
            match self.parser.next(input, desk.end, bytes_max, &mut desk.words) {
                Ok(Parsed::Command { end }) => {
                    if is_line && desk.words.len() > self.portions.line_words {
                        break Ok(Front::Refused {
                            problem: Problem::TooManyWords { most: self.portions.line_words },
                            end,
                        });
                    }
                    let words = Words { input, spans: &desk.words };
                    match self.plan(words, room, &mut desk.ops) {
                        Ok(Planning::Ops) => desk.end = end,
                        Ok(Planning::SomeOps { end }) => {
                            desk.end = end;
                            return Ok(Front::Batch);
                        }
                        Ok(Planning::Other(name)) => break Ok(Front::Command { name, end }),
                        Ok(Planning::Closing) => break Ok(Front::Closing { end }),
                        Err(problem) => break Ok(Front::Refused { problem, end }),
                    }
                }
                Ok(Parsed::Nothing { end }) if desk.is_unfinished() => desk.end = end,
                Ok(Parsed::Nothing { end }) => break Ok(Front::Nothing { end }),
                Ok(Parsed::Partial { needed }) => break Ok(Front::Partial { needed }),
                Err(error) => break Err(error),
            }
        };
        // What is before it is answered first; then it is asked for again.
        if desk.is_unfinished() { Ok(Front::Batch) } else { front }
    }

    /// Plans a command's operations, as many as there is room for.
    #[inline]
    fn plan(&mut self, words: Words<'_>, room: usize, ops: &mut Vec<PlannedOp>) -> Result<Planning, Problem> {
        let Some(name) = Name::of(words.get(0)) else {
            if words.is(0, "post") || words.is(0, "host:") {
                // A web page that makes a browser send commands.
                return Ok(Planning::Closing);
            }
            return Err(unknown_command(words));
        };
        let (arity, count) = (name.row().arity, words.len() as i32);
        if if arity < 0 { count < -arity } else { count != arity } {
            return Err(Problem::WordCount { command: name });
        }
        if self.rights != Some(Rights::ALL) {
            self.check(name, words)?;
        }
        Ok(match data::plan(name, words, room, self.tally.now, ops)? {
            Plan::Whole => Planning::Ops,
            Plan::Some(midway) => {
                self.midway = Some(midway);
                Planning::SomeOps { end: words.spans[midway.word - 1].end() }
            }
            Plan::None => Planning::Other(name),
        })
    }

    /// Whether the client may run a command.
    #[cold]
    fn check(&self, name: Name, words: Words<'_>) -> Result<(), Problem> {
        match self.rights {
            None if name.is_open() => Ok(()),
            None => Err(Problem::NoAuthentication),
            Some(rights) if rights.include(name.rights(words)) => Ok(()),
            Some(_) => Err(Problem::NoRight { command: name }),
        }
    }

    /// Executes what is planned, and tells what became of it.
    fn execute<L: Lend, H: Host>(
        &mut self,
        input: &[u8],
        desk: &mut Desk<L>,
        host: &mut H,
        output: &mut Output<L>,
    ) -> Executed {
        let Desk { ops, told, next, staging, .. } = desk;
        let (now, is_full) = (self.tally.now, Cell::new(false));
        let mut step = Step::Tell;
        if told.is_empty() {
            told.resize(ops.len(), Told::Not);
            step = Step::Execute(0..ops.len());
        }
        loop {
            is_full.set(false);
            let (before, is_forwarded) = (*next, step == Step::Forwarded);
            let is_alone = is_forwarded || matches!(&step, Step::Execute(range) if range.len() == 1);
            let (tally, output_bytes_max, is_full) = (&mut self.tally, self.limits.output_bytes_max, &is_full);
            let mut collect = Collect {
                ops,
                told,
                next: before,
                staging,
                output,
                tally,
                output_bytes_max,
                is_alone,
                is_forwarded,
                is_full,
                has_taken: false,
            };
            match &step {
                Step::Execute(range) => {
                    host.execute(&Planned { ops, range: range.clone(), input, is_full }, now, &mut collect);
                }
                Step::Forwarded => match host.forwarded(before as u32) {
                    Some(outcome) => collect.set(before as u32, outcome),
                    None => return Executed::Foreign,
                },
                Step::Tell => {}
            }
            *next = collect.tell_staged();
            if *next == ops.len() {
                return Executed::Whole;
            }
            let is_foreign = matches!(told[*next], Told::Foreign);
            // What turned out to be foreign is to be asked for; all else that is still next had no room.
            let is_stuck = *next == before && step != Step::Tell && (is_forwarded || !is_foreign);
            if is_stuck || output.waiting_bytes() > output_bytes_max {
                return Executed::Full;
            }
            // What had no room: one at a time, and each goes to the output.
            step = if is_foreign { Step::Forwarded } else { Step::Execute(*next..*next + 1) };
        }
    }
}

/// How a batch goes on.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// What is staged is told.
    Tell,
    /// These are executed.
    Execute(Range<usize>),
    /// The next is told as another node answered it.
    Forwarded,
}

/// How far a batch came.
enum Executed {
    /// To its end.
    Whole,
    /// Replies must be written before the rest of it.
    Full,
    /// To what another node is to be asked.
    Foreign,
}

/// What a command is.
enum Planning {
    /// Operations, all of them.
    Ops,
    /// Operations, and more than there is room for: the words of these end here.
    SomeOps { end: usize },
    /// None on keys.
    Other(Name),
    /// None: who sends it is no client.
    Closing,
}

/// Longest command of a client that has not authenticated, in bytes.
const UNKNOWN_BYTES_MAX: usize = 20 << 10;
