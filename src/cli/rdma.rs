//! `freight rdma devices`: what this machine has for `rdma://` endpoints.
#![forbid(unsafe_code)]

use super::{CommandResult, print};
use crate::transport::rdma::{RdmaOptions, describe};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct RdmaArgs {
    #[command(subcommand)]
    command: RdmaCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RdmaCommand {
    /// Lists devices, ports and GIDs, and which of them each address of this machine would use
    Devices(Box<RdmaOptions>),
}

pub(super) fn run(args: &RdmaArgs) -> CommandResult {
    let RdmaCommand::Devices(options) = &args.command;
    print(describe(options)?.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
