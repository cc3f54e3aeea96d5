//! A real etcd: what is kept in it, and what is said while it is not there.
#![forbid(unsafe_code)]

use super::etcd::Etcd;
use super::{at, largest, map, run, run_frozen};
use freight::map::{EtcdError, MapEtcd, MapStore, MapStoreError, ShardMap};
use rustix::process::Signal;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{advance, sleep};

/// Why each member that was asked gave no map.
fn reasons(error: MapStoreError) -> Vec<EtcdError> {
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
    let MapStoreError::NoAnswer { tried, .. } = error else { panic!("{error}") };
    tried.iter().map(|tried| tried.error.clone()).collect()
}

fn is_refused(error: &EtcdError) -> bool {
    matches!(error, EtcdError::Connect(error) if error.kind() == ErrorKind::ConnectionRefused)
}

/// Waits for a newer map as a node does: over errors.
async fn newer_than(keeper: &MapEtcd, epoch: u64) -> Arc<ShardMap> {
    loop {
        match keeper.newer_than(epoch).await {
            Ok(map) => return map,
            Err(error) => println!("{error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn the_value_of_the_key_is_the_map_s_text() {
    let etcd = Etcd::start();
    run(async {
        let keeper = at(&etcd.place());
        keeper.replace(0, &map(1)).await.expect("nothing was there");
        assert_eq!(etcd.get(), map(1).to_string().into_bytes());
        etcd.put(format!("# by hand\n{}", map(5)).as_bytes());
        assert_eq!(keeper.load().await.expect("no fault").as_deref(), Some(&map(5)));
    });
}

#[test]
fn a_value_that_is_no_map_is_an_error_and_is_not_replaced() {
    let etcd = Etcd::start();
    run(async {
        let keeper = at(&etcd.place());
        for garbage in [&b""[..], b"epoch = 1", b"\xff\xfe", b"\0", &vec![b'#'; 1 << 20]] {
            etcd.put(garbage);
            let waiting = keeper.newer_than(0).await.map(drop);
            for failed in [keeper.load().await.map(drop), keeper.replace(0, &map(1)).await, waiting] {
                let error = failed.expect_err("no map");
                assert!(matches!(error, MapStoreError::Map { .. }), "{error}");
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
            }
            assert_eq!(etcd.get(), garbage);
        }
        // Somebody puts it right.
        etcd.put(map(3).to_string().as_bytes());
        assert_eq!(*keeper.newer_than(0).await.expect("a map"), map(3));
    });
}

#[test]
fn a_map_that_etcd_does_not_take_is_refused_with_its_words() {
    let etcd = Etcd::start();
    run(async {
        let keeper = at(&etcd.place());
        let refused = reasons(keeper.replace(0, &largest()).await.expect_err("more than etcd takes"));
        assert!(
            matches!(&refused[..], [EtcdError::Status { status: 400, said }] if said.contains("too large")),
            "{refused:?}"
        );
        assert_eq!(keeper.load().await.expect("no fault"), None);
    });
}

#[test]
fn a_member_that_is_gone_or_silent_is_passed_over_and_named_where_none_is_left() {
    let (mut gone, mut kept) = (Etcd::start(), Etcd::start());
    gone.kill();
    run(async {
        let keeper = at(&format!("etcd://{},{}/freight", gone.address(), kept.address()));
        keeper.replace(0, &map(1)).await.expect("one is there");
        assert_eq!(keeper.load().await.expect("one is there").as_deref(), Some(&map(1)));
        kept.signal(Signal::STOP);
        let silent = reasons(keeper.load().await.expect_err("none answers"));
        let is_late = |error: &EtcdError| matches!(error, EtcdError::Late(_));
        assert!(matches!(&silent[..], [late, refused] if is_late(late) && is_refused(refused)), "{silent:?}");
        kept.kill();
        for failed in
            [keeper.load().await.map(drop), keeper.newer_than(1).await.map(drop), keeper.replace(1, &map(2)).await]
        {
            let gone = reasons(failed.expect_err("none is there"));
            assert!(gone.len() == 2 && gone.iter().all(is_refused), "{gone:?}");
        }
        kept.restart();
        assert_eq!(keeper.load().await.expect("it is back").as_deref(), Some(&map(1)));
    });
}

#[test]
fn a_change_comes_by_the_watch() {
    let etcd = Etcd::start();
    run_frozen(async {
        let (waiter, writer) = (at(&etcd.place()), at(&etcd.place()));
        writer.replace(0, &map(1)).await.expect("nothing was there");
        let waiting = tokio::spawn(async move { waiter.newer_than(1).await });
        while etcd.watchers() == 0 {
            tokio::task::yield_now().await;
        }
        writer.replace(1, &map(2)).await.expect("the epoch is right");
        // A round's pause, and far less than a read waits for a watch.
        advance(Duration::from_millis(100)).await;
        assert_eq!(*waiting.await.expect("it ends well").expect("no fault"), map(2));
    });
}

#[test]
fn a_watch_goes_on_when_etcd_was_killed_or_stood_still() {
    let mut etcd = Etcd::start();
    run(async {
        let (waiter, writer) = (at(&etcd.place()), at(&etcd.place()));
        writer.replace(0, &map(1)).await.expect("nothing was there");
        let waiter = Arc::new(waiter);
        let wait = |epoch| {
            let waiter = Arc::clone(&waiter);
            tokio::spawn(async move { newer_than(&waiter, epoch).await })
        };
        let waiting = wait(1);
        sleep(Duration::from_millis(300)).await;
        etcd.kill();
        sleep(Duration::from_millis(300)).await;
        etcd.restart();
        assert!(!waiting.is_finished(), "there is nothing newer yet");
        writer.replace(1, &map(2)).await.expect("the epoch is right");
        assert_eq!(*waiting.await.expect("it ends well"), map(2));

        let waiting = wait(2);
        sleep(Duration::from_millis(300)).await;
        etcd.signal(Signal::STOP);
        sleep(Duration::from_secs(3)).await;
        etcd.signal(Signal::CONT);
        assert!(!waiting.is_finished(), "there is nothing newer yet");
        writer.replace(2, &map(3)).await.expect("the epoch is right");
        assert_eq!(*waiting.await.expect("it ends well"), map(3));
    });
}
