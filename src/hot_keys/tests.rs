//! Streams of which the truth is known.
#![forbid(unsafe_code)]

use super::*;

fn hot(every: u32, threads: usize) -> Arc<HotKeys> {
    HotKeys::new(every, threads, &Arc::new(Budget::new(u64::MAX))).expect("no cap")
}

/// Any hash does that tells keys apart.
fn hash(key: u64) -> u64 {
    key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Feeds batches of `ops` operations, whose keys are numbers.
fn feed(sampler: &mut Sampler, batches: u64, ops: u32, key: impl Fn(u64) -> u64) {
    for first in (0..batches).map(|batch| batch * u64::from(ops)) {
        if !sampler.passes(ops) {
            let texts: Vec<_> =
                (0..u64::from(ops)).map(|at| key(first + at)).map(|key| (key, key.to_string())).collect();
            let op = |at: u64| {
                let (key, text) = texts.get(at as usize)?;
                Some(Sampled { hash: hash(*key), key: text.as_bytes(), is_write: key % 2 == 1 })
            };
            sampler.sample(ops, op);
        }
    }
}

#[test]
fn a_key_of_a_tenth_is_named_with_its_share_and_what_is_done_to_it() {
    for ops in [1, 7, 1_000, 4_096] {
        let hot = hot(64, 1);
        let mut sampler = hot.sampler(0, 42);
        feed(&mut sampler, 4_000_000 / u64::from(ops), ops, |at| if at % 10 == 3 { 7 } else { 1_000 + at });
        let told = hot.told();
        assert_eq!(told.keys.len(), 1, "batches of {ops}: {told:?}");
        let key = &told.keys[0];
        assert_eq!((&key.key[..], key.key_bytes, key.reads), ("7", 1, 0));
        assert!(key.share_min <= 0.1 && 0.1 <= key.share_max && key.share_max < 0.15, "batches of {ops}: {key:?}");
    }
}

#[test]
fn as_many_are_sampled_as_is_said_whatever_the_batches() {
    for ops in [1, 3, 100, 10_000] {
        let hot = hot(1_000, 1);
        feed(&mut hot.sampler(0, 7), 3_000_000 / u64::from(ops), ops, |at| at);
        assert!((2_700..3_300).contains(&hot.samples()), "batches of {ops}: {}", hot.samples());
    }
    let all = hot(1, 1);
    feed(&mut all.sampler(0, 7), 10, 100, |at| at);
    assert_eq!(all.samples(), 1_000);
}

#[test]
fn a_scan_names_no_key() {
    let hot = hot(16, 2);
    for thread in 0..2 {
        feed(&mut hot.sampler(thread, 5 + thread as u64), 4_000, 1_000, |at| 2 * at + thread as u64);
    }
    let told = hot.told();
    assert!(told.samples > 8_000 && told.keys.is_empty(), "{told:?}");
}

#[test]
fn a_key_in_step_with_the_gap_is_not_taken_for_a_hot_one() {
    // Each gap of exactly 1,024 would meet it each time, or never.
    let hot = hot(1_024, 1);
    feed(&mut hot.sampler(0, 3), 60_000, 1_024, |at| if at.is_multiple_of(1_024) { 1 } else { 10 + at });
    let told = hot.told();
    assert!(told.samples > 8_000, "{told:?}");
    assert!(told.keys.iter().all(|key| key.share < 0.01), "{told:?}");
}

#[test]
fn what_is_no_longer_hot_is_forgotten() {
    let hot = hot(4, 2);
    let mut samplers = [hot.sampler(0, 1), hot.sampler(1, 2)];
    feed(&mut samplers[0], 100, 1_000, |_| 1);
    assert_eq!(hot.told().keys[0].key, "1");
    // Another thread's samples age the first one's, which is idle.
    feed(&mut samplers[1], 1_000, 1_000, |_| 2);
    let told = hot.told();
    assert_eq!(told.keys.iter().map(|key| &key.key[..]).collect::<Vec<_>>(), ["2"], "{told:?}");
    assert!(told.keys[0].share > 0.99, "{told:?}");
}

#[test]
fn threads_are_merged_by_what_each_saw() {
    let hot = hot(4, 2);
    feed(&mut hot.sampler(0, 1), 21, 1_000, |at| if at.is_multiple_of(2) { 1 } else { 10 + at });
    feed(&mut hot.sampler(1, 2), 7, 1_000, |at| if at.is_multiple_of(2) { 2 } else { 1 });
    let told = hot.told();
    let share = |name: &str| told.keys.iter().find(|key| key.key == name).map_or(0.0, |key| key.share);
    assert!((share("1") - 0.5).abs() < 0.05 && (share("2") - 0.125).abs() < 0.03, "{told:?}");
}

#[test]
fn keys_are_cut_and_escaped() {
    let hot = hot(1, 1);
    let mut sampler = hot.sampler(0, 1);
    let long = [b'\n'; 65_535];
    for _ in 0..10 {
        assert!(!sampler.passes(2));
        sampler.sample(2, |at| {
            let key = if at == 0 { &long[..] } else { b"a \"b\"\\\x1b[2J" };
            Some(Sampled { hash: at, key, is_write: false })
        });
    }
    let told = hot.told();
    let of = |bytes: u32| &told.keys.iter().find(|key| key.key_bytes == bytes).expect("both are hot").key[..];
    assert_eq!(of(65_535), "\\n".repeat(128));
    assert_eq!(of(10), r#"a \"b\"\\\x1b[2J"#);
}

#[test]
fn sketches_are_charged_and_given_back() {
    let budget = Arc::new(Budget::new(100_000));
    assert!(HotKeys::new(0, 1, &budget).is_none() && HotKeys::new(1, 100, &budget).is_none());
    let hot = HotKeys::new(1, 2, &budget).expect("room");
    assert_eq!(budget.bytes_used(), hot.bytes_used());
    drop(hot);
    assert_eq!(budget.bytes_used(), 0);
}

#[test]
fn the_interval_holds_what_was_seen() {
    for (count, samples) in [(0, 0), (0, 10), (5, 10), (10, 10), (1, 16_384)] {
        let (low, high) = interval(count, samples);
        let share = f64::from(count) / (samples.max(1) as f64);
        assert!(0.0 <= low && low <= share && share <= high && high <= 1.0, "{count} of {samples}: {low} to {high}");
    }
}
