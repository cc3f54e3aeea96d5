//! Who a command is, for nodes that have users: flags, or the environment for every command of a shell.
#![forbid(unsafe_code)]

use super::hangup::Hangups;
use super::password::Password;
use crate::auth::{Credentials, check_name};
use crate::server::Node;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Credentials")]
pub(super) struct CredentialArgs {
    /// The user to connect as, where nodes have users (`serve --users`)
    #[arg(long, value_name = "NAME", env = "FREIGHT_USER", value_parser = name, requires = "password_file")]
    user: Option<String>,
    /// The file whose first line is the user's password
    #[arg(long, value_name = "FILE", env = "FREIGHT_PASSWORD_FILE", value_parser = password, requires = "user")]
    password_file: Option<Password>,
}

impl CredentialArgs {
    /// Who to connect as; `None` for nobody.
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let (user, password) = (self.user.as_deref()?, self.password_file.as_ref()?);
        Some(Credentials::new(user, password.bytes()).expect("both were checked as they were read"))
    }
}

/// Who a node is for other nodes. What belongs together may be said in different places, as environment and file, so it
/// is looked at together only when all is said.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Credentials")]
pub(super) struct PeerArgs {
    /// The user as whom the node asks others of its map, for Redis clients: one with read and write
    #[arg(long, value_name = "NAME", value_parser = name)]
    user: Option<String>,
    /// The file whose first line is that user's password
    #[arg(long, value_name = "FILE", value_parser = password_file)]
    password_file: Option<PasswordFile>,
}

/// A password, and where it was read.
#[derive(Debug, Clone)]
struct PasswordFile {
    path: PathBuf,
    password: Password,
}

impl PeerArgs {
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, String> {
        match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => {
                Ok(Some(Credentials::new(user, file.password.bytes()).expect("both were checked as they were read")))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err("--user needs --password-file".to_owned()),
            (None, Some(_)) => Err("--password-file needs --user".to_owned()),
        }
    }
}

/// The password of a served node's own user, and when it is read again.
#[derive(Debug)]
pub(super) struct PasswordReload {
    path: PathBuf,
    hangups: Hangups,
}

impl PasswordReload {
    /// From now on no SIGHUP finds the default action. `None` for a node that is nobody.
    pub(super) fn new(args: &PeerArgs) -> io::Result<Option<Self>> {
        let Some(file) = &args.password_file else { return Ok(None) };
        Ok(Some(Self { path: file.path.clone(), hangups: Hangups::new()? }))
    }

    /// Reads the file anew at each SIGHUP, for ever. One that cannot be used changes nothing.
    pub(super) async fn run(self, node: &Node) -> Infallible {
        let path = self.path.display();
        let reload = || {
            let read = Password::of_file(&self.path).map_err(|error| format!("{path}: {error}"));
            match read.and_then(|password| node.set_password(password.bytes()).map_err(|error| error.to_string())) {
                Ok(()) => tracing::info!("SIGHUP: {path} is read again"),
                Err(error) => tracing::error!("SIGHUP: the node's own password stays as it is: {error}"),
            }
        };
        self.hangups.each(reload).await
    }
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn password(path: &str) -> Result<Password, String> {
    Password::of_file(Path::new(path))
}

fn password_file(path: &str) -> Result<PasswordFile, String> {
    Ok(PasswordFile { path: path.into(), password: password(path)? })
}
