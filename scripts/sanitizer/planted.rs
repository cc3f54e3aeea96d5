//! What ThreadSanitizer has to see, and what it must not: `scripts/thread-sanitizer` runs both before anything else.
//!
//! ```text
//!   planted race     two threads add to a cell without a lock               it must be reported
//!   planted locks    all that the standard library has to order threads     nothing may be
//! ```
#![expect(unsafe_code, reason = "no race without it")]

use std::cell::UnsafeCell;
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, OnceLock, RwLock, mpsc};
use std::thread;
use std::time::Duration;

const THREADS: u64 = 8;
const ROUNDS: u64 = 20_000;

/// A cell that any thread may use, and nothing guards but what stands around it.
#[derive(Default)]
struct Cell(UnsafeCell<u64>);

// SAFETY: none, where nothing stands around it. That is what is looked for.
unsafe impl Sync for Cell {}

impl Cell {
    fn add(&self) {
        // SAFETY: as above.
        unsafe { *self.0.get() += 1 }
    }

    fn get(&self) -> u64 {
        // SAFETY: as above.
        unsafe { *self.0.get() }
    }
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("race") => race(),
        Some("locks") => locks(),
        other => panic!("race or locks, not {other:?}"),
    }
}

fn race() {
    let (cell, all) = (Cell::default(), Barrier::new(THREADS as usize));
    on_all(|_| {
        // Whoever ended before another began would be ordered before it.
        all.wait();
        (0..ROUNDS).for_each(|_| cell.add());
    });
    println!("{}", cell.get());
}

fn locks() {
    let (mutex, cell) = (Mutex::new(()), Cell::default());
    on_all(|_| {
        for _ in 0..ROUNDS {
            let _held = mutex.lock().unwrap();
            cell.add();
        }
    });
    assert_eq!(cell.get(), THREADS * ROUNDS);
    shared();
    turns();
    timed_turns();
    once();
    barrier();
    dropped();
    sent();
    println!("ok");
}

/// Runs it on so many threads, and waits for them by their scope alone.
fn on_all(run: impl Fn(u64) + Sync) {
    thread::scope(|scope| {
        for number in 0..THREADS {
            let run = &run;
            scope.spawn(move || run(number));
        }
    });
}

fn shared() {
    let (lock, cell) = (RwLock::new(()), Cell::default());
    on_all(|number| {
        for round in 0..ROUNDS {
            if (round + number).is_multiple_of(8) {
                let _held = lock.write().unwrap();
                cell.add();
            } else {
                let _held = lock.read().unwrap();
                assert!(cell.get() <= THREADS * ROUNDS);
            }
        }
    });
}

/// Each thread in its turn.
fn turns() {
    let (turn, next, cell) = (Mutex::new(0), Condvar::new(), Cell::default());
    on_all(|number| {
        for round in 0..200 {
            let mut now = turn.lock().unwrap();
            while *now != round * THREADS + number {
                now = next.wait(now).unwrap();
            }
            cell.add();
            *now += 1;
            next.notify_all();
        }
    });
}

fn timed_turns() {
    let (turn, next, cell) = (Mutex::new(0), Condvar::new(), Cell::default());
    on_all(|number| {
        for round in 0..200 {
            let now = turn.lock().unwrap();
            let is_other = |now: &mut u64| *now != round * THREADS + number;
            let (mut now, _) = next.wait_timeout_while(now, Duration::from_secs(600), is_other).unwrap();
            cell.add();
            *now += 1;
            next.notify_all();
        }
    });
}

fn once() {
    static LAZY: LazyLock<Vec<u64>> = LazyLock::new(|| {
        thread::sleep(Duration::from_millis(50));
        (0..100).collect()
    });
    let lock = OnceLock::new();
    on_all(|_| {
        assert_eq!(LAZY.iter().sum::<u64>(), 4_950);
        let all = lock.get_or_init(|| {
            thread::sleep(Duration::from_millis(50));
            LAZY.clone()
        });
        assert_eq!(all.len(), 100);
    });
}

fn barrier() {
    let (barrier, cell) = (Barrier::new(THREADS as usize), Cell::default());
    on_all(|number| {
        for round in 0..200 {
            if round % THREADS == number {
                cell.add();
            }
            barrier.wait();
        }
    });
}

/// The last of several owners drops what all of them used.
fn dropped() {
    for _ in 0..200 {
        let owned = Arc::new(vec![Mutex::new(0_u64)]);
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let owned = Arc::clone(&owned);
                thread::spawn(move || *owned[0].lock().unwrap() += 1)
            })
            .collect();
        drop(owned);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn sent() {
    let (sender, receiver) = mpsc::sync_channel(4);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let sender = sender.clone();
            scope.spawn(move || (0..1_000).for_each(|round| sender.send(vec![number, round]).unwrap()));
        }
        drop(sender);
        assert_eq!(receiver.iter().map(|vec| vec[1]).sum::<u64>(), THREADS * 499_500);
    });
}
