//! Hot paths with fixed inputs, for counting instructions: `scripts/instructions` runs them under callgrind.
//!
//! ```text
//!   freight-instructions                   lists the paths and the operations of a round
//!   freight-instructions wire_parse 3      sets the path up, then runs three rounds of it
//! ```
//!
//! The script runs each path for one round and for three: the difference, over the operations of two rounds, is
//! what an operation costs once warm, free of set-up. No input depends on clock, address or randomness.
#![forbid(unsafe_code)]

mod batches;
mod seeing;
mod shard;
mod wire;

use batches::BATCH_OPS;
use freight::hash::{Key, KeyHasher, slot};
use std::hint::black_box;
use std::process::ExitCode;

/// Sets a path up and gives one round of it.
type SetUp = fn() -> Box<dyn FnMut()>;

/// Each path by its name in `figures.toml`. A round is [`BATCH_OPS`] operations.
const PATHS: &[(&str, SetUp)] = &[
    ("hash_keys", hash_keys),
    ("wire_request_build", wire::request_build),
    ("wire_request_build_gets", wire::request_build_gets),
    ("wire_request_parse", wire::request_parse),
    ("wire_request_read", wire::request_read),
    ("wire_reply_build", wire::reply_build),
    ("wire_reply_read", wire::reply_read),
    ("wire_count_outcomes", wire::count),
    ("shard_get", shard::get),
    ("shard_put", shard::put),
    ("shard_get_expiring", shard::get_expiring),
    ("shard_put_expiring", shard::put_expiring),
    ("shard_churn", shard::churn),
    ("shard_get_leapfrog", shard::get_leapfrog),
    ("shard_put_leapfrog", shard::put_leapfrog),
    ("node_answer", shard::answer),
    ("node_answer_short", shard::answer_short),
    ("node_answer_seen", shard::answer_seen),
    ("hot_keys_batch", seeing::batch),
    ("session_put", shard::put_in_a_session),
    ("session_answer", shard::answer_in_a_session),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, rounds] = arguments.as_slice() else {
        for (name, _) in PATHS {
            println!("{name} {BATCH_OPS}");
        }
        return ExitCode::SUCCESS;
    };
    let (Some((_, set_up)), Ok(rounds)) = (PATHS.iter().find(|(path, _)| path == name), rounds.parse::<u32>()) else {
        eprintln!("no path `{name}`, or `{rounds}` is no number of rounds");
        return ExitCode::FAILURE;
    };
    let mut round = set_up();
    for _ in 0..rounds {
        round();
    }
    ExitCode::SUCCESS
}

/// Both hashes of each key.
fn hash_keys() -> Box<dyn FnMut()> {
    let hasher = KeyHasher::new(batches::SECRET);
    let keys = batches::keys();
    Box::new(move || {
        for key in &keys {
            let key = Key::from(&black_box(key)[..]);
            black_box((slot(key), hasher.index_hash(key)));
        }
    })
}
