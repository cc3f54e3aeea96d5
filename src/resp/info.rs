//! INFO: what the node says of itself, in the sections and words that Redis clients and monitors read.
#![forbid(unsafe_code)]

use super::data::Words;
use super::host::{Host, NodeFacts};
use super::local::REDIS_VERSION;
use super::output::{Lend, Output};
use super::session::Session;
use std::fmt::Write as _;

/// Appends the lines of a section.
type Section = fn(&NodeFacts, &mut String);

/// The sections, in their order.
const SECTIONS: &[(&str, Section)] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("CPU", cpu),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
];

/// Answers with the sections that are asked for, all where none is.
pub(super) fn answer<L: Lend, H: Host>(session: &Session, words: Words<'_>, host: &mut H, output: &mut Output<L>) {
    let is_all = |at| ["all", "default", "everything"].iter().any(|word| words.is(at, word));
    let everything = words.len() == 1 || (1..words.len()).any(is_all);
    let facts = host.facts();
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if everything || (1..words.len()).any(|at| words.is(at, name)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            text.push_str(&format!("# {name}\r\n"));
            section(&facts, &mut text);
        }
    }
    output.text(session.tally.protocol, &text);
}

/// One line.
fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    write!(text, "{name}:{value}\r\n").expect("strings take any text");
}

fn server(facts: &NodeFacts, text: &mut String) {
    let uptime = facts.stats.uptime_seconds as u64;
    line(text, "redis_version", REDIS_VERSION);
    line(text, "redis_mode", "standalone");
    line(text, "freight_version", &facts.stats.version);
    line(text, "arch_bits", usize::BITS);
    line(text, "process_id", facts.process);
    line(text, "run_id", &facts.stats.incarnation);
    line(text, "tcp_port", facts.port);
    line(text, "uptime_in_seconds", uptime);
    line(text, "uptime_in_days", uptime / 86_400);
    line(text, "io_threads_active", facts.stats.threads.len());
}

fn clients(facts: &NodeFacts, text: &mut String) {
    line(text, "connected_clients", facts.stats.connections);
    line(text, "maxclients", facts.connections_max);
    line(text, "blocked_clients", 0);
}

fn memory(facts: &NodeFacts, text: &mut String) {
    let used = facts.stats.memory_bytes_used;
    line(text, "used_memory", used);
    line(text, "used_memory_human", format_args!("{:.2}M", used as f64 / f64::from(1 << 20)));
    line(text, "used_memory_dataset", facts.stats.store.payload_bytes);
    line(text, "maxmemory", facts.stats.memory_bytes_max.unwrap_or(0));
    line(text, "maxmemory_policy", policy(&facts.stats.eviction));
}

/// What becomes of records where memory is full, in Redis's words where it has some.
pub(super) fn policy(eviction: &str) -> String {
    if eviction == "none" { "noeviction".to_owned() } else { format!("allkeys-{eviction}") }
}

fn persistence(_: &NodeFacts, text: &mut String) {
    line(text, "loading", 0);
    line(text, "rdb_bgsave_in_progress", 0);
    line(text, "aof_enabled", 0);
}

fn stats(facts: &NodeFacts, text: &mut String) {
    line(text, "total_operations_processed", facts.stats.operations);
    line(text, "total_batches_processed", facts.stats.frames);
    line(text, "total_net_input_bytes", facts.stats.bytes_received);
    line(text, "total_net_output_bytes", facts.stats.bytes_sent);
    line(text, "expired_keys", facts.stats.store.records_expired);
    line(text, "evicted_keys", facts.stats.store.records_evicted);
    line(text, "rejected_connections", facts.stats.refusals);
}

fn replication(_: &NodeFacts, text: &mut String) {
    line(text, "role", "master");
    line(text, "connected_slaves", 0);
}

fn cpu(facts: &NodeFacts, text: &mut String) {
    line(text, "used_cpu_threads", format_args!("{:.6}", facts.stats.cpu_ns as f64 / 1e9));
}

fn cluster(facts: &NodeFacts, text: &mut String) {
    // What it means by a cluster has other slots and another protocol than ours.
    line(text, "cluster_enabled", 0);
    line(text, "freight_map", u8::from(facts.is_mapped));
    line(text, "freight_map_epoch", facts.stats.map_epoch);
    line(text, "freight_slots", facts.stats.slots);
}

fn keyspace(facts: &NodeFacts, text: &mut String) {
    let store = &facts.stats.store;
    if store.records > 0 {
        line(text, "db0", format_args!("keys={},expires={}", store.records, store.records_expiring));
    }
}
