//! The driver: client threads, their lanes, and the phases that lanes go through.
//!
//! Lanes are dealt to client threads by worker, so that all of a worker's lanes run beside its connection. One more
//! client, on the main thread, asks the nodes for their statistics between phases; it carries nothing while the clock
//! runs.
#![forbid(unsafe_code)]

use super::caller::{Caller, Told};
use super::config::{BenchConfig, ConfigError};
use super::lane::{Lane, LaneConfig, Pace};
use super::load::{LoadProgress, LoadSpec, load};
use super::machine::{self, CoreTime};
use super::measure::{Measure, Window};
use super::plan::{Plan, Seat};
use super::pool::{Pool, PoolSpec};
use super::progress::{BAR_PERIOD, LiveLine, LoadBar, say};
use super::report::{Carried, Memory, NodeWork, Phase, Topology};
use super::run::{BenchError, Target};
use super::text::{bytes, grouped};
use super::threads::ClientThread;
use super::wire_limit::{Carrying, FrameSizes};
use super::workload::Workload;
use crate::client::{BatchError, Client, ClientConfig, ClientError};
use crate::cores::Placement;
use crate::process;
use crate::transport::{Door, TransportOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// From the order to begin until the clock starts: every lane must have heard.
const LEAD_IN: Duration = Duration::from_millis(5);

/// What every client of the run is told.
pub(super) fn client_config(config: &BenchConfig) -> ClientConfig {
    let defaults = ClientConfig::default();
    ClientConfig {
        transport: TransportOptions { rdma: config.rdma.clone(), tls: config.tls.clone() },
        frame_bytes_max: defaults.frame_bytes_max.max(config.frame_bytes.unwrap_or(0)),
        // The node's limit holds.
        frames_in_flight_max: if config.one_way { u32::MAX } else { defaults.frames_in_flight_max },
        at_most_once: config.at_most_once,
        credentials: config.credentials.clone(),
        ..defaults
    }
}

/// Everything that lives from the first phase to the last.
#[derive(Debug)]
pub(super) struct Driver {
    config: BenchConfig,
    plan: Plan,
    threads: Vec<ClientThread>,
    /// As many as the plan has.
    clients: Vec<Caller>,
    /// In the order of workers; away while a phase runs.
    lanes: Vec<Lane>,
    pool_bytes: u64,
    control: Caller,
    nodes: usize,
}

impl Driver {
    /// Asks the nodes whether they are there, starts threads, draws pools, unless an earlier driver of the same flags
    /// left its own or the wire limit is all that shall be measured, and connects. `config` must be resolved.
    pub(super) async fn start(config: BenchConfig, endpoints: &[Door], drawn: Vec<Pool>) -> Result<Self, BenchError> {
        let control = Caller::connect(&config, endpoints).await?;
        if config.wire_limit == Some(true) {
            match control.frames().map(Client::forbids_wire_limit) {
                Some(None) => {}
                Some(Some(endpoint)) => return Err(BenchError::WireLimitForbidden { endpoint }),
                None => return Err(ConfigError::NoFrames.into()),
            }
        }
        let pinned = config.placement != Placement::Free;
        let seats = config.seats().into_iter().enumerate();
        let threads = seats.map(|(i, core)| ClientThread::start(i, pinned.then_some(core)));
        let threads = threads.collect::<Result<Vec<_>, _>>().map_err(BenchError::Thread)?;
        let plan = Plan::new(&config, threads.len(), endpoints.len());
        let wanted = !config.one_way && drawn.is_empty();
        let pools = if wanted { draw(&config, plan, &threads).await? } else { drawn };
        let pool_bytes = pools.iter().map(Pool::bytes).sum();
        let clients = connect(&config, plan, &threads, endpoints).await?;
        let lane_config = LaneConfig {
            batch: config.batch,
            value_bytes: value_bytes(&config),
            seed: config.seed,
            verify: config.verify,
            coalesced: config.is_coalesced(),
        };
        let first = config.part.unwrap_or_default().lanes(pools.len() as u32).1 as u16;
        let lanes = (first..).zip(pools).zip(plan.lanes()).map(|((writer, pool), Seat { thread, client })| {
            Lane::new(lane_config, writer, clients[client].clone(), pool, Arc::clone(&threads[thread].live))
        });
        let lanes = lanes.collect();
        Ok(Self { config, plan, threads, clients, lanes, pool_bytes, control, nodes: endpoints.len() })
    }

    /// Who talks to whom.
    pub(super) fn topology(&self, target: Target) -> Topology {
        let on_one_core = |(client, caller): (usize, &Caller)| {
            let core = self.thread_of(client).core;
            let cpus = caller.frames().map(Client::node_cpus).unwrap_or_default();
            cpus.into_iter().filter(|cpu| cpu.is_some() && cpu.map(usize::from) == core).count()
        };
        Topology {
            nodes: target.endpoints.iter().map(ToString::to_string).collect(),
            client_threads: self.threads.len() as u32,
            client_cores: self.threads.iter().filter_map(|thread| thread.core).collect(),
            connections: (self.clients.len() * self.nodes) as u32,
            connections_on_one_core: match target.node_cores {
                Some(_) => self.clients.iter().enumerate().map(on_one_core).sum::<usize>() as u32,
                None => 0,
            },
            node_in_process: target.node_cores.is_some(),
            nodes_on_this_machine: target.node_cores.is_some() || target.endpoints.iter().all(Door::is_here),
            node_cores: target.node_cores.unwrap_or_default(),
        }
    }

    /// Puts every record once.
    pub(super) async fn load(&self) -> Result<Measure, BenchError> {
        let spec = LoadSpec {
            records: self.config.records,
            keys: Workload::of(self.config.workload).keys,
            value_bytes: value_bytes(&self.config),
            seed: self.config.seed,
        };
        let progress = Arc::new(LoadProgress::default());
        let bar = LoadBar::start(spec.records);
        let mut loaders = JoinSet::new();
        for (i, client) in self.clients.iter().enumerate() {
            let task = load(client.clone(), spec, Arc::clone(&progress));
            self.thread_of(i).spawn_in(&mut loaders, task);
        }
        let mut moves = tokio::time::interval(BAR_PERIOD);
        let mut total: Option<Measure> = None;
        loop {
            tokio::select! {
                _ = moves.tick() => bar.moved(progress.done()),
                done = loaders.join_next() => match done {
                    Some(loader) => merge(&mut total, loader.expect(TASKS_END)?),
                    None => break,
                },
            }
        }
        bar.finish();
        Ok(total.expect("there is a client at least"))
    }

    /// Lets every lane issue batches for `length`; with a live line a second where somebody should see it.
    pub(super) async fn run(&mut self, length: Duration, live: bool) -> Result<Phase, BenchError> {
        let before = self.reading().await?;
        let window = Window::new(Instant::now() + LEAD_IN, length);
        let lanes = std::mem::take(&mut self.lanes);
        let count = lanes.len();
        let mut running = JoinSet::new();
        for (i, lane) in lanes.into_iter().enumerate() {
            let pace = self.pace(window, i, count);
            let task = async move { (i, lane.run(window, pace).await) };
            self.threads[self.plan.seat(i).thread].spawn_in(&mut running, task);
        }
        let mut line = LiveLine::start(self.live_operations());
        let mut seconds = tokio::time::interval_at((window.start + SECOND).into(), SECOND);
        let mut total = None;
        let mut back = Vec::with_capacity(count);
        loop {
            tokio::select! {
                _ = seconds.tick(), if live && back.is_empty() => line.print(self.live_operations()),
                done = running.join_next() => match done {
                    Some(done) => {
                        let (i, (lane, measure)) = done.expect(TASKS_END);
                        back.push((i, lane));
                        merge(&mut total, measure);
                    }
                    None => break,
                },
            }
        }
        back.sort_unstable_by_key(|(i, _)| *i);
        self.lanes = back.into_iter().map(|(_, lane)| lane).collect();
        self.phase(before, total.expect("there is a lane at least")).await
    }

    /// Measures the wire limit for half of the run's length, where that is wanted.
    pub(super) async fn wire_limit(&self, sizes: FrameSizes) -> Result<Option<Carried>, BenchError> {
        if self.config.wire_limit != Some(true) {
            return Ok(None);
        }
        self.carry("carrying", sizes, self.config.duration / 2).await.map(Some)
    }

    /// Sends one raw frame to every node: whatever is in its way is said in full.
    pub(super) async fn try_frame(&self, sizes: FrameSizes) -> Result<(), BenchError> {
        // Those beyond it would wait in the client, and count as in flight.
        let control = self.control.frames().expect(FRAMES);
        let (in_flight, max) = (self.config.frames_in_flight_a_connection(), control.frames_in_flight_max());
        if in_flight > u64::from(max) {
            return Err(BenchError::TooManyFrames { in_flight, max });
        }
        for node in 0..self.nodes {
            let tried = control.wire_limit(node, sizes.request_bytes, sizes.reply_bytes).await;
            tried.map_err(|error| match error {
                ClientError::Build(BatchError::FrameFull { needed: frame_bytes, max }) => {
                    BenchError::FrameTooLong { frame_bytes, max }
                }
                error => error.into(),
            })?;
        }
        Ok(())
    }

    /// Carries raw frames for `length`; `what` says so to who waits.
    pub(super) async fn carry(&self, what: &str, sizes: FrameSizes, length: Duration) -> Result<Carried, BenchError> {
        let FrameSizes { request_bytes, reply_bytes, ops_per_frame, frames_per_batch } = sizes;
        let (there, here) = (grouped(request_bytes.into()), grouped(reply_bytes.into()));
        let duration = humantime::format_duration(length);
        say(&format!(
            "{what} frames of {there} bytes there and {here} back, with no store behind them, for {duration}"
        ));
        let carriers = self.plan.carriers(frames_per_batch);
        let bytes = self.pool_bytes / carriers.len() as u64;
        let mut ready = Vec::with_capacity(carriers.len());
        for carrier in carriers {
            let client = self.clients[carrier.seat.client].frames().expect(FRAMES).clone();
            let nodes = self.nodes;
            let thread = &self.threads[carrier.seat.thread];
            ready.push((
                thread,
                thread.run(async move { Carrying::prepare(client, carrier, nodes, sizes, bytes) }).await?,
            ));
        }
        let before = self.reading().await?;
        let window = Window::new(Instant::now() + LEAD_IN, length);
        let mut carrying = JoinSet::new();
        for (thread, carrier) in ready {
            thread.spawn_in(&mut carrying, carrier.run(window));
        }
        let mut total = None;
        while let Some(done) = carrying.join_next().await {
            merge(&mut total, done.expect(TASKS_END));
        }
        let phase = self.phase(before, total.expect("there is a client at least")).await?;
        if let Some(kind) = phase.measure.errors.keys().next() {
            return Err(BenchError::WireLimit { kind });
        }
        Ok(Carried { phase, ops_per_frame, request_bytes, reply_bytes })
    }

    /// The average frames of a phase.
    pub(super) fn frame_sizes(phase: &Phase) -> FrameSizes {
        let measure = &phase.measure;
        let frames = measure.frames.max(1) as f64;
        FrameSizes {
            frames_per_batch: frames / measure.batches.max(1) as f64,
            request_bytes: (measure.bytes_sent as f64 / frames).round() as u32,
            reply_bytes: (measure.bytes_received as f64 / frames).round() as u32,
            ops_per_frame: measure.ops as f64 / frames,
        }
    }

    /// What memory holds now.
    pub(super) async fn memory(&self) -> Result<Memory, BenchError> {
        let nodes = self.control.told().await?;
        Ok(Memory {
            pool_bytes: self.pool_bytes,
            process_resident_bytes: process::resident_bytes().unwrap_or(0),
            nodes: nodes.into_iter().map(|told| told.memory).collect(),
        })
    }

    /// The flags and the pools, back.
    pub(super) fn into_parts(self) -> (BenchConfig, Vec<Pool>) {
        (self.config, self.lanes.into_iter().map(Lane::into_pool).collect())
    }

    /// The thread of a client.
    fn thread_of(&self, client: usize) -> &ClientThread {
        &self.threads[self.plan.thread_of(client)]
    }

    fn live_operations(&self) -> u64 {
        self.threads.iter().map(|thread| thread.live.load(Ordering::Relaxed)).sum()
    }

    /// When lane `lane` of `lanes` begins its batches: in an open loop lanes share the rate and take turns.
    fn pace(&self, window: Window, lane: usize, lanes: usize) -> Pace {
        let Some(rate) = self.config.rate else { return Pace::Closed };
        let spacing_ns = 1e9 * lanes as f64 / rate as f64;
        let batch_ns = spacing_ns * f64::from(self.config.batch);
        let offset = Duration::from_nanos((batch_ns * lane as f64 / lanes as f64) as u64);
        Pace::Open { first_turn: window.start + offset, spacing_ns }
    }

    async fn phase(&self, before: Reading, mut measure: Measure) -> Result<Phase, BenchError> {
        let after = self.reading().await?;
        let nodes: Vec<_> = after.nodes.iter().zip(&before.nodes).map(|(after, before)| after.since(before)).collect();
        let sum = |pick: fn(&NodeWork) -> u64| nodes.iter().map(pick).sum();
        if self.config.is_coalesced() {
            // Single calls don't know the frames they travelled in; the nodes do.
            measure.bytes_sent = sum(|node| node.bytes_received);
            measure.bytes_received = sum(|node| node.bytes_sent);
            measure.frames = sum(|node| node.frames);
        }
        Ok(Phase {
            measure,
            elapsed: after.at - before.at,
            machine_busy: after.cores.busy_since(before.cores),
            client_cpu_ns: after.client_ns.saturating_sub(before.client_ns),
            server_cpu_ns: Some(sum(|node| node.cpu_ns)),
            nodes,
        })
    }

    async fn reading(&self) -> Result<Reading, BenchError> {
        let mut client_ns = 0;
        for thread in &self.threads {
            client_ns += thread.cpu_ns().await;
        }
        let nodes = self.control.told().await?;
        Ok(Reading {
            at: Instant::now(),
            cores: CoreTime::now(),
            client_ns,
            nodes: nodes.into_iter().map(|Told { work, .. }| work).collect(),
        })
    }
}

const SECOND: Duration = Duration::from_secs(1);

const FRAMES: &str = "wire limits are measured where there are frames";

const TASKS_END: &str = "a task of the benchmark neither panics nor is aborted";

/// All clocks and counters between two phases.
#[derive(Debug)]
struct Reading {
    at: Instant,
    cores: CoreTime,
    client_ns: u64,
    nodes: Vec<NodeWork>,
}

fn merge(total: &mut Option<Measure>, more: Measure) {
    match total {
        Some(total) => total.merge(&more),
        None => *total = Some(more),
    }
}

/// Draws the pools of all lanes, each on the thread that will run it.
async fn draw(config: &BenchConfig, plan: Plan, threads: &[ClientThread]) -> Result<Vec<Pool>, BenchError> {
    let lanes = plan.lanes().count() as u32;
    let (lanes_in_all, first) = config.part.unwrap_or_default().lanes(lanes);
    let spec = PoolSpec {
        workload: Workload::of(config.workload),
        records: config.records,
        theta: config.theta,
        batch: config.batch,
        depth: config.depth.expect("the flags are resolved"),
        lanes: lanes_in_all,
        seed: config.seed,
    };
    let (needed_bytes, available_bytes) = (spec.bytes_about() * u64::from(lanes), machine::available_bytes());
    // The wire limit sends from as much memory again.
    if needed_bytes > available_bytes / 4 {
        return Err(BenchError::PoolTooLarge { needed_bytes, available_bytes });
    }
    let (batches, ops) = (spec.batches_a_lane(), spec.batch);
    let batches = u64::from(batches) * u64::from(lanes);
    say(&format!("drawing {} batches of {} operations", grouped(batches), grouped(ops.into())));
    let started = Instant::now();
    let drawing: Vec<_> = (first..)
        .zip(plan.lanes())
        .map(|(lane, seat)| threads[seat.thread].spawn(async move { Pool::draw(&spec, lane) }))
        .collect();
    let mut pools = Vec::with_capacity(lanes as usize);
    for pool in drawing {
        pools.push(pool.await.expect(TASKS_END));
    }
    let drawn = bytes(pools.iter().map(Pool::bytes).sum());
    say(&format!("drew {drawn} of them in {:.1} s", started.elapsed().as_secs_f64()));
    Ok(pools)
}

/// Every client of the plan, on its thread.
async fn connect(
    config: &BenchConfig,
    plan: Plan,
    threads: &[ClientThread],
    endpoints: &[Door],
) -> Result<Vec<Caller>, BenchError> {
    let mut clients = Vec::with_capacity(plan.clients);
    for i in 0..plan.clients {
        let endpoints = endpoints.to_vec();
        let config = config.clone();
        let connecting = async move { Caller::connect(&config, &endpoints).await };
        clients.push(threads[plan.thread_of(i)].run(connecting).await?);
    }
    Ok(clients)
}

fn value_bytes(config: &BenchConfig) -> u32 {
    config.value_size.expect("the flags are resolved")
}
