//! Who is counted together, and what is left of whom when they are gone.
#![forbid(unsafe_code)]

use super::*;

fn from(host: u8) -> Owner {
    Owner::Client(Source::of([192, 0, 2, host].into()))
}

fn bounds(connections_max: usize) -> impl Fn(&Owner) -> Bounds {
    move |_| Bounds { connections_max: Some(connections_max), ..Bounds::default() }
}

fn fast(ops_per_second: u32) -> impl Fn(&Owner) -> Bounds {
    move |_| Bounds { ops_per_second: Some(ops_per_second), ..Bounds::default() }
}

#[test]
fn each_owner_has_places_of_its_own_and_gives_them_back() {
    let accounts = Accounts::new();
    let first = accounts.enter(from(1), bounds(2)).expect("a place");
    let _second = accounts.enter(from(1), bounds(2)).expect("a place");
    let refused = accounts.enter(from(1), bounds(2)).expect_err("two are there");
    assert_eq!(refused.to_string(), "192.0.2.1 has 2 connections here, and may have no more");
    assert_eq!(refused.reason(), "client_connections");
    let _other = accounts.enter(from(2), bounds(2)).expect("another one's place");
    drop(first);
    accounts.enter(from(1), bounds(2)).expect("a place that was given back");
    let ada = Owner::User("ada".to_owned());
    let _ada = accounts.enter(ada.clone(), bounds(1)).expect("a place");
    let refused = accounts.enter(ada, bounds(1)).expect_err("she is there");
    assert_eq!(refused.to_string(), "user 'ada' has 1 connections here, and may have no more");
    assert_eq!(refused.reason(), "user_connections");
}

#[tokio::test(start_paused = true)]
async fn whoever_connects_anew_begins_where_they_ended() {
    let accounts = Accounts::new();
    let enter = || accounts.enter(from(1), fast(10)).expect("a place");
    let first = enter();
    let second = enter();
    let taken = [first.take(10), second.take(20), first.take(1)];
    assert_eq!(taken, [0, 0, 2].map(|seconds| Some(Duration::from_secs(seconds))));
    drop((first, second));
    assert_eq!(enter().debt(), Duration::from_millis(2_100));
    tokio::time::advance(Duration::from_millis(2_100)).await;
    assert_eq!(accounts.open().accounts.len(), 1, "its burst is not there again yet");
    assert_eq!(enter().debt(), Duration::ZERO);
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(enter());
    assert_eq!(accounts.open().accounts.len(), 0, "nothing is to be remembered of it");
}

#[tokio::test(start_paused = true)]
async fn those_who_came_and_went_are_forgotten_when_they_are_many() {
    let accounts = Accounts::new();
    let enter = |host: u32| accounts.enter(Owner::Client(Source::LocalUser(host)), fast(1)).expect("a place");
    let _stays = enter(u32::MAX);
    for round in 0..20 {
        for host in 0..1_000 {
            enter(round * 1_000 + host).take(1);
        }
        let accounts = accounts.open().accounts.len();
        assert!(accounts <= 2 * SWEEP_AT_MIN + 1_000, "{accounts} accounts");
        tokio::time::advance(Duration::from_secs(3)).await;
    }
    assert!(accounts.open().accounts.contains_key(&Owner::Client(Source::LocalUser(u32::MAX))));
}

#[tokio::test(start_paused = true)]
async fn new_bounds_hold_for_who_is_there_and_forgive_nothing() {
    let accounts = Accounts::new();
    let member = accounts.enter(from(1), fast(1)).expect("a place");
    assert_eq!(member.take(10), Some(Duration::ZERO));
    accounts.renew(fast(100));
    assert_eq!((member.ops_per_second(), member.debt()), (Some(100), Duration::from_secs(9)));
    accounts.renew(|_| Bounds::default());
    assert_eq!((member.ops_per_second(), member.take(1_000_000)), (None, Some(Duration::ZERO)));
}
