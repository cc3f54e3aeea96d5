//! The command line: flags to configurations, errors to one line and an exit code.
//!
//! Exit codes are told by `freight --help`.
#![forbid(unsafe_code)]

mod bench;
mod cluster;
mod cluster_change;
mod config;
mod credentials;
mod flame;
mod follow;
mod hangup;
mod key_value;
mod limits;
mod log;
mod manager;
mod manual;
mod password;
mod plot;
mod rdma;
mod serve;
mod stats;
mod sweep;
mod sweep_charts;
mod tls;
mod user;

use crate::bench::BenchError;
use crate::client::ClientError;
use crate::cores::{self, CoreList};
use crate::transport::TransportError;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::env;
use std::error::Error;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// A sharded, linearizable, in-memory key-value store whose unit of transport is a batch.
#[derive(Debug, Parser)]
#[command(name = "freight", version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node until it is told to stop
    Serve(Box<serve::ServeArgs>),
    /// Measures a store, by default a node of its own in this process
    Bench(Box<bench::BenchArgs>),
    /// Prints the value of a key; exit code 1 where there is none
    Get(key_value::GetArgs),
    /// Writes a value
    Put(key_value::PutArgs),
    /// Sets how long a key is there, or lets it last for ever; exit code 1 where there is none
    Touch(key_value::TouchArgs),
    /// Prints how long a key is there; exit code 1 where there is none
    Ttl(key_value::GetArgs),
    /// Removes a key; exit code 1 where there was none
    Delete(key_value::DeleteArgs),
    /// Prints every node's statistics as JSON, its hot keys among them
    Stats(stats::StatsArgs),
    /// Draws where running nodes spend their time; they were started with --allow-profile
    Flame(flame::FlameArgs),
    /// Asks every node whether it answers
    Ping(key_value::NodesArgs),
    /// Draws the charts of a report as SVG and PNG
    Plot(plot::PlotArgs),
    /// The shard map of several nodes: create, status, add, remove, move, rebalance
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// What this machine has for rdma:// endpoints
    Rdma(rdma::RdmaArgs),
    /// Writes man pages, one a command
    Manual(manual::ManualArgs),
    /// Prints completions for a shell
    Completions(manual::CompletionsArgs),
    /// The users who may use a node: add, passwd, remove, limit, list
    #[command(subcommand)]
    User(user::UserCommand),
}

/// What scripts go by.
const EXIT_CODES: &str = "Exit codes: 0 done; 1 a key or a user is absent, a benchmark met errors, or `cluster status` \
found a node that is not as the map says; 2 anything else that went wrong, in one line; 130 interrupted.";

/// What a command ends with, but for errors.
type CommandResult = Result<ExitCode, Box<dyn Error>>;

/// The code for a key that is absent, and for a benchmark with errors.
const NOT_AS_EXPECTED: u8 = 1;

/// The code for what went wrong.
const FAILED: u8 = 2;

/// The code of an interrupted command: 128 + SIGINT, as a shell says it.
const INTERRUPTED: u8 = 130;

/// What an interrupted command ends with.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: {0}")]
struct Interrupted(String);

/// Lets this process open as many files as the system allows it, for each connection is one; says how many.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).is_ok();
    let descriptors = if raised { limit.maximum } else { limit.current };
    descriptors.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misread(&error),
    };
    // A benchmark says itself what it does; its node has only trouble to add.
    match cli.command {
        Command::Bench(_) => log::log_shortly("warn,freight::transport::rdma=info"),
        // At the level that its settings say.
        Command::Serve(_) => {}
        _ => log::log_shortly("warn,freight=info"),
    }
    let result = match cli.command {
        // What stands behind the command's name, to be read together with file and environment.
        Command::Serve(_) => serve::run(env::args_os().skip_while(|word| word != "serve").skip(1)),
        Command::Bench(args) => bench::run(*args),
        Command::Get(args) => key_value::get(&args),
        Command::Put(args) => key_value::put(&args),
        Command::Touch(args) => key_value::touch(&args),
        Command::Ttl(args) => key_value::ttl(&args),
        Command::Delete(args) => key_value::delete(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Flame(args) => flame::run(&args),
        Command::Ping(args) => key_value::ping(&args),
        Command::Plot(args) => plot::run(&args),
        Command::Cluster(command) => cluster::run(&command),
        Command::Rdma(args) => rdma::run(&args),
        Command::Manual(args) => manual::write_pages(&args, Cli::command()),
        Command::Completions(args) => manual::print_completions(&args, Cli::command()),
        Command::User(command) => user::run(&command),
    };
    result.unwrap_or_else(|error| {
        let tip = if is_refused(&*error) { "; is a node running there? `freight serve` starts one" } else { "" };
        eprintln!("freight: {error}{tip}");
        ExitCode::from(if error.is::<Interrupted>() { INTERRUPTED } else { FAILED })
    })
}

/// Whether nobody listens where a connection was asked for.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let client = error.downcast_ref::<ClientError>().or_else(|| match error.downcast_ref() {
        Some(BenchError::Client(error)) => Some(error),
        _ => None,
    });
    client.is_some_and(|error| match error {
        ClientError::Connect(error) => matches!(
            &**error,
            TransportError::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused
        ),
        ClientError::Unreachable(each) => each.iter().any(|error| is_refused(error)),
        _ => false,
    })
}

/// Prints help where that was asked for, or in one line what is wrong with the command line.
fn misread(error: &clap::Error) -> ExitCode {
    // What cannot be printed has no better place to be told.
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        // What is wrong, and tips; the usage is a line too long.
        let text = error.to_string();
        let said = text.split("\n\n").take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more"));
        let said: Vec<_> = said.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let said = said.join("; ");
        // Behind a flag that stands alone it reads like a subcommand.
        let stray = error.get(ContextKind::InvalidArg).or(error.get(ContextKind::InvalidSubcommand));
        let tip = match stray {
            Some(ContextValue::String(arg)) if matches!(&arg[..], "true" | "false") => {
                format!("; a flag takes it behind an equals sign, like --wire-limit={arg}")
            }
            _ => String::new(),
        };
        eprintln!("freight: {}{tip}; --help shows what is understood", said.trim_start_matches("error: "));
    }
    ExitCode::from(error.exit_code() as u8)
}

/// Prints a line on standard output; a reader that has gone is an error, not a panic.
fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}").map_err(of_output)
}

/// Says what could not be written.
fn of_output(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("standard output: {error}"))
}

/// Refuses processors outside the process's affinity mask.
fn check_cores(cores: Option<&CoreList>) -> Result<(), String> {
    let available = cores::available();
    match cores.and_then(|list| list.0.iter().find(|core| !available.contains(core))) {
        Some(core) => Err(format!("--cores names {core}, which this process may not run on, only {available:?}")),
        None => Ok(()),
    }
}

/// What cannot be written should not be found out after the run; a run that fails leaves no empty file behind. `-` is
/// standard output.
fn check_writable(path: &Path) -> Result<(), String> {
    if path.as_os_str() == "-" {
        return Ok(());
    }
    let tried = match File::options().create_new(true).write(true).open(path) {
        Ok(_made) => fs::remove_file(path),
        // Or a link to nowhere.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            File::options().create(true).append(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    };
    tried.map_err(|error| format!("{}: {error}", path.display()))
}

/// A runtime for commands that talk to nodes.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
