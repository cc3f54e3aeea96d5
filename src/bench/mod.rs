//! The benchmark: how fast the store is on these machines, how far that is from the wire limit, and why.
//!
//! ```text
//!   flags -> pools drawn -> load -> warm-up -> wire limit -> measured run -> wire limit -> report
//!                             |        |           |              |              |
//!                             +--------+-----------+------+-------+--------------+
//!                                                         v
//!     client thread 0 (a runtime, pinned)     client thread 1 ...
//!       lane: build, send, check, count         lane ...           the public Client, and nothing else
//! ```
//!
//! [`config`] has the flags, [`workload`], [`zipf`] and [`pool`] say what is asked, [`values`] what must come back,
//! [`measure`] counts, [`report`] and [`text`] tell. Who starts a node of its
//! own for the run is the command line, not the benchmark.
#![forbid(unsafe_code)]

pub mod config;
pub mod machine;
pub mod measure;
pub mod placement;
pub mod pool;
pub mod report;
pub mod text;
pub mod values;
pub mod workload;
pub mod zipf;
