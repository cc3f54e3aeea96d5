//! Who carries a lane's batches: the public client, or pipelines of Redis's commands.
#![forbid(unsafe_code)]

use super::commands::{told, told_records};
use super::config::{BenchConfig, ConfigError};
use super::driver::client_config;
use super::report::{NodeMemory, NodeWork};
use super::run::BenchError;
use super::talk::{Talk, Talker};
use crate::client::{Batch, BatchError, Client, ClientError};
use crate::hash;
use crate::map;
use crate::metrics::NodeStats;
use crate::transport::{Door, Endpoint, RedisEndpoint};
use std::convert::Infallible;

/// A connection to all servers of a run.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Frames.
    Frames(Client),
    /// Commands.
    Resp(Talker),
}

impl Caller {
    /// Connects to every server; by the map, where there is one.
    pub(super) async fn connect(config: &BenchConfig, doors: &[Door]) -> Result<Self, BenchError> {
        if let Some(path) = &config.map {
            let store = map::open(path).map_err(ClientError::Map)?;
            let client = Client::connect_mapped(store, client_config(config)).await?;
            client.ping().await?;
            return Ok(Self::Frames(client));
        }
        if doors.is_empty() {
            return Err(ClientError::BadNodeCount { got: 0, max: crate::limits::SLOTS }.into());
        }
        let frames: Vec<Endpoint> = doors.iter().filter_map(frames).collect();
        if frames.len() == doors.len() {
            return Ok(Self::Frames(Client::connect(&frames, client_config(config)).await?));
        }
        if !frames.is_empty() {
            return Err(ConfigError::TwoProtocols.into());
        }
        let doors = doors.iter().filter_map(redis);
        Ok(Self::Resp(Talker::connect(doors, config.tls.client.as_ref(), config.credentials.clone()).await?))
    }

    /// Asks every server whether it is there.
    pub(super) async fn ping(&self) -> Result<(), BenchError> {
        match self {
            Self::Frames(client) => Ok(client.ping().await?),
            Self::Resp(_) => self.told().await.map(drop),
        }
    }

    /// What every server tells of itself.
    pub(super) async fn told(&self) -> Result<Vec<Told>, BenchError> {
        match self {
            Self::Frames(client) => Ok(client.stats().await?.iter().map(Told::of_node).collect()),
            Self::Resp(talker) => {
                let infos = talker.talk().await.infos().await?;
                Ok(infos.iter().map(|info| Told::of_redis(info)).collect())
            }
        }
    }

    /// The client of frames: what measures wire limits has no other.
    pub(super) fn frames(&self) -> Option<&Client> {
        match self {
            Self::Frames(client) => Some(client),
            Self::Resp(_) => None,
        }
    }
}

fn frames(door: &Door) -> Option<Endpoint> {
    match door {
        Door::Frames(endpoint) => Some(endpoint.clone()),
        Door::Redis(_) => None,
    }
}

fn redis(door: &Door) -> Option<RedisEndpoint> {
    match door {
        Door::Frames(_) => None,
        Door::Redis(endpoint) => Some(endpoint.clone()),
    }
}

/// What a server tells of itself.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) work: NodeWork,
    pub(super) memory: NodeMemory,
}

impl Told {
    fn of_node(stats: &NodeStats) -> Self {
        let memory = NodeMemory {
            records: stats.store.records,
            payload_bytes: stats.store.payload_bytes,
            used_bytes: stats.memory_bytes_used,
            cap_bytes: stats.memory_bytes_max,
        };
        Self { work: NodeWork::of(stats), memory }
    }

    /// By its INFO: our own name of a number first, then Redis's.
    fn of_redis(info: &str) -> Self {
        let number = |names: &[&str]| names.iter().map(|name| told(info, name)).sum::<f64>() as u64;
        let cpu_seconds = ["used_cpu_threads", "used_cpu_user", "used_cpu_sys"].map(|name| told(info, name));
        let work = NodeWork {
            operations: number(&["total_operations_processed", "total_commands_processed"]),
            frames: number(&["total_batches_processed"]),
            bytes_received: number(&["total_net_input_bytes"]),
            bytes_sent: number(&["total_net_output_bytes"]),
            cpu_ns: (cpu_seconds.iter().sum::<f64>() * 1e9) as u64,
        };
        let memory = NodeMemory {
            records: told_records(info),
            payload_bytes: number(&["used_memory_dataset"]),
            used_bytes: number(&["used_memory"]),
            cap_bytes: Some(number(&["maxmemory"])).filter(|bytes| *bytes > 0),
        };
        Self { work, memory }
    }
}

/// Takes the operations of a batch, in their order.
pub(super) trait Ops {
    /// Why one does not fit.
    type Error;

    /// Appends a get.
    fn get(&mut self, key: hash::Key<'_>) -> Result<(), Self::Error>;

    /// Appends a put.
    fn put(&mut self, key: hash::Key<'_>, value: &[u8]) -> Result<(), Self::Error>;
}

impl Ops for Batch {
    type Error = BatchError;

    #[inline(always)]
    fn get(&mut self, key: hash::Key<'_>) -> Result<(), BatchError> {
        Self::get(self, key)
    }

    #[inline]
    fn put(&mut self, key: hash::Key<'_>, value: &[u8]) -> Result<(), BatchError> {
        Self::put(self, &key, value)
    }
}

impl Ops for Talk {
    type Error = Infallible;

    #[inline]
    fn get(&mut self, key: hash::Key<'_>) -> Result<(), Infallible> {
        Self::get(self, key);
        Ok(())
    }

    #[inline]
    fn put(&mut self, key: hash::Key<'_>, value: &[u8]) -> Result<(), Infallible> {
        Self::put(self, key, value);
        Ok(())
    }
}
