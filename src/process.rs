//! What the system says of this process. `None` where there is no /proc.
#![forbid(unsafe_code)]

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use std::fs;

/// Memory that is resident, in bytes.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_size() as u64)
}

/// Open files.
pub(crate) fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Files that may be open; `None` too where nothing limits them.
pub(crate) fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}
