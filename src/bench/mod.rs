//! The benchmark: how fast the store is on these machines, how far that is from the wire limit, and why.
//!
//! ```text
//!   flags -> pools drawn -> load -> warm-up -> wire limit -> measured run -> wire limit -> report
//!                             |        |           |              |              |
//!                             +--------+-----------+------+-------+--------------+
//!                                                         v
//!     client thread 0 (a runtime, pinned)     client thread 1 ...
//!       lane: build, send, check, count         lane ...           the public Client, or commands of Redis
//! ```
//!
//! [`config`] has the flags, [`workload`], [`zipf`] and [`pool`] say what is asked, [`values`] what must come back,
//! [`lane`] asks it, [`measure`] counts, [`report`] and [`text`] tell. [`run()`] is the whole, [`compare`] the same
//! over one transport after the other, [`run_one_way`] the wire limit alone, [`sweep`] the whole at many
//! sizes and loads. Who starts a node of its own for the run is the command line, not the benchmark.
#![forbid(unsafe_code)]

mod caller;
mod commands;
pub mod comparison;
pub mod config;
mod driver;
mod lane;
mod load;
pub mod machine;
pub mod measure;
pub mod one_way;
mod pace;
pub mod part;
mod plan;
pub mod pool;
mod progress;
pub mod recorder;
pub mod report;
mod run;
pub(crate) mod sizes;
pub mod sweep;
mod talk;
pub mod text;
mod threads;
pub mod values;
pub mod via;
mod wire_limit;
pub mod workload;
pub mod zipf;

pub use load::LoadError;
pub use run::{BenchError, Target, compare, run, run_one_way};
pub use talk::TalkError;
