//! Sixty-four clients on four nodes, guests that come for one batch and go, connections that break and come back, maps
//! in etcd that change, slots that move: nothing grows but what nodes remember of clients that left, up to its bound.
//! `FREIGHT_SOAK_S` is how many seconds it takes (10); two fifths of it are for settling. From some 500 on that is
//! enough for nodes to come near the bound.
#![forbid(unsafe_code)]

use crate::maps::Keeper;
use crate::movers::{Moved, Mover};
use crate::network::in_a_network;
use crate::nodes::{Cluster, Plan};
use freight::client::{Client, ClientConfig, ClientError};
use freight::map::{self, MapStoreError};
use freight::op::Outcome;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::task::LocalSet;
use tokio::time::sleep;

const CLIENTS_A_HOST: u64 = 32;
const GUESTS_A_HOST: u64 = 4;
/// The least there is: so that the bound of what nodes remember is near.
const MEMORY: &str = "64MiB";
/// This process, in /proc.
const OWN: &str = "self";
const KEYS: u32 = 10_000;
const BATCH_OPS: u32 = 50;
const DEADLINE: Duration = Duration::from_secs(5);
const MAP_LATE_MAX: Duration = Duration::from_secs(60);
const SAMPLES_MIN: usize = 10;

/// What is counted, once a second, and by how much more it may be at the end: a share, and a number.
const GAUGES: [(&str, f64, u64); 8] = [
    // What a node allocated, and what of files is mapped: code comes when it is first run.
    (MEMORY_KIB, 0.0, 1 << 10),
    (CODE_KIB, 0.0, 1 << 10),
    // No more than its bound, which is below this.
    (REMEMBERED_KIB, 0.0, 6 << 10),
    // What the process of clients and relays allocated.
    ("own KiB", 0.05, 4 << 10),
    ("descriptors", 0.25, 16),
    ("threads", 0.25, 8),
    ("connections", 0.25, 16),
    ("tasks", 0.25, 32),
];

const MEMORY_KIB: &str = "memory KiB";
const CODE_KIB: &str = "code KiB";
const REMEMBERED_KIB: &str = "remembered KiB";

/// How much more memory and code may grow in a run of less than [`SETTLED_S`], whose nodes still do things for the
/// first time: a move, a chunk of records, a buffer in a huge page.
const UNSETTLED_KIB: u64 = 8 << 10;
const SETTLED_S: u64 = 60;

/// What a byte that is remembered may take of a node's memory: with the holes between, where connections were, 1.6.
const BYTES_A_REMEMBERED: u64 = 2;

/// Samples by process and gauge.
type Samples = BTreeMap<(String, &'static str), Vec<u64>>;

/// The clients of a host, on a thread.
struct Clients {
    runtime: Handle,
    thread: JoinHandle<()>,
}

#[derive(Clone)]
struct Driver {
    map: PathBuf,
    is_over: Arc<AtomicBool>,
    executed: Arc<AtomicU64>,
}

impl Driver {
    async fn client(&self, deadline: Duration) -> Client {
        let config = ClientConfig { deadline, ..ClientConfig::default() };
        let began = Instant::now();
        loop {
            match Client::connect_mapped(map::open(&self.map).expect("a place"), config.clone()).await {
                // A machine may stand still for a while.
                Err(ClientError::MapLate { .. } | ClientError::Map(MapStoreError::NoAnswer { .. }))
                    if began.elapsed() < MAP_LATE_MAX =>
                {
                    sleep(Duration::from_millis(100)).await;
                }
                client => return client.expect("a map"),
            }
        }
    }

    /// Reads and writes records that are there, until it is over; after one batch in so many as another client, and
    /// with pauses of up to so many milliseconds.
    async fn drive(&self, seed: u64, stays: u32, pause_ms_max: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut client = self.client(DEADLINE).await;
        while !self.is_over.load(Ordering::Relaxed) {
            let mut batch = client.batch(BATCH_OPS);
            let keys: Vec<_> = (0..BATCH_OPS).map(|_| key(random.random_range(0..KEYS))).collect();
            for (index, key) in keys.iter().enumerate() {
                let pushed = if index % 4 == 0 { batch.put(key, key) } else { batch.get(&key[..]) };
                pushed.expect("room");
            }
            let reply = client.execute(batch).await.expect("an answer");
            for (key, outcome) in keys.iter().zip(reply.outcomes()) {
                match outcome {
                    Outcome::Value { value, .. } => assert_eq!(value, key),
                    Outcome::Done { .. } => {}
                    Outcome::Unknown | Outcome::NotSent => continue,
                    outcome => panic!("{outcome:?} for a record that is there"),
                }
                self.executed.fetch_add(1, Ordering::Relaxed);
            }
            if random.random_range(0..stays) == 0 {
                client = self.client(DEADLINE).await;
            }
            sleep(Duration::from_millis(random.random_range(0..pause_ms_max))).await;
        }
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("record {number}, which is its own value, of some length").into_bytes()
}

fn start(cluster: &Cluster<'_>, host: usize, driver: Driver) -> Clients {
    let (network, at) = (cluster.network().clone(), cluster.clients[host].clone());
    let (ready, running) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        network.enter(&at);
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        ready.send(runtime.handle().clone()).expect("somebody waits");
        let (tasks, mut driven) = (LocalSet::new(), Vec::new());
        for number in 0..CLIENTS_A_HOST + GUESTS_A_HOST {
            let driver = driver.clone();
            let seed = host as u64 * (CLIENTS_A_HOST + GUESTS_A_HOST) + number;
            let (stays, pause_ms_max) = if number < CLIENTS_A_HOST { (100, 800) } else { (1, 50) };
            driven.push(tasks.spawn_local(async move { driver.drive(seed, stays, pause_ms_max).await }));
        }
        for client in driven {
            tasks.block_on(&runtime, client).expect("clients do not panic");
        }
    });
    Clients { runtime: running.recv().expect("it runs"), thread }
}

/// Writes every record once.
fn fill(cluster: &Cluster<'_>, driver: &Driver) {
    cluster.block_on(async {
        let client = driver.client(Duration::from_secs(600)).await;
        let mut batch = client.batch(KEYS);
        (0..KEYS).map(key).for_each(|key| batch.put(&key, &key).expect("room"));
        assert_eq!(client.execute(batch).await.expect("an answer").failures().count(), 0);
    });
}

/// Moves half of a node's slots to the next; whether they have moved.
fn move_half(cluster: &Cluster<'_>, from: usize) -> bool {
    let all = cluster.map().slots_of(from);
    let slots = all.ranges().flatten().take(all.count() as usize / 2).collect();
    Mover::start(cluster, &Moved { from, to: (from + 1) % cluster.nodes(), slots, at: 0 }).end().is_some()
}

/// The gauges of a process, by name.
fn process(samples: &mut Samples, name: &str, pid: &str) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |field: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of every process");
        line.split_whitespace().next().expect("a number").parse().expect("a number")
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count() as u64;
    let memory = if pid == OWN { "own KiB" } else { MEMORY_KIB };
    for (gauge, value) in [
        (memory, field("RssAnon:")),
        (CODE_KIB, field("RssFile:")),
        ("descriptors", descriptors),
        ("threads", field("Threads:")),
    ] {
        samples.entry((name.to_owned(), gauge)).or_default().push(value);
    }
}

#[test]
fn nothing_grows_under_sixty_four_clients() {
    let seconds = std::env::var("FREIGHT_SOAK_S").map_or(10, |text| text.parse().expect("seconds"));
    in_a_network("soak::nothing_grows_under_sixty_four_clients", 0, |network| {
        let mut cluster = Cluster::start(network, Plan { keeper: Keeper::Etcd, memory: Some(MEMORY), ..Plan::DEFAULT });
        let (is_over, executed) = (Arc::default(), Arc::default());
        let driver = |host| Driver {
            map: cluster.client_map_path(host),
            is_over: Arc::clone(&is_over),
            executed: Arc::clone(&executed),
        };
        fill(&cluster, &driver(0));
        let clients: Vec<_> = (0..2).map(|host| start(&cluster, host, driver(host))).collect();
        let (mut samples, mut moves) = (Samples::new(), 0);
        let began = Instant::now();
        for second in 0.. {
            if second >= SAMPLES_MIN && began.elapsed() >= Duration::from_secs(seconds) {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
            let relayed: Vec<_> = (0..cluster.nodes()).filter(|node| cluster.is_relayed(*node)).collect();
            cluster.relay_of(relayed[second % relayed.len()]).set(|faults| faults.drops += 1);
            cluster.publish();
            if second % 4 == 3 {
                moves += u32::from(move_half(&cluster, second / 4 % cluster.nodes()));
            }
            process(&mut samples, "clients", OWN);
            let tasks = clients.iter().map(|clients| clients.runtime.metrics().num_alive_tasks() as u64).sum();
            samples.entry(("clients".to_owned(), "tasks")).or_default().push(tasks);
            for node in 0..cluster.nodes() {
                let name = format!("node{node}");
                process(&mut samples, &name, &cluster.pid(node).to_string());
                let remembered = cluster.charged(node, "completions") >> 10;
                samples.entry((name.clone(), REMEMBERED_KIB)).or_default().push(remembered);
                let connections = cluster.stats(node).connections;
                samples.entry((name, "connections")).or_default().push(connections);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|clients| clients.thread.join().expect("it says why it panicked"));
        println!("{} operations and {moves} moves in {:?}", executed.load(Ordering::Relaxed), began.elapsed());
        let grown: Vec<_> =
            samples.iter().filter(|(of, values)| has_grown(of.1, values, accounted(&samples, of, seconds))).collect();
        samples.iter().for_each(|((name, gauge), values)| println!("{name:8} {gauge:14} {}", shown(values)));
        assert!(grown.is_empty(), "{grown:?}");
        assert!(executed.load(Ordering::Relaxed) > 1_000 && moves > 0, "hardly any load");
    });
}

/// The most in the third fifth, behind two of settling, and in the last.
fn ends(values: &[u64]) -> (u64, u64) {
    let fifth = (values.len() / 5).max(1);
    let most = |values: &[u64]| values.iter().copied().max().expect("a sample a second");
    (most(&values[2 * fifth..3 * fifth]), most(&values[values.len() - fifth..]))
}

/// By how much more a gauge may be at the end for what its node remembers more, and in a short run.
fn accounted(samples: &Samples, (name, gauge): &(String, &'static str), seconds: u64) -> u64 {
    let is_unsettled = seconds < SETTLED_S && [MEMORY_KIB, CODE_KIB].contains(gauge);
    let unsettled = if is_unsettled { UNSETTLED_KIB } else { 0 };
    let remembered = samples.get(&(name.clone(), REMEMBERED_KIB)).filter(|_| *gauge == MEMORY_KIB);
    let more = remembered.map_or(0, |values| ends(values).1.saturating_sub(ends(values).0));
    unsettled + BYTES_A_REMEMBERED * more
}

fn has_grown(gauge: &str, values: &[u64], accounted: u64) -> bool {
    let (_, share, number) = GAUGES.iter().find(|(name, ..)| *name == gauge).expect("a gauge");
    let (first, last) = ends(values);
    last > first + (first as f64 * share) as u64 + number + accounted
}

/// The most in each fifth.
fn shown(values: &[u64]) -> String {
    let fifths = values.chunks(values.len().div_ceil(5)).filter_map(|fifth| fifth.iter().max());
    fifths.map(|most| format!("{most:7}")).collect()
}

#[test]
fn growth_is_seen() {
    let (steady, growing) = (vec![100_000; 50], (0..50).map(|second| 100_000 + second * 10_000).collect::<Vec<u64>>());
    for (gauge, ..) in GAUGES {
        assert!(!has_grown(gauge, &steady, 0), "{gauge}");
        assert!(has_grown(gauge, &growing, 0), "{gauge}");
    }
    let of = |gauge| ("node0".to_owned(), gauge);
    let samples = Samples::from([(of(REMEMBERED_KIB), growing.clone()), (of(MEMORY_KIB), growing.clone())]);
    assert!(
        !has_grown(MEMORY_KIB, &growing, accounted(&samples, &of(MEMORY_KIB), SETTLED_S)),
        "a node remembers that much more"
    );
}
