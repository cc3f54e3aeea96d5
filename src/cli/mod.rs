//! The command line: flags to configurations, errors to one line and an exit code.
//!
//! Exit codes: 0 done, 1 the key is absent (or a verification failed), 2 anything else that went wrong.
#![forbid(unsafe_code)]

mod bench;
mod key_value;
mod serve;
mod sizes;

use clap::{Parser, Subcommand};
use std::error::Error;
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
}

/// What a command ends with, but for errors.
type CommandResult = Result<ExitCode, Box<dyn Error>>;

/// The code for a key that is absent.
const ABSENT: u8 = 1;

/// The code for what went wrong.
const FAILED: u8 = 2;

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr();
    let result = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Bench(args) => bench::run(*args),
        Command::Get(args) => key_value::get(&args),
        Command::Put(args) => key_value::put(&args),
        Command::Delete(args) => key_value::delete(&args),
        Command::Stats(args) => key_value::stats(&args),
        Command::Ping(args) => key_value::ping(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("freight: {error}");
        ExitCode::from(FAILED)
    })
}

/// Logs go to standard error; `RUST_LOG` filters them.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,freight=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

/// A runtime for commands that talk to nodes.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
