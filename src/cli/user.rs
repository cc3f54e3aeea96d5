//! `freight user add | passwd | remove | limit | list`: the file of users, which a node reads with `serve --users`.
#![forbid(unsafe_code)]

use super::hangup::Hangups;
use super::password::Password;
use super::{CommandResult, NOT_AS_EXPECTED, print};
use crate::auth::{
    ITERATIONS_DEFAULT, ITERATIONS_MAX, ITERATIONS_MIN, Rights, SALT_BYTES, User, Users, UsersFileError, Verifier,
    check_name,
};
use crate::files::FileError;
use crate::server::Node;
use clap::value_parser;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum UserCommand {
    /// Adds a user; makes the file where there is none
    Add(AddArgs),
    /// Gives a user another password; exit code 1 where there is none
    Passwd(PasswdArgs),
    /// Removes a user; exit code 1 where there is none
    Remove(RemoveArgs),
    /// Gives a user another number of operations a second; exit code 1 where there is none
    Limit(LimitArgs),
    /// Prints each user, its rights and what it is held to
    List(FileArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct FileArgs {
    /// The file of users; a node that reads it takes it anew at SIGHUP
    #[arg(long, value_name = "FILE")]
    users: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct PasswordArgs {
    /// The file whose first line is the password [default: asked for at a terminal, else standard input]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Rounds of PBKDF2: how much work each guess of the password is, and each connection of whoever knows it
    #[arg(long, value_name = "COUNT", default_value_t = ITERATIONS_DEFAULT)]
    #[arg(value_parser = value_parser!(u32).range(i64::from(ITERATIONS_MIN)..=i64::from(ITERATIONS_MAX)))]
    iterations: u32,
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// Its name: letters, digits and .-_@+; `default` is who Redis clients are that give a password alone
    name: String,
    /// What it may do, of read, write and admin: read records, change them, move slots and look inside nodes
    #[arg(long, value_name = "RIGHTS", default_value = "read,write")]
    rights: Rights,
    /// Operations a second that it may have on each node, 0 for any number [default: what the node's own flag says]
    #[arg(long, value_name = "COUNT")]
    ops_per_second: Option<u32>,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct PasswdArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    password: PasswordArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct LimitArgs {
    /// Its name
    name: String,
    /// Operations a second that it may have on each node, 0 for any number [default: what the node's own flag says]
    #[arg(long, value_name = "COUNT")]
    ops_per_second: Option<u32>,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    file: FileArgs,
}

pub(super) fn run(command: &UserCommand) -> CommandResult {
    match command {
        UserCommand::Add(args) => add(args),
        UserCommand::Passwd(args) => passwd(args),
        UserCommand::Remove(args) => remove(args),
        UserCommand::Limit(args) => limit(args),
        UserCommand::List(args) => list(args),
    }
}

fn add(args: &AddArgs) -> CommandResult {
    check_name(&args.name)?;
    let mut users = match Users::read(&args.file.users) {
        Err(UsersFileError::File(FileError::System { source, .. })) if source.kind() == io::ErrorKind::NotFound => {
            Users::new(random()?)
        }
        read => read?,
    };
    if users.get(&args.name).is_some() {
        return Err(format!("there is a user '{}': `freight user passwd` gives it another password", args.name).into());
    }
    let verifier = args.password.verifier()?;
    let AddArgs { name, rights, ops_per_second, .. } = args;
    users.set(User { name: name.clone(), rights: *rights, verifier, ops_per_second: *ops_per_second })?;
    users.write(&args.file.users)?;
    Ok(ExitCode::SUCCESS)
}

fn passwd(args: &PasswdArgs) -> CommandResult {
    let mut users = Users::read(&args.file.users)?;
    let Some(before) = users.get(&args.name).cloned() else { return Ok(absent(&args.name)) };
    users.set(User { verifier: args.password.verifier()?, ..User::clone(&before) })?;
    users.write(&args.file.users)?;
    Ok(ExitCode::SUCCESS)
}

fn limit(args: &LimitArgs) -> CommandResult {
    let mut users = Users::read(&args.file.users)?;
    let Some(before) = users.get(&args.name).cloned() else { return Ok(absent(&args.name)) };
    users.set(User { ops_per_second: args.ops_per_second, ..User::clone(&before) })?;
    users.write(&args.file.users)?;
    Ok(ExitCode::SUCCESS)
}

fn remove(args: &RemoveArgs) -> CommandResult {
    let mut users = Users::read(&args.file.users)?;
    if !users.remove(&args.name) {
        return Ok(absent(&args.name));
    }
    users.write(&args.file.users)?;
    Ok(ExitCode::SUCCESS)
}

/// Says that there is no such user: unlike a key, it was expected.
fn absent(name: &str) -> ExitCode {
    eprintln!("freight: there is no user '{name}'");
    ExitCode::from(NOT_AS_EXPECTED)
}

fn list(args: &FileArgs) -> CommandResult {
    for user in Users::read(&args.users)?.iter() {
        let rate = match user.ops_per_second {
            None => String::new(),
            Some(0) => " any-number-a-second".to_owned(),
            Some(ops) => format!(" {ops}-a-second"),
        };
        print(format_args!("{} {}{rate}", user.name, user.rights))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl PasswordArgs {
    fn verifier(&self) -> Result<Verifier, Box<dyn std::error::Error>> {
        let password = match &self.password_file {
            Some(path) => Password::of_file(path).map_err(|error| format!("{}: {error}", path.display()))?,
            None => Password::new_one()?,
        };
        Ok(Verifier::new(password.bytes(), random::<SALT_BYTES>()?, self.iterations))
    }
}

fn random<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The users of a served node, and when they are read again.
#[derive(Debug)]
pub(super) struct UsersReload<'a> {
    path: &'a Path,
    hangups: Hangups,
}

impl<'a> UsersReload<'a> {
    /// From now on no SIGHUP finds the default action.
    pub(super) fn new(path: &'a Path) -> io::Result<Self> {
        Ok(Self { path, hangups: Hangups::new()? })
    }

    /// Takes the file anew at each SIGHUP, for ever. One that cannot be used changes nothing.
    pub(super) async fn run(self, node: &Node) -> Infallible {
        let reload = || match Users::read(self.path) {
            Ok(users) => {
                let count = users.iter().count();
                node.set_users(users);
                // Who reads this finds them taken.
                tracing::info!("SIGHUP: {count} users");
            }
            Err(error) => tracing::error!("SIGHUP: the users stay as they are: {error}"),
        };
        self.hangups.each(reload).await
    }
}
