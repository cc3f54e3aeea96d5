//! Views allocate nothing, whatever counts and lengths a frame claims.
#![forbid(unsafe_code)]

use crate::allocations;
use crate::golden;
use freight::op::Batch as _;
use freight::wire::{self, Hello, HelloReply, Refusal, ReplyView, RequestView, WireLimitView};

/// Parses bytes as every kind and walks what is valid.
fn walk(bytes: &[u8]) {
    let mut walked = 0;
    if let Ok(view) = RequestView::parse(bytes) {
        view.for_each_key(|position, key, _| walked += view.op(position).key.len() + key.len());
    }
    if let Ok(view) = ReplyView::parse(bytes) {
        walked += view.outcomes().count();
    }
    let _ = std::hint::black_box((Hello::parse(bytes), HelloReply::parse(bytes), Refusal::parse(bytes), walked));
    let _ = std::hint::black_box((wire::stats_text(bytes), WireLimitView::parse(bytes)));
}

#[test]
fn views_of_valid_and_malformed_frames_allocate_nothing() {
    for name in golden::names() {
        let frame = golden::frame(&name);
        // Naming an overlap sorts the descriptors that are there.
        let expected = u64::from(name == "malformed_overlap");
        assert_eq!(allocations(|| walk(&frame)), expected, "{name}");
    }
}

#[test]
fn a_count_or_length_that_the_frame_does_not_hold_allocates_nothing() {
    for name in ["request_batch", "reply_batch", "hello", "refusal_memory", "wire_limit"] {
        let frame = golden::frame(name);
        for at in 8..frame.len() - 4 {
            let mut huge = frame.clone();
            huge[at..at + 4].copy_from_slice(&[0xFF; 4]);
            assert_eq!(allocations(|| walk(&huge)), 0, "{name} at {at}");
            huge[at..at + 4].copy_from_slice(&[0, 0, 1, 0]);
            assert_eq!(allocations(|| walk(&huge)), 0, "{name} at {at}");
        }
    }
}
