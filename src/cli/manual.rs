//! `freight manual` and `freight completions`: what packages install beside the binary, made from the flags themselves.
#![forbid(unsafe_code)]

use super::{CommandResult, of_output};
use clap::Command;
use clap_complete::{Shell, generate};
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct ManualArgs {
    /// Where the pages go, like freight.1 and freight-serve.1; made where there is none
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Writes a page for each command.
pub(super) fn write_pages(args: &ManualArgs, command: Command) -> CommandResult {
    let write = || {
        fs::create_dir_all(&args.folder)?;
        clap_mangen::generate_to(command, &args.folder)
    };
    write().map_err(|error| format!("{}: {error}", args.folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what a shell sources.
pub(super) fn print_completions(args: &CompletionsArgs, mut command: Command) -> CommandResult {
    let mut script = Vec::new();
    generate(args.shell, &mut command, "freight", &mut script);
    io::stdout().write_all(&script).map_err(of_output)?;
    Ok(ExitCode::SUCCESS)
}
