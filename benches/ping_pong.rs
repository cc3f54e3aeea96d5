//! What two threads need to hand a word to and fro: the floor under a round trip, by how the one waits for the other.
//!
//! usage: cargo bench --bench ping_pong
//!
//! No bytes but the word, no runtime, nothing to do in between: two switches on one core, two wakes across cores.
#![forbid(unsafe_code)]

use divan::Bencher;
use rustix::thread::futex::{self, Flags};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, sched_yield};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// The word that ends the other thread.
const END: u32 = u32::MAX;

/// The cores that this process may use, before any thread is kept on one of them.
static CORES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let allowed = sched_getaffinity(None).expect("an affinity mask");
    (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
});

fn main() {
    divan::main();
}

#[divan::bench(sample_size = 100)]
fn yield_on_one_core(bencher: Bencher<'_, '_>) {
    round_trip(bencher, 0, Way { tell: store, wait: give_away });
}

#[divan::bench(sample_size = 100)]
fn futex_on_one_core(bencher: Bencher<'_, '_>) {
    round_trip(bencher, 0, Way { tell: store_and_wake, wait: sleep });
}

#[divan::bench(sample_size = 100)]
fn futex_on_two_cores(bencher: Bencher<'_, '_>) {
    round_trip(bencher, 1, Way { tell: store_and_wake, wait: sleep });
}

#[divan::bench(sample_size = 100)]
fn spin_on_two_cores(bencher: Bencher<'_, '_>) {
    round_trip(bencher, 1, Way { tell: store, wait: spin });
}

#[divan::bench(sample_size = 100)]
fn socket_on_one_core(bencher: Bencher<'_, '_>) {
    let (mut here, mut there) = UnixStream::pair().expect("a pair of sockets");
    pin(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(0);
            let mut byte = [0];
            while there.read_exact(&mut byte).is_ok() && there.write_all(&byte).is_ok() {}
        });
        bencher.bench_local(|| {
            here.write_all(&[1]).expect("it is written");
            here.read_exact(&mut [0]).expect("it comes back");
        });
        drop(here);
    });
}

/// How a thread tells the other of a new word, and waits until a word is no longer what it was.
#[derive(Clone, Copy)]
struct Way {
    tell: fn(&AtomicU32, u32),
    wait: fn(&AtomicU32, u32),
}

/// One thread counts a word up, the other, on the core `other`, sets another word to the same.
fn round_trip(bencher: Bencher<'_, '_>, other: usize, way: Way) {
    if CORES.len() <= other {
        return;
    }
    let words: [Line; 2] = Default::default();
    let [there, back] = &words;
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(other);
            let mut seen = 0;
            while seen != END {
                (way.wait)(&there.0, seen);
                seen = there.0.load(Ordering::Acquire);
                (way.tell)(&back.0, seen);
            }
        });
        pin(0);
        let mut last = 0;
        bencher.bench_local(|| {
            (way.tell)(&there.0, last + 1);
            (way.wait)(&back.0, last);
            last += 1;
        });
        (way.tell)(&there.0, END);
    });
}

/// A word on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicU32);

fn store(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
}

fn store_and_wake(word: &AtomicU32, value: u32) {
    word.store(value, Ordering::Release);
    // Whether anybody slept is all the same.
    let _woken = futex::wake(word, Flags::PRIVATE, 1);
}

fn spin(word: &AtomicU32, seen: u32) {
    while word.load(Ordering::Acquire) == seen {
        std::hint::spin_loop();
    }
}

fn give_away(word: &AtomicU32, seen: u32) {
    while word.load(Ordering::Acquire) == seen {
        sched_yield();
    }
}

fn sleep(word: &AtomicU32, seen: u32) {
    while word.load(Ordering::Acquire) == seen {
        // Woken, or too late to sleep: it is looked at again either way.
        let _changed = futex::wait(word, Flags::PRIVATE, seen, None);
    }
}

/// Keeps this thread on one of the cores that this process may use.
fn pin(index: usize) {
    let mut mask = CpuSet::new();
    mask.set(CORES[index]);
    sched_setaffinity(None, &mask).expect("it is one of those that are allowed");
}
