//! Sixty-four clients on four nodes, connections that break and come back, clients that come and go, maps in etcd that
//! change, slots that move: nothing grows but what nodes remember of clients that left, up to its bound.
//! `FREIGHT_SOAK_S` is how many seconds it takes (10); a fifth of it is for settling.
#![forbid(unsafe_code)]

use crate::maps::Keeper;
use crate::movers::{Moved, Mover};
use crate::network::in_a_network;
use crate::nodes::{Cluster, Plan};
use freight::client::{Client, ClientConfig};
use freight::map;
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
const KEYS: u32 = 10_000;
const BATCH_OPS: u32 = 50;
const DEADLINE: Duration = Duration::from_secs(5);
const SAMPLES_MIN: usize = 10;

/// What is counted, once a second, and by how much more it may be at the end: a share, and a number.
const GAUGES: [(&str, f64, u64); 6] = [
    ("resident KiB", 0.05, 8 << 10),
    ("remembered KiB", 0.0, 64 << 10),
    ("descriptors", 0.25, 16),
    ("threads", 0.25, 8),
    ("connections", 0.25, 16),
    ("tasks", 0.25, 32),
];

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
        Client::connect_mapped(map::open(&self.map).expect("a file"), config).await.expect("a map")
    }

    /// Reads and writes records that are there, until it is over.
    async fn drive(&self, seed: u64) {
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
            if random.random_range(0..100) == 0 {
                client = self.client(DEADLINE).await;
            }
            sleep(Duration::from_millis(random.random_range(0..800))).await;
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
        let tasks = LocalSet::new();
        for number in 0..CLIENTS_A_HOST {
            let driver = driver.clone();
            tasks.spawn_local(async move { driver.drive(host as u64 * CLIENTS_A_HOST + number).await });
        }
        runtime.block_on(tasks);
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
fn process(samples: &mut BTreeMap<(String, &'static str), Vec<u64>>, name: &str, pid: &str) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let field = |field: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of every process");
        line.split_whitespace().next().expect("a number").parse().expect("a number")
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count() as u64;
    let gauges = [("resident KiB", field("VmRSS:")), ("descriptors", descriptors), ("threads", field("Threads:"))];
    for (gauge, value) in gauges {
        samples.entry((name.to_owned(), gauge)).or_default().push(value);
    }
}

#[test]
fn nothing_grows_under_sixty_four_clients() {
    let seconds = std::env::var("FREIGHT_SOAK_S").map_or(10, |text| text.parse().expect("seconds"));
    in_a_network("soak::nothing_grows_under_sixty_four_clients", 0, |network| {
        let mut cluster = Cluster::start(network, Plan { keeper: Keeper::Etcd, ..Plan::DEFAULT });
        let (is_over, executed) = (Arc::default(), Arc::default());
        let driver = |host| Driver {
            map: cluster.client_map_path(host),
            is_over: Arc::clone(&is_over),
            executed: Arc::clone(&executed),
        };
        fill(&cluster, &driver(0));
        let clients: Vec<_> = (0..2).map(|host| start(&cluster, host, driver(host))).collect();
        let (mut samples, mut moves) = (BTreeMap::new(), 0);
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
            process(&mut samples, "clients", "self");
            let tasks = clients.iter().map(|clients| clients.runtime.metrics().num_alive_tasks() as u64).sum();
            samples.entry(("clients".to_owned(), "tasks")).or_default().push(tasks);
            for node in 0..cluster.nodes() {
                let name = format!("node{node}");
                process(&mut samples, &name, &cluster.pid(node).to_string());
                let remembered = cluster.charged(node, "completions") >> 10;
                samples.entry((name.clone(), "remembered KiB")).or_default().push(remembered);
                let connections = cluster.stats(node).connections;
                samples.entry((name, "connections")).or_default().push(connections);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|clients| clients.thread.join().expect("clients do not panic"));
        println!("{} operations and {moves} moves in {:?}", executed.load(Ordering::Relaxed), began.elapsed());
        let grown: Vec<_> = samples.iter().filter(|((_, gauge), values)| has_grown(gauge, values)).collect();
        samples.iter().for_each(|((name, gauge), values)| println!("{name:8} {gauge:14} {}", shown(values)));
        assert!(grown.is_empty(), "{grown:?}");
        assert!(executed.load(Ordering::Relaxed) > 1_000 && moves > 0, "hardly any load");
    });
}

/// The most in the first fifth after settling, and in the last.
fn ends(values: &[u64]) -> (u64, u64) {
    let fifth = (values.len() / 5).max(1);
    let most = |values: &[u64]| values.iter().copied().max().expect("a sample a second");
    (most(&values[fifth..2 * fifth]), most(&values[values.len() - fifth..]))
}

fn has_grown(gauge: &str, values: &[u64]) -> bool {
    let (_, share, number) = GAUGES.iter().find(|(name, ..)| *name == gauge).expect("a gauge");
    let (first, last) = ends(values);
    last > first + (first as f64 * share) as u64 + number
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
        assert!(!has_grown(gauge, &steady), "{gauge}");
        assert!(has_grown(gauge, &growing), "{gauge}");
    }
}
