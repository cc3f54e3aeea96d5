//! What allocates nothing: views of frames, and a warm store.

mod completions;
#[path = "over_wire/counting.rs"]
mod counting;
#[path = "../golden/mod.rs"]
mod golden;
mod shard;
mod wire;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = (counting::here(), counting::everywhere());
    work();
    let (here, everywhere) = (counting::here() - before.0, counting::everywhere() - before.1);
    assert!(everywhere >= here);
    here
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8]))), 1);
}
