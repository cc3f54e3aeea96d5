//! The store alone, no network: how fast, how large, how even.
//!
//! ```text
//!   cargo bench --bench store                  throughput beside hashbrown, DashMap and papaya, alternated rounds
//!   cargo bench --bench store -- --memory      resident bytes a record beyond key and value, over a doubling
//!   cargo bench --bench store -- --growth      the slowest batch while the store grows
//!   cargo bench --bench store -- --alone       client and node on frames that nothing carries: what two cores
//!                                              could do of the default workload of `freight bench`
//!   cargo bench --bench store -- --floors     what the machine allows: copies, loads, values by their number
//!   cargo bench --bench store -- --locks      how many cores the shards' locks could serve: a model, and its check
//!   cargo bench --bench store -- --batches 100 a fixed amount of work, to count instructions under valgrind
//! ```
//!
//! `--by-cpu-time` counts the threads' processor time, for machines that are not idle.
//!
//! Keys of 24 bytes, values of 128, Zipf 0.99 over a million records, 95 % reads, batches of 1,000. Batches are
//! drawn before the clock; every value read is copied into a reply buffer, as a node would.
#![forbid(unsafe_code)]

mod alone;
mod contenders;
mod floors;
mod growth;
mod locks;
mod memory;
mod throughput;
mod workload;

use rustix::time::ClockId;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |name: &str, otherwise: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        let value = at.and_then(|at| arguments.get(at + 1));
        value.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} {text}: not a number")))
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let clock = if has("--by-cpu-time") { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
    if has("--memory-of") {
        memory::measure_one(&arguments);
    } else if has("--memory") {
        memory::run();
    } else if has("--growth") {
        growth::run(number("--records", 10_000_000), number("--batch", 1000), clock);
    } else {
        let settings = throughput::Settings {
            records: number("--records", 1_000_000),
            batch: number("--batch", 1000),
            rounds: number("--rounds", 7),
            round_ms: number("--round-ms", 500),
            shards: number("--shards", 16),
            only_store: has("--only-store"),
            clock,
            seed: number("--seed", 1) as u64,
        };
        if has("--alone") {
            alone::run(&settings);
        } else if has("--locks") {
            locks::run(&settings);
        } else if has("--floors") {
            floors::run(&settings);
        } else if has("--batches") {
            throughput::run_batches(&settings, number("--batches", 100));
        } else {
            throughput::run(&settings);
        }
    }
}
