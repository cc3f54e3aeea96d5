//! The page that Prometheus reads: `docs/OPERATING.md` tells each metric, and a test that both name the same.
#![forbid(unsafe_code)]

use super::ended::{CLASSES, REASONS};
use super::node::Shared;
use crate::metrics::{Counters, Durations, NodeStats};
use crate::process;
use crate::transport::tls::TlsNode;
use crate::wire::{OpCode, Status};
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything there is to tell, in Prometheus's text format, version 0.0.4.
pub(super) fn page(shared: &Shared) -> String {
    let stats = shared.stats_told();
    let mut page = Page(String::with_capacity(16 << 10));
    node(&mut page, shared, &stats);
    traffic(&mut page, shared, &stats);
    operations(&mut page, shared);
    batches(&mut page, shared);
    connections(&mut page, shared, &stats);
    memory(&mut page, shared, &stats);
    store(&mut page, &stats);
    cluster(&mut page, shared, &stats);
    process(&mut page);
    page.0
}

fn node(page: &mut Page, shared: &Shared, stats: &NodeStats) {
    page.family("freight_build_info", "gauge", "Version of the node's software; always 1.");
    page.sample("freight_build_info", &[("version", &stats.version)], 1);
    page.gauge("freight_uptime_seconds", "Seconds since the node started.", stats.uptime_seconds);
    let ready = u8::from(shared.readiness().is_ok());
    page.gauge("freight_ready", "1 where the node can be used, as /readyz says.", ready);
    page.family("freight_thread_cpu_seconds_total", "counter", "Time each thread spent on a processor.");
    for (thread, stats) in stats.threads.iter().enumerate() {
        let labels = [("thread", &thread.to_string()[..])];
        page.sample("freight_thread_cpu_seconds_total", &labels, seconds(stats.cpu_ns));
    }
}

fn traffic(page: &mut Page, shared: &Shared, stats: &NodeStats) {
    page.counter("freight_frames_total", "Frames answered, and batches of Redis commands.", stats.frames);
    page.counter("freight_received_bytes_total", "Bytes of requests.", stats.bytes_received);
    page.counter("freight_sent_bytes_total", "Bytes of replies.", stats.bytes_sent);
    let slow = shared.slow.count();
    page.counter("freight_slow_batches_total", "Batches that took as long as --slow-batch says.", slow);
    let samples = shared.hot_keys.as_ref().map_or(0, |hot_keys| hot_keys.samples());
    page.counter("freight_hot_key_samples_total", "Operations that were looked at to find hot keys.", samples);
    let profiling = u8::from(shared.profiler.is_busy());
    page.gauge("freight_profiling", "1 while somebody takes a profile of the running node.", profiling);
}

/// Kinds of operations, and the result that is told of each before it first happens.
const KINDS: [(OpCode, &str, Status); 6] = [
    (OpCode::Get, "get", Status::Value),
    (OpCode::Put, "put", Status::Done),
    (OpCode::Delete, "delete", Status::Done),
    (OpCode::CompareAndSwap, "compare_and_swap", Status::Done),
    (OpCode::Add, "add", Status::Counter),
    (OpCode::Edit, "edit", Status::Edited),
];

const RESULTS: [(Status, &str); 14] = [
    (Status::Value, "value"),
    (Status::Done, "done"),
    (Status::Counter, "counter"),
    (Status::NotFound, "not_found"),
    (Status::VersionMismatch, "version_mismatch"),
    (Status::NotANumber, "not_a_number"),
    (Status::CounterOverflow, "counter_overflow"),
    (Status::OutOfMemory, "out_of_memory"),
    (Status::ReplyFull, "reply_full"),
    (Status::WrongNode, "wrong_node"),
    (Status::Unknown, "unknown"),
    (Status::Edited, "edited"),
    (Status::EditedBefore, "edited_before"),
    (Status::ValueTooLong, "value_too_long"),
];

fn operations(page: &mut Page, shared: &Shared) {
    page.family("freight_operations_total", "counter", "Operations answered, by kind and result.");
    for (kind, kind_name, usual) in KINDS {
        for (result, result_name) in RESULTS {
            let each = shared.workers.iter();
            let count: u64 = each.map(|worker| worker.counters.outcomes.count(kind as u8, result as u8)).sum();
            if count > 0 || result == usual {
                page.sample("freight_operations_total", &[("kind", kind_name), ("result", result_name)], count);
            }
        }
    }
}

fn batches(page: &mut Page, shared: &Shared) {
    const NAME: &str = "freight_batch_seconds";
    page.family(NAME, "histogram", "Time each batch took in the store, without its transport.");
    let (mut steps, mut sum_ns) = ([0; Durations::STEPS], 0);
    for worker in &shared.workers {
        let (own, own_ns) = worker.counters.batch_times.read();
        steps.iter_mut().zip(own).for_each(|(step, own)| *step += own);
        sum_ns += own_ns;
    }
    let mut up_to = 0;
    for (step, count) in steps.into_iter().enumerate() {
        up_to += count;
        let end = Durations::end_ns(step).map_or_else(|| "+Inf".to_owned(), |end| seconds(end).to_string());
        page.sample(&format!("{NAME}_bucket"), &[("le", &end)], up_to);
    }
    page.sample(&format!("{NAME}_sum"), &[], seconds(sum_ns));
    page.sample(&format!("{NAME}_count"), &[], up_to);
}

fn connections(page: &mut Page, shared: &Shared, stats: &NodeStats) {
    page.gauge("freight_connections", "Open connections.", stats.connections);
    page.gauge("freight_connections_max", "Connections served at a time.", shared.limits().connections_max);
    let accepted = sum(shared, |counters| &counters.accepted);
    page.counter("freight_connections_accepted_total", "Connections taken, refused ones too.", accepted);
    let counts = shared.endings.read();
    let ended = "Connections refused, or ended otherwise than by their client closing them.";
    page.family("freight_connections_ended_total", "counter", ended);
    for reason in REASONS {
        let count = counts.reasons.get(reason).copied().unwrap_or(0);
        page.sample("freight_connections_ended_total", &[("reason", reason)], count);
    }
    if let Some(expires) = shared.config.transport.tls.node.as_ref().and_then(TlsNode::expires) {
        let told = "When the certificate that new connections are shown expires, in seconds of Unix time.";
        page.gauge("freight_tls_certificate_expiry_seconds", told, expires);
    }
    let throttled = shared.accounts.throttled();
    let held = "Times a client was held to its rate or its bytes in flight, by the limit.";
    page.family("freight_throttled_total", "counter", held);
    for (limit, count) in
        [("operations", &throttled.operations), ("denied", &throttled.denied), ("bytes", &throttled.bytes)]
    {
        page.sample("freight_throttled_total", &[("limit", limit)], count.load(Ordering::Relaxed));
    }
    let failed = "RDMA work requests that failed and ended their connection, by class.";
    page.family("freight_rdma_completion_errors_total", "counter", failed);
    for class in CLASSES {
        let count = counts.completions.get(class).copied().unwrap_or(0);
        page.sample("freight_rdma_completion_errors_total", &[("class", class)], count);
    }
}

fn memory(page: &mut Page, shared: &Shared, stats: &NodeStats) {
    let completions = shared.session.completions().bytes_used();
    let connections = shared.budget.connection_bytes_used().saturating_sub(completions);
    let (index, records) = (stats.store.index_bytes, stats.store.slab_bytes);
    let eviction = stats.store.eviction_bytes;
    let hot_keys = shared.hot_keys.as_ref().map_or(0, |hot_keys| hot_keys.bytes_used());
    let told = completions + connections + index + records + eviction + hot_keys;
    page.family("freight_memory_bytes", "gauge", "Memory charged to the node's cap, by what it is for.");
    for (class, bytes) in [
        ("records", records),
        ("index", index),
        ("eviction", eviction),
        ("connections", connections),
        ("completions", completions),
        ("hot_keys", hot_keys),
        ("spare", stats.memory_bytes_used.saturating_sub(told)),
    ] {
        page.sample("freight_memory_bytes", &[("class", class)], bytes);
    }
    if let Some(max) = stats.memory_bytes_max {
        page.gauge("freight_memory_max_bytes", "The memory cap; absent where there is none.", max);
    }
}

fn store(page: &mut Page, stats: &NodeStats) {
    let store = &stats.store;
    page.gauge("freight_records", "Records.", store.records);
    page.gauge("freight_records_expiring", "Records that have a deadline.", store.records_expiring);
    page.counter("freight_records_expired_total", "Records removed for their deadline.", store.records_expired);
    page.counter("freight_records_evicted_total", "Records removed to make room.", store.records_evicted);
    page.gauge("freight_payload_bytes", "Bytes of all keys and values.", store.payload_bytes);
    page.counter("freight_index_growths_total", "Parts of an index split, joined or copied.", store.index_growths);
    page.gauge("freight_shards", "Shards.", store.shard_records.len());
    let (fewest, most) = (store.shard_records.iter().min(), store.shard_records.iter().max());
    page.gauge("freight_shard_records_min", "Records of the emptiest shard.", fewest.copied().unwrap_or(0));
    page.gauge("freight_shard_records_max", "Records of the fullest shard.", most.copied().unwrap_or(0));
}

fn cluster(page: &mut Page, shared: &Shared, stats: &NodeStats) {
    page.gauge("freight_slots", "Slots that the node owns.", stats.slots);
    if shared.config.mapped {
        page.gauge("freight_map_epoch", "Epoch of the shard map, 0 for none; absent without --map.", stats.map_epoch);
        page.gauge("freight_moves", "Moves of slots under way; absent without --map.", stats.moves.len());
    }
}

fn process(page: &mut Page) {
    if let Some(bytes) = process::resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Memory of the process that is in memory.", bytes);
    }
    if let Some(count) = process::open_files() {
        page.gauge("process_open_fds", "Open files, connections among them.", count);
    }
    if let Some(max) = process::open_files_max() {
        page.gauge("process_max_fds", "Files that may be open.", max);
    }
}

fn sum(shared: &Shared, pick: impl Fn(&Counters) -> &AtomicU64) -> u64 {
    shared.workers.iter().map(|worker| pick(&worker.counters).load(Ordering::Relaxed)).sum()
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The text so far.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    /// Labels are our own words: nothing in them needs an escape.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        match &labels[..] {
            [] => self.line(format_args!("{name} {value}")),
            labels => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("strings take any text");
    }
}
