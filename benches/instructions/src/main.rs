//! Hot paths with fixed inputs, for counting instructions: `scripts/instructions` runs them under callgrind.
//!
//! ```text
//!   instructions                      lists scenarios and their operations a round
//!   instructions hash_keys 3          sets the scenario up, then runs three rounds of it
//! ```
//!
//! The script runs each scenario for one round and for three: the difference, over two rounds of operations, is
//! what an operation costs once warm, free of set-up. No input depends on clock, address or randomness.
#![forbid(unsafe_code)]

use freight::hash::KeyHasher;
use std::hint::black_box;
use std::process::ExitCode;

/// A name, the operations of one round, and what sets it up and gives the round.
struct Scenario {
    name: &'static str,
    ops_per_round: u32,
    set_up: fn(ops: u32) -> Box<dyn FnMut()>,
}

const SCENARIOS: &[Scenario] = &[Scenario { name: "hash_keys", ops_per_round: 1_000, set_up: hash_keys }];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [name, rounds] = arguments.as_slice() else {
        for scenario in SCENARIOS {
            println!("{} {}", scenario.name, scenario.ops_per_round);
        }
        return ExitCode::SUCCESS;
    };
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
        eprintln!("no scenario `{name}`");
        return ExitCode::FAILURE;
    };
    let Ok(rounds) = rounds.parse::<u32>() else {
        eprintln!("`{rounds}` is no number of rounds");
        return ExitCode::FAILURE;
    };
    let mut round = (scenario.set_up)(scenario.ops_per_round);
    for _ in 0..rounds {
        round();
    }
    ExitCode::SUCCESS
}

/// Both hashes of 24-byte keys.
fn hash_keys(ops: u32) -> Box<dyn FnMut()> {
    let hasher = KeyHasher::new(std::array::from_fn(|i| i as u8));
    let keys: Vec<[u8; 24]> = (0..ops).map(key).collect();
    Box::new(move || {
        for key in &keys {
            black_box(hasher.hash(black_box(key)));
        }
    })
}

/// A key of 24 decimal digits.
fn key(number: u32) -> [u8; 24] {
    let mut key = [b'0'; 24];
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    key
}
