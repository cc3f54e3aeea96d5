//! What every keeper of a map promises: one suite, run on each.
#![forbid(unsafe_code)]

#[path = "support/etcd.rs"]
#[allow(dead_code, reason = "each test target uses a part")]
mod etcd;

use etcd::Etcd;
use freight::map::{
    Id, MapError, MapEtcd, MapFile, MapMemory, MapNode, MapStore, MapStoreError, ShardMap, TEXT_BYTES_MAX,
};
use freight::slots::SlotSet;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Builder;

fn map_of(cluster: u8, epoch: u64) -> ShardMap {
    let address = "tcp://127.0.0.1:7411".parse().expect("an endpoint");
    // Of each epoch another: what is read back is what was written.
    let mut incarnation = [cluster; 16];
    incarnation[..8].copy_from_slice(&epoch.to_le_bytes());
    let node = MapNode { addresses: vec![address], incarnation: Id(incarnation) };
    ShardMap::new(Id([cluster; 16]), epoch, vec![(node, SlotSet::ALL)]).expect("a map")
}

fn map(epoch: u64) -> ShardMap {
    map_of(1, epoch)
}

/// Runs a test on an empty keeper of each kind.
fn on_each_keeper<F: Future<Output = ()>>(test: impl Fn(Arc<dyn MapStore>) -> F) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let etcd = Etcd::start();
    let keepers: [Arc<dyn MapStore>; 3] = [
        Arc::new(MapMemory::default()),
        Arc::new(MapFile::new(folder.path().join("cluster.toml"))),
        Arc::new(MapEtcd::new(&etcd.place()).expect("a place")),
    ];
    for keeper in keepers {
        println!("{keeper:?}");
        Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test(keeper));
    }
}

#[test]
fn an_empty_keeper_has_no_map_and_takes_a_first_one() {
    on_each_keeper(async |keeper: Arc<dyn MapStore>| {
        assert_eq!(keeper.load().await.expect("no fault"), None);
        let conflict = keeper.replace(1, &map(2)).await.expect_err("nothing to replace");
        assert!(matches!(conflict, MapStoreError::Conflict { got: 0, expected: 1, .. }), "{conflict}");
        keeper.replace(0, &map(1)).await.expect("nothing was there");
        assert_eq!(keeper.load().await.expect("no fault").as_deref(), Some(&map(1)));
    });
}

#[test]
fn a_map_is_replaced_by_a_later_one_of_its_cluster_by_who_knows_its_epoch() {
    on_each_keeper(async |keeper: Arc<dyn MapStore>| {
        keeper.replace(0, &map(3)).await.expect("nothing was there");
        let conflict = keeper.replace(0, &map(4)).await.expect_err("something is there");
        assert!(matches!(conflict, MapStoreError::Conflict { got: 3, expected: 0, .. }), "{conflict}");
        for (refused, expected) in [
            (map(3), MapError::SameEpoch { epoch: 3 }),
            (map(2), MapError::OlderEpoch { got: 2, at: 3 }),
            (map_of(2, 4), MapError::OtherCluster { got: Id([2; 16]), expected: Id([1; 16]) }),
        ] {
            let error = keeper.replace(3, &refused).await.expect_err("no later map of the cluster");
            assert!(matches!(&error, MapStoreError::Map { source, .. } if *source == expected), "{error}");
        }
        assert_eq!(keeper.load().await.expect("no fault").as_deref(), Some(&map(3)), "refused, it stays");
        keeper.replace(3, &map(7)).await.expect("the epoch is right");
        assert_eq!(keeper.load().await.expect("no fault").as_deref(), Some(&map(7)));
    });
}

#[test]
fn who_waits_for_a_newer_map_gets_it_once_it_is_there() {
    on_each_keeper(async |keeper: Arc<dyn MapStore>| {
        let (first, ()) = tokio::join!(keeper.newer_than(0), async {
            tokio::task::yield_now().await;
            keeper.replace(0, &map(1)).await.expect("nothing was there");
        });
        assert_eq!(*first.expect("no fault"), map(1));
        assert_eq!(*keeper.newer_than(0).await.expect("no fault"), map(1), "what is there needs no waiting");
        let waiting = tokio::time::timeout(Duration::from_millis(1), keeper.newer_than(1)).await;
        assert!(waiting.is_err(), "the map is not newer than itself: {waiting:?}");
        let waiters = async { tokio::join!(keeper.newer_than(1), keeper.newer_than(2)) };
        let ((second, third), ()) = tokio::join!(waiters, async {
            keeper.replace(1, &map(2)).await.expect("the epoch is right");
            // Whoever waits for more than this goes on waiting.
            tokio::task::yield_now().await;
            keeper.replace(2, &map(3)).await.expect("the epoch is right");
        });
        assert!(second.expect("no fault").epoch() > 1);
        assert_eq!(*third.expect("no fault"), map(3));
    });
}

#[test]
fn of_many_that_replace_one_map_one_succeeds() {
    on_each_keeper(async |keeper: Arc<dyn MapStore>| {
        keeper.replace(0, &map(1)).await.expect("nothing was there");
        for epoch in 1..20 {
            let mut racing = tokio::task::JoinSet::new();
            for ahead in 1..=8 {
                let keeper = Arc::clone(&keeper);
                // Every one of them would have the next round begin at the same epoch.
                racing.spawn(async move { keeper.replace(epoch, &map_of(1, epoch + 1)).await.map(|()| ahead) });
            }
            let won = racing.join_all().await.into_iter().filter(Result::is_ok).count();
            assert_eq!(won, 1);
        }
    });
}

#[test]
fn a_longer_text_than_any_map_is_neither_read_nor_written() {
    let (_folder, file) = in_file(&"#".repeat(TEXT_BYTES_MAX + 1));
    let too_long = |error: MapStoreError, bytes: usize| {
        assert!(
            matches!(error, MapStoreError::Map { source: MapError::TooLong { got }, .. } if got >= bytes),
            "{error}"
        );
    };
    too_long(file.read().expect_err("too long"), TEXT_BYTES_MAX + 1);
    fs::remove_file(file.path()).expect("it is there");
    let addresses = (0..TEXT_BYTES_MAX / 10).map(|number| format!("sim://n/{number}").parse().expect("an endpoint"));
    let node = MapNode { addresses: addresses.collect(), incarnation: Id([1; 16]) };
    let map = ShardMap::new(Id([1; 16]), 1, vec![(node, SlotSet::ALL)]).expect("a map");
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    too_long(runtime.block_on(file.replace(0, &map)).expect_err("too long"), TEXT_BYTES_MAX + 1);
    assert_eq!(file.read().expect("none"), None);
}

#[test]
fn a_file_that_is_no_text_is_an_error_with_its_line() {
    let (_folder, file) = in_file("");
    fs::write(file.path(), b"epoch = 1\ncluster = \"\xff\"").expect("writable");
    let error = file.read().expect_err("no text");
    assert!(matches!(&error, MapStoreError::Map { source: MapError::Syntax { line: 2, .. }, .. }), "{error}");
}

#[test]
fn a_read_whose_runtime_ends_is_an_error() {
    let (_folder, file) = in_file(&map(1).to_string());
    let ending = Builder::new_current_thread().build().expect("a runtime");
    let ended = ending.handle().clone();
    ending.shutdown_background();
    let error = ended.block_on(file.load()).expect_err("nobody reads it");
    assert!(matches!(error, MapStoreError::File { .. }), "{error}");
}

#[test]
fn a_place_is_a_path_or_in_etcd() {
    let opened = |place: &str| freight::map::open(Path::new(place));
    assert!(!opened("cluster.toml").expect("a file").is_watched());
    assert!(opened("etcd://127.0.0.1:2379/freight").expect("in etcd").is_watched());
    for (place, words) in [
        ("https://127.0.0.1/freight", "TLS to etcd is not built"),
        ("etcds://127.0.0.1/freight", "TLS to etcd is not built"),
        ("file:///cluster.toml", "a path, or etcd://host:2379/prefix, is needed"),
        ("etcd://127.0.0.1:2379", "a prefix is needed"),
    ] {
        let error = opened(place).expect_err(place);
        assert!(matches!(error, MapStoreError::BadPlace { .. }) && error.to_string().contains(words), "{error}");
    }
}

fn in_file(text: &str) -> (TempDir, MapFile) {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let file = MapFile::new(folder.path().join("cluster.toml"));
    fs::write(file.path(), text).expect("writable");
    (folder, file)
}

#[test]
fn a_file_that_is_no_map_is_an_error_and_is_not_replaced() {
    for text in ["", "epoch = 1", "\u{0}", &map(1).to_string().replace("epoch = 1", "epoch = 0")] {
        let (_folder, file) = in_file(text);
        for error in [file.read().expect_err("no map"), blocking(&file)] {
            assert!(matches!(error, MapStoreError::Map { .. }), "{error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
        assert_eq!(fs::read_to_string(file.path()).expect("readable"), text);
    }
}

fn blocking(file: &MapFile) -> MapStoreError {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(file.replace(0, &map(1))).expect_err("what is there is no map")
}

#[test]
fn a_file_that_cannot_be_read_or_written_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let error = MapFile::new(folder.path()).read().expect_err("a folder");
    assert!(matches!(error, MapStoreError::File { .. }), "{error}");
    let nowhere = MapFile::new(folder.path().join("no such folder/cluster.toml"));
    assert_eq!(nowhere.read().expect("none yet"), None);
    let error = blocking(&nowhere);
    assert!(matches!(&error, MapStoreError::File { .. }) && error.to_string().contains("no such folder"), "{error}");
}

#[test]
fn who_reads_a_file_while_it_is_replaced_sees_a_whole_map() {
    let (_folder, file) = in_file(&map(1).to_string());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let runtime = Builder::new_current_thread().build().expect("a runtime");
            for epoch in 1..100 {
                runtime.block_on(file.replace(epoch, &map(epoch + 1))).expect("the epoch is right");
            }
        });
        let mut last = 1;
        while !writer.is_finished() {
            let map = file.read().expect("a whole map").expect("one is always there");
            assert!(map.epoch() >= last && map == map_of(1, map.epoch()));
            last = map.epoch();
        }
    });
    assert_eq!(file.read().expect("a map"), Some(map(100)));
}
