//! The benchmark.

pub mod config;
pub mod machine;
pub mod measure;
pub mod pool;
pub mod report;
pub mod text;
pub mod values;
pub mod workload;
pub mod zipf;
