//! Each thread forgets the expired records of its share of the shards, with a bounded share of its core.
//!
//! A step locks one shard for some microseconds. Behind steps of a fifth of a millisecond the thread pauses for
//! forty-nine times as long: so that however much expires, one fiftieth of a core goes into forgetting it.
#![forbid(unsafe_code)]

use super::node::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// One part of this many of a core is for it, at most.
const CORE_SHARE: u32 = 50;

/// Time behind which the steps of a turn end, and their number where a clock stands still.
const TURN: Duration = Duration::from_micros(200);
const TURN_STEPS: u32 = 64;

/// The shortest pause between turns, and the one behind which shards are looked at again where nothing is to be done.
const PAUSE: Duration = Duration::from_millis(2);
const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// Forgets what expires in every `threads`-th shard, from the thread's own on, until the node drains.
pub(super) async fn sweep(shared: Arc<Shared>, thread: usize, threads: usize) {
    let shards = shared.session.store().shard_count();
    let own = (thread..shards).step_by(threads);
    if own.len() == 0 {
        return;
    }
    let sweeping = async {
        let mut rounds = own.clone().cycle().peekable();
        loop {
            let began = Instant::now();
            let pause = if turn(&shared, &mut rounds, own.len(), began) { PAUSE } else { IDLE_PAUSE };
            sleep(pause.max(began.elapsed() * (CORE_SHARE - 1))).await;
        }
    };
    tokio::select! {
        biased;
        () = shared.drain.wait() => {}
        () = sweeping => {}
    }
}

/// Takes steps until the turn is over; whether there is more to be done.
fn turn(
    shared: &Shared,
    rounds: &mut std::iter::Peekable<impl Iterator<Item = usize>>,
    shards: usize,
    began: Instant,
) -> bool {
    let mut idle = 0;
    for _ in 0..TURN_STEPS {
        let shard = *rounds.peek().expect("a cycle has no end");
        if shared.session.store().forget_expired(shard, shared.config.clock.now()) {
            idle = 0;
        } else {
            rounds.next();
            idle += 1;
        }
        if idle == shards {
            return false;
        }
        if began.elapsed() >= TURN {
            return true;
        }
    }
    true
}
