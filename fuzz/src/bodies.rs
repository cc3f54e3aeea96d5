//! What must hold of any bytes: the bodies of the fuzz targets, and of the tests that replay their corpus.
//!
//! Each takes arbitrary bytes, panics where a promise is broken, and otherwise says what parsing said. Beyond
//! "no panic": a stream and a whole frame agree on the header, everything a view yields can be walked, and
//! building again what was read gives the same again.
#![forbid(unsafe_code)]
// Each target uses one body of the three.
#![allow(dead_code, reason = "each fuzz target and test uses some of the bodies")]

use freight::hash::{Key, ShortKey};
use freight::limits::{DEADLINE_MAX, FRAME_BYTES_MAX, FRAME_OPS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use freight::op::{Action, Batch as _, Carried, Edit, Outcome, Outcomes as _, Position, VisitKeys};
use freight::wire::{
    self, FrameKind, Handed, Header, Hello, HelloReply, Inspect, Inspected, MoveChunk, MoveReplyView, MoveView,
    Refusal, ReplyBuilder, ReplyView, RequestBuilder, RequestView, WireError, WireLimitView,
};

/// Bytes as a request.
pub(crate) fn request(bytes: &[u8]) -> Result<(), WireError> {
    header(bytes);
    let view = RequestView::parse(bytes)?;
    assert!(view.op_count() <= FRAME_OPS_MAX);
    let mut builder = RequestBuilder::new(Vec::new(), 1, FRAME_BYTES_MAX).expect("a vector grows");
    let mut ops = view.ops();
    let (mut visited, mut positions) = (0, Vec::new());
    view.for_each_key(|position, key, is_plain_get| {
        let op = ops.next().expect("as many operations as keys");
        assert_eq!((position.index, key.as_bytes()), (visited, op.key));
        positions.push((position, is_plain_get));
        assert_eq!(view.op(position), op);
        assert_eq!(is_plain_get, op.action == Action::Get && !op.version_wanted);
        assert!(op.key.len() <= KEY_BYTES_MAX as usize);
        if let Action::Put { value } | Action::CompareAndSwap { value, .. } = op.action {
            assert!(value.len() <= VALUE_BYTES_MAX as usize);
        }
        if let Action::Edit(edit) = op.action {
            assert!(edit.bytes().len() <= VALUE_BYTES_MAX as usize);
        }
        builder.push(&op).expect("what was read can be built");
        visited += 1;
    });
    assert_eq!((ops.next(), visited), (None, view.op_count()));
    let mut again = Again { view, positions: Vec::new() };
    view.visit_keys(&mut again);
    assert_eq!(again.positions, positions);
    let origin = view.header().origin();
    let first: Vec<u16> = (0..visited).map(|index| view.first_index(index) as u16).collect();
    assert!(first.windows(2).all(|pair| pair[0] < pair[1]) && visited <= FRAME_OPS_MAX);
    let has_indices = view.header().flags.get() & Header::INDICES != 0;
    let (mut frame, frame_bytes) = match has_indices {
        true => builder.finish_retry(origin, &first).expect("a vector grows"),
        false => builder.finish(origin),
    };
    if view.header().is_retry() && !has_indices {
        wire::mark_retry(&mut frame, origin);
    }
    // There is one way to write a batch.
    assert_eq!(&frame[..frame_bytes as usize], bytes);
    let is_get = |action| matches!(action, Action::Get | Action::Edit(Edit::READ));
    assert_eq!(view.has_changes(), view.ops().any(|op| !is_get(op.action)));
    Ok(())
}

/// Visits keys a second time, in the other way.
struct Again<'v> {
    view: RequestView<'v>,
    positions: Vec<(Position, bool)>,
}

impl<'a> VisitKeys<'a> for Again<'_> {
    fn short_get(&mut self, position: Position, key: ShortKey) {
        assert_eq!(Some(key), Key::from(self.view.op(position).key).short());
        self.positions.push((position, true));
    }

    fn other(&mut self, position: Position, key: Key<'a>, is_plain_get: bool) {
        assert_eq!(key.as_bytes(), self.view.op(position).key);
        self.positions.push((position, is_plain_get));
    }
}

/// Bytes as a reply.
pub(crate) fn reply(bytes: &[u8]) -> Result<(), WireError> {
    header(bytes);
    let view = ReplyView::parse(bytes)?;
    assert!(view.op_count() <= FRAME_OPS_MAX);
    let outcomes: Vec<Outcome<'_>> = view.outcomes().collect();
    assert_eq!(outcomes.len(), view.op_count() as usize);
    assert_eq!(view.has_reply_full(), outcomes.contains(&Outcome::ReplyFull));
    let parsed = ReplyView::parsed(bytes);
    let mut builder = ReplyBuilder::new(Vec::new(), view.op_count(), FRAME_BYTES_MAX).expect("a vector grows");
    let mut value_bytes = 0;
    for (index, outcome) in (0..).zip(&outcomes) {
        assert_eq!((view.outcome(index), parsed.outcome(index)), (*outcome, *outcome));
        if let Outcome::Value { value, .. } = outcome {
            assert!(value.len() <= VALUE_BYTES_MAX as usize);
            value_bytes += value.len();
        }
        if let Outcome::Edited(edited) = outcome {
            assert!(edited.value_bytes <= VALUE_BYTES_MAX && edited.deadline.is_none_or(|at| at.get() <= DEADLINE_MAX));
            assert!(edited.value.is_none_or(|value| value.len() <= VALUE_BYTES_MAX as usize));
            value_bytes += edited.value.map_or(0, <[u8]>::len);
        }
        builder.set(index, *outcome);
    }
    assert!(value_bytes <= bytes.len(), "no byte belongs to two values");
    let (frame, frame_bytes) = builder.finish(view.header().origin());
    let again = ReplyView::parse(&frame[..frame_bytes as usize]).expect("what was built is valid");
    assert_eq!(frame_bytes as usize, bytes.len(), "the payload may stand in another order, but takes as much");
    assert!(again.outcomes().eq(outcomes));
    Ok(())
}

/// Bytes as the frames beside the data path: hello, hello reply, refusal, statistics, wire limit.
pub(crate) fn hello(bytes: &[u8]) -> Result<(), WireError> {
    header(bytes);
    let (header, kind, _) = Header::split(bytes)?;
    // No frame is taken for another kind.
    let parsed: [(FrameKind, Result<(), WireError>); 14] = [
        (FrameKind::Hello, Hello::parse(bytes).map(drop)),
        (FrameKind::HelloReply, HelloReply::parse(bytes).map(drop)),
        (FrameKind::Request, RequestView::parse(bytes).map(drop)),
        (FrameKind::Reply, ReplyView::parse(bytes).map(drop)),
        (FrameKind::Refusal, Refusal::parse(bytes).map(drop)),
        (FrameKind::StatsReply, wire::stats_text(bytes).map(drop)),
        (FrameKind::WireLimit, WireLimitView::parse(bytes).map(drop)),
        (FrameKind::Move, MoveView::parse(bytes).map(drop)),
        (FrameKind::MoveReply, MoveReplyView::parse(bytes).map(drop)),
        (FrameKind::Challenge, wire::challenge_message(bytes).map(drop)),
        (FrameKind::Proof, wire::proof_message(bytes).map(drop)),
        (FrameKind::Denial, wire::denial_text(bytes).map(drop)),
        (FrameKind::Inspect, Inspect::parse(bytes).map(drop)),
        (FrameKind::InspectReply, Inspected::parse(bytes).map(drop)),
    ];
    for (parsed_kind, result) in parsed {
        let expected = parsed_kind.code();
        let unexpected = Err(WireError::UnexpectedKind { got: kind.code(), expected });
        assert_eq!(result == unexpected, parsed_kind != kind, "{result:?}");
    }
    match kind {
        FrameKind::Hello => {
            let body = Hello::parse(bytes)?;
            assert_eq!(Hello::parse(&wire::hello(body)), Ok(body));
            assert_eq!(wire::hello_with(body, wire::hello_message(bytes)?)[64..], bytes[64..]);
        }
        FrameKind::HelloReply => {
            let body = HelloReply::parse(bytes)?;
            assert_eq!(HelloReply::parse(&wire::hello_reply(body)), Ok(body));
            assert_eq!(wire::hello_reply_with(body, wire::hello_reply_message(bytes)?)[64..], bytes[64..]);
        }
        FrameKind::Refusal => {
            let refusal = Refusal::parse(bytes)?;
            assert!(refusal.text.lines().count() <= 1);
            assert_eq!(Refusal::parse(&wire::refusal(refusal.code, refusal.text)), Ok(refusal));
        }
        FrameKind::StatsReply => {
            let text = wire::stats_text(bytes)?;
            assert_eq!(wire::stats_text(&wire::stats_reply(header.request.get(), text)), Ok(text));
        }
        FrameKind::WireLimit => {
            assert!((64..=FRAME_BYTES_MAX).contains(&WireLimitView::parse(bytes)?.reply_bytes));
        }
        FrameKind::Move => {
            let view = MoveView::parse(bytes)?;
            let payload = bytes.get(64 + 48..).expect("it has a body");
            assert_eq!(MoveView::parse(&wire::move_request(1, view.body, payload))?.body, view.body);
            handed(view.entries(), if view.slots().is_some() { &[] } else { payload });
        }
        FrameKind::MoveReply => {
            let view = MoveReplyView::parse(bytes)?;
            handed(view.entries(), view.payload);
        }
        FrameKind::Challenge => {
            let message = wire::challenge_message(bytes)?;
            assert_eq!(wire::challenge_message(&wire::challenge(message)), Ok(message));
        }
        FrameKind::Proof => {
            let message = wire::proof_message(bytes)?;
            assert_eq!(wire::proof_message(&wire::proof(message)), Ok(message));
        }
        FrameKind::Denial => {
            let text = wire::denial_text(bytes)?;
            assert_eq!(wire::denial_text(&wire::denial(header.request.get(), text)), Ok(text));
        }
        FrameKind::Inspect => {
            let asked = Inspect::parse(bytes)?;
            assert_eq!(Inspect::parse(&asked.frame(header.request.get())), Ok(asked));
        }
        FrameKind::InspectReply => {
            let told = Inspected::parse(bytes)?;
            assert_eq!(Inspected::parse(&told.frame(header.request.get())), Ok(told));
        }
        FrameKind::Request | FrameKind::Reply | FrameKind::Stats | FrameKind::WireLimitReply => {}
    }
    Ok(())
}

/// Entries of a move fill their payload, and are within the limits.
fn handed<'a>(entries: impl Iterator<Item = Handed<'a>>, payload: &[u8]) {
    let mut chunk = MoveChunk::new(Vec::new()).expect("a vector grows");
    let (mut bytes, mut is_whole) = (0, true);
    for entry in entries {
        let (key, value, deadline_bytes) = match entry {
            Handed::Record(Carried { key, value, deadline, .. }) => (key, value, deadline.map_or(0, |_| 8)),
            Handed::Completions(bytes) => (&[][..], bytes, 0),
        };
        assert!(key.len() <= KEY_BYTES_MAX as usize && value.len() <= VALUE_BYTES_MAX as usize);
        bytes += 16 + key.len() + value.len() + deadline_bytes;
        is_whole &= chunk.push(entry);
    }
    assert_eq!(bytes, payload.len());
    let body = wire::MoveReplyBody {
        status: 1,
        reserved: [0; 7],
        epoch: 0.into(),
        keys_left: 0.into(),
        version_max: 0.into(),
    };
    let (frame, frame_bytes) = chunk.finish(1, &body);
    let again = MoveReplyView::parse(&frame[..frame_bytes as usize]).expect("what was built is valid");
    // There is one way to write an entry.
    assert!(!is_whole || again.payload == payload);
}

/// Cutting a stream and splitting a whole frame agree; a prefix never says what the whole takes back.
fn header(bytes: &[u8]) {
    let stream = wire::frame_bytes(bytes, FRAME_BYTES_MAX);
    for length in 0..bytes.len().min(64) {
        let prefix = wire::frame_bytes(&bytes[..length], FRAME_BYTES_MAX);
        assert!(prefix == Ok(None) || prefix.is_err() && stream.is_err(), "{length} bytes: {prefix:?}, {stream:?}");
    }
    match (stream, Header::split(bytes)) {
        (Ok(None), Err(WireError::Truncated { needed: 64, .. })) => assert!(bytes.len() < 64),
        (Ok(Some(needed)), Ok(_)) => assert_eq!(needed as usize, bytes.len()),
        (Ok(Some(needed)), Err(WireError::Truncated { .. })) => assert!(bytes.len() < needed as usize),
        (Ok(Some(needed)), Err(WireError::TrailingBytes { .. })) => assert!(bytes.len() > needed as usize),
        (Err(stream), Err(whole)) => assert!(stream == whole || bytes.len() < 64, "{stream:?}, {whole:?}"),
        (stream, whole) => panic!("{stream:?}, {whole:?}"),
    }
}
