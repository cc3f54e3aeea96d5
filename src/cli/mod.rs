//! The command line: flags to configurations, errors to one line and an exit code.
//!
//! Exit codes: 0 done, 1 the key is absent or a benchmark met errors, 2 anything else that went wrong.
#![forbid(unsafe_code)]

mod bench;
mod cluster;
mod key_value;
mod rdma;
mod serve;
mod sizes;

use crate::cores::{self, CoreList};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A sharded, linearizable, in-memory key-value store whose unit of transport is a batch.
#[derive(Debug, Parser)]
#[command(name = "freight", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a node until it is told to stop
    Serve(serve::ServeArgs),
    /// Measures a store, by default a node of its own in this process
    Bench(Box<bench::BenchArgs>),
    /// Prints the value of a key; exit code 1 where there is none
    Get(key_value::GetArgs),
    /// Writes a value
    Put(key_value::PutArgs),
    /// Removes a key; exit code 1 where there was none
    Delete(key_value::DeleteArgs),
    /// Prints every node's statistics as JSON
    Stats(key_value::NodesArgs),
    /// Asks every node whether it answers
    Ping(key_value::NodesArgs),
    /// Makes the shard map of several nodes, or holds it against them
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// What this machine has for rdma:// endpoints
    Rdma(rdma::RdmaArgs),
}

/// What a command ends with, but for errors.
type CommandResult = Result<ExitCode, Box<dyn Error>>;

/// The code for a key that is absent, and for a benchmark with errors.
const NOT_AS_EXPECTED: u8 = 1;

/// The code for what went wrong.
const FAILED: u8 = 2;

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
    log_to_stderr(if matches!(cli.command, Command::Bench(_)) { "warn" } else { "warn,freight=info" });
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Bench(args) => bench::run(*args),
        Command::Get(args) => key_value::get(&args),
        Command::Put(args) => key_value::put(&args),
        Command::Delete(args) => key_value::delete(&args),
        Command::Stats(args) => key_value::stats(&args),
        Command::Ping(args) => key_value::ping(&args),
        Command::Cluster(command) => cluster::run(&command),
        Command::Rdma(args) => rdma::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("freight: {error}");
        ExitCode::from(FAILED)
    })
}

/// Prints help where that was asked for, or in one line what is wrong with the command line.
fn misread(error: &clap::Error) -> ExitCode {
    // What cannot be printed has no better place to be told.
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or(&text).trim_start_matches("error: ");
        let words: Vec<_> = first.split_whitespace().collect();
        eprintln!("freight: {}; --help shows what is understood", words.join(" "));
    }
    ExitCode::from(error.exit_code() as u8)
}

/// Logs go to standard error; `RUST_LOG` filters them.
fn log_to_stderr(otherwise: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(otherwise));
    let colours = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    log.with_ansi(colours).with_target(false).init();
}

/// Prints a line on standard output; a reader that has gone is an error, not a panic.
fn print(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Refuses processors outside the process's affinity mask.
fn check_cores(cores: Option<&CoreList>) -> Result<(), String> {
    let available = cores::available();
    match cores.and_then(|list| list.0.iter().find(|core| !available.contains(core))) {
        Some(core) => Err(format!("--cores names {core}, which this process may not run on, only {available:?}")),
        None => Ok(()),
    }
}

/// What cannot be written should not be found out after the run. `-` is standard output.
fn check_writable(path: &Path) -> Result<(), String> {
    if path.as_os_str() == "-" {
        return Ok(());
    }
    let opened = File::options().create(true).append(true).open(path);
    opened.map(drop).map_err(|error| format!("{}: {error}", path.display()))
}

/// A runtime for commands that talk to nodes.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
