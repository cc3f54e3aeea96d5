//! Slots that move between processes: commands, lines, exit codes, and a mover that is killed.
#![forbid(unsafe_code)]

#[path = "support/binary.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod binary;

use binary::{Done, Running, Served, run, serve_one};
use freight::client::{Client, ClientConfig};
use freight::map::{MapFile, ShardMap};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

const RECORDS: u32 = 60_000;

/// Nodes with a map that `freight cluster create` made.
struct Cluster {
    folder: TempDir,
    nodes: Vec<Served>,
}

impl Cluster {
    fn start(count: usize) -> Self {
        let mut cluster = Self { folder: tempfile::tempdir().expect("a scratch folder"), nodes: Vec::new() };
        (0..count).for_each(|_| cluster.serve());
        let servers: Vec<_> = cluster.nodes.iter().map(Served::endpoint).collect();
        let made = cluster.run(&["cluster", "create", "--servers", &servers.join(",")]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        for node in &mut cluster.nodes {
            node.process.signal(Signal::HUP);
            node.process.wait_for("map of epoch 1");
        }
        cluster
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cluster.toml")
    }

    fn serve(&mut self) {
        self.nodes.push(serve_one(&["--map", text(&self.path())]));
    }

    fn map(&self) -> ShardMap {
        MapFile::new(self.path()).read().expect("readable").expect("a map")
    }

    fn run(&self, command: &[&str]) -> Done {
        run(&[command, &["--map", text(&self.path())]].concat())
    }

    /// A command that does what it is asked; its lines.
    fn change(&self, command: &[&str]) -> String {
        let done = self.run(&[&["cluster"], command].concat());
        assert_eq!(done.code, Some(0), "{command:?}: {}", done.stderr);
        String::from_utf8(done.stdout).expect("text")
    }

    fn slots(&self) -> Vec<u32> {
        let map = self.map();
        (0..map.nodes().len()).map(|place| map.slots_of(place).count()).collect()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn client(path: PathBuf) -> Client {
    Client::connect_mapped(Arc::new(MapFile::new(path)), ClientConfig::default()).await.expect("a map")
}

fn key(number: u32) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

/// Puts all records, each with its key as its value.
fn fill(path: PathBuf) {
    runtime().block_on(async {
        let client = client(path).await;
        for first in (0..RECORDS).step_by(10_000) {
            let mut batch = client.batch(10_000);
            (first..first + 10_000).for_each(|number| batch.put(&key(number), &key(number)).expect("room"));
            assert_eq!(client.execute(batch).await.expect("an answer").failures().count(), 0);
        }
    });
}

/// Every record is where the newest map says, as it was put.
fn assert_nothing_lost(cluster: &Cluster) {
    runtime().block_on(async {
        let client = client(cluster.path()).await;
        for first in (0..RECORDS).step_by(10_000) {
            let mut batch = client.batch(10_000);
            (first..first + 10_000).for_each(|number| batch.get(&key(number)).expect("room"));
            let reply = client.execute(batch).await.expect("an answer");
            for (number, outcome) in (first..).zip(reply.outcomes()) {
                let value = &key(number)[..];
                assert_eq!(outcome, freight::op::Outcome::Value { value, version: None }, "record {number}");
            }
        }
    });
}

/// The nodes come to hold those records and so many others, each once.
fn assert_held_once(cluster: &Cluster, others: u64) {
    runtime().block_on(async {
        let client = client(cluster.path()).await;
        // What nodes tell of their stores is of a moment ago, and what moved away may still be on its way out.
        let mut looks = 0;
        loop {
            let held: u64 = client.stats().await.expect("they answer").iter().map(|stats| stats.store.records).sum();
            if held == u64::from(RECORDS) + others {
                return;
            }
            looks += 1;
            assert!(looks < 200, "{held} records");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

/// Adds to ten counters until it is told to stop; how often to each.
fn count(path: PathBuf, over: &AtomicBool) -> i64 {
    runtime().block_on(async {
        let client = client(path).await;
        let mut rounds = 0;
        while !over.load(Ordering::Relaxed) {
            let mut batch = client.batch(10);
            (0..10).for_each(|number: u32| batch.add(format!("counter {number}").as_bytes(), 1).expect("room"));
            let reply = client.execute(batch).await.expect("an answer");
            assert_eq!(reply.failures().map(|failure| failure.error.to_string()).collect::<Vec<_>>(), [""; 0]);
            rounds += 1;
        }
        for number in 0..10 {
            let counted = client.add(format!("counter {number}").as_bytes(), 0).await.expect("an answer");
            assert_eq!(counted, rounds, "counter {number}");
        }
        rounds
    })
}

#[test]
fn a_cluster_grows_and_shrinks_under_load_and_loses_nothing() {
    let mut cluster = Cluster::start(2);
    fill(cluster.path());
    let over = AtomicBool::new(false);
    let path = cluster.path();
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| count(path.clone(), &over));
        cluster.serve();
        let third = cluster.nodes[2].endpoint().to_owned();
        assert_eq!(cluster.change(&["add", &third]), "map of epoch 2\n");
        assert_eq!(cluster.slots(), [8_192, 8_192, 0]);
        let said = cluster.change(&["rebalance"]);
        assert_eq!(said.matches("moved, ").count(), 2, "{said}");
        assert_eq!(cluster.slots().iter().sum::<u32>(), 16_384);
        assert!(cluster.slots().iter().all(|slots| (5_461..=5_462).contains(slots)), "{:?}", cluster.slots());
        assert_eq!(cluster.change(&["status"]).lines().count(), 4);
        cluster.change(&["move", "0-99,9000", &third]);
        let (map, place) = (cluster.map(), 2);
        assert!([0, 99, 9_000].into_iter().all(|slot| map.owner(slot) == Some(place)));
        let first = map.nodes()[0].incarnation.to_string();
        cluster.change(&["remove", &first]);
        assert!(cluster.map().place_of(map.nodes()[0].incarnation).is_none());
        let slots = cluster.slots();
        assert!(slots.iter().sum::<u32>() == 16_384 && slots[0].abs_diff(slots[1]) <= 1, "{slots:?}");
        assert_eq!(cluster.change(&["status"]).lines().count(), 3);
        over.store(true, Ordering::Relaxed);
        assert!(counting.join().expect("nothing failed") > 0);
    });
    assert_nothing_lost(&cluster);
    assert_held_once(&cluster, 10);
    // Who was removed owns nothing, holds nothing, and knows.
    cluster.nodes[0].process.wait_for("owns nothing");
    let only = ["remove", cluster.nodes[1].endpoint()];
    cluster.change(&only);
    let last = cluster.run(&["cluster", "remove", cluster.nodes[2].endpoint()]);
    last.assert_one_line("the only node");
}

#[test]
fn a_mover_that_is_killed_or_interrupted_leaves_one_owner_and_every_record() {
    let cluster = Cluster::start(2);
    fill(cluster.path());
    let path = cluster.path();
    let mut ended = [0; 2];
    for (round, signal) in (0_u64..).zip([Signal::KILL, Signal::INT].repeat(4)) {
        let map = cluster.map();
        let from = usize::from(map.slots_of(0).count() == 0);
        let to = map.nodes()[1 - from].incarnation.to_string();
        let mut mover = Running::start(&["cluster", "move", "0-16383", &to, "--map", text(&path)]);
        let _began = mover.stdout.next();
        sleep(Duration::from_millis(round * 7));
        mover.signal(signal);
        let (code, said) = mover.end();
        ended[usize::from(code == Some(0))] += 1;
        assert_ne!(code, Some(2), "{said:?}");
        if code == Some(130) {
            assert!(said.iter().any(|line| line.contains("interrupted: ")), "{said:?}");
        }
        assert_nothing_lost(&cluster);
        // The same again does the rest.
        cluster.change(&["move", "0-16383", &to]);
        let place = 1 - from;
        assert_eq!(cluster.map().slots_of(place).count(), 16_384);
        assert_nothing_lost(&cluster);
        assert_held_once(&cluster, 0);
        cluster.change(&["status"]);
    }
    println!("stopped before its end or after: {ended:?}");
}

#[test]
fn a_dead_node_keeps_its_slots_until_its_death_is_confirmed() {
    let mut cluster = Cluster::start(2);
    let [dead, alive] = [0, 1].map(|place| cluster.nodes[place].endpoint().to_owned());
    let alive_too = cluster.run(&["cluster", "move", "0-9", &alive, "--confirm-dead", &dead, "--deadline", "500ms"]);
    alive_too.assert_one_line("answers: it is not dead");
    cluster.nodes[0].process.child.kill().expect("it runs");
    cluster.nodes[0].process.end();
    let refused = cluster.run(&["cluster", "move", "0-9", &alive, "--deadline", "500ms"]);
    assert_eq!(refused.code, Some(2));
    let last = refused.stderr.lines().last().expect("a line");
    assert!(last.contains(&format!("--confirm-dead {dead} takes its slots: the records of 8192 slots")), "{last}");
    let said = cluster.change(&["remove", &dead, "--confirm-dead", &dead, "--deadline", "500ms"]);
    assert!(said.starts_with("given up: the records of 8192 slots; "), "{said}");
    assert_eq!(cluster.slots(), [16_384]);
    assert_eq!(cluster.run(&["put", "k", "v"]).code, Some(0));
    for (command, words) in [
        (&["cluster", "move", "0-16384", &alive][..], "are no slots"),
        (&["cluster", "move", "0", "nobody"], "an incarnation has 32 hexadecimal digits"),
        (&["cluster", "move", "0", "tcp://127.0.0.1:1"], "names no node at tcp://127.0.0.1:1"),
        (&["cluster", "add", &alive], "two nodes have the incarnation"),
    ] {
        let done = cluster.run(command);
        assert!(done.code == Some(2) && done.stderr.contains(words), "{words}: {}", done.stderr);
    }
}
