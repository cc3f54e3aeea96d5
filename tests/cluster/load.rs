//! Clients at hosts of their own, whose every call is taken down.
//!
//! ```text
//!   thread at client0 --tasks--> clients with a connection to each node, each with its host's copy of the map
//!   thread at client1 ...        ask, pause, ask, until they are told to stop
//! ```
#![forbid(unsafe_code)]

use crate::keys::Keyring;
use crate::nodes::Cluster;
use crate::recorded::Recorded;
use crate::support::history::{History, Recorder};
use crate::workload::Drawn;
use freight::client::{Client, ClientConfig, ClientError, Failure};
use freight::map;
use freight::transport::Endpoint;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// How much of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients_a_host: u32,
    /// Keys at a time.
    pub(crate) keys: usize,
    pub(crate) batch_ops_max: usize,
    /// How many calls are single operations.
    pub(crate) singles_percent: u32,
    /// How many calls are dropped in the middle.
    pub(crate) dropped_percent: u32,
    /// How many calls are a client's last: another one, with what its host knows, comes in its place.
    pub(crate) replaced_percent: u32,
    /// The longest pause between two calls of a client.
    pub(crate) pause: Duration,
    pub(crate) deadline: Duration,
    /// Whether clients go by a map; if not, by a list of servers, and over every loss.
    pub(crate) mapped: bool,
}

impl Load {
    pub(crate) const DEFAULT: Self = Self {
        clients_a_host: 6,
        keys: 60,
        batch_ops_max: 24,
        singles_percent: 25,
        dropped_percent: 1,
        replaced_percent: 2,
        pause: Duration::from_millis(50),
        deadline: Duration::from_millis(700),
        mapped: true,
    };
}

/// What clients and their tester share.
#[derive(Debug)]
pub(crate) struct Felt {
    pub(crate) keys: Keyring,
    /// Operations asked for.
    pub(crate) ops: AtomicU64,
    /// Those of batches that no node failed.
    answered: AtomicU64,
    /// Clients that could not begin.
    unstarted: AtomicU64,
    /// Calls that a node failed, in whole or in part.
    failures: Vec<AtomicU64>,
    /// Those of them that told of lost memory.
    losses: Vec<AtomicU64>,
    endpoints: Vec<Endpoint>,
    /// The highest epoch that a client goes by.
    epoch: AtomicU64,
    is_over: AtomicBool,
}

impl Felt {
    pub(crate) fn failures(&self, node: usize) -> u64 {
        self.failures[node].load(Ordering::Relaxed)
    }

    pub(crate) fn losses(&self, node: usize) -> u64 {
        self.losses[node].load(Ordering::Relaxed)
    }

    fn note(&self, failure: &Failure) {
        let lost = match &failure.error {
            ClientError::MemoryLost { endpoint } => Some(endpoint),
            _ => None,
        };
        let Some(endpoint) = failure.endpoint.as_ref().or(lost) else { return };
        let node = self.endpoints.iter().position(|known| known == endpoint).expect("a node of the map");
        self.failures[node].fetch_add(1, Ordering::Relaxed);
        self.losses[node].fetch_add(u64::from(lost.is_some()), Ordering::Relaxed);
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) fn unstarted(&self) -> u64 {
        self.unstarted.load(Ordering::Relaxed)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }
}

/// Clients at work.
pub(crate) struct Clients {
    pub(crate) felt: Arc<Felt>,
    recorder: Recorder,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn start(cluster: &Cluster<'_>, load: Load, seed: u64) -> Self {
        let endpoints = cluster.endpoints();
        let felt = Arc::new(Felt {
            keys: Keyring::new(load.keys),
            ops: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            unstarted: AtomicU64::new(0),
            failures: endpoints.iter().map(|_| AtomicU64::new(0)).collect(),
            losses: endpoints.iter().map(|_| AtomicU64::new(0)).collect(),
            endpoints,
            epoch: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let recorder = Recorder::new();
        let (ready, begun) = std::sync::mpsc::channel();
        let hosts = cluster.clients.iter().enumerate().map(|(index, host)| {
            let (network, host) = (cluster.network().clone(), host.clone());
            let at = AtHost { map: cluster.client_map_path(index), felt: Arc::clone(&felt), load, seed };
            let (recorder, first, ready) = (recorder.clone(), index as u32 * load.clients_a_host, ready.clone());
            std::thread::spawn(move || {
                network.enter(&host);
                at.run(&recorder, first, &ready);
            })
        });
        let threads: Vec<_> = hosts.collect();
        let clients = threads.len() * load.clients_a_host as usize;
        begun.iter().take(clients).for_each(|()| {});
        Self { felt, recorder, threads }
    }

    /// Puts records there that nobody asks for, so that what moves takes its time.
    pub(crate) fn fill(cluster: &Cluster<'_>) {
        const RECORDS: u32 = 40_000;
        const A_BATCH: u32 = 500;
        let config = ClientConfig { deadline: Duration::from_secs(600), ..ClientConfig::default() };
        cluster.block_on(async {
            let store = map::open(&cluster.client_map_path(0)).expect("a place");
            let client = Client::connect_mapped(store, config).await.expect("a map");
            for first in (0..RECORDS).step_by(A_BATCH as usize) {
                let mut batch = client.batch(A_BATCH);
                for number in first..first + A_BATCH {
                    batch.put(format!("in the way {number}").as_bytes(), &[0; 1_000]).expect("room");
                }
                assert_eq!(client.execute(batch).await.expect("an answer").failures().count(), 0);
            }
        });
    }

    /// Lets the calls in flight end, and tells what all were told.
    pub(crate) fn end(self) -> History {
        self.felt.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("clients do not panic"));
        self.recorder.history()
    }
}

#[derive(Clone)]
struct AtHost {
    map: PathBuf,
    felt: Arc<Felt>,
    load: Load,
    seed: u64,
}

impl AtHost {
    fn run(self, recorder: &Recorder, first: u32, ready: &Sender<()>) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tasks = LocalSet::new();
        for id in first..first + self.load.clients_a_host {
            let (at, recorder, ready) = (self.clone(), recorder.clone(), ready.clone());
            tasks.spawn_local(async move {
                let recorded = Recorded::new(id, at.client().await, &recorder);
                ready.send(()).expect("somebody waits");
                at.play(recorded, at.seed % 1_000 * 64 + u64::from(id)).await;
            });
        }
        runtime.block_on(tasks);
    }

    async fn client(&self) -> Client {
        loop {
            match self.try_client().await {
                Ok(client) => return client,
                // Without a map a client begins with a connection to every node: one may be dead.
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn try_client(&self) -> Result<Client, ClientError> {
        let config = ClientConfig { deadline: self.load.deadline, ..ClientConfig::default() };
        if self.load.mapped {
            Client::connect_mapped(map::open(&self.map).expect("a place"), config).await
        } else {
            Client::connect(&self.felt.endpoints, config).await
        }
    }

    async fn play(&self, mut recorded: Recorded, seed: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for call in 0.. {
            if self.felt.is_over.load(Ordering::Relaxed) {
                return;
            }
            self.call(&recorded, &mut random, seed, call).await;
            self.felt.epoch.fetch_max(recorded.client().map_epoch(), Ordering::Relaxed);
            if !self.load.mapped {
                recorded.client().acknowledge_memory_loss();
            }
            if random.random_range(0..100) < self.load.replaced_percent {
                match self.try_client().await {
                    Ok(client) => recorded.replace(client),
                    // The one before goes on.
                    Err(_) => _ = self.felt.unstarted.fetch_add(1, Ordering::Relaxed),
                }
            }
            sleep(self.load.pause.mul_f64(random.random_range(0.0..1.0))).await;
        }
    }

    async fn call(&self, recorded: &Recorded, random: &mut ChaCha8Rng, seed: u64, call: u32) {
        let load = self.load;
        let names = self.felt.keys.hold();
        let single = random.random_range(0..100) < load.singles_percent;
        let count = if single { 1 } else { random.random_range(1..=load.batch_ops_max) };
        let mut key = |random: &mut ChaCha8Rng| names.name(random.random_range(0..names.places()));
        let drawn: Vec<_> = (0..count).map(|_| Drawn::new(random, &mut key, seed, call)).collect();
        let ops: Vec<_> = drawn.iter().map(|drawn| drawn.op(recorded)).collect();
        self.felt.ops.fetch_add(count as u64, Ordering::Relaxed);
        let called = async {
            if single {
                recorded.issue(&ops[0]).await;
                return None;
            }
            Some(recorded.execute(&ops).await)
        };
        let failed = if random.random_range(0..100) < load.dropped_percent {
            let patience = Duration::from_micros(random.random_range(0..4_000));
            timeout(patience, called).await.ok().flatten()
        } else {
            called.await
        };
        let Some(failed) = failed else { return };
        if failed.is_empty() {
            self.felt.answered.fetch_add(count as u64, Ordering::Relaxed);
        }
        failed.iter().for_each(|failure| self.felt.note(failure));
    }
}
