//! Who a command is, for nodes that have users: flags, or the environment for every command of a shell.
#![forbid(unsafe_code)]

use super::password::Password;
use crate::auth::{Credentials, check_name};
use std::path::Path;

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
    #[arg(long, value_name = "FILE", value_parser = password)]
    password_file: Option<Password>,
}

impl PeerArgs {
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, String> {
        match (&self.user, &self.password_file) {
            (Some(user), Some(password)) => {
                Ok(Some(Credentials::new(user, password.bytes()).expect("both were checked as they were read")))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err("--user needs --password-file".to_owned()),
            (None, Some(_)) => Err("--password-file needs --user".to_owned()),
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn password(path: &str) -> Result<Password, String> {
    Password::of_file(Path::new(path))
}
