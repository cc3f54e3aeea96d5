//! Who is let in, and when.
#![forbid(unsafe_code)]

use super::*;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn allowance(bytes_max: u64) -> (Arc<Allowance>, Arc<AtomicU64>) {
    let waits = Arc::new(AtomicU64::new(0));
    (Arc::new(Allowance::new(bytes_max, Arc::clone(&waits))), waits)
}

/// One that has to wait.
fn wait(allowance: &Arc<Allowance>, bytes: u64) -> Waiting {
    allowance.enter(bytes).expect_err("there is no room")
}

/// What it holds, if it has been let in; looks by a future that is dropped.
fn let_in(waiting: &mut Waiting) -> Option<OnTheWay> {
    match pin!(waiting.admitted()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(admitted) => Some(admitted),
        Poll::Pending => None,
    }
}

#[test]
fn everybody_goes_on_when_the_limit_is_taken_away() {
    let (allowance, _) = allowance(100);
    let _holder = allowance.enter(100).expect("nothing else is on its way");
    let mut waiting: Vec<_> = (0..5).map(|_| wait(&allowance, 10)).collect();
    assert!(waiting.iter_mut().all(|one| let_in(one).is_none()));
    allowance.set(u64::MAX);
    assert_eq!(waiting.iter_mut().filter_map(let_in).count(), 5);
}

#[test]
fn what_there_is_no_room_for_waits_until_there_is() {
    let (allowance, waits) = allowance(100);
    let first = allowance.enter(60).expect("nothing is on its way");
    let (mut second, mut third) = (wait(&allowance, 60), wait(&allowance, 50));
    assert!(let_in(&mut second).is_none() && let_in(&mut third).is_none());
    assert_eq!(waits.load(Ordering::Relaxed), 2);
    drop(first);
    let second = let_in(&mut second).expect("it came first");
    assert!(let_in(&mut third).is_none());
    drop(second);
    assert!(let_in(&mut third).is_some());
}

#[test]
fn what_grows_while_others_wait_counts_for_them_as_before() {
    let (allowance, _) = allowance(100);
    let mut first = allowance.enter(60).expect("nothing is on its way");
    let mut second = wait(&allowance, 60);
    first.set_bytes(80);
    assert!(let_in(&mut second).is_none(), "it waits for all of what was there before it");
    let mut late = allowance.overdraw(50);
    late.set_bytes(70);
    first.set_bytes(30);
    let second = let_in(&mut second).expect("what is late does not count for it");
    assert!(allowance.try_enter(1).is_none());
    late.set_bytes(10);
    drop((first, second));
    assert!(allowance.try_enter(90).is_some() && allowance.try_enter(91).is_none());
}

#[test]
fn one_that_is_longer_than_all_there_is_room_for_goes_alone() {
    let (allowance, _) = allowance(100);
    let long = allowance.enter(1_000).expect("nothing else is on its way");
    assert!(allowance.try_enter(1).is_none());
    drop(long);
    let reply = allowance.overdraw(1);
    assert!(allowance.try_enter(1_000).is_none());
    drop(reply);
    assert!(allowance.try_enter(1_000).is_some());
}

#[test]
fn all_are_let_in_that_there_is_room_for() {
    let (allowance, _) = allowance(100);
    let long = allowance.enter(100).expect("nothing is on its way");
    let mut waiting: Vec<_> = (0..6).map(|_| wait(&allowance, 20)).collect();
    drop(long);
    let admitted: Vec<_> = waiting.iter_mut().map(let_in).collect();
    assert_eq!(admitted.iter().filter(|one| one.is_some()).count(), 5);
    assert!(admitted[5].is_none(), "it came last");
}

#[test]
fn a_newcomer_overtakes_nobody_however_small_it_is() {
    let (allowance, _) = allowance(100);
    let mut before = vec![allowance.enter(40).expect("room"), allowance.enter(40).expect("room")];
    let mut large = wait(&allowance, 90);
    // Where newcomers went past, one of two would always be on its way.
    let mut newcomers: Vec<_> = before.drain(..).map(|_ended| wait(&allowance, 40)).collect();
    let large = let_in(&mut large).expect("nobody came before it");
    assert!(newcomers.iter_mut().all(|one| let_in(one).is_none()));
    drop(large);
    let newcomers: Vec<_> = newcomers.iter_mut().filter_map(let_in).collect();
    assert_eq!(newcomers.len(), 2);
    assert!(allowance.try_enter(20).is_some(), "nobody waits any more");
}

#[test]
fn replies_that_begin_later_keep_nobody_waiting_who_was_there_before() {
    let (allowance, _) = allowance(100);
    let before = allowance.overdraw(30);
    let (mut first, mut second) = (wait(&allowance, 90), wait(&allowance, 90));
    let later = allowance.overdraw(30);
    assert!(let_in(&mut first).is_none());
    drop(before);
    let first = let_in(&mut first).expect("what was there before it has ended");
    // For the second it was there before.
    drop(first);
    assert!(let_in(&mut second).is_none());
    let much_later = allowance.overdraw(70);
    drop(later);
    let second = let_in(&mut second).expect("what was there before it has ended");
    drop(second);
    assert!(allowance.try_enter(31).is_none(), "all counts for who comes now");
    drop(much_later);
    assert_eq!(allowance.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn late_replies_that_end_early_leave_their_count() {
    let (allowance, _) = allowance(100);
    let before = allowance.enter(20).expect("room");
    let mut waiting = wait(&allowance, 90);
    drop(allowance.overdraw(50));
    assert!(let_in(&mut waiting).is_none());
    drop(before);
    assert!(let_in(&mut waiting).is_some());
}

#[test]
fn one_that_leaves_the_line_keeps_nobody_from_being_let_in() {
    let (allowance, _) = allowance(100);
    let long = allowance.enter(60).expect("nothing is on its way");
    let mut waiting: Vec<_> = [50, 50, 30, 10].into_iter().map(|bytes| wait(&allowance, bytes)).collect();
    // From the middle, then from the front, and one that was let in and never knew.
    drop(waiting.remove(1));
    drop(waiting.remove(0));
    let mut last = waiting.pop().expect("the last one");
    drop(waiting);
    assert!(let_in(&mut last).is_some());
    drop(long);
    assert_eq!(allowance.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn a_bound_that_is_raised_lets_in_who_waits() {
    let (allowance, _) = allowance(100);
    let _long = allowance.enter(100).expect("nothing is on its way");
    let (mut next, mut last) = (wait(&allowance, 50), wait(&allowance, 50));
    allowance.set(150);
    assert!(let_in(&mut next).is_some());
    allowance.set(200);
    assert!(let_in(&mut last).is_some());
}

#[test]
fn threads_never_have_more_than_there_may_be_and_all_come_to_their_end() {
    let (allowance, _) = allowance(100);
    let held = AtomicU64::new(0);
    let work = |thread: u64| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for round in 0..2_000_u64 {
            let bytes = 1 + (round * 37 + thread * 11) % 100;
            if bytes.is_multiple_of(7) {
                // Gives up at once, wherever it stands.
                drop(allowance.enter(bytes));
                continue;
            }
            let on_the_way = match allowance.enter(bytes) {
                Ok(admitted) => admitted,
                Err(mut waiting) => runtime.block_on(waiting.admitted()),
            };
            assert!(held.fetch_add(bytes, Ordering::SeqCst) + bytes <= 100);
            drop(allowance.overdraw(bytes / 2));
            held.fetch_sub(bytes, Ordering::SeqCst);
            drop(on_the_way);
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|thread| drop(scope.spawn(move || work(thread)))));
    assert_eq!(allowance.bytes.load(Ordering::Relaxed), 0);
}
