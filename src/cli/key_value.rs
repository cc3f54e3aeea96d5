//! `freight get | put | touch | ttl | delete | ping`: a store at a shell.
//!
//! Standard output carries the answer alone; which transport carried it stands on standard error, as a line of the log
//! that `RUST_LOG=warn` silences.
#![forbid(unsafe_code)]

use super::credentials::CredentialArgs;
use super::tls::TlsArgs;
use super::{CommandResult, NOT_AS_EXPECTED, of_output, print, runtime};
use crate::client::{BatchError, Client, ClientConfig, ClientError, Lifetime};
use crate::limits::VALUE_BYTES_MAX;
use crate::map;
use crate::op::Expiry;
use crate::transport::rdma::RdmaOptions;
use crate::transport::{Endpoint, TransportOptions};
use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct NodesArgs {
    /// The nodes, in the order in which slots are dealt to them
    #[arg(long, value_name = "ENDPOINTS", value_delimiter = ',', default_value = "tcp://127.0.0.1:7411")]
    servers: Vec<Endpoint>,
    /// The shard map that names the nodes, a file or etcd://host:2379/prefix, instead of --servers
    #[arg(long, value_name = "PLACE", conflicts_with = "servers")]
    map: Option<PathBuf>,
    /// How long to wait for an answer, like 500ms
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    deadline: Duration,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    rdma: RdmaOptions,
}

#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The key, any bytes
    key: OsString,
    #[command(flatten)]
    nodes: NodesArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct PutArgs {
    /// The key, any bytes
    key: OsString,
    /// The value, any bytes; - reads standard input
    value: OsString,
    /// How long it is there, like 5s or 250ms, by the node's clock; for ever if not given
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    nodes: NodesArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct TouchArgs {
    /// The key, any bytes
    key: OsString,
    /// How long it is there from now on, like 5s or 250ms, or never to let it last for ever
    #[arg(value_name = "DURATION", value_parser = expiry)]
    expires: Expiry,
    #[command(flatten)]
    nodes: NodesArgs,
}

/// What becomes of a deadline: `never`, or a duration.
fn expiry(text: &str) -> Result<Expiry, humantime::DurationError> {
    match text {
        "never" => Ok(Expiry::Clear),
        text => humantime::parse_duration(text).map(Expiry::in_no_less_than),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct DeleteArgs {
    /// The key, any bytes
    key: OsString,
    #[command(flatten)]
    nodes: NodesArgs,
}

impl NodesArgs {
    /// Connects and runs something with the client.
    pub(super) fn with<T>(
        &self,
        run: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
    ) -> Result<T, Box<dyn std::error::Error>> {
        let transport = TransportOptions { rdma: self.rdma.clone(), tls: self.tls.client()? };
        let runtime = runtime()?;
        let result = runtime.block_on(async {
            let credentials = self.credentials.credentials();
            let config = ClientConfig { deadline: self.deadline, transport, credentials, ..ClientConfig::default() };
            let client = match &self.map {
                Some(place) => {
                    let store = map::open(place).map_err(ClientError::Map)?;
                    Client::connect_mapped(store, config).await?
                }
                None => Client::connect(&self.servers, config).await?,
            };
            let (how, epoch) = match client.map_epoch() {
                0 => ("connected to", String::new()),
                epoch => ("the map names", format!(", epoch {epoch}")),
            };
            for endpoint in client.endpoints() {
                tracing::info!("{how} {endpoint} (transport {}{epoch})", endpoint.scheme());
            }
            run(client).await
        });
        // A name being looked up past the deadline cannot be cancelled; nobody waits for it.
        runtime.shutdown_background();
        Ok(result?)
    }
}

pub(super) fn get(args: &GetArgs) -> CommandResult {
    let Some(value) = args.nodes.with(async |client| client.get(args.key.as_bytes()).await)? else {
        return Ok(ExitCode::from(NOT_AS_EXPECTED));
    };
    let mut out = io::stdout().lock();
    // A value is printed as it is; a person gets a line of it.
    let end: &[u8] = if out.is_terminal() { b"\n" } else { b"" };
    let written = out.write_all(&value).and_then(|()| out.write_all(end)).and_then(|()| out.flush());
    written.map_err(of_output)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn put(args: &PutArgs) -> CommandResult {
    let mut value = args.value.as_bytes().to_vec();
    if value == b"-" {
        value.clear();
        io::stdin().lock().read_to_end(&mut value)?;
    }
    if value.len() > VALUE_BYTES_MAX as usize {
        return Err(BatchError::ValueTooLong { got: value.len(), max: VALUE_BYTES_MAX }.into());
    }
    let key = args.key.as_bytes();
    args.nodes.with(async |client| match args.expires {
        Some(lifetime) => client.put_expiring(key, &value, lifetime).await,
        None => client.put(key, &value).await,
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn touch(args: &TouchArgs) -> CommandResult {
    let found = args.nodes.with(async |client| client.touch(args.key.as_bytes(), args.expires).await)?;
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_EXPECTED) })
}

/// How long a record is there: a duration, or `never` where it does not expire.
pub(super) fn ttl(args: &GetArgs) -> CommandResult {
    match args.nodes.with(async |client| client.lifetime(args.key.as_bytes()).await)? {
        None => return Ok(ExitCode::from(NOT_AS_EXPECTED)),
        Some(Lifetime::Forever) => print("never")?,
        Some(Lifetime::Left(left)) => print(humantime::format_duration(left))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn delete(args: &DeleteArgs) -> CommandResult {
    let found = args.nodes.with(async |client| client.delete(args.key.as_bytes()).await)?;
    Ok(if found { ExitCode::SUCCESS } else { ExitCode::from(NOT_AS_EXPECTED) })
}

pub(super) fn ping(args: &NodesArgs) -> CommandResult {
    let endpoints = args.with(async |client| client.ping().await.map(|()| client.endpoints()))?;
    for endpoint in endpoints {
        print(format_args!("{endpoint} answers (transport {})", endpoint.scheme()))?;
    }
    Ok(ExitCode::SUCCESS)
}
