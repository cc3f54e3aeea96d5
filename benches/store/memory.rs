//! Resident bytes a record beyond key and value. Each figure comes from a process of its own.
#![forbid(unsafe_code)]

use crate::contenders::{Contender, freight};
use crate::workload::{FlatBatch, KEY_BYTES, Reply, VALUE_BYTES, load};
use freight::shard::{IndexKind, Scratch};

/// Records put between two looks at the resident size.
const STEP: usize = 10_000;

pub(crate) fn run() {
    println!("{:<12} {:>12} {:>16} {:>30}", "index", "records N", "bytes at N", "worst from N to 2 N (at)");
    for index in IndexKind::BUILT {
        for records in [1_000_000, 10_000_000] {
            let own = std::env::current_exe().expect("a bench may panic");
            let arguments = ["--memory-of", &format!("{index:?}"), &records.to_string()];
            let status = std::process::Command::new(own).args(arguments).status().expect("a bench may panic");
            assert!(status.success(), "{status}");
        }
    }
}

/// `--memory-of INDEX RECORDS`
pub(crate) fn measure_one(arguments: &[String]) {
    let at = arguments.iter().position(|argument| argument == "--memory-of").expect("a bench may panic");
    let (name, records) = (&arguments[at + 1], arguments[at + 2].parse::<usize>().expect("a bench may panic"));
    let index = *IndexKind::BUILT.iter().find(|index| format!("{index:?}") == *name).expect("an index of this build");
    let (mut batch, mut reply, mut scratch) = (FlatBatch::default(), Reply::new(STEP), Scratch::new(0));
    load(&mut batch, 0, STEP);
    let before = resident_bytes();
    let store = freight(index, 16);
    let (mut at_records, mut worst, mut worst_at) = (0.0, 0.0, 0);
    for first in (0..2 * records).step_by(STEP) {
        load(&mut batch, first, STEP);
        reply.begin();
        Contender::execute(&store, &batch, &mut reply, &mut scratch);
        let count = first + STEP;
        if count < records {
            continue;
        }
        let payload = count * (KEY_BYTES + VALUE_BYTES);
        let beyond = (resident_bytes() - before).saturating_sub(payload) as f64 / count as f64;
        if count == records {
            at_records = beyond;
        }
        if beyond > worst {
            (worst, worst_at) = (beyond, count);
        }
    }
    println!("{name:<12} {records:>12} {at_records:>16.1} {:>30}", format!("{worst:.1} ({worst_at})"));
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("a bench may panic");
    status.split(' ').nth(1).expect("a bench may panic").parse::<usize>().expect("a number") * 4096
}
